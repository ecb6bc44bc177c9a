# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the kernel over netlink, with nothing but the standard library."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from .._parse import netlink as framing

if TYPE_CHECKING:
    from typing import Callable

    # A dump takes (netlink protocol, message type, payload) and returns the payloads of the answer.
    Dump = Callable[[int, int, bytes], "list[bytes]"]

SECONDS = 5.0
_BUFFER = 1 << 20
_ATTEMPTS = 3
_SOL_NETLINK, _NETLINK_GET_STRICT_CHK = 270, 12  # linux/netlink.h: the kernel honours the filters of a route dump


def dump(protocol: int, kind: int, payload: bytes) -> list[bytes]:
    """Return the payload of every message of a dump in the caller's network namespace.

    Asks again when the kernel says that the table changed meanwhile. Raises OSError: the kernel's errno, a timeout,
    or EAGAIN when the table never stood still.
    """
    if not hasattr(socket, "AF_NETLINK"):
        raise OSError(errno.EAFNOSUPPORT, "this is no Linux")
    for _attempt in range(_ATTEMPTS):
        answer, interrupted = _dump_once(protocol, kind, payload)
        if not interrupted:
            return answer
    raise OSError(errno.EAGAIN, f"the table changed during each of {_ATTEMPTS} reads")


def _dump_once(protocol: int, kind: int, payload: bytes) -> tuple[list[bytes], bool]:
    answer: list[bytes] = []
    interrupted = False
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as netlink:
        netlink.settimeout(SECONDS)
        netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        if protocol == socket.NETLINK_ROUTE:
            with suppress(OSError):  # a kernel before 4.20 gives more, and the caller filters
                netlink.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        netlink.bind((0, 0))
        netlink.send(framing.request(kind, payload))
        while True:
            for message_kind, flags, body in framing.messages(netlink.recv(_BUFFER)):
                interrupted = interrupted or bool(flags & framing.NLM_F_DUMP_INTR)
                if message_kind == framing.NLMSG_DONE:
                    framing.end(body)
                    return answer, interrupted
                answer.append(body)
