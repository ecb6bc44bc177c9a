# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""/proc/net/{tcp,udp,udplite,raw}{,6}, packet and unix: what every kernel tells without netlink (proc_net(5))."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

from .._model.address import canonical
from .._model.listener import Socket
from .error import ParseError
from .sock_diag import CONNECTIONLESS, STATES

if TYPE_CHECKING:
    from .._model.vocabulary import Protocol

_ACCEPTS = 0x10000  # __SO_ACCEPTCON of a Unix socket: it listens


def parse_inet(text: str, source: str, protocol: Protocol, family: str) -> list[Socket]:
    """Return the sockets of one table; `tcp6` and its like know neither V6ONLY nor the interface."""
    unknowns = ("interface", "transparent", "mark") + (("v6only",) if family == "ipv6" else ())
    sockets = []
    for number, line in enumerate(text.splitlines()[1:], 2):
        try:
            fields = line.split()
            address, port = _endpoint(fields[1], family)
            peer, peer_port = _endpoint(fields[2], family)
            code = int(fields[3], 16)
            uid, inode = int(fields[7]), int(fields[9])
            if not 0 <= code < 256:
                raise ValueError(code)
        except (ValueError, IndexError):
            raise ParseError(source, number, "not a socket", line) from None
        state = "UNCONN" if code == 7 and protocol in (*CONNECTIONLESS, "raw") else STATES.get(code, f"STATE_{code}")
        sockets.append(
            Socket(
                protocol, family, address, port, state, peer, peer_port,
                v6only=False if family == "ipv4" else None, uid=uid, inode=inode, unknowns=unknowns,
            )
        )  # fmt: skip
    return sockets


def _endpoint(field: str, family: str) -> tuple[str, int]:
    address, colon, port = field.partition(":")
    packed = bytes.fromhex(address)
    if not colon or len(packed) != (4 if family == "ipv4" else 16):
        raise ValueError(field)
    # The kernel prints the address as 32-bit words in the byte order of the machine.
    if sys.byteorder == "little":
        packed = b"".join(packed[at : at + 4][::-1] for at in range(0, len(packed), 4))
    number = int(port, 16)
    if not 0 <= number <= 65535:
        raise ValueError(field)
    return socket.inet_ntop(socket.AF_INET if family == "ipv4" else socket.AF_INET6, packed), number


def parse_sctp(text: str, source: str) -> list[Socket]:
    """Return the endpoints of /proc/net/sctp/eps: one row for each local address."""
    sockets = []
    for number, line in enumerate(text.splitlines()[1:], 2):
        fields = line.split()
        try:
            port, uid, inode, state = int(fields[5]), int(fields[6]), int(fields[7]), int(fields[3])
            addresses = [canonical(address) for address in fields[8:]]
            if not 0 <= port <= 65535:
                raise ValueError(port)
        except (ValueError, IndexError):
            raise ParseError(source, number, "not an SCTP endpoint", line) from None
        for family, address in addresses:
            sockets.append(
                Socket(
                    "sctp", family, address, port, STATES.get(state, f"STATE_{state}"), v6only=None, uid=uid,
                    inode=inode, unknowns=("interface", "transparent", "mark", "v6only"),
                )
            )  # fmt: skip
    return sockets


def parse_packet(text: str, source: str) -> list[Socket]:
    """Return the packet sockets: they see frames before any filter. `port` is the EtherType (3: every frame)."""
    sockets = []
    for number, line in enumerate(text.splitlines()[1:], 2):
        fields = line.split()
        try:
            ethertype, ifindex, uid, inode = int(fields[3], 16), int(fields[4]), int(fields[7]), int(fields[8])
            if not 0 <= ethertype <= 65535:
                raise ValueError(ethertype)
        except (ValueError, IndexError):
            raise ParseError(source, number, "not a packet socket", line) from None
        sockets.append(Socket("packet", "packet", "", ethertype, "UNCONN", v6only=False, ifindex=ifindex, uid=uid, inode=inode))
    return sockets


def parse_unix(text: str, source: str, non_listening: bool) -> list[Socket]:
    """Return the Unix sockets that have a name; an abstract name begins with @."""
    sockets = []
    for number, line in enumerate(text.splitlines()[1:], 2):
        fields = line.split(None, 7)
        try:
            listens, inode = int(fields[3], 16) & _ACCEPTS != 0, int(fields[6])
        except (ValueError, IndexError):
            raise ParseError(source, number, "not a Unix socket", line) from None
        if len(fields) > 7 and (listens or non_listening):
            state = "LISTEN" if listens else "UNCONN"
            sockets.append(Socket("unix", "unix", fields[7], 0, state, v6only=False, inode=inode))
    return sockets
