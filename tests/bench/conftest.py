# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmarks share: two commands in turn, and the table of what they took."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

# Few machines set these. With the first, Python reads the module that pipelining sends byte by byte; with the second, Ansible compiles its plugins anew.
UNUSUAL = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")


@pytest.fixture(scope="session")
def holding():
    """Return what makes a command run beside listeners."""
    return _holding


def _holding(count, *command, first=20000, rules=""):
    """Return a command that runs in a network namespace of its own, beside `count` listeners and after `rules` were loaded."""
    script = f'ip link set lo up; {rules} exec "$@"'
    sockets = str(Path(__file__).parent / "sockets.py")
    return ["unshare", "--net", "sh", "-c", script, "-", sys.executable, sockets, str(first), str(count), *command]


class Cost(NamedTuple):
    """wall, cpu: medians in seconds; cpu includes children. memory: peak of the largest process in MiB."""

    wall: float
    cpu: float
    memory: float


@pytest.fixture(scope="session")
def once():
    """Return what runs a command once and tells what it took."""
    return _once


def _once(argv, **environment):
    """Run one command to its end and return (wall, cpu, memory)."""
    usual = {name: value for name, value in os.environ.items() if name not in UNUSUAL}
    begun = time.perf_counter()
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**usual, **environment})
    output = process.stdout.read()
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    assert process.returncode == 0, output.decode(errors="replace")
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


@pytest.fixture(scope="session")
def table():
    """Print a row: name, seconds, CPU seconds, MiB, and the ratio to the peer."""
    print(f"\n{'':44} {'wall s':>8} {'cpu s':>8} {'MiB':>7} {'ratio':>7}")

    def row(name, cost, peer=None):
        ratio = f"{cost.wall / peer.wall:7.2f}" if peer else ""
        print(f"{name:44} {cost.wall:8.3f} {cost.cpu:8.3f} {cost.memory:7.1f} {ratio}", flush=True)

    return row


@pytest.fixture(scope="session")
def in_turn():
    """Run commands A B A B ... and return the median Cost of each."""

    def measure(commands, runs=5, **environment):
        seen = {name: [] for name in commands}
        for argv in commands.values():  # warm up: byte code, module caches
            _once(argv, **environment)
        for _run in range(runs):
            for name, argv in commands.items():
                seen[name].append(_once(argv, **environment))
        return {name: Cost(*(statistics.median(column) for column in zip(*rows))) for name, rows in seen.items()}

    return measure
