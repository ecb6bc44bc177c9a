# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random rulesets with TPROXY: packets keep their destination, and a transparent socket takes them."""

from __future__ import annotations

from lab import PROXIES, address
from redirects import OUTSIDE, NativeRedirects, Redirects

_PORTS = (*(port for _address, port in PROXIES), 5432, 9999)  # the last two: not transparent, and nobody


class Proxies(Redirects):
    """mangle PREROUTING for both protocols, with marks and the match of sockets, and INPUT and FORWARD."""

    def ruleset(self):
        pick = self.random
        lines = ["*mangle", ":PREROUTING ACCEPT [0:0]", ":DIVERT - [0:0]"]
        if pick.random() < 0.5:
            asked = pick.choice(["", "--transparent", "--nowildcard", "--nowildcard --transparent"])
            lines += [
                f"-A PREROUTING {pick.choice(['', '-p tcp'])} -m socket {asked} -j DIVERT",
                "-A DIVERT -j MARK --set-xmark 0x1/0xffffffff",
                "-A DIVERT -j ACCEPT",
            ]
        lines += [f"-A PREROUTING {self.proxy()}" for _number in range(pick.randrange(1, 5))]
        lines.append("COMMIT")
        if pick.random() < 0.2:
            target = pick.choice(["DROP", "ACCEPT", "CT --notrack"])
            lines += ["*raw", ":PREROUTING ACCEPT [0:0]", f"-A PREROUTING {self.match()} -j {target}", "COMMIT"]
        return [*lines, *self.filter()]

    def proxy(self):
        pick = self.random
        if pick.random() < 0.3:
            return f"{self.match()} -j {pick.choice(['MARK --set-mark 0x1', 'MARK --set-xmark 0x2/0xff', 'ACCEPT', 'DROP', 'RETURN'])}"
        protocol = pick.choice(["tcp", "tcp", "udp"])
        parts = [pick.choice([f"-p {protocol} -m {protocol} --dport {pick.choice(OUTSIDE[protocol])}"] * 3 + [f"-p {protocol}"])]
        if pick.random() < 0.3:
            new = "-m conntrack --ctstate NEW"
            parts.append(pick.choice([self.source(), self.destination(), "-i eth0", "! -i eth1", new, new, "-m addrtype --dst-type LOCAL"]))
        parts.append(f"-j TPROXY --on-port {pick.choice([*_PORTS, 0])}")
        if pick.random() < 0.7:
            parts.append(f"--on-ip {self.near()}")
        if pick.random() < 0.8:
            parts.append(f"--tproxy-mark {pick.choice(['0x1/0x1', '0x1', '0x2/0x2'])}")
        return " ".join(parts)

    def near(self):
        own = address(self.version, self.link(), 1)
        return self.random.choice(["127.0.0.1", "127.0.0.1", "0.0.0.0", own] if self.family == "ip" else ["::1", "::1", "::", own])


class NativeProxies(NativeRedirects):
    """The same in nftables' own language, where a TPROXY that finds no socket lets the packet go on."""

    def ruleset(self):
        pick = self.random
        lines = []
        for family in pick.choice([["inet"], ["ip"], ["ip6"], ["ip", "ip6"]]):
            lines += [f"table {family} t {{", *self.sets(family)]
            lines.append(f"chain pre {{ type filter hook prerouting priority {pick.choice(['mangle', '-150', '-50'])}; policy accept;")
            if pick.random() < 0.5:
                asked = pick.choice(
                    ["socket transparent 1", "socket wildcard 0", "meta l4proto tcp socket transparent 1 socket wildcard 0"]
                )
                lines.append(f"{asked} meta mark set 0x1 accept")
            lines += [self.proxy(family) for _number in range(pick.randrange(1, 5))]
            lines.append("}")
            for hook in ("input", "forward"):
                lines.append(f"chain {hook} {{ type filter hook {hook} priority 0; policy {pick.choice(['accept', 'accept', 'drop'])};")
                lines += ["ct state established,related accept"] if pick.random() < 0.7 else []
                lines += [self.asked(hook, family, []) for _number in range(pick.randrange(4))]
                lines.append("}")
            lines.append("}")
        return lines

    def proxy(self, family):
        pick = self.random
        if pick.random() < 0.3:
            asked = self.condition(self.a_version(family), "tcp")
            asked = asked if family == "inet" or "nfproto" not in asked else ""
            return f"{asked} {pick.choice(['meta mark set 0x1', 'accept', 'drop', 'return'])}"
        version = self.a_version(family)
        protocol = pick.choice(["tcp", "tcp", "udp"])
        proto = "ip" if version == "4" else "ip6"
        parts = [f"meta nfproto ipv{version}"] if family == "inet" else []
        if pick.random() < 0.3:
            parts.append(pick.choice([f"{proto} saddr {self.hosts(version)}", 'iifname "eth0"', "ct state new", "fib daddr type local"]))
        parts.append(pick.choice([f"{protocol} dport {pick.choice(OUTSIDE[protocol])}"] * 3 + [f"meta l4proto {protocol}"]))
        own = address(f"ipv{version}", self.link(), 1)
        near = pick.choice(["127.0.0.1", "127.0.0.1", own] if version == "4" else ["[::1]", f"[{own}]"])
        to = f"tproxy {proto} to" if family == "inet" else "tproxy to"
        parts.append(pick.choice([f"{to} {near}:{pick.choice(_PORTS)}"] * 3 + [f"{to} :{pick.choice(_PORTS)}", f"{to} {near}"]))
        if pick.random() < 0.8:
            parts.append("meta mark set 0x1")
        return " ".join([*parts, pick.choice(["", "accept", "accept", "counter", "drop"])])
