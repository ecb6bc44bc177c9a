# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The port from which somebody comes. The sender chooses it: who gets in from one of his ports gets in."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from .._model.network import subtract
from .._model.ruleset import outward
from .condition import bounds
from .reach import Part

if TYPE_CHECKING:
    from typing import Callable

    from .._model.ruleset import Table

_Key = TypeVar("_Key", bound=Hashable)
_MOST = 16
_USUAL = 49152  # a port that systems choose by themselves


class Ports(NamedTuple):
    """One port of each kind that rules tell apart, the usual kind first. complete: these are all the kinds there are."""

    ports: tuple[int, ...]
    complete: bool


def kinds(tables: Sequence[Table]) -> Ports:
    """Return the source ports to try. In an answer the sender's port is the destination port."""
    starts = {1}
    for table in tables:
        answers = outward(table)
        for chain in table.chains.values():
            fields = {"source_port", "any_port"} | ({"destination_port"} if chain.name in answers else set())
            for rule in chain.rules:
                for match in rule.matches:
                    if match.field in fields:
                        for value in match.values:
                            low, high = bounds(value)
                            starts.update((low, high + 1))
    found = sorted(start for start in starts if 0 < start < 65536)
    usual = max(start for start in found if start <= _USUAL)
    found.sort(key=lambda start: start != usual)
    return Ports(tuple(_USUAL if start == usual else start for start in found[:_MOST]), len(found) <= _MOST)


def settled(
    answers: Mapping[_Key, Sequence[Part]], ports: Ports, ask: Callable[[int], Mapping[_Key, Sequence[Part]]]
) -> Mapping[_Key, Sequence[Part]]:
    """Settle what is `maybe` by asking again for each port: open from one is accepted, closed from all is dropped."""
    if len(ports.ports) < 2 or not any(part.reach == "maybe" for parts in answers.values() for part in parts):
        return answers
    by_port = [ask(port) for port in ports.ports]
    found = {}
    for key, parts in answers.items():
        left = [bounds for part in parts if part.reach == "maybe" for bounds in part.sources]
        opened = []
        for answer in by_port:
            for part in answer.get(key, ()):
                held = _both(part.sources, left) if part.reach == "accepted" else []
                if held:
                    opened.append(part._replace(sources=tuple(held)))
                    left = subtract(left, held)
        closed = left if ports.complete else []
        for answer in by_port:
            closed = subtract(closed, [bounds for part in answer.get(key, ()) if part.reach != "dropped" for bounds in part.sources])
        left = subtract(left, closed)
        kept = [part if part.reach != "maybe" else part._replace(sources=tuple(_both(part.sources, left))) for part in parts]
        shut = [Part("dropped", tuple(closed), ())] if closed else []
        found[key] = [part for part in (*kept, *opened, *shut) if part.sources]
    return found


def _both(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return subtract(one, subtract(one, other))
