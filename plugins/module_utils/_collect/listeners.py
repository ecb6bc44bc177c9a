# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sockets of this machine, from the best source that answers, with their owners."""

from __future__ import annotations

import os
import pwd
import socket
import stat
from typing import TYPE_CHECKING, NamedTuple

from .._model import relay
from .._model.address import scope_of
from .._model.gap import Gap
from .._model.listener import Listener, Sockets
from .._parse import sock_diag
from . import processes as procfs
from .files import read_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._model.listener import Socket
    from .._model.vocabulary import Protocol
    from .command import Runner
    from .files import Read
    from .netlink import Dump

DEFAULT_PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp", "udplite", "sctp", "dccp")
_ALL_PROCESSES = "4026531836"  # PROC_PID_INIT_INO, linux/proc_ns.h: the PID namespace that sees every process


class Listeners(NamedTuple):
    """namespace: the network namespace of the caller. processes: pid -> what is known of a holder.

    relays: running programs that are known to hand on what they get; empty when processes were not asked for.
    """

    namespace: str
    rows: list[Listener]
    source: str
    gaps: list[Gap]
    processes: dict[int, procfs.Process]
    relays: list[relay.Relay]


def collect(
    dump: Dump,
    run: Runner,
    read: Read = read_text,
    protocols: Iterable[Protocol] = DEFAULT_PROTOCOLS,
    processes: bool = True,
    all_namespaces: bool = False,
    non_listening: bool = False,
) -> Listeners:
    """Return every listening socket of the wanted protocols; what could not be seen is in `gaps`."""
    wanted = list(protocols)
    found: list[tuple[str, Sockets]] = []
    gaps: list[Gap] = []
    own = _namespace("/proc/self/ns/net")
    found.append((own, _name_interfaces(_sockets(dump, run, read, wanted, non_listening))))
    if all_namespaces:
        from . import namespaces

        for namespace, path in namespaces.others(own, gaps):
            try:
                with namespaces.entered(path):
                    found.append((namespace, _name_interfaces(_sockets(dump, run, read, wanted, non_listening))))
            except OSError as error:
                gaps.append(Gap(f"network namespace {namespace}", "denied", error.strerror or str(error)))
    for _namespace_id, part in found:
        gaps += part.gaps
    rows, known = _with_owners(found, processes, gaps)
    source = "+".join(sorted({part.source for _id, part in found}))
    relays = _relays(own, gaps) if processes else []
    return Listeners(own, rows, source, gaps, known, relays)


def _relays(own: str, gaps: list[Gap]) -> list[relay.Relay]:
    try:
        found = procfs.named(relay.AGENTS | relay.FORWARDERS)
    except OSError as error:  # no /proc
        gaps.append(Gap("processes", "absent", f"/proc: {error.strerror}"))
        return []
    # One in another network namespace cannot reach this loopback; one whose namespace is hidden may be here.
    return [
        relay.Relay(process.pid, process.name, process.command)
        for process in found
        if _namespace(f"/proc/{process.pid}/ns/net") in (own, "")
    ]


def _sockets(dump: Dump, run: Runner, read: Read, protocols: list[Protocol], non_listening: bool) -> Sockets:
    sockets: list[Socket] = []
    gaps: list[Gap] = []
    sources: list[str] = []
    for protocol in protocols:
        part = _protocol(dump, read, protocol, non_listening)
        sockets += part.sockets
        gaps += part.gaps
        if part.source and part.source not in sources:
            sources.append(part.source)
    unseen = [gap for gap in gaps if gap.subject in ("tcp", "udp")]
    if unseen:
        from . import fallback

        part = fallback.from_tools(run, protocols, non_listening)
        if part.source:
            covered = [protocol for protocol in ("tcp", "udp") if protocol in protocols]
            sockets = [row for row in sockets if row.protocol not in covered] + part.sockets
            gaps = [gap for gap in gaps if gap.subject not in covered]
            sources.append(part.source)
        gaps += part.gaps
    return Sockets(sockets, "+".join(sources), gaps)


def _protocol(dump: Dump, read: Read, protocol: Protocol, non_listening: bool) -> Sockets:
    refusal = "not asked over netlink"
    if protocol in sock_diag.NUMBERS:
        try:
            return Sockets(_from_netlink(dump, protocol, non_listening), "netlink", [])
        except OSError as error:
            refusal = error.strerror or str(error)
    from . import fallback

    return fallback.from_proc(read, protocol, non_listening, refusal)


def _from_netlink(dump: Dump, protocol: Protocol, non_listening: bool) -> list[Socket]:
    sockets = []
    for family in (socket.AF_INET, socket.AF_INET6):
        payload = sock_diag.request(family, protocol, non_listening)
        answer = dump(sock_diag.NETLINK_SOCK_DIAG, sock_diag.SOCK_DIAG_BY_FAMILY, payload)
        sockets += sock_diag.parse(answer, protocol)
    return sockets


