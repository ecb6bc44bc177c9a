# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Relays and where they lead: configurations of those that listen, and connections that are open now."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._model.listener import Listener
    from .._model.relay import Connection, Relay
    from .command import Runner
    from .listeners import Listeners
    from .netlink import Dump

# Programs whose configuration is read (relay_files.READERS), and systemd, which is asked.
_CONFIGURED = frozenset(("nginx", "haproxy", "stunnel", "stunnel4", "rinetd", "xinetd", "systemd"))

_RELOADED = ("nginx", "haproxy")
_WORKS = re.compile(r"nginx: (?:worker|cache)")


class Leading(NamedTuple):
    relays: list[Relay]
    connections: list[Connection]


def collect_relays(dump: Dump, run: Runner, found: Listeners) -> Leading:
    """Return the relays among the processes that were found, with what their configurations tell, and open connections."""
    from .connections import collect_connections

    rows = [row for row in found.rows if row.namespace == found.namespace and row.pids and row.state in ("LISTEN", "UNCONN")]
    return Leading(_configured(found, rows, run), collect_connections(dump, rows, found.relays))


def _configured(found: Listeners, rows: Sequence[Listener], run: Runner) -> list[Relay]:
    """Read the configuration of each relay once: that of the process which started the others that hold its socket."""
    named = {relay.pid: relay for relay in found.relays if relay.name in _CONFIGURED}
    listening: dict[int, list[Listener]] = {}
    for row in rows:
        if row.process in _CONFIGURED:
            holders = [named[pid] for pid in row.pids if pid in named and named[pid].name == row.process]
            first = next((relay for relay in holders if not _WORKS.match(relay.command)), holders[0] if holders else None)
            if first:
                listening.setdefault(first.pid, []).append(row)
    if not listening:
        return found.relays
    from . import relay_configuration

    told = {}
    for pid, held in listening.items():
        others = {
            other for row in held for other in row.pids if other != pid and other in named and "shutting down" not in named[other].command
        }
        # Those that a reload starts anew; the oldest, for one that crashed is started with what the first one remembers.
        workers = others if named[pid].name in _RELOADED else set()
        begun = [process.started for process in map(found.processes.get, workers or {pid}) if process and process.started is not None]
        told[pid] = relay_configuration.legs_of(named[pid], held, min(begun, default=None), run)
    told = relay_configuration.with_holders(told)
    return [relay._replace(legs=told[relay.pid]) if relay.pid in told else relay for relay in found.relays]
