# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of addresses as bits over the segments that a ruleset can tell apart.

One bit stands for all addresses between two bounds that some rule names, so a set of any size is one integer, and
union, intersection and difference are one operation each.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

Bounds = "tuple[int, int]"  # first and last address, both included


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
        self.everything = (1 << len(self._starts)) - 1

    def mask(self, first: int, last: int) -> int:
        """Return the set of the addresses from first to last, which must be bounds that were given."""
        low = bisect_left(self._starts, first)
        high = bisect_left(self._starts, last + 1)
        return (1 << high) - (1 << low)

    def ranges(self, mask: int) -> list[tuple[int, int]]:
        """Return the addresses of a set, neighbouring segments joined."""
        bits = bin(mask)[:1:-1]
        found = []
        low = bits.find("1")
        while low >= 0:
            high = bits.find("0", low)
            if high < 0:
                high = len(bits)
            end = self._starts[high] - 1 if high < len(self._starts) else self._last
            found.append((self._starts[low], end))
            low = bits.find("1", high)
        return found
