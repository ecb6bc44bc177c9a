# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet filter of this network namespace: load rulesets, read them back, see which rule decided."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
from collections.abc import Mapping
from typing import NamedTuple

from ansible_collections.loopguard.loopback.plugins.module_utils._collect.command import Output
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.files import read_text
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.firewall import collect_ruleset
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.netlink import dump
from ansible_collections.loopguard.loopback.plugins.module_utils._model.firewall import Firewall
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import netlink
from lab import run

FAMILIES = ("ip", "ip6")
BACKENDS = ("nft", "legacy")
CHAINS = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "security": ("INPUT", "FORWARD", "OUTPUT"),
}
# linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h, nf_tables.h
_NFNETLINK, _ADD_MEMBERSHIP, _TRACE_GROUP = 12, 1, 9
_DELETE_CONNECTIONS, _TRACE = (1 << 8) | 2, (10 << 8) | 17
_TABLE, _CHAIN, _HANDLE, _TYPE, _VERDICT, _NETWORK_HEADER, _POLICY, _ID = 1, 2, 3, 4, 5, 8, 16, 6
_POLICY_TYPE, _RULE_TYPE = 1, 3
_FAMILY_NAMES = {1: "inet", 2: "ip", 10: "ip6", 5: "netdev"}

_left: set[str] = set()  # families of which iptables-legacy holds rules, which outlive a flush
Rulesets = Mapping["tuple[str, str]", "list[str]"]


class Decider(NamedTuple):
    """A rule that gave the packet its verdict in one base chain; rule 0 is the policy. drops: what the verdict is."""

    backend: str
    family: str
    table: str
    chain: str
    rule: int
    drops: bool


def tool(argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return Output(done.returncode, done.stdout, done.stderr)


def command(backend: str, family: str, verb: str) -> str:
    return f"{family}tables-{backend}-{verb}"


def load(rulesets: Rulesets) -> Firewall:
    """Load {(backend, family): lines} in place of all that stands; return the filter as the collector reads it."""
    run("nft", "flush", "ruleset")
    for family in FAMILIES:
        for backend in BACKENDS:
            lines = rulesets.get((backend, family), [])
            if lines or (backend == "legacy" and family in _left):
                run(command(backend, family, "restore"), stdin=complete(lines))
            if backend == "legacy":
                (_left.add if lines else _left.discard)(family)
    native = rulesets.get(("native", "inet"))
    if native:
        run("nft", "-f", "-", stdin="\n".join(native) + "\n")
    forget_connections()
    firewall = collect_ruleset(tool, read_text, dump)
    if firewall.gaps:
        raise RuntimeError(f"not read: {firewall.gaps}")
    return firewall


def _stands(family: str) -> bool:
    with open(f"/proc/net/{family}_tables_names") as file:
        return bool(file.read().strip())


def complete(lines: list[str]) -> str:
    """Add the tables and chains that a ruleset does not name, empty, so that a restore leaves nothing of the last round."""
    for name, chains in CHAINS.items():
        if f"*{name}" in lines:
            start = lines.index(f"*{name}") + 1
            section = lines[start : lines.index("COMMIT", start)]
            missing = [f":{chain} ACCEPT [0:0]" for chain in chains if not any(line.startswith(f":{chain} ") for line in section)]
            lines = [*lines[:start], *missing, *lines[start:]]
        else:
            lines = [*lines, f"*{name}", *(f":{chain} ACCEPT [0:0]" for chain in chains), "COMMIT"]
    return "\n".join(lines) + "\n"


def forget_connections() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NFNETLINK) as sock:
        for family in (socket.AF_INET, socket.AF_INET6):
            sock.send(netlink.request(_DELETE_CONNECTIONS, struct.pack("=BBH", family, 0, 0), 5))
            list(netlink.messages(sock.recv(65536)))


