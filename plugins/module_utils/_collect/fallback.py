# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sockets from /proc/net, and from the tools that list them, where the kernel does not answer over netlink."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from .._model.gap import Gap
from .._model.listener import Sockets
from .._parse import proc_net, socket_tools
from .._parse.error import ParseError
from .command import succeeded

if TYPE_CHECKING:
    from typing import Callable

    from .._model.listener import Socket
    from .._model.vocabulary import Protocol
    from .command import Runner
    from .files import Read


def from_proc(read: Read, protocol: Protocol, non_listening: bool, refusal: str) -> Sockets:
    """Read a table of /proc/net. refusal: why netlink did not answer."""
    sockets: list[Socket] = []
    try:
        if protocol == "unix":
            sockets = proc_net.parse_unix(read("/proc/self/net/unix"), "/proc/net/unix", non_listening)
        elif protocol == "packet":
            sockets = proc_net.parse_packet(read("/proc/self/net/packet"), "/proc/net/packet")
        elif protocol == "sctp":
            sockets = proc_net.parse_sctp(read("/proc/self/net/sctp/eps"), "/proc/net/sctp/eps")
        else:
            for family in ("ipv4", "ipv6"):
                name = f"/proc/net/{protocol}{'6' if family == 'ipv6' else ''}"
                try:
                    text = read(f"/proc/self/net/{name[10:]}")
                except FileNotFoundError:
                    if family == "ipv6" and sockets is not None and not os.path.exists("/proc/self/net/if_inet6"):
                        continue  # a kernel without IPv6
                    raise
                sockets += proc_net.parse_inet(text, name, protocol, family)
    except ParseError as error:
        return Sockets([], "", [Gap(protocol, "unparsable", str(error))])
    except FileNotFoundError:
        if protocol in ("tcp", "udp"):
            return Sockets([], "", [Gap(protocol, "absent", f"netlink: {refusal}; no /proc/net/{protocol}")])
        return Sockets([], "", [])  # the kernel has no such protocol loaded, so nothing listens
    except OSError as error:
        return Sockets([], "", [Gap(protocol, "denied", f"netlink: {refusal}; /proc/net: {error.strerror}")])
    if not non_listening:
        sockets = [row for row in sockets if row.state in ("LISTEN", "UNCONN")]
    return Sockets(sockets, "proc", [])


def from_tools(run: Runner, protocols: list[Protocol], non_listening: bool) -> Sockets:
    """Ask the tools that list sockets, the best first; when none answers, each says why in `gaps`."""
    linux = "-tuanp" if non_listening else "-tulnp"
    attempts: tuple[tuple[str, list[str], Callable[[str], list[Socket]]], ...] = (
        ("ss", ["ss", f"{linux}e"], socket_tools.parse_ss),
        ("netstat", ["netstat", f"{linux}W"], socket_tools.parse_netstat),
        ("netstat", ["netstat", linux], partial(socket_tools.parse_netstat, wide=False)),
        ("lsof", ["lsof", "-i", "-P", "-n"], socket_tools.parse_lsof),
        ("sockstat", ["sockstat", "-46l"], socket_tools.parse_sockstat),
    )
    gaps = []
    for name, argv, parse in attempts:
        text = succeeded(run, argv)
        if isinstance(text, Gap):
            gaps.append(text)
            continue
        try:
            sockets = [row for row in parse(text) if row.protocol in protocols]
        except ParseError as error:
            gaps.append(Gap(" ".join(argv), "unparsable", str(error)))
            continue
        if not non_listening:
            sockets = [row for row in sockets if row.state in ("LISTEN", "UNCONN")]
        return Sockets(sockets, name, [])
    return Sockets([], "", gaps)
