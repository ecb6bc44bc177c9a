# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets as the kernel or a tool tells them, and listeners as the collection reports them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .gap import Gap
    from .vocabulary import Protocol, Scope


class Socket(NamedTuple):
    """One socket as one source saw it; a parser yields these.

    A field that the source cannot know holds its empty value and is named in `unknowns`.
    address, peer: canonical text without zone; a Unix socket has its path in `address`.
    interface:     the device the socket is tied to (SO_BINDTODEVICE, or a link-local zone), None when free.
    ifindex:       the same as a number where the source tells only that; 0 when free.
    cgroup:        inode of the cgroup v2 directory, 0 when unknown.
    transparent:   IP_TRANSPARENT is set: TPROXY may hand it packets for any address.
    mode:          access mode of a Unix socket's path, octal.
    """

    protocol: Protocol
    family: str
    address: str
    port: int
    state: str = "LISTEN"
    peer: str = ""
    peer_port: int = 0
    v6only: bool | None = None
    interface: str | None = None
    ifindex: int = 0
    uid: int | None = None
    inode: int = 0
    mark: int | None = None
    cgroup: int = 0
    transparent: bool | None = None
    mode: str | None = None
    pids: tuple[int, ...] = ()
    process: str | None = None
    unknowns: tuple[str, ...] = ()


class Sockets(NamedTuple):
    """What one source, or several, told. source: netlink, proc, ss, netstat, lsof, sockstat, or several joined by +."""

    sockets: list[Socket]
    source: str
    gaps: list[Gap]


class Listener(NamedTuple):
    """One row of `loopguard_listeners`: a socket with its owner. Field meanings: `bind_facts` RETURN."""

    protocol: Protocol
    family: str
    address: str
    port: int
    v6only: bool | None
    interface: str | None
    scope: Scope
    uid: int | None
    user: str | None
    inode: int
    pids: tuple[int, ...]
    process: str | None
    command: str | None
    started: str | None
    unit: str | None
    container: dict[str, str] | None
    namespace: str
    mark: int | None
    transparent: bool | None
    mode: str | None
    state: str
    peer: str
    peer_port: int
    unknowns: tuple[str, ...]
