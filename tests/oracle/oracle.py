# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge against the kernel: random iptables rulesets in network namespaces, real packets, every answer compared.

Run as root in a network, mount and process namespace of its own (`tests/integration/run oracle`). A source that gets an
answer must not be `dropped`; a source that is `accepted` must get one where the ruleset lets established packets pass.
A disagreement prints the ruleset, shrunk to the rules that are needed, and the seed that makes it again.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import glob
import os
import random
import select
import socket
import subprocess
import sys
import time
from collections import Counter

from ansible_collections.loopguard.loopback.plugins.module_utils._collect.command import Output
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.files import read_text
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.firewall import collect_ruleset
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.netlink import dump
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.reach import Filter, Packet
from ansible_collections.loopguard.loopback.plugins.module_utils._model.network import network_range

SECONDS = 0.35
CLIENTS = ("eth0", "eth1")
HOSTS = (2, 3, 130, 200)
TCP_PORTS = (5432, 6379, 11211)
UDP_PORTS = (5353, 11211)
TABLES = ("ip", "ip6")
BACKENDS = ("nft", "legacy")


def run(*argv, stdin=None):
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}\n{stdin or ''}")
    return done.stdout


def network(client):
    number = CLIENTS.index(client) + 1
    return f"10.77.{number}.", f"2001:db8:77:{number}::"


class Lab:
    """This namespace is the server; each client namespace is a neighbour on an interface of its own."""

    def __init__(self):
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.namespaces = {}
        for client in CLIENTS:
            v4, v6 = network(client)
            run("ip", "netns", "add", client)
            run("ip", "link", "add", client, "type", "veth", "peer", "name", "lan", "netns", client)
            run("ip", "address", "add", f"{v4}1/24", "dev", client)
            run("ip", "address", "add", f"{v6}1/64", "dev", client, "nodad")
            run("ip", "link", "set", client, "up")
            for host in HOSTS:
                run("ip", "-n", client, "address", "add", f"{v4}{host}/24", "dev", "lan")
                run("ip", "-n", client, "address", "add", f"{v6}{host:x}/64", "dev", "lan", "nodad")
            run("ip", "-n", client, "link", "set", "lan", "up")
            self.namespaces[client] = os.open(f"/run/netns/{client}", os.O_RDONLY)
        self.listeners = [self._listener(socket.SOCK_STREAM, port) for port in TCP_PORTS]
        self.datagrams = [self._listener(socket.SOCK_DGRAM, port) for port in UDP_PORTS]
        for _attempt in range(20):  # links come up and neighbours are learnt before a ruleset can stop it
            if len(self.probe()) == sum(1 for client in CLIENTS for _probe in probes(client)):
                return
        raise RuntimeError("without any rules not every probe is answered")

    @staticmethod
    def _listener(kind, port):
        listener = socket.socket(socket.AF_INET6, kind)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", port))
        if kind == socket.SOCK_STREAM:
            listener.listen(512)
        listener.setblocking(False)
        return listener

    def _enter(self, descriptor):
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")

    def probe(self):
        """Try every source, port and family at once; return the probes that got their byte."""
        for listener in self.datagrams:  # what came late in the last round
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.recv(16)
        pending, opened = {}, set()
        poll = select.epoll()
        for client in CLIENTS:
            self._enter(self.namespaces[client])
            for key in probes(client):
                family, _client, source, protocol, port = key
                kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
                sock = socket.socket(socket.AF_INET if family == "ipv4" else socket.AF_INET6, kind)
                sock.setblocking(False)
                sock.bind((source, 0))
                code = sock.connect_ex((network(client)[family == "ipv6"] + "1", port))
                assert code in (0, errno.EINPROGRESS), os.strerror(code)
                if protocol == "udp":
                    with contextlib.suppress(OSError):
                        sock.send(b"?")
                poll.register(sock, select.EPOLLIN)
                pending[sock.fileno()] = (key, sock)
            self._enter(self.home)
        accepted = []
        for listener in (*self.listeners, *self.datagrams):
            poll.register(listener, select.EPOLLIN)
        waiting = [key for key, _sock in pending.values() if key[3] == "udp"]
        servers = {listener.fileno(): listener for listener in (*self.listeners, *self.datagrams)}
        end = time.monotonic() + SECONDS
        while (left := end - time.monotonic()) > 0 and len(opened) < len(pending):
            for descriptor, _event in poll.poll(left):
                if descriptor in servers:
                    heard = self._serve(servers[descriptor], accepted)
                    opened |= {key for key in waiting if key[2:] == heard}  # a datagram needs no answer
                    continue
                key, sock = pending[descriptor]
                try:
                    if sock.recv(1):
                        opened.add(key)
                except OSError:
                    pass
                poll.unregister(sock)
        for sock in [sock for _key, sock in pending.values()] + accepted:
            if sock.type == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        poll.close()
        return opened

    @staticmethod
    def _serve(listener, accepted):
        """Answer one connection or datagram; return source, protocol and port of a datagram."""
        try:
            if listener.type == socket.SOCK_STREAM:
                sock, _peer = listener.accept()
                accepted.append(sock)
                sock.send(b"!")
            else:
                _data, peer = listener.recvfrom(16)
                with contextlib.suppress(OSError):
                    listener.sendto(b"!", peer)
                return peer[0].replace("::ffff:", ""), "udp", listener.getsockname()[1]
        except OSError:
            pass
        return None


