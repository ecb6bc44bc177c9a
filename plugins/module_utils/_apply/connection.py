# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH connection that this process serves, and whether new rules would cut it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .._collect.files import read_text
from .._collect.firewall import collect_ruleset
from .._collect.host_network import collect_network
from .._collect.netlink import dump
from .._judge.reach import Filter, Packet
from .._model.network import network_range

if TYPE_CHECKING:
    from .._collect.command import Runner
    from .._collect.files import Read
    from .sides import Change, Iptables, Nftables


class Connection(NamedTuple):
    """peer: who is connected, without the zone of a link-local address."""

    peer: str
    peer_port: int
    here: str
    port: int

    def __str__(self) -> str:
        here = f"[{self.here}]" if ":" in self.here else self.here
        return f"{self.peer} -> {here}:{self.port}"


def of_this_session(read: Read = read_text) -> Connection | None:
    """Return what sshd says of the connection (SSH_CONNECTION), None when there is none in sight.

    sudo takes the variable away, but not from the processes above it.
    """
    pid = str(os.getpid())
    while pid != "0":
        try:
            found = [entry[15:] for entry in read(f"/proc/{pid}/environ").split("\0") if entry.startswith("SSH_CONNECTION=")]
            pid = read(f"/proc/{pid}/stat").rpartition(")")[2].split()[1]
        except OSError:
            return None
        if found and len(found[0].split()) == 4:
            peer, peer_port, here, port = found[0].split()
            return Connection(peer.partition("%")[0], int(peer_port), here.partition("%")[0], int(port))
    return None


def cut_by(run: Runner, connection: Connection, changes: Sequence[tuple[Iptables | Nftables, Change]]) -> str:
    """Return what would drop a new connection like this one, "" unless that is certain."""
    here, peer = network_range(connection.here), network_range(connection.peer)
    interface = _interface(connection.here)
    firewall = collect_ruleset(run, read_text, dump)
    tables = list(firewall.tables)
    for side, change in changes:
        family = {"ipv4": ("ip",), "ipv6": ("ip6",)}.get(side.label, ())
        tables = [table for table in tables if table.backend != side.kind or (family and table.family not in family)]
        tables += change.tables
    packet = Packet(here.family, "tcp", here.first, connection.port, interface)
    for part in Filter(tables, firewall.ipsets, drops=True).reach(packet):
        if part.reach == "dropped" and any(first <= peer.first <= last for first, last in part.sources):
            if not part.decided_by:
                return "the new rules"
            last = part.decided_by[-1]
            rule = f"rule {last.rule} `{last.text}`" if last.rule else last.text
            return f"{last.table} {last.chain} {rule}"
    return ""


def _interface(address: str) -> str:
    """Return the interface with this address; "" (any but loopback) when none is found."""
    text = network_range(address).text.partition("/")[0]
    for interface in collect_network(routes=False).interfaces:
        if any(known.partition("/")[0] == text for known in interface.addresses):
            return interface.name
    return ""
