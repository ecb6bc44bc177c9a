# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Netlink framing: messages and attributes (linux/netlink.h, netlink(7))."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator

NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE = 1, 2, 3
NLM_F_REQUEST, NLM_F_DUMP, NLM_F_DUMP_INTR = 0x1, 0x300, 0x10

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER


class NetlinkError(OSError):
    """The kernel answered with an error, or the answer is not netlink."""


def request(kind: int, payload: bytes, flags: int = NLM_F_REQUEST | NLM_F_DUMP, sequence: int = 1) -> bytes:
    """Return one message: nlmsghdr and payload."""
    return _HEADER.pack(_HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (type, flags, payload) of each message of one datagram.

    Raises NetlinkError for NLMSG_ERROR (its errno) and for a length that does not fit (EBADMSG).
    """
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, flags, _sequence, _port = _HEADER.unpack_from(data, position)
        if length < _HEADER.size or position + length > len(data):
            raise NetlinkError(errno.EBADMSG, f"a netlink message of {length} bytes at byte {position} of {len(data)}")
        payload = data[position + _HEADER.size : position + length]
        if kind == NLMSG_ERROR:
            code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else errno.EBADMSG
            if code:
                raise NetlinkError(code, os.strerror(code))
        elif kind != NLMSG_NOOP:
            yield kind, flags, payload
        position += (length + 3) & ~3


def end(payload: bytes) -> None:
    """Read NLMSG_DONE. Raises NetlinkError when the kernel broke the dump off; ENOENT is a protocol that it does not have."""
    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
    if code > 0 and code != errno.ENOENT:
        raise NetlinkError(code, os.strerror(code))


def attributes(data: bytes, position: int = 0) -> dict[int, bytes]:
    """Return {type: value} of the attributes from `position` on; a type that comes twice keeps its last value.

    Raises NetlinkError (EBADMSG) for a length that does not fit.
    """
    found = {}
    end = len(data)
    while position + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, position)
        if length < 4 or position + length > end:
            raise NetlinkError(errno.EBADMSG, f"a netlink attribute of {length} bytes at byte {position} of {end}")
        found[kind & _TYPE_MASK] = data[position + 4 : position + length]
        position += (length + 3) & ~3
    return found
