# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of `systemctl show`: sockets that systemd holds, and what each of them starts (systemctl(1), systemd.socket(5))."""

from __future__ import annotations

import re

from .._model.relay import Leg
from .error import ParseError
from .relay_conf import HANDS_ON, at, doubt, split

_ARGV = re.compile(r"argv\[\]=(.*?) ; ")


def properties(text: str, source: str) -> list[dict[str, list[str]]]:
    """Return the properties of each unit. Raises ParseError for a line that is none."""
    units: list[dict[str, list[str]]] = [{}]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            units.append({})
            continue
        name, equals, value = line.partition("=")
        if not equals:
            raise ParseError(source, number, "not a property", line)
        units[-1].setdefault(name, []).append(value)
    return [unit for unit in units if unit]


def first(unit: dict[str, list[str]], name: str) -> str:
    return unit.get(name, [""])[0]


def listens(unit: dict[str, list[str]]) -> tuple[str, ...]:
    """Return the places of a socket unit that have a port: `0.0.0.0:80 (Stream)`."""
    places = [value.partition(" ")[0] for value in unit.get("Listen", ())]
    return tuple(at(*split(place)) for place in places if place and place[0] not in "/@" and split(place)[1].isdigit())


def started(unit: dict[str, list[str]], place: str, listening: tuple[str, ...]) -> list[Leg]:
    """Return the ways through the program that a service unit starts; none through one that is not known to hand on."""
    commands = [found[1].split() for value in unit.get("ExecStart", ()) if (found := _ARGV.search(value))]
    if not commands:
        return [doubt(place, "what it starts cannot be told", listening)]
    ways = []
    for words in commands:
        name = words[0].rpartition("/")[2] if words else ""
        if name == "systemd-socket-proxyd":
            targets = [word for word in words[1:] if not word.startswith("-")]
            if len(targets) == 1:
                ways.append(Leg(listening, _target(targets[0]), place))
                continue
        if name == "systemd-socket-proxyd" or name in HANDS_ON:
            ways.append(doubt(place, "starts " + " ".join(words), listening))
    return ways


def _target(text: str) -> str:
    if text.startswith(("/", "@")):
        return f"unix:{text}"
    host, port = split(text)
    return at(host, port or "80")  # systemd-socket-proxyd(8): 80 by default
