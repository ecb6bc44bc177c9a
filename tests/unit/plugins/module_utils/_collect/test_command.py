# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tools that answer, fail, hang, are absent or do not start."""

from __future__ import annotations

import os
import time

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.command import Output, runner, succeeded
from ansible_collections.loopguard.loopback.plugins.module_utils._model.gap import Gap


@pytest.fixture
def tool(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(text, mode=0o755):
        path = tmp_path / "tool"
        path.write_bytes(text)
        path.chmod(mode)
        return path

    return write


def test_both_streams_and_the_status_as_they_are(tool):
    tool(b"#!/bin/sh\nprintf 'one\\r\\n\\377'\nprintf '%s' \"$1 $LC_ALL\" >&2\nexit 3\n")
    assert runner()(["tool", "$HOME ~"]) == Output(3, "one\r\n\N{REPLACEMENT CHARACTER}", "$HOME ~ C")


def test_it_reads_nothing_from_the_module(tool):
    tool(b"#!/bin/sh\ncat\necho end\n")
    assert succeeded(runner(), ["tool"]) == "end\n"


def test_more_than_a_pipe_holds(tool):
    tool(b"#!/bin/sh\nhead -c 3000000 /dev/zero\nhead -c 3000000 /dev/zero >&2\n")
    output = runner()(["tool"])
    assert (len(output.stdout), len(output.stderr)) == (3000000, 3000000)


def test_administration_is_found_without_the_path_of_root(tool, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert isinstance(runner()(["ldconfig", "-p"]), Output)


def test_absent():
    assert runner()(["no-such-tool"]) == Gap("no-such-tool", "absent", "no-such-tool is not installed")


def test_it_does_not_start(tool):
    path = tool(b"\x7fELF of another machine")
    assert runner()(["tool"]) == Gap("tool", "failed", f"{path} does not start: Exec format error")


@pytest.mark.parametrize("trap", ["", "trap '' TERM\n"])
def test_a_hung_tool_ends_with_all_that_it_started(tool, tmp_path, trap):
    tool(f"#!/bin/sh\n{trap}sleep 1000 &\necho $! $$ >{tmp_path}/pids\nwait\nsleep 1000\n".encode())
    assert runner(1)(["tool", "-x"]) == Gap("tool -x", "timeout", "no answer within 1 seconds")
    for pid in (tmp_path / "pids").read_text().split():
        assert ended(int(pid))


def test_what_a_tool_leaves_behind_with_its_pipe_does_not_hold_us(tool, tmp_path):
    tool(f"#!/bin/sh\nsleep 1000 &\necho $! >{tmp_path}/pids\n".encode())
    assert runner(1)(["tool"]).reason == "timeout"
    assert ended(int((tmp_path / "pids").read_text()))


def ended(pid):
    """Wait until whoever is its parent now has taken note of its end."""
    for _try in range(500):
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rpartition(")")[2].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("Permission denied (you must be root)", "denied"),
        ("Operation not permitted", "denied"),
        ("line 3 failed", "failed"),
        ("", "failed"),
    ],
)
def test_why_it_gave_nothing(tool, said, reason):
    tool(f"#!/bin/sh\necho '{said}' >&2\nexit 4\n".encode())
    found = succeeded(runner(), ["tool", "a"])
    assert (found.subject, found.reason, found.text) == ("tool a", reason, said or "exit status 4")
