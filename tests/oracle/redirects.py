# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random rulesets that send packets elsewhere: to another address or port of the server, to loopback, to the machine behind it."""

from __future__ import annotations

from lab import BEHIND, address
from rulesets import Iptables, Native

OUTSIDE = {"tcp": (8080, 5432), "udp": (8053,)}
_INSIDE = {"tcp": (80, 5432, 6379, 8080), "udp": (53, 5353, 8053)}
_STATES = (
    "-m conntrack --ctstate DNAT", "-m conntrack ! --ctstate DNAT", "-m conntrack --ctstate NEW", "-m conntrack --ctorigdstport 8080",
    "-m addrtype --dst-type LOCAL", "-m addrtype ! --dst-type LOCAL", "-i eth0", "-m conntrack --ctdir ORIGINAL",
)  # fmt: skip


class _Destinations:
    """Where packets may be sent: (address or nothing, port or nothing)."""

    def destination_of(self, version, protocol):
        pick = self.random
        port = pick.choice([0, *_INSIDE[protocol]])
        links = {"server": pick.choice(["eth0", "eth1"]), "bridge": "back0"}
        places = [address(version, links["server"], pick.choice((1, 9))), address(version, links["bridge"], 1)]
        places += [address(version, "back0", pick.choice(BEHIND))] * 3
        places += ["127.0.0.1", "127.0.0.1", "127.0.0.9"] if version == "ipv4" else ["::1"]
        return pick.choice(places), port


