# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of NETLINK_SOCK_DIAG: inet_diag_msg (linux/inet_diag.h, sock_diag(7))."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .._model.listener import Socket
from .netlink import NetlinkError

if TYPE_CHECKING:
    from .._model.vocabulary import Protocol

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20

NUMBERS: dict[Protocol, int] = {"tcp": 6, "udp": 17, "udplite": 136, "sctp": 132, "dccp": 33}
CONNECTIONLESS = ("udp", "udplite")

# include/net/tcp_states.h; a datagram socket that is not connected stays in CLOSE.
STATES = {
    1: "ESTABLISHED",
    2: "SYN_SENT",
    3: "SYN_RECV",
    4: "FIN_WAIT1",
    5: "FIN_WAIT2",
    6: "TIME_WAIT",
    7: "CLOSE",
    8: "CLOSE_WAIT",
    9: "LAST_ACK",
    10: "LISTEN",
    11: "CLOSING",
    12: "NEW_SYN_RECV",
}
_LISTEN, _CLOSE, _ALL = 1 << 10, 1 << 7, 0xFFF

_REQUEST = struct.Struct("=BBBxI48x")
# family, state | source and destination port | addresses | interface | uid, inode
MESSAGE = struct.Struct("=BB2xHH16s16sI20xII")
_SKV6ONLY, _MARK, _CGROUP_ID, _SOCKOPT = 11, 15, 21, 22
_TRANSPARENT = 0x20 if sys.byteorder == "little" else 0x04


def request(family: int, protocol: Protocol, non_listening: bool) -> bytes:
    """Return the payload that asks for the sockets of one address family and protocol.

    No extension is asked for: what we read comes unasked, and each extension costs hundreds of bytes a socket.
    """
    states = _ALL if non_listening else _CLOSE if protocol in CONNECTIONLESS else _LISTEN
    return _REQUEST.pack(family, NUMBERS[protocol], 0, states)


def parse(payloads: Iterable[bytes], protocol: Protocol) -> list[Socket]:
    """Return the sockets of one dump. Raises NetlinkError (EBADMSG) for a payload that is no inet_diag_msg."""
    sockets = []
    # Per family, because an IPv4 address is padded with zeros: 0.0.0.0 and :: are the same sixteen bytes.
    texts: dict[int, dict[bytes, tuple[str, str]]] = {socket.AF_INET: {}, socket.AF_INET6: {}}
    unpack, minimum = MESSAGE.unpack_from, MESSAGE.size
    swap = socket.ntohs
    states = dict(STATES)
    if protocol in CONNECTIONLESS:
        states[7] = "UNCONN"
    for payload in payloads:
        if len(payload) < minimum:
            raise NetlinkError(errno.EBADMSG, f"a socket of {len(payload)} bytes, not {minimum}")
        number, state, port, peer_port, source, destination, ifindex, uid, inode = unpack(payload)
        if number not in texts:
            raise NetlinkError(errno.EBADMSG, f"a socket of address family {number}")
        known = texts[number]
        found = known.get(source) or known.setdefault(source, _text(number, source))
        peer = known.get(destination) or known.setdefault(destination, _text(number, destination))
        v6only: bool | None = False
        mark: int | None = None
        transparent: bool | None = None
        cgroup = 0
        position, end = minimum, len(payload)
        while position + 4 <= end:
            length = payload[position] | payload[position + 1] << 8
            kind = payload[position + 2] | payload[position + 3] << 8
            if sys.byteorder == "big":
                length, kind = swap(length), swap(kind)
            if length < 4 or position + length > end:
                raise NetlinkError(errno.EBADMSG, f"a socket attribute of {length} bytes at byte {position} of {end}")
            if kind == _SKV6ONLY:
                v6only = payload[position + 4] != 0
            elif kind == _MARK:
                mark = int.from_bytes(payload[position + 4 : position + 8], sys.byteorder)
            elif kind == _CGROUP_ID:
                cgroup = int.from_bytes(payload[position + 4 : position + 12], sys.byteorder)
            elif kind == _SOCKOPT:
                transparent = payload[position + 4] & _TRANSPARENT != 0
            position += (length + 3) & ~3
        unknowns = () if transparent is not None else ("transparent",)
        sockets.append(
            Socket(
                protocol, found[0], found[1], swap(port), states.get(state, f"STATE_{state}"),
                peer[1], swap(peer_port), v6only, None, ifindex, uid, inode, mark, cgroup, transparent,
                unknowns=unknowns,
            )
        )  # fmt: skip
    return sockets


def _text(number: int, packed: bytes) -> tuple[str, str]:
    if number == socket.AF_INET6:
        return "ipv6", socket.inet_ntop(socket.AF_INET6, packed)
    return "ipv4", socket.inet_ntop(socket.AF_INET, packed[:4])
