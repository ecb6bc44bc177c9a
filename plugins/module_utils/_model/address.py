# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""IP addresses as they are bound: canonical text and scope."""

from __future__ import annotations

import socket
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .vocabulary import Family, Scope

LOOPBACK_INTERFACE = "lo" if sys.platform == "linux" else "lo0"

# RFC 1918, RFC 6598 (shared, carrier-grade NAT) and RFC 4193: not routed on the internet.
_PRIVATE_V4 = ((0x0A000000, 8), (0xAC100000, 12), (0xC0A80000, 16), (0x64400000, 10))


def canonical(text: str) -> tuple[Family, str]:
    """Return the family and the shortest usual spelling (RFC 5952) of an address without zone.

    Raises ValueError, naming the text, for anything that is not an address.
    """
    for family, number in (("ipv4", socket.AF_INET), ("ipv6", socket.AF_INET6)):
        try:
            return family, socket.inet_ntop(number, socket.inet_pton(number, text))  # type: ignore[return-value]  # the families of the loop
        except (OSError, UnicodeError):
            continue
    raise ValueError(f"not an IP address: {text!r}")


@lru_cache(maxsize=4096)
def scope_of(address: str, interface: str | None = None) -> Scope:
    """Say how wide a canonical bind address is; an address on a socket tied to lo is loopback.

    Raises ValueError for what is not a canonical IP address.
    """
    if interface == LOOPBACK_INTERFACE:
        return "loopback"
    if ":" not in address:
        return _scope_v4(int.from_bytes(socket.inet_pton(socket.AF_INET, address), "big"))
    value = int.from_bytes(socket.inet_pton(socket.AF_INET6, address), "big")
    if value >> 32 == 0xFFFF:
        return _scope_v4(value & 0xFFFFFFFF)
    if value == 0:
        return "wildcard"
    if value == 1:
        return "loopback"
    if value >> 118 == 0xFE80 >> 6 or value >> 112 in (0xFF01, 0xFF02):
        return "link_local"
    if value >> 121 == 0xFC >> 1:
        return "private"
    return "public"


def _scope_v4(value: int) -> Scope:
    if value == 0:
        return "wildcard"
    if value >> 24 == 127:
        return "loopback"
    if value >> 16 == 0xA9FE or value >> 8 == 0xE00000:
        return "link_local"
    if any(value >> (32 - length) == network >> (32 - length) for network, length in _PRIVATE_V4):
        return "private"
    return "public"
