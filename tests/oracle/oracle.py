#!/usr/bin/env python3
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
import os
import random
import select
import socket
import subprocess
import sys
import time
from collections import Counter

from ansible_collections.loopguard.loopback.plugins.module_utils._judge.reach import Packet, context_of, reach
from ansible_collections.loopguard.loopback.plugins.module_utils._model.network import network_range
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.iptables_save import parse

SECONDS = 0.35
CLIENTS = ("eth0", "eth1")
HOSTS = (2, 3, 130, 200)
TCP_PORTS = (5432, 6379, 11211)
UDP_PORTS = (5353, 11211)
TABLES = ("ip", "ip6")
BACKENDS = ("nft", "legacy")


def run(*argv, stdin=None):
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True)
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
        for client in CLIENTS:  # neighbours are learnt before a ruleset can stop it
            for address in (f"{network(client)[0]}1", f"{network(client)[1]}1"):
                for host in HOSTS:
                    source = address[:-1] + (str(host) if "." in address else f"{host:x}")
                    subprocess.run(["ip", "netns", "exec", client, "ping", "-c1", "-W1", "-I", source, address], capture_output=True)

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
        servers = {listener.fileno(): listener for listener in (*self.listeners, *self.datagrams)}
        end = time.monotonic() + SECONDS
        while (left := end - time.monotonic()) > 0 and len(opened) < len(pending):
            for descriptor, _event in poll.poll(left):
                if descriptor in servers:
                    self._serve(servers[descriptor], accepted)
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
        try:
            if listener.type == socket.SOCK_STREAM:
                sock, _peer = listener.accept()
                accepted.append(sock)
                sock.send(b"!")
            else:
                _data, peer = listener.recvfrom(16)
                listener.sendto(b"!", peer)
        except OSError:
            pass


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
        for place, chain in enumerate(chains):
            for _number in range(pick.randrange(1, 5)):
                lines.append(f"-A {chain} {self.match(table)} {self.target(chains[place + 1 :], inside=True)}")
        lines.append("COMMIT")
        if pick.random() < 0.3:
            other = pick.choice(["raw", "mangle", "security"])
            hook = {"raw": "PREROUTING", "mangle": pick.choice(["PREROUTING", "INPUT"]), "security": "INPUT"}[other]
            marks = ["MARK --set-mark 0x1"] if other == "mangle" else []
            targets = ["DROP", "ACCEPT", *marks, *(["CT --notrack"] if other == "raw" else [])]
            lines += [f"*{other}", f":{hook} ACCEPT [0:0]"]
            lines += [f"-A {hook} -p ipv6-icmp -j ACCEPT"] if table == "ip6" else []
            lines += [f"-A {hook} {self.match(table)} -j {pick.choice(targets)}" for _number in range(pick.randrange(1, 3))]
            lines.append("COMMIT")
            replies = False
        return lines, replies

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


def complete(lines):
    """Add the tables that a ruleset does not name, empty, so that a restore leaves nothing of the last round."""
    hooks = {"filter": ["INPUT"], "raw": ["PREROUTING"], "mangle": ["PREROUTING", "INPUT"], "security": ["INPUT"]}
    for name, chains in hooks.items():
        if f"*{name}" not in lines:
            lines = [*lines, f"*{name}", *(f":{chain} ACCEPT [0:0]" for chain in chains), "COMMIT"]
    return "\n".join(lines) + "\n"


def load(rulesets):
    """Load {(backend, table): lines} and return the tables as the tools read them back."""
    found = []
    for backend in BACKENDS:
        for table in TABLES:
            tool = f"ip{'6' if table == 'ip6' else ''}tables-{backend}"
            run(f"{tool}-restore", stdin=complete(rulesets.get((backend, table), [])))
            tables, gaps = parse(run(f"{tool}-save"), f"{tool}-save", f"iptables-{backend}", table)
            assert [gap for gap in gaps if "legacy tables present" not in gap.text] == [], gaps
            found += tables
    return found


def judged(tables):
    """Return what the judge says of each probe, and each probe's reach as it stands."""
    context = context_of(tables, {})
    answers = {}
    for client in CLIENTS:
        cache = {}
        for key in probes(client):
            family, _client, source, protocol, port = key
            if (family, protocol, port) not in cache:
                destination = network_range(network(client)[family == "ipv6"] + "1").first
                cache[family, protocol, port] = reach(context, Packet(family, protocol, destination, port, client))
            address = network_range(source).first
            parts = [part.reach for part in cache[family, protocol, port] if any(low <= address <= high for low, high in part.sources)]
            assert len(parts) == 1, parts
            answers[key] = parts[0]
    return answers


def disagreements(lab, rulesets, replies):
    answers = judged(load(rulesets))
    opened = lab.probe()
    wrong = []
    for key, answer in answers.items():
        if key in opened and answer == "dropped":
            wrong.append((key, answer, "open"))
        elif key not in opened and answer == "accepted" and replies["ip" if key[0] == "ipv4" else "ip6"]:
            wrong.append((key, answer, "closed"))
    return wrong, answers, opened


def shrink(lab, rulesets, replies):
    """Leave out one rule after another as long as some disagreement stays."""
    for place in list(rulesets):
        for line in list(rulesets[place]):
            if not line.startswith("-A") or "ESTABLISHED -j ACCEPT" in line or "ipv6-icmp" in line:
                continue
            fewer = {**rulesets, place: [other for other in rulesets[place] if other is not line]}
            if disagreements(lab, fewer, replies)[0]:
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
        backends = (("nft",), ("legacy",), BACKENDS)[seed % 3]
        made = {(backend, table): Generator(f"{seed} {backend} {table}").ruleset(table) for backend in backends for table in TABLES}
        rulesets = {place: lines for place, (lines, _replies) in made.items()}
        replies = {table: all(answered for place, (_lines, answered) in made.items() if place[1] == table) for table in TABLES}
        wrong, answers, opened = disagreements(lab, rulesets, replies)
        counts["rulesets"] += len(rulesets)
        counts["probes"] += len(answers)
        for key, answer in answers.items():
            counts[f"{answer}, {'open' if key in opened else 'closed'}"] += 1
        if wrong:
            again = disagreements(lab, rulesets, replies)[0]  # a lost packet is no disagreement
            if again:
                failures += 1
                print(f"DISAGREEMENT seed {seed}: {again[:3]}")
                for (backend, table), lines in shrink(lab, rulesets, replies).items():
                    print("\n".join(f"  {backend} {table}: {line}" for line in lines), flush=True)
        seed += 1
    for name in sorted(counts):
        print(f"{counts[name]:>9,} {name}")
    print(f"{failures:>9,} disagreements (seeds {chosen.seed} to {seed - 1})")
    print(f"{counts['rulesets'] - failures} passed, {failures} failed")
    return 1 if failures or not counts["probes"] or not counts["accepted, open"] or not counts["dropped, closed"] else 0


if __name__ == "__main__":
    sys.exit(main())