class Redirects(_Destinations, Iptables):
    """nat PREROUTING for both protocols, FORWARD and INPUT."""

    tcp_ports, udp_ports = (80, 5432, 8080), (53, 8053)
    others = 0.6  # marks and notrack before the rewriting

    def ruleset(self):
        pick = self.random
        chains = ["DOCKER", "EXTRA"][: pick.randrange(3)]
        lines = ["*nat", ":PREROUTING ACCEPT [0:0]", ":POSTROUTING ACCEPT [0:0]", *(f":{chain} - [0:0]" for chain in chains)]
        lines += [f"-A PREROUTING {self.redirect(chains)}" for _number in range(pick.randrange(1, 5))]
        lines += [f"-A {chain} {self.redirect([])}" for chain in chains for _number in range(pick.randrange(1, 3))]
        if pick.random() < 0.3:
            lines.append("-A POSTROUTING -o back0 -j MASQUERADE")
        return [*lines, "COMMIT", *self.filter(), *self.other_table()]

    def filter(self):
        pick = self.random
        chains = [f"C{number}" for number in range(pick.randrange(3))]
        lines = ["*filter", *(f":{hook} {pick.choice(['ACCEPT', 'ACCEPT', 'DROP'])} [0:0]" for hook in ("INPUT", "FORWARD"))]
        lines += [f":{chain} - [0:0]" for chain in chains]
        for hook in ("INPUT", "FORWARD"):
            if pick.random() < 0.7:
                lines.append(f"-A {hook} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
            lines += [f"-A {hook} {self.asked(hook)} {self.target(chains)}" for _number in range(pick.randrange(4))]
        return [*lines, *self.bodies(chains), "COMMIT"]

    def asked(self, hook):
        pick = self.random
        if pick.random() < 0.4:
            return pick.choice([*_STATES, *(["-o back0", "! -o back0", "-i eth0 -o back0", "-i back0"] if hook == "FORWARD" else [])])
        return self.match()

    def destination(self):
        pick = self.random
        links = [("eth0", 1), ("eth0", 9), ("eth1", 1), ("back0", 2), ("back0", 9)]
        return pick.choice(["", "", "! "]) + f"-d {address(self.version, *pick.choice(links))}"

    def redirect(self, chains):
        pick = self.random
        protocol = pick.choice(["tcp", "tcp", "udp"])
        port = pick.choice(OUTSIDE[protocol])
        ports = [f"-p {protocol} -m {protocol} --dport {port}"] * 4
        ports += [f"-p {protocol} -m multiport --dports 22,{port}", f"-p {protocol} -m {protocol} --dport 5000:8100", f"-p {protocol}"]
        parts = [pick.choice(ports)]
        if pick.random() < 0.3:
            parts.append(self.destination())
        if pick.random() < 0.3:
            parts.append(pick.choice([self.source(), "-i eth0", "! -i eth1", "-i eth+", "-m addrtype --dst-type LOCAL"]))
        if pick.random() < 0.05:
            parts.append(pick.choice(["-m limit --limit 5/sec", "-m mark --mark 0x1", "-m statistic --mode random --probability 0.5"]))
        return " ".join([*parts, self.way(protocol, chains)])

    def way(self, protocol, chains):
        pick = self.random
        if chains and pick.random() < 0.3:
            return pick.choice(["-j ", "-g "]) + pick.choice(chains)
        if pick.random() < 0.15:
            return pick.choice(["-j ACCEPT", "-j RETURN", "-j LOG"])
        if pick.random() < 0.25:
            return pick.choice(["-j REDIRECT", f"-j REDIRECT --to-ports {pick.choice(_INSIDE[protocol])}"])
        if pick.random() < 0.15:
            return f"-j NETMAP --to {address(self.version, 'back0', 0)}/{24 if self.family == 'ip' else 64}"
        place, port = self.destination_of(self.version, protocol)
        if pick.random() < 0.06:
            first, last = (address(self.version, "back0", host) for host in BEHIND)
            return f"-j DNAT --to-destination {first}-{last}"
        if pick.random() < 0.06:
            port = "5432-5433"
        spelled = f"[{place}]" if self.family == "ip6" and port else place
        return f"-j DNAT --to-destination {spelled}{f':{port}' if port else ''}"


class NativeRedirects(_Destinations, Native):
    """The same in nftables' own language, with maps of ports to addresses."""

    tcp_ports, udp_ports = (80, 5432, 8080), (53, 8053)

    def ruleset(self):
        pick = self.random
        lines = []
        for family in pick.choice([["inet"], ["ip"], ["ip6"], ["ip", "ip6"]]):
            chains = [f"c{number}" for number in range(pick.randrange(3))]
            lines += [f"table {family} t {{", *self.sets(family), *self.bodies(family, chains), "chain more {"]
            lines += [self.redirect(family, "") for _number in range(pick.randrange(1, 3))]
            lines += ["}", "chain pre { type nat hook prerouting priority dstnat; policy accept;"]
            lines += [self.redirect(family, "more") for _number in range(pick.randrange(1, 5))]
            lines.append("}")
            for hook in ("input", "forward"):
                lines.append(f"chain {hook} {{ type filter hook {hook} priority 0; policy {pick.choice(['accept', 'accept', 'drop'])};")
                lines += ["ct state established,related accept"] if pick.random() < 0.7 else []
                lines += [self.asked(hook, family, chains) for _number in range(pick.randrange(4))]
                lines.append("}")
            lines.append("}")
        return lines

    def asked(self, hook, family, chains):
        pick = self.random
        if pick.random() < 0.4:
            words = ["ct status dnat", "ct state new", 'iifname "eth0"', "fib daddr type local"]
            words.append("meta l4proto tcp ct original proto-dst 8080")
            words += ['oifname "back0"', 'oifname != "back0"', 'iifname "back0"'] if hook == "forward" else []
            return f"{pick.choice(words)} {pick.choice(['accept', 'drop', 'counter'])}"
        return self.rule(family, chains)

    def redirect(self, family, chain):
        pick = self.random
        version = f"ipv{self.a_version(family)}"
        protocol = pick.choice(["tcp", "tcp", "udp"])
        port = pick.choice(OUTSIDE[protocol])
        proto = "ip" if version == "ipv4" else "ip6"
        parts = [f"meta nfproto {version}"] if family == "inet" else []
        if pick.random() < 0.3:
            own = address(version, pick.choice(["eth0", "eth1"]), pick.choice((1, 9)))
            saddr = f"{proto} saddr {self.hosts(version[3])}"
            parts.append(pick.choice([f"{proto} daddr {pick.choice(['', '!= '])}{own}", saddr, 'iifname "eth0"', "fib daddr type local"]))
        ports = [f"{protocol} dport {port}"] * 3 + [f"{protocol} dport {{ 22, {port} }}", f"{protocol} dport 5000-8100"]
        place, inside = self.destination_of(version, protocol)
        spelled = f"[{place}]" if version == "ipv6" else place
        to = f"dnat {proto} to" if family == "inet" else "dnat to"
        ways = [f"{pick.choice(ports)} {to} {spelled}:{inside}" if inside else f"{pick.choice(ports)} {to} {place}"] * 4
        ways += [
            f"{pick.choice(ports)} redirect",
            f"{pick.choice(ports)} redirect to :{inside or 5432}",
            f"{pick.choice(ports)} {pick.choice(['accept', 'return', 'counter'])}",
            f"{to} {protocol} dport map {{ {port} : {place}, 7000 : {address(version, 'back0', 2)} }}",
            f"dnat {proto} to {proto} saddr map {{ {self.hosts(version[3])} : {place} }}",
            f"dnat {proto} addr . port to {protocol} dport map {{ {port} : {place} . {inside or 80} }}",
            f"meta l4proto {protocol} redirect to :{protocol} dport map {{ {port} : {inside or 6379} }}",
        ]
        if version == "ipv4":
            ways.append("dnat ip prefix to ip daddr map { 10.77.1.0/24 : 10.77.9.0/24 }")
        if chain:
            ways += [f"{pick.choice(ports)} {pick.choice(['jump', 'goto'])} {chain}", f"{protocol} dport vmap {{ {port} : jump {chain} }}"]
        return " ".join([*parts, pick.choice(ways)])
