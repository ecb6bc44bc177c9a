# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of stunnel: which `accept` leads to which `connect` (stunnel(8))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._model.relay import Leg
from .relay_conf import at, bounded, doubt, found, lines, places, split

if TYPE_CHECKING:
    from .relay_conf import Find

_DEEPEST = 8


class _Service:
    def __init__(self) -> None:
        self.accepts: list[str] = []
        self.ways: list[tuple[str, str, str]] = []  # target, place, doubt


def legs(main: str, find: Find) -> tuple[Leg, ...]:
    """Return the ways through a stunnel whose configuration file is `main`; `find` reads files."""
    ways: list[Leg] = []
    services = [_Service()]
    _files(found(find, main, "", ways), find, services, ways, 0)
    for service in services:
        listens = places(service.accepts)
        ways += [Leg(listens, target, place, text) for target, place, text in service.ways]
    return bounded(ways)


def _files(files: list[tuple[str, str]], find: Find, services: list[_Service], ways: list[Leg], depth: int) -> None:
    for path, text in files:
        for place, line in lines(path, text.lstrip("\ufeff"), ";#"):
            if line.startswith("["):
                services.append(_Service())
                continue
            name, equals, value = line.partition("=")
            name, value = name.strip().lower(), value.strip()
            if not equals:
                ways.append(doubt(place, "not an option: " + line))
            elif name == "include":
                if depth >= _DEEPEST:
                    ways.append(doubt(place, "files that include one another"))
                else:
                    _files(found(find, f"{value.rstrip('/')}/*", place, ways), find, services, ways, depth + 1)
            else:
                _option(services[-1], name, value, place)


def _option(service: _Service, name: str, value: str, place: str) -> None:
    if name == "accept":
        service.accepts.append(f"unix:{value}" if value.startswith("/") else at(*split(value)))
    elif name in ("connect", "redirect"):
        host, port = split(value)
        service.ways.append((f"unix:{value}" if value.startswith("/") else at(host or "localhost", port), place, ""))
    elif name == "exec" or (name, value.lower()) in (("protocol", "socks"), ("transparent", "destination"), ("transparent", "both")):
        service.ways.append(("", place, f"{name} = {value}"))