def deciders(probe, send) -> list[Decider]:
    """Send the first packet of a probe past the rules that are loaded; return who gave it a verdict on its way in."""
    header = _header(probe)
    handles = _handles()
    run("nft", "-f", "-", stdin="table inet oracle { chain trace { type filter hook prerouting priority -500; meta nftrace set 1; }; }\n")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NFNETLINK) as sock:
        sock.bind((0, 0))
        sock.setsockopt(270, _ADD_MEMBERSHIP, _TRACE_GROUP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.setblocking(False)
        before = _legacy_counters()
        send(probe)
        found = [decider for decider in _traced(sock, header, handles) if decider.table != "oracle"]
    run("nft", "delete", "table", "inet", "oracle")
    return found + _counted(before, _legacy_counters())


def _header(probe) -> bytes:
    family = socket.AF_INET if probe.family == "ipv4" else socket.AF_INET6
    return socket.inet_pton(family, probe.source) + socket.inet_pton(family, probe.destination)


def _handles() -> dict[tuple[str, str, str, int], int]:
    """Return (family, table, chain, handle) -> number of the rule."""
    found, counts = {}, {}
    for item in json.loads(run("nft", "-j", "list", "ruleset"))["nftables"]:
        if "rule" in item:
            rule = item["rule"]
            chain = rule["family"], rule["table"], rule["chain"]
            counts[chain] = counts.get(chain, 0) + 1
            found[(*chain, rule["handle"])] = counts[chain]
    return found


def _traced(sock, header, handles) -> list[Decider]:
    wanted, found = set(), []
    while True:
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return found
        for kind, _flags, payload in netlink.messages(data):
            if kind != _TRACE:
                continue
            read = netlink.attributes(payload, 4)
            if header in read.get(_NETWORK_HEADER, b""):  # only the first message of a packet has it
                wanted.add(read[_ID])
            if read[_ID] not in wanted:
                continue
            family = _FAMILY_NAMES[payload[0]]
            table, chain = (read[part].rstrip(b"\0").decode() for part in (_TABLE, _CHAIN))
            kind = int.from_bytes(read[_TYPE], "big")
            backend = "iptables-nft" if family in FAMILIES and table in CHAINS else "nftables"
            if kind == _POLICY_TYPE:
                found.append(Decider(backend, family, table, chain, 0, not int.from_bytes(read[_POLICY], "big")))
            elif kind == _RULE_TYPE and (code := int.from_bytes(netlink.attributes(read[_VERDICT])[1], "big", signed=True)) in (0, 1):
                rule = handles.get((family, table, chain, int.from_bytes(read[_HANDLE], "big")), -1)
                found.append(Decider(backend, family, table, chain, rule, not code))


_COUNTED = re.compile(r"\[(\d+):\d+\] -A (\S+) .*-j (ACCEPT|DROP|REJECT)\b")
_CHAIN_COUNTED = re.compile(r":(PREROUTING|INPUT|FORWARD) (ACCEPT|DROP) \[(\d+):")


def _legacy_counters() -> dict[Decider, int]:
    """Return the packets that each verdict of iptables-legacy met on the way in."""
    counts = {}
    for family in FAMILIES:
        if not _stands(family):
            continue
        table, numbers = "", {}
        for line in run(command("legacy", family, "save"), "-c").split("\n"):
            if line.startswith("*"):
                table, numbers = line[1:], {}
            elif found := _CHAIN_COUNTED.match(line):
                counts[Decider("iptables-legacy", family, table, found[1], 0, found[2] == "DROP")] = int(found[3])
            elif line.startswith("["):
                chain = line.split()[2]
                numbers[chain] = numbers.get(chain, 0) + 1
                if (found := _COUNTED.match(line)) and chain not in ("OUTPUT", "POSTROUTING"):
                    counts[Decider("iptables-legacy", family, table, chain, numbers[chain], found[3] != "ACCEPT")] = int(found[1])
    return counts


def _counted(before: dict[Decider, int], after: dict[Decider, int]) -> list[Decider]:
    return [decider for decider, count in after.items() if count > before.get(decider, 0)]