def probes(client):
    v4, v6 = network(client)
    for protocol, ports in (("tcp", TCP_PORTS), ("udp", UDP_PORTS)):
        for port in ports:
            for host in HOSTS:
                yield "ipv4", client, f"{v4}{host}", protocol, port
                yield "ipv6", client, f"{v6}{host:x}", protocol, port


class Generator:
    """Rulesets that lean on what rulesets of people use, and on what is easy to get wrong."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def ruleset(self, table):
        """Return the filter (and now and then raw, mangle) table as lines of iptables-restore."""
        pick = self.random
        chains = [f"C{number}" for number in range(pick.randrange(4))]
        replies = pick.random() < 0.6
        lines = ["*filter", f":INPUT {pick.choice(['ACCEPT', 'ACCEPT', 'DROP'])} [0:0]"]
        lines += [f":{chain} - [0:0]" for chain in chains]
        if replies:
            lines.append("-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
        lines += ["-A INPUT -p ipv6-icmp -j ACCEPT"] if table == "ip6" else []
        for _number in range(pick.randrange(1, 8)):
            lines.append(f"-A INPUT {self.match(table)} {self.target(chains)}")
        if pick.random() < 0.3:
            lines[1:1] = [f":OUTPUT {pick.choice(['ACCEPT', 'ACCEPT', 'DROP'])} [0:0]"]
            lines += ["-A OUTPUT -p ipv6-icmp -j ACCEPT"] if table == "ip6" else []
            lines += [f"-A OUTPUT {self.answer(table)} {self.target([])}" for _number in range(pick.randrange(1, 4))]
        for place, chain in enumerate(chains):
            for _number in range(pick.randrange(1, 5)):
                lines.append(f"-A {chain} {self.match(table)} {self.target(chains[place + 1 :], inside=True)}")
        lines.append("COMMIT")
        if pick.random() < 0.3:
            other = pick.choice(["raw", "mangle", "security"])
            hook = {"raw": "PREROUTING", "mangle": pick.choice(["PREROUTING", "INPUT", "OUTPUT"]), "security": "INPUT"}[other]
            marks = ["MARK --set-mark 0x1"] if other == "mangle" else []
            targets = ["DROP", "ACCEPT", *marks, *(["CT --notrack"] if other == "raw" else [])]
            lines += [f"*{other}", f":{hook} ACCEPT [0:0]"]
            lines += [f"-A {hook} -p ipv6-icmp -j ACCEPT"] if table == "ip6" else []
            asked = self.answer if hook == "OUTPUT" else self.match
            lines += [f"-A {hook} {asked(table)} -j {pick.choice(targets)}" for _number in range(pick.randrange(1, 3))]
            lines.append("COMMIT")
        return lines

    def answer(self, table):
        """What a rule for answers asks: the same as one for requests, the other way round."""
        match = self.match(table)
        for one, other in (
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
        ):
            match = f" {match}".replace(one, other).strip()
        return match.replace("NEW,RELATED", "ESTABLISHED,RELATED")

    def target(self, chains, inside=False):
        pick = self.random
        words = ["-j ACCEPT"] * 3 + ["-j DROP"] * 3 + ["-j REJECT", "-j RETURN", "-j LOG"]
        words += [f"-j {chain}" for chain in chains] * 2 + [f"-g {chain}" for chain in chains]
        return pick.choice(words)

    def match(self, table):
        pick = self.random
        parts = []
        if pick.random() < 0.5:
            parts.append(self.source(table))
        if pick.random() < 0.5:
            parts.append(self.port())
        if pick.random() < 0.3:
            parts.append(pick.choice(["-i eth0", "! -i eth0", "-i eth+", "-i lo", "! -i lo", "-i wlan+", "-i eth1"]))
        if pick.random() < 0.15:
            parts.append(self.destination(table))
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
        return " ".join(parts)

    def source(self, table):
        pick = self.random
        number, host = pick.randrange(1, 3), pick.choice(HOSTS)
        if table == "ip":
            word = pick.choice([f"10.77.{number}.{host}", f"10.77.{number}.0/24", "10.77.0.0/16", f"10.77.{number}.128/25", "192.0.2.0/24"])
            first = f"10.77.{number}.3-10.77.{number}.150"
        else:
            word = pick.choice(
                [f"2001:db8:77:{number}::{host:x}", f"2001:db8:77:{number}::/64", f"2001:db8:77:{number}::80/121", "fd00::/8"]
            )
            first = f"2001:db8:77:{number}::3-2001:db8:77:{number}::96"
        negation = pick.choice(["", "", "! "])
        return pick.choice([f"{negation}-s {word}"] * 3 + [f"-m iprange {negation}--src-range {first}"])

    def destination(self, table):
        pick = self.random
        number = pick.randrange(1, 3)
        word = f"10.77.{number}.1" if table == "ip" else f"2001:db8:77:{number}::1"
        return pick.choice(["", "! "]) + f"-d {word}"

    def port(self):
        pick = self.random
        if pick.random() < 0.3:
            return pick.choice(["-p tcp", "-p udp", "-p icmp", "! -p tcp", "-p sctp"])
        protocol = pick.choice(["tcp", "udp"])
        port = pick.choice(TCP_PORTS if protocol == "tcp" else UDP_PORTS)
        words = [f"--dport {port}", f"! --dport {port}", "--dport 5000:6400", f"--sport {port}", "--sport 1024:65535"]
        words += [f"-m multiport --dports 22,{port}", f"-m multiport ! --dports {port},80:90", f"-m multiport --ports {port}"]
        words += ["--syn", "! --syn", "--tcp-flags SYN,ACK SYN"] if protocol == "tcp" else []
        word = pick.choice(words)
        return f"-p {protocol} {word}" if "multiport" in word else f"-p {protocol} -m {protocol} {word}"


class Native(Generator):
    """The same for nftables' own language: several tables and priorities, sets, maps, verdict maps."""

    def ruleset(self, _table):
        pick = self.random
        lines, replies = [], pick.random() < 0.6
        for number in range(pick.choice([1, 1, 1, 2])):
            family = pick.choice(["inet", "inet", "ip", "ip6"])
            lines += self.one(f"{family} t{number}", family, replies)
        return lines

    def one(self, name, family, replies):
        pick = self.random
        chains = [f"c{number}" for number in range(pick.randrange(3))]
        hook = pick.choice(["input"] * 5 + ["prerouting"])
        priority = pick.choice(["0", "-150", "10", "filter", "-300"])
        lines = [f"table {name} {{"]
        for version in ("4", "6") if family == "inet" else ("4",) if family == "ip" else ("6",):
            lines += [
                f"set s{version} {{ type ipv{version}_addr; flags interval; elements = {{ {self.addresses(version)} }} }}",
                f"set h{version} {{ type ipv{version}_addr; elements = {{ {self.hosts(version)} }} }}",
            ]
        lines.append("set ports { type inet_service; elements = { 22, 6379 } }")
        for place, chain in reversed(list(enumerate(chains))):
            lines.append(f"chain {chain} {{")
            lines += [self.rule(family, chains[place + 1 :]) for _number in range(pick.randrange(1, 5))]
            lines.append("}")
        policy = pick.choice(["accept", "accept", "drop"])
        lines.append(f"chain base {{ type filter hook {hook} priority {priority}; policy {policy};")
        if replies:
            lines.append("ct state established,related accept")
        if family != "ip":
            lines.append("meta l4proto ipv6-icmp accept")
        lines += [self.rule(family, chains) for _number in range(pick.randrange(1, 7))]
        return [*lines, "}", "}"]

    def addresses(self, version):
        pick = self.random
        number = pick.randrange(1, 3)
        if version == "4":
            return pick.choice([f"10.77.{number}.0/25", f"10.77.{number}.3-10.77.{number}.150, 192.0.2.0/24", f"10.77.{number}.2"])
        return pick.choice([f"2001:db8:77:{number}::/121", f"2001:db8:77:{number}::3-2001:db8:77:{number}::96", "fd00::/8"])

    def hosts(self, version):
        number, host = self.random.randrange(1, 3), self.random.choice(HOSTS)
        return f"10.77.{number}.{host}" if version == "4" else f"2001:db8:77:{number}::{host:x}"

    def rule(self, family, chains):
        pick = self.random
        if pick.random() < 0.12:
            return self.map(family, chains)
        version = pick.choice("46") if family == "inet" else "4" if family == "ip" else "6"
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
        version = pick.choice("46") if family == "inet" else "4" if family == "ip" else "6"
        keys = {
            "tcp dport": ["5432", "6379", "1000-2000"],
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
        number, port = pick.randrange(1, 3), pick.choice(TCP_PORTS)
        own = f"10.77.{number}.1" if version == "4" else f"2001:db8:77:{number}::1"
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


def complete(lines):
    """Add the tables and chains that a ruleset does not name, empty, so that a restore leaves nothing of the last round."""
    hooks = {"filter": ["INPUT", "OUTPUT"], "raw": ["PREROUTING"], "mangle": ["PREROUTING", "INPUT", "OUTPUT"], "security": ["INPUT"]}
    for name, chains in hooks.items():
        if f"*{name}" in lines:
            start = lines.index(f"*{name}") + 1
            section = lines[start : lines.index("COMMIT", start)]
            missing = [f":{chain} ACCEPT [0:0]" for chain in chains if not any(line.startswith(f":{chain} ") for line in section)]
            lines = [*lines[:start], *missing, *lines[start:]]
        else:
            lines = [*lines, f"*{name}", *(f":{chain} ACCEPT [0:0]" for chain in chains), "COMMIT"]
    return "\n".join(lines) + "\n"


def random_rulesets(seed):
    """Return {(backend, table): lines}."""
    backends = (("nft",), ("legacy",), ("native",), ("native",), BACKENDS, ("native", "legacy"), ("native", "nft"))[seed % 7]
    made = {}
    for backend in backends:
        for table in ("inet",) if backend == "native" else TABLES:
            kind = Native if backend == "native" else Generator
            made[backend, table] = kind(f"{seed} {backend} {table}").ruleset(table)
    return made


def tool(argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return Output(done.returncode, done.stdout, done.stderr)


def load(rulesets):
    """Load {(backend, table): lines}, in place of all that stands, and return the tables as the collector reads them."""
    run("nft", "flush", "ruleset")
    for table in TABLES:
        for backend in BACKENDS:
            lines = rulesets.get((backend, table), [])
            if lines or backend == "legacy":
                run(f"ip{'6' if table == 'ip6' else ''}tables-{backend}-restore", stdin=complete(lines))
    native = rulesets.get(("native", "inet"))
    if native:
        run("nft", "-f", "-", stdin="\n".join(native) + "\n")
    for path in glob.glob("/proc/sys/net/netfilter/nf_conntrack_*_timeout*"):  # a port that comes again meets no old flow
        with open(path, "w") as file:
            file.write("1")
    firewall = collect_ruleset(tool, read_text, dump)
    assert not firewall.gaps, firewall.gaps
    return firewall


def judged(firewall):
    """Return what the judge says of each probe."""
    judge = Filter(firewall.tables, firewall.ipsets)
    answers = {}
    for client in CLIENTS:
        cache = {}
        for key in probes(client):
            family, _client, source, protocol, port = key
            if (family, protocol, port) not in cache:
                destination = network_range(network(client)[family == "ipv6"] + "1").first
                cache[family, protocol, port] = judge.reach(Packet(family, protocol, destination, port, client))
            address = network_range(source).first
            parts = [part.reach for part in cache[family, protocol, port] if any(low <= address <= high for low, high in part.sources)]
            assert len(parts) == 1, parts
            answers[key] = parts[0]
    return answers


def disagreements(lab, rulesets):
    answers = judged(load(rulesets))
    opened = lab.probe()
    wrong = []
    for key, answer in answers.items():
        if key in opened and answer == "dropped":
            wrong.append((key, answer, "open"))
        elif key not in opened and answer == "accepted":
            wrong.append((key, answer, "closed"))
    return wrong, answers, opened


def shrink(lab, rulesets):
    """Leave out one rule after another as long as some disagreement stays."""
    for place in list(rulesets):
        for line in list(rulesets[place]):
            rule = line.startswith("-A") or (place[0] == "native" and line[-1] not in "{};" and " {" not in line[:8])
            if not rule or "ESTABLISHED -j ACCEPT" in line or "established,related" in line or "ipv6-icmp" in line:
                continue
            fewer = {**rulesets, place: [other for other in rulesets[place] if other is not line]}
            if disagreements(lab, fewer)[0]:
                rulesets = fewer
    return rulesets


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60, help="how long to go on")
    options.add_argument("--seed", type=int, default=1, help="the first seed; each ruleset has its own")
    options.add_argument("--rounds", type=int, default=sys.maxsize)
    chosen = options.parse_args()
    lab = Lab()
    end = time.monotonic() + chosen.seconds
    counts, failures, seed = Counter(), 0, chosen.seed
    while time.monotonic() < end and seed < chosen.seed + chosen.rounds:
        rulesets = random_rulesets(seed)
        wrong, answers, opened = disagreements(lab, rulesets)
        counts["rulesets"] += len(rulesets)
        counts["probes"] += len(answers)
        for key, answer in answers.items():
            counts[f"{answer}, {'open' if key in opened else 'closed'}"] += 1
        if wrong:
            again = disagreements(lab, rulesets)[0]  # a lost packet is no disagreement
            counts["seen once only"] += len(wrong) if not again else 0
            if not again:
                print(f"once only, seed {seed}: {wrong[:3]}", flush=True)
            else:
                failures += 1
                print(f"DISAGREEMENT seed {seed}: {again[:3]}")
                for (backend, table), lines in shrink(lab, rulesets).items():
                    print("\n".join(f"  {backend} {table}: {line}" for line in lines), flush=True)
        seed += 1
    for name in sorted(counts):
        print(f"{counts[name]:>9,} {name}")
    print(f"{failures:>9,} disagreements (seeds {chosen.seed} to {seed - 1})")
    print(f"{counts['rulesets'] - failures} passed, {failures} failed")
    return 1 if failures or not counts["probes"] or not counts["accepted, open"] or not counts["dropped, closed"] else 0


if __name__ == "__main__":
    sys.exit(main())