def _name_interfaces(part: Sockets) -> Sockets:
    """Replace interface numbers by names, in the namespace where they were read."""
    names: dict[int, str] = {}
    rows = []
    for row in part.sockets:
        if row.ifindex:
            if row.ifindex not in names:
                try:
                    names[row.ifindex] = socket.if_indextoname(row.ifindex)
                except OSError:
                    names[row.ifindex] = f"#{row.ifindex}"
            row = row._replace(interface=names[row.ifindex])
        rows.append(row)
    return part._replace(sockets=rows)


def _namespace(path: str) -> str:
    try:
        return str(os.stat(path).st_ino)
    except OSError:
        return ""


def _with_owners(found: list[tuple[str, Sockets]], processes: bool, gaps: list[Gap]) -> tuple[list[Listener], dict[int, procfs.Process]]:
    everything = [row for _namespace_id, part in found for row in part.sockets]
    holders: dict[int, list[int]] = {}
    hidden = 0
    if processes and os.path.isdir("/proc/self/fd"):
        wanted = {row.inode for row in everything if row.inode}
        holders, hidden = procfs.owners(wanted) if wanted else (holders, 0)
    known: dict[int, procfs.Process] = {}
    if processes:
        pids = {pid for held in holders.values() for pid in held} | {pid for row in everything for pid in row.pids}
        boot = procfs.boot_time()
        for pid in pids:
            process = procfs.describe(pid, boot)
            if process:
                known[pid] = process
    paths = procfs.cgroups_by_inode({row.cgroup for row in everything if row.cgroup and not holders.get(row.inode)})
    make = _Maker(holders, known, paths, processes)
    rows = [make.row(row, namespace) for namespace, part in found for row in part.sockets]
    unowned = sum(1 for row in rows if row.inode and not row.pids)
    if processes and unowned:
        if hidden:
            text = f"{hidden} processes of other users are not visible, {unowned} sockets have no known owner"
            gaps.append(Gap("processes", "denied", text))
        elif _namespace("/proc/self/ns/pid") not in (_ALL_PROCESSES, ""):
            text = f"only the processes of this container are visible, {unowned} sockets have no known owner"
            gaps.append(Gap("processes", "denied", text))
    return rows, known


class _Maker:
    """Makes Listeners of Sockets; what depends only on the owner is worked out once an owner."""

    def __init__(self, holders: dict[int, list[int]], known: dict[int, procfs.Process], paths: dict[int, str], processes: bool) -> None:
        self._holders, self._known, self._paths, self._processes = holders, known, paths, processes
        self._users: dict[int, str | None] = {}
        self._owned: dict[tuple[tuple[int, ...], int], tuple[str | None, str | None, str | None, str | None, dict[str, str] | None]] = {}

    def row(self, row: Socket, namespace: str) -> Listener:
        pids = tuple(self._holders.get(row.inode, ())) or row.pids
        key = (pids, row.cgroup)
        owned = self._owned.get(key)
        if owned is None:
            owned = self._owned[key] = self._owner(pids, row)
        process, command, started, unit, container = owned
        unknowns = row.unknowns
        if process is None:
            process = row.process
            if process is None:
                unknowns += ("process",)
        uid, mode = row.uid, row.mode
        if row.protocol == "unix" and not row.address.startswith("@"):
            uid, mode = _owner_of_file(row.address)
        scope = (
            scope_of(row.address, row.interface) if row.family in ("ipv4", "ipv6") else "loopback" if row.protocol == "unix" else "wildcard"
        )
        return Listener(
            row.protocol, row.family, row.address, row.port, row.v6only, row.interface, scope,
            uid, self._user(uid), row.inode, pids, process, command, started, unit, container, namespace,
            row.mark, row.transparent, mode, row.state, row.peer, row.peer_port, unknowns,
        )  # fmt: skip

    def _owner(self, pids: tuple[int, ...], row: Socket) -> tuple[str | None, str | None, str | None, str | None, dict[str, str] | None]:
        known = [self._known[pid] for pid in pids if pid in self._known]
        # A socket that systemd opened for a service belongs to the service once that has started.
        process = next((process for process in known if process.pid != 1), known[0] if known else None)
        path = process.cgroup if process else self._paths.get(row.cgroup, "")
        unit, container = procfs.unit_of(path), procfs.container_of(path)
        if process is None:
            return None, None, None, unit, container
        started = None if process.started is None else procfs.iso_time(process.started)
        return process.name, process.command, started, unit, container

    def _user(self, uid: int | None) -> str | None:
        if uid is None:
            return None
        if uid not in self._users:
            try:
                self._users[uid] = pwd.getpwuid(uid).pw_name
            except KeyError:
                self._users[uid] = None
        return self._users[uid]


def _owner_of_file(path: str) -> tuple[int | None, str | None]:
    try:
        status = os.stat(path)
    except OSError:
        return None, None
    return status.st_uid, f"{stat.S_IMODE(status.st_mode):04o}"
