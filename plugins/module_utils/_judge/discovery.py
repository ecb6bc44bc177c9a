# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that nobody declared, and that belong on loopback."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .._model.service import SERVICE_PROTOCOLS, Service
from .._services.catalogue import recognise

if TYPE_CHECKING:
    from .._model.listener import Listener


def listens(row: Listener) -> bool:
    return row.protocol in SERVICE_PROTOCOLS and row.state in ("LISTEN", "UNCONN")


def discover(listeners: Iterable[Listener], declared: Sequence[Service], namespace: str) -> tuple[Service, ...]:
    """Return the undeclared services of kinds that belong on loopback."""
    taken = {(service.protocol, service.port) for service in declared}
    names = {service.name for service in declared}
    found = []
    for row in sorted(listeners, key=lambda row: (row.port, row.protocol)):
        kind = recognise(row.protocol, row.port, row.process)
        if row.namespace != namespace or not listens(row) or kind is None or not kind.private:
            continue
        if (row.protocol, row.port) in taken:
            continue
        taken.add((row.protocol, row.port))
        name = kind.name if kind.name not in names else f"{kind.name}-{row.port}"
        names.add(name)
        found.append(Service(name, row.port, row.protocol, kind.name, declared=False))
    return tuple(found)
