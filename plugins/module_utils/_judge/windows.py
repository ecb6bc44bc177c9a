# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The entries of portproxy as relays: sockets of a process of that name, which connects where the entry says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._model.address import scope_of
from .._model.listener import Listener

if TYPE_CHECKING:
    from .._model.relay import PortProxy


def with_proxies(rows: Sequence[Listener], proxies: Sequence[PortProxy]) -> list[Listener]:
    """Name the sockets that belong to entries; an entry without a socket becomes one that no process holds."""
    found = list(rows)
    for proxy in proxies:
        command = f"{proxy.host} {proxy.target}"
        socket = ("tcp", proxy.address, proxy.port, "svchost")  # the process of the service that listens for portproxy
        mine = [place for place, row in enumerate(found) if (row.protocol, row.address, row.port, row.process) == socket]
        for place in mine:
            found[place] = found[place]._replace(process="portproxy", command=command)
        if not mine:
            family = "ipv6" if ":" in proxy.address else "ipv4"
            found.append(
                Listener(
                    "tcp", family, proxy.address, proxy.port, False, None, scope_of(proxy.address), None, None, 0, (), "portproxy",
                    command, None, None, None, "", None, False, None, "LISTEN", "", 0, ("pids",),
                )
            )  # fmt: skip
    return found
