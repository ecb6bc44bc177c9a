# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a tool of the target in bounded time and tell why it gave nothing."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import TYPE_CHECKING, NamedTuple

from .._model.gap import Gap

if TYPE_CHECKING:
    from typing import Callable

    # A runner takes argv and returns an Output, or a Gap when the tool is absent or hung.
    Runner = Callable[[list[str]], "Output | Gap"]

SECONDS = 10
_ADMINISTRATION = os.pathsep.join(("/sbin", "/usr/sbin", "/usr/local/sbin"))  # not in the PATH of every user


class Output(NamedTuple):
    status: int
    stdout: str
    stderr: str


def runner(seconds: int = SECONDS) -> Runner:
    """Return a Runner that waits at most `seconds` for a tool.

    AnsibleModule.run_command has no such limit, and forks all that the module holds for each tool.
    """
    environment = {**os.environ, "LC_ALL": "C", "LANG": "C"}
    paths = f"{environment.get('PATH', os.defpath)}{os.pathsep}{_ADMINISTRATION}"
    found: dict[str, str | None] = {}

    def run(argv: list[str]) -> Output | Gap:
        name = argv[0]
        if name not in found:
            found[name] = shutil.which(name, path=paths)
        tool = found[name]
        if tool is None:
            return Gap(name, "absent", f"{name} is not installed")
        try:
            process = Popen([tool, *argv[1:]], stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=environment, start_new_session=True)
        except OSError as error:
            return Gap(name, "failed", f"{tool} does not start: {error.strerror}")
        try:
            stdout, stderr = process.communicate(timeout=seconds)
        except TimeoutExpired:
            _end(process)
            return Gap(" ".join(argv), "timeout", f"no answer within {seconds} seconds")
        return Output(process.returncode, stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace"))

    return run


def _end(process: Popen[bytes]) -> None:
    """End a tool and what it started. One that the kernel holds is left to end by itself."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutExpired):
            process.wait(1)
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def succeeded(run: Runner, argv: list[str]) -> str | Gap:
    """Return standard output, or a Gap when the tool is absent, hung, refused or failed."""
    output = run(argv)
    if isinstance(output, Gap):
        return output
    if output.status == 0:
        return output.stdout
    said = " ".join((output.stderr or output.stdout).split())[:500]
    lowered = said.lower()
    denied = "permission denied" in lowered or "operation not permitted" in lowered or "must be root" in lowered
    return Gap(" ".join(argv), "denied" if denied else "failed", said or f"exit status {output.status}")
