# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of rtnetlink(7): links, addresses, routes, routing rules and queueing disciplines."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .._model.host import Interface, Route, RoutingRule
from .netlink import NetlinkError, attributes

if TYPE_CHECKING:
    from .._model.vocabulary import Family

RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETRULE, RTM_GETQDISC = 18, 22, 26, 34, 38

_LINK = struct.Struct("=BxHiII")  # ifinfomsg
_ADDRESS = struct.Struct("=BBBBi")  # ifaddrmsg
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg, and fib_rule_hdr
_QDISC = struct.Struct("=BxxxiIII")  # tcmsg
_NEXT_HOP = struct.Struct("=HBBi")

_UP, _LOOPBACK = 0x1, 0x8
_FAMILIES: dict[int, Family] = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
_TABLES = {253: "default", 254: "main", 255: "local"}
_TYPES = (
    "unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw", "nat",
)  # fmt: skip
_SKIPPED = ("broadcast", "anycast", "multicast")  # the kernel makes them with every address
_BY_KERNEL = 2  # RTPROT_KERNEL; RTPROT_BOOT, of those who do not say, is 3
_ACTIONS = {1: "lookup", 2: "goto", 3: "nop", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_OWN_RULES = ((0, "local"), (32766, "main"), (32767, "default"))
_INVERTED = 0x2
_TOLD = frozenset((1, 2, 3, 4, 6, 10, 15, 16, 17, 18, 21))  # FRA_* that ask for nothing, or for what a RoutingRule tells
_SUPPRESS = frozenset((13, 14))  # FRA_SUPPRESS_IFGROUP, FRA_SUPPRESS_PREFIXLEN: -1 asks for nothing
_CLSACT = 0xFFFFFFF1  # the parent of ingress and clsact


def get(kind: int) -> bytes:
    """Return the payload that asks for everything of a kind, without statistics."""
    if kind == RTM_GETLINK:
        return _LINK.pack(0, 0, 0, 0, 0) + struct.pack("=HHI", 8, 29, 1 << 3)  # IFLA_EXT_MASK: RTEXT_FILTER_SKIP_STATS
    return bytes({RTM_GETADDR: _ADDRESS.size, RTM_GETQDISC: _QDISC.size}.get(kind, _ROUTE.size))


def links(payloads: Iterable[bytes]) -> list[Interface]:
    """Return the interfaces without addresses. Raises OSError for what is not netlink."""
    found = []
    masters = {}
    for payload in payloads:
        _family, _type, index, flags, _change = _unpack(_LINK, payload)
        values = attributes(payload, _LINK.size)
        details = attributes(values.get(18, b""))  # IFLA_LINKINFO
        program = attributes(values.get(43, b"")).get(2, b"\0")  # IFLA_XDP_ATTACHED
        masters[index] = _u32(values.get(10))
        found.append(
            Interface(
                _text(values.get(3)),
                index,
                _text(details.get(1)),
                bool(flags & _UP),
                bool(flags & _LOOPBACK),
                None,
                (),
                program != b"\0",
            )
        )
    names = {link.index: link.name for link in found}
    return [link._replace(master=names.get(masters[link.index])) for link in found]


def addresses(payloads: Iterable[bytes]) -> dict[int, list[str]]:
    """Return interface index -> addresses as CIDR. Raises OSError for what is not netlink."""
    found: dict[int, list[str]] = {}
    for payload in payloads:
        family, length, _flags, _scope, index = _unpack(_ADDRESS, payload)
        values = attributes(payload, _ADDRESS.size)
        address = values.get(2, values.get(1))  # IFA_LOCAL; of a point-to-point link IFA_ADDRESS is the other end
        if family in _FAMILIES and address is not None:
            found.setdefault(index, []).append(f"{_address(family, address)}/{length}")
    return found


def routes(payloads: Iterable[bytes], names: dict[int, str]) -> list[Route]:
    """Return the routes of IPv4 and IPv6. names: interface index -> name. Raises OSError for what is not netlink."""
    found = []
    for payload in payloads:
        family, length, source, tos, table, protocol, _scope, kind, _flags = _unpack(_ROUTE, payload)
        type_name = _TYPES[kind] if kind < len(_TYPES) else str(kind)
        if family not in _FAMILIES or (type_name in _SKIPPED and protocol <= _BY_KERNEL):
            continue
        values = attributes(payload, _ROUTE.size)
        number = _u32(values.get(15)) or table
        destination = f"{_address(family, values.get(1))}/{length}"
        for hop in _hops(values):
            gateway = hop.get(5)
            via = hop.get(18, b"")  # RTA_VIA: a next hop of the other family
            found.append(
                Route(
                    _FAMILIES[family],
                    destination,
                    _address(family, gateway) if gateway else _address(struct.unpack_from("=H", via)[0], via[2:]) if len(via) > 2 else None,
                    names.get(_u32(hop.get(4)), str(_u32(hop.get(4)))) if 4 in hop else None,
                    _TABLES.get(number, str(number)),
                    type_name,
                    bool(source or tos),
                )
            )
    return found


def _hops(values: dict[int, bytes]) -> list[dict[int, bytes]]:
    data = values.get(9, b"")  # RTA_MULTIPATH
    if not data:
        return [values]
    hops = []
    position = 0
    while position + _NEXT_HOP.size <= len(data):
        length, _flags, _weight, index = _NEXT_HOP.unpack_from(data, position)
        if length < _NEXT_HOP.size:
            raise NetlinkError(errno.EBADMSG, f"a next hop of {length} bytes")
        hops.append({4: struct.pack("=i", index), **attributes(data[position : position + length], _NEXT_HOP.size)})
        position += (length + 3) & ~3
    return hops


def rules(payloads: Iterable[bytes]) -> list[RoutingRule]:
    """Return the routing rules that somebody added. Raises OSError for what is not netlink."""
    found = []
    for payload in payloads:
        family, to_length, from_length, tos, table, _r1, _r2, action, flags = _unpack(_ROUTE, payload)
        if family not in _FAMILIES:
            continue
        values = attributes(payload, _ROUTE.size)
        priority, number = _u32(values.get(6)), _u32(values.get(15)) or table
        name = _TABLES.get(number, str(number))
        conditions = set(values) & {1, 2, 3, 4, 10, 17, 19, 20, 22, 23, 24}  # FRA_*
        if action == 1 and (priority, name) in _OWN_RULES and not conditions:
            continue
        mark = f"{_u32(values[10]):#x}/{_u32(values.get(16)) or 0xFFFFFFFF:#x}" if 10 in values else None
        found.append(
            RoutingRule(
                _FAMILIES[family],
                priority,
                f"{_address(family, values[2])}/{from_length}" if 2 in values else None,
                f"{_address(family, values[1])}/{to_length}" if 1 in values else None,
                _text(values.get(3)) or None,
                _text(values.get(17)) or None,
                mark,
                "l3mdev" if 19 in values else name,
                _ACTIONS.get(action, str(action)),
                bool(flags & _INVERTED),
                bool(tos) or any(kind not in _TOLD and (kind not in _SUPPRESS or _u32(values[kind]) != 0xFFFFFFFF) for kind in values),
            )
        )
    return found


def displaced(payloads: Iterable[bytes]) -> list[Family]:
    """Return the families whose rules for `local` and `main` are not where the kernel puts them."""
    own: dict[Family, set[tuple[int, str]]] = {}
    for payload in payloads:
        family, *_lengths, table, _r1, _r2, _action, _flags = _unpack(_ROUTE, payload)
        if family in _FAMILIES:
            values = attributes(payload, _ROUTE.size)
            number = _u32(values.get(15)) or table
            own.setdefault(_FAMILIES[family], set()).add((_u32(values.get(6)), _TABLES.get(number, str(number))))
    return [family for family, found in own.items() if not found.issuperset(_OWN_RULES[:2])]


def classified(payloads: Iterable[bytes]) -> set[int]:
    """Return the indexes of the interfaces that have an ingress or clsact qdisc, where tc filters hang."""
    return {_unpack(_QDISC, payload)[1] for payload in payloads if _unpack(_QDISC, payload)[3] == _CLSACT}


def _unpack(layout: struct.Struct, payload: bytes) -> tuple[int, ...]:
    if len(payload) < layout.size:
        raise NetlinkError(errno.EBADMSG, f"a message of {len(payload)} bytes instead of {layout.size}")
    return layout.unpack_from(payload)


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode("utf-8", "replace")


def _u32(value: bytes | None) -> int:
    return int(struct.unpack_from("=I", value)[0]) if value and len(value) >= 4 else 0


def _address(family: int, value: bytes | None) -> str:
    if family not in _FAMILIES:
        raise NetlinkError(errno.EBADMSG, f"an address of family {family}")
    size = 4 if family == socket.AF_INET else 16
    if value is not None and len(value) != size:
        raise NetlinkError(errno.EBADMSG, f"an address of {len(value)} bytes")
    return socket.inet_ntop(family, value or bytes(size))
