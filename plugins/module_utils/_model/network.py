# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks and address ranges as pairs of numbers."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .vocabulary import Family

BITS: dict[Family, int] = {"ipv4": 32, "ipv6": 128}
_LENGTHS = frozenset(map(str, range(129)))  # nothing else: iptables reads 010 as octal


class Range(NamedTuple):
    """Addresses from `first` to `last`, both included; `text` is its canonical spelling."""

    family: Family
    first: int
    last: int
    text: str


@lru_cache(maxsize=8192)
def network_range(text: str) -> Range:
    """Read an address, a CIDR, an address with a dotted mask, or first-last.

    Host bits below the mask are dropped, as iptables does. Raises ValueError that names the text.
    """
    family, first, last = numbers(text)
    if "-" in text:
        return Range(family, first, last, f"{spell(family, first)}-{spell(family, last)}")
    return Range(family, first, last, f"{spell(family, first)}/{BITS[family] - (last - first).bit_length()}")


def numbers(text: str) -> tuple[Family, int, int]:
    """Return the family, the first and the last address of what network_range reads. Raises ValueError as it does."""
    if "-" in text:
        low, _dash, high = text.partition("-")
        family, first = _number(low.strip(), text)
        other, last = _number(high.strip(), text)
        if family != other or last < first:
            raise ValueError(f"not an address range: {text!r}")
        return family, first, last
    address, slash, mask = text.partition("/")
    if mask == "32":
        try:
            value = int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big")
        except (OSError, UnicodeError):
            pass
        else:
            return "ipv4", value, value  # most of a long list
    family, value = _number(address.strip(), text)
    bits = BITS[family]
    length = _prefix_length(family, mask.strip(), text) if slash else bits
    host = (1 << (bits - length)) - 1
    return family, value & ~host, value | host


def _number(address: str, text: str) -> tuple[Family, int]:
    try:
        return "ipv4", int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big")
    except (OSError, UnicodeError):
        pass
    try:
        return "ipv6", int.from_bytes(socket.inet_pton(socket.AF_INET6, address), "big")
    except (OSError, UnicodeError):
        raise ValueError(f"not an IP network: {text!r}") from None


def _prefix_length(family: Family, mask: str, text: str) -> int:
    bits = BITS[family]
    if mask in _LENGTHS and int(mask) <= bits:
        return int(mask)
    try:
        mask_family, value = _number(mask, text)
    except ValueError:
        raise ValueError(f"not a prefix length or mask in {text!r}") from None
    length = bits - (value ^ ((1 << bits) - 1)).bit_length()
    if mask_family != family or value != ((1 << bits) - 1) ^ ((1 << (bits - length)) - 1):
        raise ValueError(f"not a contiguous mask in {text!r}")
    return length


def spell(family: Family, value: int) -> str:
    """Return the canonical text of an address that is given as a number."""
    number = socket.AF_INET if family == "ipv4" else socket.AF_INET6
    return socket.inet_ntop(number, value.to_bytes(BITS[family] // 8, "big"))


def cidrs(family: Family, first: int, last: int) -> Iterator[str]:
    """Yield the fewest CIDRs that cover the addresses from first to last."""
    bits = BITS[family]
    while first <= last:
        size = (first & -first) or (1 << bits)
        while size > last - first + 1:
            size >>= 1
        yield f"{spell(family, first)}/{bits + 1 - size.bit_length()}"
        first += size


def subtract(ranges: Sequence[tuple[int, int]], removed: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the disjoint `ranges` without the addresses of `removed` (may overlap), in order."""
    holes = sorted(removed)
    left = []
    place = 0
    for first, last in sorted(ranges):
        while place < len(holes) and holes[place][1] < first:
            place += 1
        here = place
        while here < len(holes) and holes[here][0] <= last:
            low, high = holes[here]
            if low > first:
                left.append((first, low - 1))
            first = max(first, high + 1)
            here += 1
        if first <= last:
            left.append((first, last))
    return left
