# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of NETLINK_ROUTE: links, addresses, routes, routing rules and qdiscs (rtnetlink(7), linux/rtnetlink.h)."""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Iterable, NamedTuple

from .._model.host import Route
from .netlink import NetlinkError, attributes

if TYPE_CHECKING:
    from .._model.vocabulary import Family

NETLINK_ROUTE = 0
GETLINK, GETADDR, GETROUTE, GETRULE, GETQDISC = 18, 22, 26, 34, 38
TABLE_MAIN, TABLE_LOCAL = 254, 255

_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_QDISC = struct.Struct("=B3xiIII")  # family, index, handle, parent, info
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
_IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_XDP = 3, 10, 18, 43
_INFO_KIND, _XDP_ATTACHED = 1, 2
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15
_FRA_PRIORITY, _FRA_FWMARK = 6, 10
_TCA_KIND = 1
_ROUTE_TYPES = (
    "unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit", "throw",
    "nat", "xresolve",
)  # fmt: skip
# The rules of every host: local, main and default (ip-rule(8)).
_USUAL_RULES = ((0, TABLE_LOCAL), (32766, TABLE_MAIN), (32767, 253))


class Link(NamedTuple):
    ifindex: int
    name: str
    kind: str
    up: bool
    loopback: bool
    master: int
    xdp: bool


def request(kind: int, table: int = 0) -> bytes:
    """Return the payload of a dump; `table` narrows GETROUTE where the kernel can."""
    if kind == GETLINK:
        return bytes(_LINK.size)
    if kind == GETADDR:
        return bytes(_ADDRESS.size)
    if kind == GETQDISC:
        return bytes(_QDISC.size)
    return _ROUTE.pack(0, 0, 0, 0, table, 0, 0, 0, 0)


def links(payloads: Iterable[bytes]) -> list[Link]:
    """Raises NetlinkError (EBADMSG) for what is no link message; the others here do likewise."""
    found = []
    for payload in payloads:
        _family, _type, index, flags, _change = _unpack(_LINK, payload)
        fields = attributes(payload, _LINK.size)
        info = attributes(fields.get(_IFLA_LINKINFO, b""))
        xdp = attributes(fields.get(_IFLA_XDP, b"")).get(_XDP_ATTACHED, b"\0")
        found.append(
            Link(
                index, _text(fields.get(_IFLA_IFNAME, b"")), _text(info.get(_INFO_KIND, b"")), bool(flags & _IFF_UP),
                bool(flags & _IFF_LOOPBACK), _number(fields.get(_IFLA_MASTER, b"")), any(xdp),
            )
        )  # fmt: skip
    return found


def addresses(payloads: Iterable[bytes]) -> list[tuple[int, str]]:
    """Return (interface index, address/prefix length) of each local address."""
    found = []
    for payload in payloads:
        family, length, _flags, _scope, index = _unpack(_ADDRESS, payload)
        fields = attributes(payload, _ADDRESS.size)
        # On a point-to-point link IFA_ADDRESS is the other end.
        packed = fields.get(_IFA_LOCAL) or fields.get(_IFA_ADDRESS, b"")
        if family in (socket.AF_INET, socket.AF_INET6):
            found.append((index, f"{_address(family, packed)}/{length}"))
    return found


def routes(payloads: Iterable[bytes], names: dict[int, str]) -> list[Route]:
    """Return IPv4 and IPv6 routes; `names` are the interfaces by index."""
    found = []
    for payload in payloads:
        family, length, _src, _tos, table, _protocol, _scope, kind, _flags = _unpack(_ROUTE, payload)
        if family not in (socket.AF_INET, socket.AF_INET6):
            continue
        fields = attributes(payload, _ROUTE.size)
        destination = fields.get(_RTA_DST) or bytes(4 if family == socket.AF_INET else 16)
        gateway = fields.get(_RTA_GATEWAY)
        name: Family = "ipv4" if family == socket.AF_INET else "ipv6"
        found.append(
            Route(
                name, f"{_address(family, destination)}/{length}", _address(family, gateway) if gateway else None,
                names.get(_number(fields.get(_RTA_OIF, b""))), _number(fields.get(_RTA_TABLE, b"")) or table,
                _ROUTE_TYPES[kind] if kind < len(_ROUTE_TYPES) else str(kind),
            )
        )  # fmt: skip
    return found


def rules(payloads: Iterable[bytes]) -> list[str]:
    """Return the policy routing rules that not every host has, as short text."""
    found = []
    for payload in payloads:
        family, dst, src, _tos, table, _protocol, _scope, action, _flags = _unpack(_ROUTE, payload)
        if family not in (socket.AF_INET, socket.AF_INET6):
            continue  # multicast routing has rules of its own
        fields = attributes(payload, _ROUTE.size)
        priority = _number(fields.get(_FRA_PRIORITY, b""))
        table = _number(fields.get(_RTA_TABLE, b"")) or table
        mark = _number(fields.get(_FRA_FWMARK, b""))
        if (priority, table) in _USUAL_RULES and not dst and not src and not mark:
            continue
        version = "ipv4" if family == socket.AF_INET else "ipv6"
        found.append(f"{version} priority {priority}: table {table}, action {action}, mark {mark:#x}")
    return found


def programmable(payloads: Iterable[bytes]) -> set[int]:
    """Return the indexes of the interfaces with a qdisc that tc programs hang on where packets come in."""
    found = set()
    for payload in payloads:
        _family, index, _handle, _parent, _info = _unpack(_QDISC, payload)
        if _text(attributes(payload, _QDISC.size).get(_TCA_KIND, b"")) in ("clsact", "ingress"):
            found.add(index)
    return found


def _unpack(layout: struct.Struct, payload: bytes) -> tuple[int, ...]:
    if len(payload) < layout.size:
        raise NetlinkError(errno.EBADMSG, f"a message of {len(payload)} bytes, not {layout.size}")
    return layout.unpack_from(payload)


def _address(family: int, packed: bytes) -> str:
    if len(packed) != (4 if family == socket.AF_INET else 16):
        raise NetlinkError(errno.EBADMSG, f"an address of {len(packed)} bytes")
    return socket.inet_ntop(family, packed)


def _number(value: bytes) -> int:
    return int(struct.unpack("=I", value)[0]) if len(value) == 4 else 0


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")
