# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connected sockets in an answer of NETLINK_SOCK_DIAG, picked out before anything is made of the others."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .._model.listener import Socket
from .sock_diag import MESSAGE, NUMBERS

if TYPE_CHECKING:
    from .._model.vocabulary import Protocol

_ESTABLISHED = 1
_REQUEST = struct.Struct("=BBBxI48x")
_LOOPBACK, _MAPPED = bytes(15) + b"\1", bytes(10) + b"\xff\xff"


def request(family: int, protocol: Protocol) -> bytes:
    """Return the payload that asks for the connected sockets of one address family and protocol."""
    return _REQUEST.pack(family, NUMBERS[protocol], 0, 1 << _ESTABLISHED)


def to_itself(payloads: Iterable[bytes], protocol: Protocol, ports: set[int]) -> list[Socket]:
    """Return the sockets that are connected to one of `ports` of this machine, by the side that asked.

    To loopback; and from an address to itself, which is what the kernel chooses for another address of its own.
    """
    wanted = {socket.htons(port) for port in ports}
    found = []
    for payload in payloads:
        if len(payload) < MESSAGE.size:
            continue
        family, _state, port, peer_port, source, destination, _ifindex, uid, inode = MESSAGE.unpack_from(payload)
        if peer_port in wanted and (source == destination or _is_loopback(family, destination)):
            address, peer = _text(family, source), _text(family, destination)
            name = "ipv6" if ":" in peer else "ipv4"
            found.append(
                Socket(protocol, name, address, socket.ntohs(port), "ESTABLISHED", peer, socket.ntohs(peer_port), uid=uid, inode=inode)
            )
    return found


def local_ports(payloads: Iterable[bytes], inodes: set[int]) -> Iterator[tuple[int, int]]:
    """Yield inode and own port of these sockets."""
    for payload in payloads:
        if len(payload) >= MESSAGE.size:
            fields = MESSAGE.unpack_from(payload)
            if fields[8] in inodes:
                yield fields[8], socket.ntohs(fields[2])


def _is_loopback(family: int, packed: bytes) -> bool:
    if family == socket.AF_INET:
        return packed[0] == 127
    return packed == _LOOPBACK or (packed[:12] == _MAPPED and packed[12] == 127)


def _text(family: int, packed: bytes) -> str:
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, packed[:4])
    if packed[:12] == _MAPPED:
        return socket.inet_ntop(socket.AF_INET, packed[12:])
    return socket.inet_ntop(socket.AF_INET6, packed)
