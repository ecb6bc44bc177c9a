# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sockets of this machine, from the best source that answers, with their owners."""

from __future__ import annotations

import errno
import os
import pwd
import socket
import stat
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Callable, NamedTuple

from .._model.address import scope_of
from .._model.gap import Gap
from .._model.listener import Listener, Socket
from .._model.relay import AGENTS, FORWARDERS, Relay
from .._model.vocabulary import Protocol
from .._parse import sock_diag
from .._parse.error import ParseError
from .command import Runner, succeeded
from .files import Read, read_text
from .netlink import Dump
from .processes import (
    Process,
    boot_time,
    cgroups_by_inode,
    container_of,
    describe,
    iso_time,
    named,
    owners,
    unit_of,
)

DEFAULT_PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp", "udplite", "sctp", "dccp")
_FAMILIES = ((socket.AF_INET, "ipv4"), (socket.AF_INET6, "ipv6"))
_ALL_PROCESSES = "4026531836"  # PROC_PID_INIT_INO, linux/proc_ns.h: the PID namespace that sees every process
_CLONE_NEWNET = 0x40000000
_NAMED_NAMESPACES = ("/run/netns", "/run/docker/netns")


class Sockets(NamedTuple):
    """source: netlink, proc, ss, netstat, lsof, sockstat, or several joined by +."""

    sockets: list[Socket]
    source: str
    gaps: list[Gap]


class Listeners(NamedTuple):
    """namespace: the network namespace of the caller. processes: pid -> what is known of a holder.

    relays: running programs that are known to hand on what they get; empty when processes were not asked for.
    """

    namespace: str
    rows: list[Listener]
    source: str
    gaps: list[Gap]
    processes: dict[int, Process]
    relays: list[Relay]


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
        for namespace, path in _other_namespaces(own, gaps):
            try:
                with _entered(path):
                    found.append((namespace, _name_interfaces(_sockets(dump, run, read, wanted, non_listening))))
            except OSError as error:
                gaps.append(Gap(f"network namespace {namespace}", "denied", error.strerror or str(error)))
    for _namespace_id, part in found:
        gaps += part.gaps
    rows, known = _with_owners(found, processes, gaps)
    source = "+".join(sorted({part.source for _id, part in found}))
    relays = _relays(own, gaps) if processes else []
    return Listeners(own, rows, source, gaps, known, relays)


def _relays(own: str, gaps: list[Gap]) -> list[Relay]:
    try:
        found = named(AGENTS | FORWARDERS)
    except OSError as error:  # no /proc
        gaps.append(Gap("processes", "absent", f"/proc: {error.strerror}"))
        return []
    # One in another network namespace cannot reach this loopback; one whose namespace is hidden may be here.
    return [
        Relay(process.pid, process.name, process.command) for process in found if _namespace(f"/proc/{process.pid}/ns/net") in (own, "")
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
        part = _from_tools(run, protocols, non_listening)
        if part.source:
            covered = [protocol for protocol in ("tcp", "udp") if protocol in protocols]
            sockets = [row for row in sockets if row.protocol not in covered] + part.sockets
            gaps = [gap for gap in gaps if gap.subject not in covered]
            sources.append(part.source)
        gaps += part.gaps
    return Sockets(sockets, "+".join(sources), gaps)


def _protocol(dump: Dump, read: Read, protocol: Protocol, non_listening: bool) -> Sockets:
    if protocol in sock_diag.NUMBERS:
        try:
            return Sockets(_from_netlink(dump, protocol, non_listening), "netlink", [])
        except OSError as error:
            refusal = error.strerror or str(error)
    else:
        refusal = "not asked over netlink"
    return _from_proc(read, protocol, non_listening, refusal)


def _from_netlink(dump: Dump, protocol: Protocol, non_listening: bool) -> list[Socket]:
    sockets = []
    for family, _name in _FAMILIES:
        payload = sock_diag.request(family, protocol, non_listening)
        answer = dump(sock_diag.NETLINK_SOCK_DIAG, sock_diag.SOCK_DIAG_BY_FAMILY, payload)
        sockets += sock_diag.parse(answer, protocol)
    return sockets


def _from_proc(read: Read, protocol: Protocol, non_listening: bool, refusal: str) -> Sockets:
    from .._parse import proc_net

    sockets: list[Socket] = []
    try:
        if protocol == "unix":
            sockets = proc_net.parse_unix(read("/proc/self/net/unix"), "/proc/net/unix", non_listening)
        elif protocol == "packet":
            sockets = proc_net.parse_packet(read("/proc/self/net/packet"), "/proc/net/packet")
        elif protocol == "sctp":
            sockets = proc_net.parse_sctp(read("/proc/self/net/sctp/eps"), "/proc/net/sctp/eps")
        else:
            for _number, family in _FAMILIES:
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


def _from_tools(run: Runner, protocols: list[Protocol], non_listening: bool) -> Sockets:
    from .._parse import socket_tools

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


def _other_namespaces(own: str, gaps: list[Gap]) -> Iterator[tuple[str, str]]:
    """Yield (inode, path) of every other network namespace: of processes, then of named ones without a process."""
    seen = {own}
    hidden = 0
    paths = [f"/proc/{entry}/ns/net" for entry in os.listdir("/proc") if entry.isdigit()]
    for folder in _NAMED_NAMESPACES:
        if os.path.isdir(folder):
            paths += [f"{folder}/{name}" for name in os.listdir(folder)]
    for path in paths:
        try:
            namespace = str(os.stat(path).st_ino)
        except PermissionError:
            hidden += 1
            continue
        except OSError:
            continue
        if namespace not in seen:
            seen.add(namespace)
            yield namespace, path
    if hidden:
        gaps.append(Gap("network namespaces", "denied", f"the namespaces of {hidden} processes are not visible"))


class _entered:
    """The calling thread in another network namespace (setns(2)), and back."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            target = os.open(self._path, os.O_RDONLY)
            try:
                _setns(target)
            finally:
                os.close(target)
        except OSError:
            os.close(self._home)
            raise

    def __exit__(self, *_exception: object) -> None:
        try:
            _setns(self._home)
        finally:
            os.close(self._home)


def _setns(descriptor: int) -> None:
    import ctypes  # dear to load, and needed only here

    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code) or errno.errorcode.get(code, "setns"))


def _with_owners(found: list[tuple[str, Sockets]], processes: bool, gaps: list[Gap]) -> tuple[list[Listener], dict[int, Process]]:
    everything = [row for _namespace_id, part in found for row in part.sockets]
    holders: dict[int, list[int]] = {}
    hidden = 0
    if processes and os.path.isdir("/proc/self/fd"):
        wanted = {row.inode for row in everything if row.inode}
        holders, hidden = owners(wanted) if wanted else (holders, 0)
    known: dict[int, Process] = {}
    if processes:
        pids = {pid for held in holders.values() for pid in held} | {pid for row in everything for pid in row.pids}
        boot = boot_time()
        for pid in pids:
            process = describe(pid, boot)
            if process:
                known[pid] = process
    paths = cgroups_by_inode({row.cgroup for row in everything if row.cgroup and not holders.get(row.inode)})
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

    def __init__(self, holders: dict[int, list[int]], known: dict[int, Process], paths: dict[int, str], processes: bool) -> None:
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
        unit, container = unit_of(path), container_of(path)
        if process is None:
            return None, None, None, unit, container
        started = None if process.started is None else iso_time(process.started)
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
