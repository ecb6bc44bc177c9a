# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Relays and where they lead: configurations of those that listen, and connections that are open now."""

from __future__ import annotations

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


class Leading(NamedTuple):
    relays: list[Relay]
    connections: list[Connection]


def collect_relays(dump: Dump, run: Runner, found: Listeners) -> Leading:
    """Return the relays among the processes that were found, with what their configurations tell, and open connections."""
    from .connections import collect_connections

    rows = [row for row in found.rows if row.namespace == found.namespace and row.pids and row.state in ("LISTEN", "UNCONN")]
    return Leading(_configured(found, rows, run), collect_connections(dump, rows, found.relays))


def _configured(found: Listeners, rows: Sequence[Listener], run: Runner) -> list[Relay]:
    """Read the configuration of each relay once: of the first process that holds its socket, which started the others."""
    firsts = {relay.pid: relay for relay in found.relays if relay.name in _CONFIGURED}
    listening: dict[int, list[Listener]] = {}
    for row in rows:
        if row.process in _CONFIGURED:
            # systemd holds the sockets of others, so that it is the first that counts, and it must hold them alone.
            pid = next((pid for pid in row.pids if pid in firsts and firsts[pid].name == row.process), 0)
            if pid:
                listening.setdefault(pid, []).append(row)
    if not listening:
        return found.relays
    from . import relay_configuration

    told = {}
    for pid, held in listening.items():
        pids = {pid for row in held for pid in row.pids}
        begun = [process.started for process in (found.processes.get(pid) for pid in pids) if process and process.started]
        told[pid] = relay_configuration.legs_of(firsts[pid], held, max(begun, default=None), run)
    told = relay_configuration.with_holders(told)
    return [relay._replace(legs=told[relay.pid]) if relay.pid in told else relay for relay in found.relays]
