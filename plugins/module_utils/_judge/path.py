# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A way in, and the sentence that tells it to a person."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .._model.network import BITS, cidrs, subtract

if TYPE_CHECKING:
    from .._model.listener import Listener
    from .._model.vocabulary import Family, Reach, Shown, Via
    from .reach import Decision

MOST_SOURCES = 64
_FAMILY_NAMES = {"ipv4": "IPv4", "ipv6": "IPv6"}


class Path(NamedTuple):
    """A way in that is open, or not shown to be closed. interface: a name, or `any` for every one but loopback.

    shown: what shows that a relay leads to the service; None for every other way.
    """

    family: Family
    interface: str
    via: Via
    reach: Reach
    sources: tuple[tuple[int, int], ...]
    destinations: tuple[str, ...]
    decided_by: tuple[Decision, ...]
    text: str
    shown: Shown | None = None

    def to_dict(self, limit: int = MOST_SOURCES) -> dict[str, Any]:
        networks: list[str] = []
        omitted = 0
        for first, last in self.sources:
            for network in cidrs(self.family, first, last):
                if len(networks) < limit:
                    networks.append(network)
                else:
                    omitted += 1
        return {
            **self._asdict(),
            "sources": networks,
            "sources_omitted": omitted,
            "destinations": list(self.destinations),
            "decided_by": [decision._asdict() for decision in self.decided_by],
        }


def place_of(row: Listener) -> str:
    address = f"[{row.address}]" if ":" in row.address else row.address
    zone = f"%{row.interface}" if row.interface else ""
    return f"{address}{zone}:{row.port}"


def merged(paths: Sequence[Path], interfaces: int) -> tuple[Path, ...]:
    """Join paths that differ in interface or destination only, write their sentences, and put the worst first."""
    groups: dict[tuple[Any, ...], list[Path]] = {}
    for path in paths:
        groups.setdefault((path.reach, path.family, path.via, path.sources, path.decided_by, path.text, path.shown), []).append(path)
    joined = []
    for members in groups.values():
        names = list(dict.fromkeys(path.interface for path in members))
        destinations = tuple(dict.fromkeys(name for path in members for name in path.destinations))
        everywhere = len(names) == interfaces and interfaces > 1
        for name in ["any"] if everywhere else names:
            path = members[0]._replace(interface=name, destinations=destinations)
            joined.append(path._replace(text=_sentence(path)))
    return tuple(sorted(joined, key=lambda path: (path.reach != "accepted", path.via != "bind", path.family, path.interface)))


def _sentence(path: Path) -> str:
    who = _who(path)
    where = "any interface" if path.interface == "any" else path.interface
    if path.via == "relay":
        doubt = "" if path.reach == "accepted" else ", which may lead here"
        return f"{who} on {where} via {path.text}{doubt}" if path.destinations else f"anyone via {path.text}{doubt}"
    way = {"route_localnet": " to 127.0.0.0/8 (route_localnet)", "router": f" via {path.text}", "redirect": f" to {path.text}"}.get(
        path.via, ""
    )
    way = way if path.text or path.via == "route_localnet" else ""
    start = f"{who} on {where} ({_FAMILY_NAMES[path.family]}){way}: "
    if path.via == "redirect" and not path.text:
        return start + f"{_rule(path.decided_by[-1])} may send packets here or elsewhere, and does not tell where"
    if not path.decided_by:
        return start + ("no firewall rule stands in the way" if path.reach == "accepted" else "not every rule could be read")
    last = path.decided_by[-1]
    if path.reach == "maybe":
        return start + f"not shown to be closed, {_rule(path.decided_by[0])} may decide"
    if last.rule == 0:
        return start + f"no rule in {last.chain} decides, {last.text}"
    return start + _rule(last)


def _rule(decision: Decision) -> str:
    if decision.rule == 0:
        return f"{decision.table} {decision.chain} {decision.text}"
    return f"{decision.table} {decision.chain} rule {decision.rule} `{decision.text}`"


def _who(path: Path) -> str:
    """Name the sources for a person: anyone, a few networks, or anyone but a few."""
    missing = subtract([(0, (1 << BITS[path.family]) - 1)], path.sources)
    if not missing:
        return "anyone"
    excepted = [text for first, last in missing[:4] for text in cidrs(path.family, first, last)]
    named = [text for first, last in path.sources[:4] for text in cidrs(path.family, first, last)]
    if len(missing) <= 3 and len(excepted) <= 4 and len(excepted) < len(named):
        return "anyone but " + ", ".join(excepted)
    if len(path.sources) <= 3 and len(named) <= 4:
        return ", ".join(named)
    return f"{len(path.sources)} ranges of sources, {named[0]} the first"
