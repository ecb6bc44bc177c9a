# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configurations of the relays that run, read in bounded size. Imported only where one of them listens."""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
import stat
from typing import TYPE_CHECKING

from .._parse.relay_conf import doubt
from . import processes as procfs
from .files import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Callable

    from .._model.listener import Listener
    from .._model.relay import Leg, Relay
    from .command import Runner

    Reader = Callable[[str, "Files"], "tuple[Leg, ...]"]

_MOST_FILES, _MOST_BYTES = 512, 2 << 20
_MOST_LINKS = 40  # MAXSYMLINKS of linux/namei.h
_LATE = 2.0  # seconds; the start of a process is known to one second
_NGINX = (  # where builds of nginx and openresty look
    "/etc/nginx/nginx.conf",
    "/usr/local/nginx/conf/nginx.conf",
    "/usr/local/etc/nginx/nginx.conf",
    "/usr/local/openresty/nginx/conf/nginx.conf",
)


class Files:
    """The files of a process, in its own root. newest: when the last of them changed, in seconds since the epoch."""

    def __init__(self, pid: int, proc: str = "/proc") -> None:
        root = f"{proc}/{pid}/root"
        if os.path.samefile(f"{proc}/{pid}/ns/mnt", "/proc/self/ns/mnt") and (
            os.path.samefile(root, "/") or not os.path.isdir(f"{root}/etc")  # haproxy and stunnel lock themselves up after they read
        ):
            root = ""
        self._root = root
        self._cwd = f"{proc}/{pid}/cwd"
        self._files = self._bytes = 0
        self.newest = 0.0

    def find(self, pattern: str, base: str = "/") -> list[tuple[str, str]]:
        """Return path and text of each file that matches. Raises OSError when one cannot be read, or they are too many.

        A pattern without * ? [ must match, as for the programs themselves.
        """
        path = os.path.normpath(os.path.join(base, pattern))
        if not glob.has_magic(path):
            return [(path, self._read(path))]
        folder, name = os.path.split(path)
        folders = sorted(glob.glob(self._root + folder)) if glob.has_magic(folder) else [self._root + folder]
        found = []
        for folder in folders:
            folder = folder[len(self._root) :]
            try:
                self._saw(os.stat(self._within(folder)))  # a file that went away leaves its mark here
                names = sorted(fnmatch.filter(os.listdir(self._within(folder)), name))
            except FileNotFoundError:
                continue
            paths = [f"{folder.rstrip('/')}/{entry}" for entry in names if not entry.startswith(".")]
            found += [(entry, self._read(entry)) for entry in paths if not self.directory(entry)]
        return found

    def directory(self, path: str) -> bool:
        return os.path.isdir(self._within(path))

    def exists(self, path: str) -> bool:
        return os.path.exists(self._within(path))

    def cwd(self) -> str:
        try:
            return os.readlink(self._cwd)
        except OSError:
            return "/"

    def _read(self, path: str) -> str:
        self._files += 1
        if self._files > _MOST_FILES:
            raise OSError(errno.EFBIG, f"more than {_MOST_FILES} files")
        # Not blocking: a FIFO has no end to wait for.
        descriptor = os.open(self._within(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a file")
            data = file.read(_MOST_BYTES - self._bytes + 1)
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES:
            raise OSError(errno.EFBIG, f"more than {_MOST_BYTES} bytes of configuration")
        self._saw(status)
        return data.decode("utf-8", "replace")

    def _saw(self, status: os.stat_result) -> None:
        self.newest = max(self.newest, status.st_mtime)

    def _within(self, path: str) -> str:
        """Return where a path of the process lies; a link that begins with / begins at its root, not at ours."""
        if not self._root:
            return path
        parts = [part for part in path.split("/") if part]
        done = ""
        links = 0
        while parts:
            part = parts.pop(0)
            if part == "..":
                done = os.path.dirname(done)
                continue
            try:
                target = os.readlink(f"{self._root}{done}/{part}")
            except OSError:  # no link
                done = f"{done}/{part}"
                continue
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            done = "" if target.startswith("/") else done
            parts = [part for part in target.split("/") if part and part != "."] + parts
        return self._root + done


def legs_of(relay: Relay, rows: Sequence[Listener], started: float | None, run: Runner) -> tuple[Leg, ...]:
    """Return the ways through a relay that holds these sockets. started: when its newest process began, as far as known."""
    if relay.name == "systemd":
        from .socket_units import legs

        return legs(relay.pid, rows, run)
    try:
        files = Files(relay.pid)
        ways = _READERS[relay.name](relay.command, files)
    except OSError as error:
        return (doubt(relay.name, f"its files: {error.strerror or error}"),)
    if started is not None and files.newest > started + _LATE:
        ways += (doubt(relay.name, "its configuration changed after it started, and which one it uses cannot be told"),)
    return ways


def with_holders(told: Mapping[int, tuple[Leg, ...]]) -> dict[int, tuple[Leg, ...]]:
    """Name the processes that listen on the Unix sockets to which legs lead."""
    wanted = {leg.target[5:] for legs in told.values() for leg in legs if leg.target.startswith("unix:")}
    if not wanted:
        return dict(told)
    from . import fallback

    inodes: dict[str, set[int]] = {}
    for row in fallback.from_proc(read_text, "unix", False, "").sockets:
        if row.address in wanted:
            inodes.setdefault(row.address, set()).add(row.inode)
    holders = procfs.owners(set().union(*inodes.values())).by_inode if inodes else {}

    def named(leg: Leg) -> Leg:
        if not leg.target.startswith("unix:"):
            return leg
        pids = {pid for inode in inodes.get(leg.target[5:], ()) for pid in holders.get(inode, ())}
        return leg._replace(holders=tuple(sorted(pids)))

    return {pid: tuple(map(named, legs)) for pid, legs in told.items()}


def _option(words: list[str], name: str) -> list[str]:
    """Return the values of an option: `-c FILE`, or `-cFILE`."""
    values = []
    for place, word in enumerate(words):
        if word == name:
            values += words[place + 1 : place + 2]
        elif word.startswith(name):
            values.append(word[len(name) :].lstrip("="))
    return values


def _nginx(command: str, files: Files) -> tuple[Leg, ...]:
    from .._parse import nginx_conf

    words = command.split()
    if words[1:2] == ["worker"]:
        return (doubt("nginx", "its master process is gone"),)
    given = _option(words, "-c")
    prefix = (_option(words, "-p") or [""])[-1]
    mains = [os.path.join(prefix, given[-1])] if given else [path for path in _NGINX if files.exists(path)]
    if prefix and not given:
        mains += [path for path in (os.path.join(prefix, "conf/nginx.conf"), os.path.join(prefix, "nginx.conf")) if files.exists(path)]
    if len(set(mains)) != 1 or not mains[0].startswith("/"):
        return (doubt("nginx", f"which file it reads: {', '.join(mains) or 'none of the usual ones is there'}"),)
    ways = nginx_conf.legs(mains[0], lambda pattern: files.find(pattern, os.path.dirname(mains[0])))
    if "{" in command or " include " in command:  # -g takes a piece of configuration
        ways += (doubt("nginx", "its command line holds a piece of configuration"),)
    return ways


def _haproxy(command: str, files: Files) -> tuple[Leg, ...]:
    from .._parse import haproxy_conf

    words = command.split()
    named = _option(words, "-f") + (words[words.index("--") + 1 :] if "--" in words else [])
    base = (_option(words, "-C") or [files.cwd()])[-1]
    paths = []
    for name in named:
        path = os.path.join(base, name)
        paths.append(f"{path.rstrip('/')}/*.cfg" if files.directory(path) else path)
    if not paths:
        return (doubt("haproxy", "no file is named on its command line"),)
    return haproxy_conf.legs(paths, files.find)


def _stunnel(command: str, files: Files) -> tuple[Leg, ...]:
    from .._parse import stunnel_conf

    words = [word for word in command.split()[1:] if not word.startswith("-")]
    if "-fd" in command.split() or len(words) > 1:
        return (doubt("stunnel", f"its configuration: {command}"),)
    main = os.path.join(files.cwd(), words[0] if words else "/etc/stunnel/stunnel.conf")
    return stunnel_conf.legs(main, lambda pattern: files.find(pattern, files.cwd()))


def _rinetd(command: str, files: Files) -> tuple[Leg, ...]:
    from .._parse import rinetd_conf

    words = command.split()
    given = _option(words, "-c") or _option(words, "--conf-file")
    return rinetd_conf.legs(os.path.join(files.cwd(), (given or ["/etc/rinetd.conf"])[-1]), files.find)


def _xinetd(command: str, files: Files) -> tuple[Leg, ...]:
    from .._parse import xinetd_conf

    words = command.split()
    given = words[words.index("-f") + 1 :] if "-f" in words else []
    return xinetd_conf.legs(os.path.join(files.cwd(), (given or ["/etc/xinetd.conf"])[0]), files.find)


_READERS: dict[str, Reader] = {
    "nginx": _nginx,
    "haproxy": _haproxy,
    "stunnel": _stunnel,
    "stunnel4": _stunnel,
    "rinetd": _rinetd,
    "xinetd": _xinetd,
}
