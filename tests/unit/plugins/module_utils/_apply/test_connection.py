# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The SSH connection of a process, found through its ancestors."""

from __future__ import annotations

import os

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._apply.connection import Connection, of_this_session

OWN = str(os.getpid())


def proc(processes):
    """Return a reader of /proc in which each process has (parent, environment)."""

    def read(path):
        _empty, _proc, pid, name = path.split("/")
        parent, environment = processes[pid]
        if environment is None:
            raise PermissionError(13, "Permission denied", path)
        return f"{pid} (a ) name) S {parent} 1 1" if name == "stat" else "\0".join(environment)

    return read


@pytest.mark.parametrize(
    ("processes", "found"),
    [
        ({OWN: ("0", ["PATH=/bin", "SSH_CONNECTION=192.0.2.7 50000 192.0.2.21 22"])}, Connection("192.0.2.7", 50000, "192.0.2.21", 22)),
        (
            {OWN: ("7", []), "7": ("8", ["SUDO_USER=x"]), "8": ("0", ["SSH_CONNECTION=fe80::1%eth0 50000 fe80::2%eth0 2222"])},
            Connection("fe80::1", 50000, "fe80::2", 2222),
        ),
        ({OWN: ("7", []), "7": ("0", [])}, None),
        ({OWN: ("0", [])}, None),
        ({OWN: ("7", []), "7": ("0", None)}, None),
        ({OWN: ("0", ["SSH_CONNECTION=UNKNOWN"])}, None),
    ],
)
def test_the_connection_of_this_session(processes, found):
    assert of_this_session(proc(processes)) == found


def test_a_connection_reads_as_people_write_it():
    assert str(Connection("192.0.2.7", 50000, "192.0.2.21", 22)) == "192.0.2.7 -> 192.0.2.21:22"
    assert str(Connection("2001:db8::7", 50000, "2001:db8::21", 22)) == "2001:db8::7 -> [2001:db8::21]:22"
