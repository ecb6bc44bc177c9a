# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections from this machine to itself whose owner is reachable from outside: what leads on, whatever it is."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from .._model.relay import AGENTS, FORWARDERS, Connection
from .._parse import sock_connected, sock_diag
from . import processes as procfs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._model.listener import Listener, Socket
    from .._model.relay import Relay
    from .._model.vocabulary import Protocol
    from .netlink import Dump

_PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp")
_MOST_PARENTS = 16


def collect_connections(dump: Dump, rows: Sequence[Listener], relays: Sequence[Relay], proc: str = "/proc") -> list[Connection]:
    """Return the connections to listening ports of this machine that a program holds which somebody outside talks to.

    Such a program listens wider than loopback, or is a known relay. An empty answer proves nothing: a relay may be idle.
    """
    doors = [row for row in rows if row.scope != "loopback" or row.process in FORWARDERS]
    agents = {relay.pid for relay in relays if relay.name in AGENTS}
    if not doors and not agents:
        return []
    tables = _tables(dump)
    asking = [row for protocol, payloads in tables for row in sock_connected.to_itself(payloads, protocol, _ports(rows, protocol))]
    holders = procfs.owners({row.inode for row in asking}, proc).by_inode if asking else {}
    if not holders:
        return []
    held = {pid: _sockets_of(pid, proc) for pids in holders.values() for pid in pids}
    wanted = set().union(*held.values())
    accepted = {inode: (protocol, port) for protocol, payloads in tables for inode, port in sock_connected.local_ports(payloads, wanted)}
    found = []
    for row in asking:
        pids = tuple(holders.get(row.inode, ()))
        through = {door.inode for pid in pids for door in doors if _serves(pid, held[pid], door, row, accepted, proc)}
        if through or agents.intersection(pids):
            found.append(Connection(row.protocol, row.address, row.port, row.peer, row.peer_port, pids, tuple(sorted(through))))
    return found


def _tables(dump: Dump) -> list[tuple[Protocol, list[bytes]]]:
    tables = []
    for protocol in _PROTOCOLS:
        payloads: list[bytes] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                payloads += dump(sock_diag.NETLINK_SOCK_DIAG, sock_diag.SOCK_DIAG_BY_FAMILY, sock_connected.request(family, protocol))
            except OSError:  # nothing was seen, which proves nothing
                continue
        tables.append((protocol, payloads))
    return tables


def _ports(rows: Iterable[Listener], protocol: str) -> set[int]:
    return {row.port for row in rows if row.protocol == protocol}


def _serves(pid: int, held: set[int], door: Listener, asking: Socket, accepted: dict[int, tuple[Protocol, int]], proc: str) -> bool:
    """Say whether a process answers those who come through a door: it holds the door, or somebody who came, or works for who does."""
    if (door.protocol, door.port) == (asking.protocol, asking.peer_port):
        return False  # the service asks itself
    if pid in door.pids:
        return True
    if any(accepted.get(inode) == (door.protocol, door.port) for inode in held if inode != asking.inode):
        return True
    return _works_for(pid, door, proc)


def _works_for(pid: int, door: Listener, proc: str) -> bool:
    """Say whether a process is of the same program as the one above it that holds the door."""
    name, parent = _name_and_parent(pid, proc)
    for _step in range(_MOST_PARENTS):
        above, next_parent = _name_and_parent(parent, proc)
        if not above or not name.startswith(above):  # sshd-session works for sshd
            return False
        if parent in door.pids:
            return True
        parent = next_parent
    return False


def _name_and_parent(pid: int, proc: str) -> tuple[str, int]:
    try:
        with open(f"{proc}/{pid}/stat", encoding="utf-8", errors="replace") as file:
            name, _end, rest = file.read().partition("(")[2].rpartition(")")
    except OSError:
        return "", 0
    return name, int(rest.split()[1])


def _sockets_of(pid: int, proc: str) -> set[int]:
    found = set()
    with suppress(OSError):  # it ended meanwhile
        for file in os.listdir(f"{proc}/{pid}/fd"):
            with suppress(OSError):
                target = os.readlink(f"{proc}/{pid}/fd/{file}")
                if target.startswith("socket:["):
                    found.add(int(target[8:-1]))
    return found
