# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of addresses as bits over the segments that a ruleset can tell apart.

One bit stands for all addresses between two bounds that some rule names, so a set of any size is one integer, and
union, intersection and difference are one operation each.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter


class Segments:
    """The partition of 0 to `last` by the bounds of `ranges`."""

    def __init__(self, last: int, ranges: Iterable[tuple[int, int]]) -> None:
        starts = {0}
        for first, end in ranges:
            starts.add(first)
            starts.add(end + 1)
        starts.discard(last + 1)
        self._starts = sorted(starts)
        self._last = last
        self.count = len(self._starts)
        self.everything = (1 << self.count) - 1

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Return the first segment of a range and the one after its last; its bounds are among those given."""
        low = bisect_left(self._starts, first)
        alone = low + 1 == self.count or self._starts[low + 1] > last
        return low, low + 1 if alone else bisect_right(self._starts, last)

    def mask(self, first: int, last: int) -> int:
        """Return the set of the addresses from first to last, which are bounds that were given."""
        low, high = self.span(first, last)
        return ((1 << high - low) - 1) << low

    @staticmethod
    def painted(spans: Sequence[tuple[int, int, int]]) -> dict[int, int]:
        """Give each segment the colour (1 to 255) of the first span that covers it; return the set of each colour."""
        start = min(spans)[0]
        colours = bytearray(max(map(itemgetter(1), spans)) - start)
        tables: dict[int, bytes] = {}
        for low, high, colour in spans:
            if high - low == 1:
                if not colours[low - start]:
                    colours[low - start] = colour
                continue
            if colour not in tables:
                tables[colour] = bytes((colour, *range(1, 256)))
            colours[low - start : high - start] = colours[low - start : high - start].translate(tables[colour])
        colours.reverse()
        return {
            colour: int(bytes(colours).translate(b"0" * colour + b"1" + b"0" * (255 - colour)), 2) << start
            for colour in tables.keys() | set(colours) - {0}
        }

    def ranges(self, mask: int) -> list[tuple[int, int]]:
        """Return the addresses of a set, neighbouring segments joined."""
        start = first_of(mask)
        bits = bin(mask >> start)[:1:-1] if mask else ""
        found = []
        low = bits.find("1")
        while low >= 0:
            high = bits.find("0", low)
            if high < 0:
                high = len(bits)
            end = self._starts[start + high] - 1 if start + high < self.count else self._last
            found.append((self._starts[start + low], end))
            low = bits.find("1", high)
        return found


def joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return disjoint ranges in order, neighbours as one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and found[-1][1] + 1 == first:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


def first_of(mask: int) -> int:
    """Return the place of the lowest bit, -1 of nothing."""
    return (mask & -mask).bit_length() - 1
