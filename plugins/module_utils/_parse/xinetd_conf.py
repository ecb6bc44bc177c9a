# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of xinetd: services that are redirected, or handed to a program that hands on (xinetd.conf(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._model.relay import Leg
from .relay_conf import HANDS_ON, at, bounded, doubt, found, lines

if TYPE_CHECKING:
    from .relay_conf import Find

_DEEPEST = 8


def legs(main: str, find: Find) -> tuple[Leg, ...]:
    """Return the ways through an xinetd whose configuration file is `main`; `find` reads files."""
    ways: list[Leg] = []
    _files(found(find, main, "", ways), find, ways, 0)
    return bounded(ways)


def _files(files: list[tuple[str, str]], find: Find, ways: list[Leg], depth: int) -> None:
    for path, text in files:
        service: dict[str, tuple[str, str]] | None = None  # attribute -> value, place
        for place, line in lines(path, text, "#"):
            words = line.split()
            if words[0] in ("include", "includedir") and len(words) > 1:
                if depth >= _DEEPEST:
                    ways.append(doubt(place, "files that include one another"))
                else:
                    pattern = words[1] if words[0] == "include" else f"{words[1].rstrip('/')}/*"
                    _files(_taken(found(find, pattern, place, ways), words[0]), find, ways, depth + 1)
            elif words[0] in ("service", "defaults"):
                service = {} if words[0] == "service" else None
            elif line == "}":
                ways += _service(service or {})
                service = None
            elif service is not None and "=" in line:
                name, _equals, value = line.partition("=")
                service[name.rstrip("+- \t")] = (value.strip(), place)


def _taken(files: list[tuple[str, str]], word: str) -> list[tuple[str, str]]:
    """Leave out what xinetd leaves out of a folder: names with a dot, and those that end with a tilde."""
    names = [(path.rpartition("/")[2], path, text) for path, text in files]
    return [(path, text) for name, path, text in names if word == "include" or not ("." in name or name.endswith("~"))]


def _service(service: dict[str, tuple[str, str]]) -> list[Leg]:
    if service.get("disable", ("", ""))[0].lower() == "yes":
        return []
    host = service.get("bind", service.get("interface", ("", "")))[0]
    port = service.get("port", ("", ""))[0]
    listens = (at(host, port),) if port.isdigit() else ()  # else the port stands in /etc/services
    if "redirect" in service:
        target, place = service["redirect"]
        return [Leg(listens, at(*words), place) if len(words := target.split()) == 2 else doubt(place, f"redirect = {target}", listens)]
    if "server" in service:
        program, place = service["server"]
        if program.rpartition("/")[2] in HANDS_ON:
            return [doubt(place, f"starts {program} {service.get('server_args', ('', ''))[0]}", listens)]
    return []
