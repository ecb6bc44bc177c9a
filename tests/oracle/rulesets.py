# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random rulesets that lean on what people write, and on what is easy to get wrong. The same seed makes the same one."""

from __future__ import annotations

import random

from lab import CLIENTS, HOSTS, address

TCP_PORTS = (5432, 6379, 11211)
UDP_PORTS = (5353, 11211)
_VERSIONS = {"ip": "ipv4", "ip6": "ipv6"}
_TURNED = (
    (" -i ", " -o "),
    ("-s ", "-D "),
    ("-d ", "-s "),
    ("-D ", "-d "),
    ("--src-", "--DST-"),
    ("--dst-", "--src-"),
    ("--DST-", "--dst-"),
    ("--sport ", "--DPORT "),
    ("--dport ", "--sport "),
    ("--DPORT ", "--dport "),
    ("--dports", "--sports"),
    (" src", " DST"),
    (" dst", " src"),
    (" DST", " dst"),
)
# Loaded once; rules of iptables name them.
IPSETS = """\
create hosts4 hash:ip
add hosts4 10.77.1.2
add hosts4 10.77.2.130
create hosts6 hash:ip family inet6
add hosts6 2001:db8:77:1::2
add hosts6 2001:db8:77:2::82
create nets4 hash:net
add nets4 10.77.1.0/24
add nets4 10.77.1.128/25 nomatch
add nets4 10.77.2.3
create nets6 hash:net family inet6
add nets6 2001:db8:77:1::/64
add nets6 2001:db8:77:1::80/121 nomatch
create pairs4 hash:ip,port
add pairs4 10.77.1.2,tcp:5432
add pairs4 10.77.2.2,udp:5353
create pairs6 hash:ip,port family inet6
add pairs6 2001:db8:77:1::2,tcp:5432
create ports bitmap:port range 0-65535
add ports 6379
add ports 5300-5400
"""


