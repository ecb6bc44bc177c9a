# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a tool of the target in bounded time and tell why it gave nothing."""

from __future__ import annotations

from contextlib import suppress
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, NamedTuple

from .._model.gap import Gap

if TYPE_CHECKING:
    from typing import Any, Callable, Protocol

    # A runner takes argv and returns an Output, or a Gap when the tool is absent or hung.
    Runner = Callable[[list[str]], "Output | Gap"]

    class _Module(Protocol):
        def run_command(self, args: list[str], **options: Any) -> tuple[int, str, str]: ...

        def get_bin_path(self, arg: str, opt_dirs: list[str] | None = None) -> str | None: ...


SECONDS = 10
_KILLED_BY_TIMEOUT = (124, 137, -9)  # timeout(1): 124 after TERM, 137 after KILL; -9 when KILL hit timeout itself


class Output(NamedTuple):
    status: int
    stdout: str
    stderr: str


def runner(module: _Module, seconds: int = SECONDS) -> Runner:
    """Return a Runner on AnsibleModule.run_command, which has no time limit of its own."""
    paths: dict[str, str | None] = {}

    def find(tool: str) -> str | None:
        if tool not in paths:
            paths[tool] = module.get_bin_path(tool)
        return paths[tool]

    def run(argv: list[str]) -> Output | Gap:
        tool = find(argv[0])
        if tool is None:
            return Gap(argv[0], "absent", f"{argv[0]} is not installed")
        limit = find("timeout")
        prefix = [limit, "-k", "1", str(seconds)] if limit else []
        status, stdout, stderr = module.run_command(
            [*prefix, tool, *argv[1:]],
            environ_update={"LC_ALL": "C", "LANG": "C"},
            errors="replace",
            handle_exceptions=False,
            before_communicate_callback=_patient,
        )
        if limit and status in _KILLED_BY_TIMEOUT:
            return Gap(" ".join(argv), "timeout", f"no answer within {seconds} seconds")
        return Output(status, stdout, stderr)

    return run


def _patient(process: Any) -> None:
    """Let `poll` wait a moment.

    run_command polls twice once the pipes are closed; a process that ends between the two costs it a second of sleep.
    """

    def poll() -> int | None:
        with suppress(TimeoutExpired):
            process.wait(0.05)
        status: int | None = process.returncode
        return status

    process.poll = poll


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
