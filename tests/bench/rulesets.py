# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parse one ruleset and ask it about ports, in a process of its own: prints JSON; see test_rulesets.py."""

from __future__ import annotations

import gc
import json
import random
import resource
import subprocess
import sys
import time

from ansible_collections.loopguard.loopback.plugins.module_utils._judge.reach import Filter, Packet
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.iptables_save import parse

ESTABLISHED = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"


def spelled(number):
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))


def blocklist(rules, pick):
    return [ESTABLISHED, *(f"-A INPUT -s {spelled(pick.randrange(1 << 24, 200 << 24))}/32 -j DROP" for _rule in range(rules))]


def alternating(rules, _pick):
    return [f"-A INPUT -s {spelled((1 << 24) + 977 * rule)}/32 -j {'ACCEPT' if rule % 2 else 'DROP'}" for rule in range(rules)]


def chains(rules, pick):
    lines = [f":C{chain} - [0:0]" for chain in range(100)] + [ESTABLISHED]
    lines += [f"-A INPUT -s {chain + 1}.0.0.0/8 -j C{chain}" for chain in range(100)]
    for rule in range(rules):
        source = f"{rule % 100 + 1}.{pick.randrange(256)}.{pick.randrange(256)}.{pick.randrange(256)}/32"
        port, verdict = pick.choice([22, 80, 443, 5432]), pick.choice(["ACCEPT", "DROP"])
        lines.append(f"-A C{rule % 100} -s {source} -p tcp -m tcp --dport {port} -j {verdict}")
    return lines


def offices(rules, _pick):
    """The shape of the largest public rulesets: ports that call chains of hosts, each known by its MAC address."""
    lines = [f":M{chain} - [0:0]" for chain in range(50)] + [ESTABLISHED]
    lines += [f"-A INPUT -i eth0 -p tcp -m tcp --dport {5000 + rule} -j M{rule % 50}" for rule in range(rules // 10)]
    for rule in range(rules - rules // 10):
        host = f"10.{rule % 256}.{rule // 256 % 256}.7/32"
        lines.append(f"-A M{rule % 50} -s {host} -m mac --mac-source 00:11:22:33:{rule // 256 % 256:02x}:{rule % 256:02x} -j RETURN")
    return lines


gc.disable()  # as in the modules
shape, rules, ports = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
text = "\n".join(["*filter", ":INPUT DROP [0:0]", *globals()[shape](rules, random.Random(1)), "COMMIT", ""])
begun = time.perf_counter()
checked = subprocess.run(["iptables-legacy-restore", "--test"], input=text, text=True, check=True)
restore = time.perf_counter() - begun
listed = None
if rules <= 10_000:  # nft takes minutes to load more
    subprocess.run(["iptables-nft-restore"], input=text, text=True, check=True)
    begun = time.perf_counter()
    subprocess.run(["nft", "-j", "list", "ruleset"], stdout=subprocess.DEVNULL, check=True)
    listed = time.perf_counter() - begun
begun = time.perf_counter()
tables, gaps = parse(text, "bench", "iptables-legacy", "ip")
parsed = time.perf_counter() - begun
assert not gaps
begun = time.perf_counter()
judge = Filter(tables, {})
judge.side("ipv4")
prepared = time.perf_counter() - begun
asked = []
for port in range(5432, 5432 + ports):
    begun = time.perf_counter()
    assert judge.reach(Packet("ipv4", "tcp", 10 << 24 | 5, port, "eth0"))
    asked.append(time.perf_counter() - begun)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(
    json.dumps(
        {
            "restore": restore,
            "listed": listed,
            "prepared": prepared,
            "parse": parsed,
            "first": asked[0],
            "next": sum(asked[1:]) / max(len(asked) - 1, 1),
            "all": sum(asked),
            "memory": memory,
        }
    )
)