class Iptables:
    """For iptables-restore, of one family."""

    tcp_ports, udp_ports = TCP_PORTS, UDP_PORTS
    others = 0.3  # how often there is another table

    def __init__(self, seed, family):
        self.random = random.Random(f"{seed} {family}")
        self.family, self.version = family, _VERSIONS[family]
        self.digit = self.version[3]

    def ruleset(self):
        """Return the filter (and now and then raw, mangle, security) table as lines."""
        pick = self.random
        chains = [f"C{number}" for number in range(pick.randrange(4))]
        lines = ["*filter", f":INPUT {pick.choice(['ACCEPT', 'ACCEPT', 'DROP'])} [0:0]"]
        lines += [f":{chain} - [0:0]" for chain in chains]
        if pick.random() < 0.6:
            lines.append("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
        lines += [f"-A INPUT {self.match()} {self.target(chains)}" for _number in range(pick.randrange(1, 8))]
        if pick.random() < 0.3:
            lines[1:1] = [f":OUTPUT {pick.choice(['ACCEPT', 'ACCEPT', 'DROP'])} [0:0]"]
            lines += [f"-A OUTPUT {self.answer()} {self.target([])}" for _number in range(pick.randrange(1, 4))]
        lines += self.bodies(chains)
        return [*lines, "COMMIT", *self.other_table()]

    def bodies(self, chains):
        pick = self.random
        return [
            f"-A {chain} {self.match()} {self.target(chains[place + 1 :])}"
            for place, chain in enumerate(chains)
            for _number in range(pick.randrange(1, 5))
        ]

    def other_table(self):
        pick = self.random
        if pick.random() > self.others:
            return []
        table = pick.choice(["raw", "mangle", "security"])
        hook = {"raw": "PREROUTING", "mangle": pick.choice(["PREROUTING", "INPUT", "OUTPUT"]), "security": "INPUT"}[table]
        marks = ["MARK --set-mark 0x1", "MARK --or-mark 0x1"] if table == "mangle" else []
        targets = ["DROP", "ACCEPT", *marks, *(["CT --notrack"] if table == "raw" else [])]
        asked = self.answer if hook == "OUTPUT" else self.match
        rules = [f"-A {hook} {asked()} -j {pick.choice(targets)}" for _number in range(pick.randrange(1, 3))]
        return [f"*{table}", f":{hook} ACCEPT [0:0]", *rules, "COMMIT"]

    def between(self, lines):
        """Put random rules between those of a ruleset."""
        pick = self.random
        lines = list(lines)
        for _number in range(pick.randrange(4)):
            table = ""
            places = []
            for place, line in enumerate(lines):
                table = line[1:] if line.startswith("*") else table
                if line.startswith("-A") and table in ("filter", "mangle") and not line.startswith(("-A OUTPUT", "-A POSTROUTING")):
                    places.append(place)
            if places:
                place = pick.choice(places)
                lines.insert(place, f"-A {lines[place].split()[1]} {self.match()} {self.target([])}")
        return lines

    def answer(self):
        """What a rule for answers asks: the same as one for requests, the other way round."""
        match = f" {self.match()}"
        for one, other in _TURNED:
            match = match.replace(one, other)
        return match.strip().replace("NEW,RELATED", "ESTABLISHED,RELATED")

    def target(self, chains):
        words = ["-j ACCEPT"] * 3 + ["-j DROP"] * 3 + ["-j REJECT", "-j RETURN", "-j LOG"]
        words += [f"-j {chain}" for chain in chains] * 2 + [f"-g {chain}" for chain in chains]
        return self.random.choice(words)

    def match(self):
        pick = self.random
        parts = []
        if pick.random() < 0.5:
            parts.append(self.source())
        if pick.random() < 0.5:
            parts.append(self.port())
        if pick.random() < 0.3:
            parts.append(pick.choice(["-i eth0", "! -i eth0", "-i eth+", "-i lo", "! -i lo", "-i wlan+", "-i eth1"]))
        if pick.random() < 0.15:
            parts.append(self.destination())
        if pick.random() < 0.25:
            parts.append(
                pick.choice(
                    ["-m state --state NEW", "-m conntrack --ctstate NEW,RELATED", "-m conntrack ! --ctstate NEW",
                     "-m conntrack --ctstate INVALID", "-m mark --mark 0x1", "-m mark ! --mark 0x1",
                     "-m addrtype --dst-type LOCAL", "-m limit --limit 5/sec --limit-burst 3",
                     "-m recent --rcheck --name x --rsource", "-m comment --comment \"a b\"",
                     "-m statistic --mode random --probability 0.5", "-m length --length 0:100"]
                )
            )  # fmt: skip
        if pick.random() < 0.1:
            word = pick.choice([f"hosts{self.digit} src", f"nets{self.digit} src", "ports dst", f"pairs{self.digit} src,dst"])
            parts.append(f"-m set {pick.choice(['', '', '! '])}--match-set {word}")
        return " ".join(parts)

    def link(self):
        return self.random.choice(CLIENTS)

    def source(self):
        pick, link = self.random, self.link()
        named = address(self.version, link, pick.choice(HOSTS))
        low, high = address(self.version, link, 0), address(self.version, link, 128)
        if self.family == "ip":
            word = pick.choice([named, "10.77.0.0/16", "192.0.2.0/24", f"{low}/24", f"{high}/25"])
        else:
            word = pick.choice([named, "2001:db8:77::/48", "fd00::/8", f"{low}/64", f"{high}/121"])
        negation = pick.choice(["", "", "! "])
        some = f"{address(self.version, link, 3)}-{address(self.version, link, 150)}"
        return pick.choice([f"{negation}-s {word}"] * 3 + [f"-m iprange {negation}--src-range {some}"])

    def destination(self):
        return self.random.choice(["", "! "]) + f"-d {address(self.version, self.link(), 1)}"

    def port(self):
        pick = self.random
        if pick.random() < 0.3:
            return pick.choice(["-p tcp", "-p udp", "-p icmp", "! -p tcp", "-p sctp"])
        protocol = pick.choice(["tcp", "udp"])
        port = pick.choice(self.tcp_ports if protocol == "tcp" else self.udp_ports)
        words = [f"--dport {port}", f"! --dport {port}", "--dport 5000:6400", f"--sport {port}", "--sport 1024:65535"]
        words += [f"-m multiport --dports 22,{port}", f"-m multiport ! --dports {port},80:90", f"-m multiport --ports {port}"]
        words += ["--syn", "! --syn", "--tcp-flags SYN,ACK SYN"] if protocol == "tcp" else []
        word = pick.choice(words)
        return f"-p {protocol} {word}" if "multiport" in word else f"-p {protocol} -m {protocol} {word}"


class Native:
    """For nftables' own language: several tables and priorities, sets, maps, verdict maps, every family."""

    tcp_ports, udp_ports = TCP_PORTS, UDP_PORTS

    def __init__(self, seed):
        self.random = random.Random(seed)

    def ruleset(self):
        pick = self.random
        lines, replies = [], pick.random() < 0.6
        for number in range(pick.choice([1, 1, 1, 2])):
            family = pick.choice(["inet", "inet", "ip", "ip6"])
            lines += self.table(f"{family} t{number}", family, replies)
        if pick.random() < 0.15:
            lines += ["table netdev early {", f"chain in {{ type filter hook ingress device {self.link()} priority 0; policy accept;"]
            lines += [f"{self.address(pick.choice('46'))} {pick.choice(['accept', 'drop', 'counter'])}" for _number in range(2)]
            lines += ["}", "}"]
        return lines

    def table(self, name, family, replies):
        pick = self.random
        chains = [f"c{number}" for number in range(pick.randrange(3))]
        lines = [f"table {name} {{", *self.sets(family)]
        lines += self.bodies(family, chains)
        hook = pick.choice(["input"] * 5 + ["prerouting"])
        priority = pick.choice(["0", "-150", "10", "filter", "-300"])
        lines.append(f"chain base {{ type filter hook {hook} priority {priority}; policy {pick.choice(['accept', 'accept', 'drop'])};")
        if replies:
            lines.append("ct state established,related accept")
        lines += [self.rule(family, chains) for _number in range(pick.randrange(1, 7))]
        return [*lines, "}", "}"]

    def sets(self, family):
        lines = []
        for version in "46" if family == "inet" else "4" if family == "ip" else "6":
            lines += [
                f"set s{version} {{ type ipv{version}_addr; flags interval; elements = {{ {self.addresses(version)} }}; }}",
                f"set h{version} {{ type ipv{version}_addr; elements = {{ {self.hosts(version)} }}; }}",
            ]
        return [*lines, "set ports { type inet_service; elements = { 22, 6379 }; }"]

    def bodies(self, family, chains):
        lines = []
        for place, chain in reversed(list(enumerate(chains))):
            lines.append(f"chain {chain} {{")
            lines += [self.rule(family, chains[place + 1 :]) for _number in range(self.random.randrange(1, 5))]
            lines.append("}")
        return lines

    def between(self, lines):
        """Put random rules between those of a ruleset, in chains that do not translate addresses."""
        pick = self.random
        lines = list(lines)
        for _number in range(pick.randrange(4)):
            places, family, fit = [], "inet", False
            for place, line in enumerate(lines):
                if line.startswith("table "):
                    family = line.split()[1]
                elif line.startswith("chain "):
                    fit = "nat" not in line.lower()
                elif line.startswith("type "):
                    fit = line.startswith("type filter") and " hook output" not in line
                elif fit and line.endswith((" accept", " drop", " return")) and " " in line:
                    places.append((place, family))
            if places:
                place, family = pick.choice(places)
                lines.insert(place, self.plain_rule(family))
        return lines

    def link(self):
        return self.random.choice(CLIENTS)

    def addresses(self, version):
        low, some = (address(f"ipv{version}", self.link(), host) for host in (0, 3))
        last = some.rpartition(".")[0] + ".150" if version == "4" else some.rpartition(":")[0] + ":96"
        words = [low + ("/25" if version == "4" else "/121"), f"{some}-{last}", self.hosts(version)]
        words.append(f"{some}-{last}, 192.0.2.0/24" if version == "4" else "fd00::/8")
        return self.random.choice(words)

    def hosts(self, version):
        return address(f"ipv{version}", self.link(), self.random.choice(HOSTS))

    def address(self, version):
        return f"{'ip' if version == '4' else 'ip6'} saddr {self.random.choice(['', '!= '])}{{ {self.addresses(version)} }}"

    def plain_rule(self, family):
        """A rule that names no set of the table."""
        version = self.a_version(family)
        parts = [part for part in (self.condition(version, "tcp") for _number in range(self.random.choice([0, 1, 2]))) if "@" not in part]
        parts = [part for part in parts if family == "inet" or "nfproto" not in part]
        return " ".join([*parts, self.random.choice(["accept", "drop", "return", "counter"])])

    def a_version(self, family):
        return self.random.choice("46") if family == "inet" else "4" if family == "ip" else "6"

    def rule(self, family, chains):
        pick = self.random
        if pick.random() < 0.12:
            return self.map(family, chains)
        version = self.a_version(family)
        protocol = pick.choice(["tcp", "udp"])
        parts = [self.condition(version, protocol) for _number in range(pick.choice([0, 1, 1, 2, 2]))]
        parts = [part for part in parts if family == "inet" or "nfproto" not in part]
        if pick.random() < 0.08:  # nft lets these stand beside no other protocol
            parts = [pick.choice(["meta l4proto { tcp, udp }", "meta l4proto != tcp", "meta l4proto != { tcp, 47 }"])]
        words = ["accept"] * 3 + ["drop"] * 3 + ["reject", "return", "counter", "continue"]
        words += [f"jump {chain}" for chain in chains] * 2 + [f"goto {chain}" for chain in chains]
        return " ".join([*parts, pick.choice(["", "", "counter", 'log prefix "x" level info']), pick.choice(words)])

    def map(self, family, chains):
        pick = self.random
        verdicts = ["accept", "drop", "return", *(f"jump {chain}" for chain in chains)]
        version = self.a_version(family)
        keys = {
            "tcp dport": [str(port) for port in self.tcp_ports[:2]] + ["1000-2000"],
            "meta l4proto": ["tcp", "udp"],
            "iifname": ['"eth0"', '"eth1"'],
            "ct state": ["new", "established", "invalid"],
            ("ip saddr" if version == "4" else "ip6 saddr"): [self.hosts(version)],
        }
        key = pick.choice(list(keys))
        elements = pick.sample(keys[key], pick.randrange(1, len(keys[key]) + 1))
        return f"{key} vmap {{ {', '.join(f'{element} : {pick.choice(verdicts)}' for element in elements)} }}"

    def condition(self, version, protocol):
        pick = self.random
        saddr, daddr = ("ip saddr", "ip daddr") if version == "4" else ("ip6 saddr", "ip6 daddr")
        port = pick.choice(self.tcp_ports if protocol == "tcp" else self.udp_ports)
        own = address(f"ipv{version}", self.link(), 1)
        no = pick.choice(["", "", "!= "])
        return pick.choice(
            [
                f"{saddr} {no}@s{version}", f"{saddr} {no}@h{version}", f"{saddr} {no}{{ {self.addresses(version)} }}",
                f"{saddr} {no}{self.hosts(version)}", f"{daddr} {no}{own}",
                f"{protocol} dport {no}{port}", f"{protocol} dport {no}{{ 22, {port}, 7000-8000 }}", f"{protocol} dport 5000-6400",
                f"{protocol} dport {no}@ports", f"th dport {port}", f"{protocol} sport {no}1024-65535", f"{protocol} sport 53",
                f"meta l4proto {protocol}", f"iifname {no}\"eth0\"", 'iifname "eth*"', "iif lo",
                'iifname { "eth0", "lo" }', "ct state new", "ct state { new, established }", "ct state != new", "ct state invalid",
                *(["tcp flags syn", "tcp flags & (syn | ack) == syn", "tcp flags != syn", "tcp flags { syn, ack }"] if protocol == "tcp" else []),
                "meta mark 0x1", "meta mark != 0x1", "limit rate 5/second", "limit rate over 100/second", "fib daddr type local",
                f"{saddr} . {protocol} dport {{ {self.hosts(version)} . {port} }}", "meta pkttype unicast", "meta length 0-100",
                f"meta nfproto ipv{version}", "ct status dnat", "ct mark 0",
            ]
        )  # fmt: skip
