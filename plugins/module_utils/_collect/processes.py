# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds a socket: processes, systemd units and containers, from /proc and the cgroup tree."""

from __future__ import annotations

import os
import re
import time
from typing import NamedTuple

_COMMAND_BYTES = 4096
_ID = 64  # hexadecimal digits of the id that most engines give
# Compiled where a path may match: most paths are of no container.
_CONTAINERS = (
    (r"/kubepods[^/]*/.*?(?P<id>[0-9a-f]{64})", "kubernetes"),
    (r"/(?:libpod/)?(?P<engine>docker|libpod|crio|cri-containerd|nerdctl)[-/](?:conmon-)?(?P<id>[0-9a-f]{64})", ""),
    (r"/lxc(?:\.payload\.|/)(?P<id>[^/]+)", "lxc"),
    (r"/machine-(?P<id>[^/]+)\.scope", "systemd-nspawn"),
)
_ENGINES = {"libpod": "podman", "crio": "cri-o", "cri-containerd": "containerd"}


class Process(NamedTuple):
    """started: seconds since the epoch, None when unknown. cgroup: path below the cgroup root."""

    pid: int
    name: str
    command: str
    started: float | None
    cgroup: str


class Owners(NamedTuple):
    """by_inode: socket inode -> pids that hold it. hidden: processes whose files could not be listed."""

    by_inode: dict[int, list[int]]
    hidden: int


def owners(wanted: set[int], proc: str = "/proc") -> Owners:
    """Find the processes that hold the wanted socket inodes; only root sees those of other users."""
    by_inode: dict[int, list[int]] = {}
    hidden = 0
    readlink, listdir = os.readlink, os.listdir
    for entry in listdir(proc):
        if not entry.isdigit():
            continue
        folder = f"{proc}/{entry}/fd"
        try:
            files = listdir(folder)
        except PermissionError:
            hidden += 1
            continue
        except OSError:  # it ended meanwhile
            continue
        pid = int(entry)
        for file in files:
            try:
                target = readlink(f"{folder}/{file}")
            except OSError:
                continue
            if target.startswith("socket:["):
                inode = int(target[8:-1])
                if inode in wanted:
                    pids = by_inode.setdefault(inode, [])
                    if not pids or pids[-1] != pid:
                        pids.append(pid)
    for pids in by_inode.values():
        pids.sort()
    return Owners(by_inode, hidden)


def boot_time(proc: str = "/proc") -> float | None:
    """Return when the machine started, in seconds since the epoch."""
    for line in _read(f"{proc}/stat").splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return None


def describe(pid: int, boot: float | None, proc: str = "/proc") -> Process | None:
    """Return what /proc tells about a process, None when it has ended."""
    folder = f"{proc}/{pid}"
    status = _read(f"{folder}/stat")
    # The name stands in parentheses and may contain anything, parentheses too.
    name, _end, rest = status.partition("(")[2].rpartition(")")
    fields = rest.split()
    if len(fields) < 20:
        return None
    started = None if boot is None else boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")
    command = _read(f"{folder}/cmdline").rstrip("\0").replace("\0", " ")
    return Process(pid, name, command, started, cgroup_path(_read(f"{folder}/cgroup")))


def named(names: frozenset[str], proc: str = "/proc") -> list[Process]:
    """Return the processes whose name is one of `names`; every user sees these."""
    found = []
    boot = boot_time(proc)
    for entry in os.listdir(proc):
        if entry.isdigit() and _read(f"{proc}/{entry}/comm").rstrip("\n") in names:
            process = describe(int(entry), boot, proc)
            if process:
                found.append(process)
    return found


def _read(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(_COMMAND_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def cgroup_path(text: str) -> str:
    """Return the path in the unified hierarchy, else systemd's own (cgroups(7)); "" when neither is named."""
    named = ""
    for line in text.splitlines():
        number, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        if number == "0" and path != "/":
            return path
        if controllers == "name=systemd":
            named = path
    return named


def unit_of(cgroup: str) -> str | None:
    """Return the systemd unit of a cgroup path: the deepest service, else the deepest scope."""
    parts = [part for part in cgroup.split("/") if part]
    for ending in (".service", ".scope"):
        for part in reversed(parts):
            if part.endswith(ending):
                return part
    return None


def container_of(cgroup: str) -> dict[str, str] | None:
    """Return {"engine": ..., "id": ...} when the cgroup path names a container."""
    if len(cgroup) < _ID and "/lxc" not in cgroup and "/machine-" not in cgroup:
        return None
    for pattern, engine in _CONTAINERS:
        found = re.search(pattern, cgroup)
        if found:
            name = engine or found["engine"]
            return {"engine": _ENGINES.get(name, name), "id": found["id"]}
    return None


def cgroups_by_inode(wanted: set[int], roots: tuple[str, ...] = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")) -> dict[int, str]:
    """Map inodes of cgroup v2 directories to their paths, so that a unit is known without its processes."""
    found: dict[int, str] = {}
    for root in roots if wanted else ():
        if not os.path.exists(f"{root}/cgroup.procs"):
            continue
        for folder, _folders, _files in os.walk(root):
            inode = os.stat(folder).st_ino
            if inode in wanted:
                found[inode] = folder[len(root) :] or "/"
                if len(found) == len(wanted):
                    return found
        break
    return found


def iso_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
