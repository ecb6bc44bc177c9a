# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that listen wider, or reach out, and may hand on what they get. Where they lead is asked in relays.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from .._model.relay import AGENTS, FORWARDERS
from .._services.catalogue import recognise

if TYPE_CHECKING:
    from .._model.evidence import Evidence
    from .._model.listener import Listener
    from .._model.relay import Leg

# Kinds that systemd often listens for; any other socket of systemd may belong to a systemd-socket-proxyd.
_ACTIVATED = ("ssh", "cups", "rpcbind", "epmd")


class Candidate(NamedTuple):
    """A program that may hand on. row: the socket that it listens on, None for one that dials out. pid: 0 when hidden.

    legs: the ways of its configuration, None when that was not read. listed: a known relay; others need a connection to show it.
    """

    process: str
    command: str
    pid: int
    row: Listener | None
    legs: tuple[Leg, ...] | None
    listed: bool


def candidates(evidence: Evidence, rows: Iterable[Listener]) -> list[Candidate]:
    """Return what may hand on: listeners of known relays, doors of whoever has an open connection, and agents."""
    legs = {relay.pid: relay.legs for relay in evidence.relays}
    doors = {inode for connection in evidence.connections for inode in connection.through}
    # With nothing hidden, a socket that no process holds is the kernel's own: a tunnel (UDP), or a service such as NFS.
    hidden = any(gap.subject == "processes" for gap in evidence.listener_gaps)
    found = []
    for row in rows:
        listed = _is_listed(row, hidden)
        if listed or row.inode in doors:
            read = next((legs[pid] for pid in row.pids if legs.get(pid) is not None), None)
            found.append(Candidate(row.process or "", row.command or "", row.pids[0] if row.pids else 0, row, read, listed))
    found += [Candidate(relay.name, relay.command, relay.pid, None, relay.legs, True) for relay in evidence.relays if relay.name in AGENTS]
    return found


def _is_listed(row: Listener, hidden: bool) -> bool:
    if row.process == "systemd":
        kind = recognise(row.protocol, row.port, None)
        return kind is None or kind.name not in _ACTIVATED
    if row.process is not None:
        return row.process in FORWARDERS
    return not hidden and row.protocol == "tcp" and recognise(row.protocol, row.port, None) is None
