# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the configurations of relays have in common: places, files that they include, and the end of patience."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from .._model.relay import FORWARDERS, Leg
from .error import ParseError

if TYPE_CHECKING:
    from typing import Callable

    # Takes a path or a pattern; returns path and text of each file. Raises OSError when one cannot be read.
    Find = Callable[[str], "list[tuple[str, str]]"]

MOST_LEGS = 10_000
# Programs that may hand on what somebody who starts them gives to them.
HANDS_ON = FORWARDERS | {"sh", "bash", "dash", "env", "ip", "perl", "python3"}
_MOST_PLACES = 64
_DIGITS = re.compile(r"\d+(-\d+)?")


class Line(NamedTuple):
    """A line that is not empty. place: file and number."""

    place: str
    text: str


def found(find: Find, pattern: str, place: str, legs: list[Leg]) -> list[tuple[str, str]]:
    """Return the files of a pattern; where they cannot be read, a doubt is added to `legs`."""
    try:
        return find(pattern)
    except OSError as error:
        legs.append(doubt(place or pattern, f"{pattern}: {error.strerror or error}"))
        return []


def lines(source: str, text: str, comment: str) -> list[Line]:
    """Return the lines of a file without blank ones and those that begin with a character of `comment`."""
    stripped = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    return [Line(f"{source}:{number}", line) for number, line in stripped if line and line[0] not in comment]


def doubt(place: str, text: str, listens: tuple[str, ...] = ()) -> Leg:
    return Leg(listens, "", place, " ".join(text.split())[:200])


def of_error(error: ParseError) -> Leg:
    place = f"{error.source}:{error.line}" if error.line else error.source
    return doubt(place, error.reason)


def at(host: str, port: str) -> str:
    """Return host:port, an IPv6 address in brackets."""
    host = host.strip("[]")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(text: str) -> tuple[str, str]:
    """Return host and port of `port`, `host:port`, `[address]:port`; the port is empty for a host alone."""
    if _DIGITS.fullmatch(text):
        return "", text
    if text.endswith("]") or ":" not in text:
        return text, ""
    host, _colon, port = text.rpartition(":")
    return host, port


def places(listens: list[str]) -> tuple[str, ...]:
    """Return where a server listens; nothing, which is anywhere, for more places than are worth telling apart."""
    return tuple(listens) if len(listens) <= _MOST_PLACES else ()


def bounded(legs: list[Leg]) -> tuple[Leg, ...]:
    """Return the legs, each once, and a doubt in place of those beyond MOST_LEGS."""
    kept = legs[:MOST_LEGS]
    if len(legs) > MOST_LEGS:
        kept.append(doubt(legs[MOST_LEGS].place, f"more than {MOST_LEGS} ways"))
    return tuple(dict.fromkeys(kept))
