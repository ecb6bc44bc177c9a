# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which route a packet from outside takes: routing rules in their order, and in each table the longest prefix (fib_rules.c).

As long as nobody has added a routing rule, IPv4 keeps the tables `local` and `main` as one (fib_trie_unmerge), and the longest
prefix of both counts. What was added and deleted again leaves no trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .._model.host import RoutingRule
from .._model.network import BITS, network_range
from .condition import marked

if TYPE_CHECKING:
    from .._model.host import HostNetwork, Route
    from .._model.network import Range
    from .._model.vocabulary import Family
    from .condition import Packet

_OWN_RULES = ((0, "local"), (32766, "main"), (32767, "default"))
_DROPPING = ("blackhole", "unreachable", "prohibit")


class Ways(NamedTuple):
    """Routes that a packet may take, None for one that is not known. sure: it takes the only one, or is dropped when there is none."""

    routes: list[Route | None]
    sure: bool


class Routing:
    """The routes and routing rules of a host."""

    def __init__(self, host: HostNetwork) -> None:
        self._unread = any(gap.subject in ("routes", "routing rules", "rtnetlink") for gap in host.gaps)
        self._tables: dict[tuple[str, Family], list[tuple[Range, Route]]] = {}
        for route in host.routes:
            self._tables.setdefault((route.table, route.family), []).append((network_range(route.destination), route))
        own = [_own_rule(family, *pair) for family in BITS for pair in _OWN_RULES]
        self._rules = sorted([*own, *host.rules], key=lambda rule: rule.priority)
        self.policed = {rule.family for rule in host.rules}

    def look_up(self, packet: Packet, destination: int) -> Ways:
        if self._unread:
            return Ways([None], False)
        found: list[Route | None] = []
        refused = False
        for rule in self._rules:
            applies = _applies(rule, packet, destination) if rule.family == packet.family else False
            if applies is False or rule.action == "nop":
                continue
            if rule.action in _DROPPING:
                refused = True
                if applies:
                    break
                continue
            tables = (rule.table,)
            routes: list[Route | None] = list(self._longest(packet.family, tables, destination)) if _readable(rule) else [None]
            if rule.table == "local" and packet.family == "ipv4" and "ipv4" not in self.policed and routes:
                routes += self._longest("ipv4", ("local", "main"), destination)
            found += routes
            if applies and any(route and not route.more for route in routes) and _readable(rule):
                break
        else:
            refused = True  # no table has a route
        found = list(dict.fromkeys(found))
        return Ways([route for route in found if route is None or route.type not in _DROPPING], len(found) + refused == 1)

    def _longest(self, family: Family, tables: tuple[str, ...], destination: int) -> list[Route]:
        """Return the routes of the longest prefix (several next hops, of which one is taken), and those that may come before it."""
        found: dict[tuple[str | None, str], Route] = {}
        others: list[Route] = []  # which ask for more
        size = 1 << 128
        for table in tables:
            for network, route in self._tables.get((table, family), ()):
                length = network.last - network.first
                if route.more:
                    others += [route] if network.first <= destination <= network.last else []
                elif length <= size and network.first <= destination <= network.last:
                    found = found if length == size else {}
                    size = length
                    found[route.interface, route.type] = route
        return [route for route in [*found.values(), *others] if route.type != "throw"]


def _own_rule(family: Family, priority: int, table: str) -> RoutingRule:
    return RoutingRule(family, priority, None, None, None, None, None, table, "lookup", False, False)


def _readable(rule: RoutingRule) -> bool:
    return rule.action == "lookup" and rule.table != "l3mdev"


def _applies(rule: RoutingRule, packet: Packet, destination: int) -> bool | None:
    """Say whether a rule is for a packet that comes in from some source; None when that is not known."""
    if rule.out_interface:
        return bool(rule.inverted) if not rule.more else None  # only for what this machine sends
    answers: list[bool | None] = [None] if rule.more or rule.source else []
    if rule.in_interface:
        answers.append(rule.in_interface == packet.interface)
    if rule.destination:
        network = network_range(rule.destination)
        answers.append(network.first <= destination <= network.last)
    if rule.mark:
        answers.append(marked((rule.mark,), packet.mark))
    answer = False if False in answers else None if None in answers else True
    return answer if answer is None else answer != rule.inverted
