# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is in an ipset (ipset(8)): entries name addresses, ports and interfaces in the order of the set's type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from .._model.network import network_range

if TYPE_CHECKING:
    from .._model.ruleset import SetElements
    from .._model.vocabulary import Family
    from .condition import Packet
    from .segments import Segments

_PARTS = ("ip", "net", "port")  # of a type; an interface, a mark or a MAC address is not compared


class Members(NamedTuple):
    """The entries of a set, `nomatch` ones told apart, less specific ones first. known: nothing else is in it."""

    parts: tuple[str, ...]
    entries: tuple[tuple[tuple[str, ...], bool], ...]
    family: Family
    known: bool

    def bounds(self) -> Iterable[tuple[int, int]]:
        if self.known:
            for values, _inside in self.entries:
                for part, value in zip(self.parts, values):
                    if part != "port":
                        yield network_range(value)[1:3]

    def ends(self, dimensions: list[str], packet: Packet, turned: bool, segments: Segments) -> tuple[int, bool] | None:
        """Return the other ends that the set names, and whether that is certain; None when it cannot be said.

        dimensions: src or dst for each part of an entry.
        """
        if not self.known or len(dimensions) < len(self.parts) or not self.parts:
            return None
        remote = "dst" if turned else "src"
        found = 0
        for values, inside in self.entries:
            mask = segments.everything
            for part, value, dimension in zip(self.parts, values, dimensions):
                held = self._part(part, value, dimension == remote, packet, segments)
                if held is None:
                    return None
                mask &= held
            found = found | mask if inside else found & ~mask
        return found, True

    @staticmethod
    def _part(part: str, value: str, remote: bool, packet: Packet, segments: Segments) -> int | None:
        if part == "port":
            protocol, _colon, port = value.rpartition(":")
            first, _dash, last = port.partition("-")
            if remote or not first.isdigit() or not (last or first).isdigit():
                return None
            spoken = (protocol,) if protocol else ("tcp", "udp")  # bitmap:port: ip_set_get_ip_port
            held = packet.protocol in spoken and int(first) <= packet.port <= int(last or first)
            return segments.everything if held else 0
        bounds = network_range(value)[1:3]
        if remote:
            return segments.mask(*bounds)
        if packet.destination is None:
            return None
        return segments.everything if bounds[0] <= packet.destination <= bounds[1] else 0


def members(name: str, ipsets: Mapping[str, SetElements], family: Family) -> Members:
    """Read a set for one address family; entries of the other one cannot match."""
    elements = ipsets[name]
    parts = tuple(elements.type.partition(":")[2].split(","))
    nothing = Members(parts, (), family, False)
    if not elements.complete or elements.type.startswith("list") or not set(parts) <= set(_PARTS):
        return nothing
    entries = []
    try:
        for values, inside in [(entry, True) for entry in elements.entries] + [(entry, False) for entry in elements.excluded]:
            split = tuple(values.split(","))
            ranges = [network_range(value) for part, value in zip(parts, split) if part != "port"]
            if len(split) != len(parts) or (not ranges and parts != ("port",)):
                return nothing
            if all(entry.family == family for entry in ranges):
                entries.append((sum(entry.last - entry.first for entry in ranges), split, inside))
    except ValueError:
        return nothing
    if elements.excluded and len(parts) > 1:
        return nothing
    entries.sort(key=lambda entry: -entry[0])
    return Members(parts, tuple((split, inside) for _size, split, inside in entries), family, True)


def set_ports(ipsets: Mapping[str, SetElements]) -> set[int]:
    """Return every port at which an entry of a set begins, or ends, to hold."""
    found: set[int] = set()
    for elements in ipsets.values():
        parts = elements.type.partition(":")[2].split(",")
        for entry in (*elements.entries, *elements.excluded):
            for part, value in zip(parts, entry.split(",")):
                first, _dash, last = value.rpartition(":")[2].partition("-")
                if part == "port" and first.isdigit() and (last or first).isdigit():
                    found.update((int(first), int(last or first) + 1))
    return found - {65536}
