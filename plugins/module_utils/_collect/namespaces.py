# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The other network namespaces of the machine, and a way into them (setns(2)). Entering takes root."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator

from .._model.gap import Gap

_CLONE_NEWNET = 0x40000000
_NAMED = ("/run/netns", "/run/docker/netns")


def others(own: str, gaps: list[Gap]) -> Iterator[tuple[str, str]]:
    """Yield (inode, path) of every other network namespace: of processes, then of named ones without a process."""
    seen = {own}
    hidden = 0
    paths = [f"/proc/{entry}/ns/net" for entry in os.listdir("/proc") if entry.isdigit()]
    for folder in _NAMED:
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


class entered:
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
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code) or errno.errorcode.get(code, "setns"))
