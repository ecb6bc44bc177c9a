# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of IP protocols, as iptables and nft spell them."""

from __future__ import annotations

import socket
from functools import lru_cache

_BY_NUMBER = {
    "1": "icmp", "2": "igmp", "4": "ipencap", "6": "tcp", "17": "udp", "33": "dccp", "41": "ipv6", "47": "gre", "50": "esp",
    "51": "ah", "58": "ipv6-icmp", "89": "ospf", "103": "pim", "112": "vrrp", "132": "sctp", "136": "udplite",
}  # fmt: skip
_NAMES = {**_BY_NUMBER, **{name: name for name in _BY_NUMBER.values()}, "icmpv6": "ipv6-icmp"}


@lru_cache(maxsize=256)
def protocol_name(text: str) -> str | None:
    """Return the usual name of a protocol, or its number as text; None when it is neither."""
    name = text.lower()
    known = _NAMES.get(name)
    if known is None and len(name) < 4 and name.isascii() and name.isdigit() and name == str(int(name)) and int(name) < 256:
        known = name
    if known is None:
        try:
            number = str(socket.getprotobyname(name))
        except (OSError, ValueError):
            return None
        known = _NAMES.get(number, number)
    return known
