# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that applies new rules, waits to be told that they are good, and otherwise puts the former ones back.

Each run has a folder below /run/loopguard, named after its token, with everything in it that is needed to go back and no
Python: `sh undo` in that folder is all. One name in it is the state; who renames it decides, and nobody else:

    ready -> armed                  by the process, before it applies anything
    ready -> restored               by whoever comes and finds that the process never began
    armed -> confirmed              by the second connection
    armed -> undoing -> restored    by the process itself, or by whoever runs `undo`
                     -> failed      when a tool refused; `log` has what it said

Two more names are for the process: `applying`, which becomes `applied` or `refused`, and `waiting`, which whoever wants no
more waiting removes. All are there from the beginning and only renamed, because a full disk must not be in the way.

The process is no child of the module's session. It applies the rules itself, so that they are never there without it, and
counts seconds of sleep: a clock that is set does not matter.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .._collect.command import succeeded
from .._collect.files import read_text
from .._model.gap import Gap
from . import iptables_text
from .error import ApplyError, Busy

if TYPE_CHECKING:
    from typing import IO

    from .._collect.command import Runner
    from .sides import Change, Iptables, Nftables

ROOT = "/run/loopguard"
STATES = ("ready", "armed", "confirmed", "undoing", "restored", "failed")
State = Literal["ready", "armed", "confirmed", "undoing", "restored", "failed", "gone"]
_PATIENCE = 120.0  # for the tools, which may be slow with long rulesets

_PROCESS = """#!/bin/sh
# Apply new rules, wait for a confirmation, and put the former rules back when none comes.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C
export PATH LC_ALL
cd {folder} || exit
exec >>log 2>&1 </dev/null
trap '' HUP
refuse() {{ echo "$1"; mv applying refused; exit 1; }}
[ "$(readlink /proc/self/ns/net)" = "{namespace}" ] || refuse "this is another network namespace"
echo $$ >pid || refuse "the number of this process could not be written to {folder}"
mv ready armed 2>/dev/null || exit
outcome=refused
if [ -e armed ] && {apply}; then
  outcome=applied
fi
# Whoever went back before that did so too early.
while [ -e undoing ]; do sleep 1; done
if mv restored armed 2>/dev/null || mv failed armed 2>/dev/null; then
  outcome=refused
fi
[ "$outcome" = applied ] || sh {folder}/undo
mv applying "$outcome"
left={seconds}
while [ -e armed ] && [ -e waiting ] && [ "$left" -gt 0 ]; do
  sleep 1
  left=$((left - 1))
done
[ ! -e armed ] || exec sh {folder}/undo
"""
_UNDO = """#!/bin/sh
# Put the packet filter back as it was before this run. Does nothing when the new rules were confirmed, or this was done.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C
export PATH LC_ALL
cd {folder} || exit
mv armed undoing 2>/dev/null || exit 0
{steps}
mv undoing "${{failed:-restored}}"
logger -t loopguard "the former rules of the packet filter: ${{failed:-restored}} ({folder})" 2>/dev/null || :
"""
_UNDO_IPTABLES = """\
{inverse} || {tool}-restore --wait 30 --counters --noflush <{label}.undo || {tool}-restore --wait 30 --counters <{label}.full || failed=failed
"""
_INVERSE = "{tool}-restore --wait 30 --counters --noflush <{label}.inverse"
# The rules that stood there before are there, and in their order. What others have put between them does not count.
_STAYS = """ && [ "$({tool}-save -t {table} | grep -xFf {label}.{table} | sort -s -k 2,2)" = "$(cat {label}.{table})" ]"""
_UNDO_NFT = "nft -f {label}.undo || failed=failed\n"


class Run(NamedTuple):
    """One change with its dead-man. folder: below ROOT."""

    token: str
    folder: str

    @property
    def state(self) -> State:
        for state in STATES:
            if os.path.exists(os.path.join(self.folder, state)):
                return state  # type: ignore[return-value]  # one of STATES
        return "gone"

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def read(self, name: str) -> str:
        try:
            return read_text(self.path(name))
        except FileNotFoundError:
            return ""

    def plan(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.read("plan"))
        return found

    def confirm(self) -> bool:
        """Take the rules as good. False: too late, or somebody else decided."""
        try:
            os.rename(self.path("armed"), self.path("confirmed"))
        except FileNotFoundError:
            return False
        return True

    def undo(self, run: Runner) -> State:
        """Have the former rules put back, by the process, which nobody's session can take along; without it, here."""
        with suppress(OSError):  # asked before, or gone
            os.unlink(self.path("waiting"))
        until = time.monotonic() + _PATIENCE
        while not self.call_off() and self.state in ("armed", "undoing") and time.monotonic() < until:
            if self.state == "armed" and not self.alive():
                succeeded(run, ["sh", self.path("undo")])
            time.sleep(0.1)
        return self.state

    def call_off(self) -> bool:
        """Keep the process from beginning. False: it has begun."""
        try:
            os.rename(self.path("ready"), self.path("restored"))
        except FileNotFoundError:
            return False
        return True

    def alive(self) -> bool:
        pid = self.read("pid").strip()
        try:
            return bool(pid) and self.token in read_text(f"/proc/{pid}/cmdline")
        except OSError:
            return False

    def close(self) -> None:
        """Leave the state alone, for a controller that did not hear of it. The next run removes that too."""
        for name in os.listdir(self.folder):
            if name not in STATES:
                os.unlink(self.path(name))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def run_of(token: str) -> Run:
    return Run(token, os.path.join(ROOT, token))


class locked:
    """The right to change the packet filter, for the caller and for a run that still waits for its confirmation."""

    def __init__(self, seconds: float, token: str = "") -> None:
        self._seconds, self._token = seconds, token

    def __enter__(self) -> None:
        until = time.monotonic() + self._seconds
        while True:
            try:
                os.makedirs(ROOT, 0o700, exist_ok=True)
                self._file: IO[str] = open(os.path.join(ROOT, "lock"), "w", encoding="utf-8")  # held until it is closed
            except OSError as error:
                raise Busy(f"{error.filename}: {error.strerror}") from error
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                pending = _pending(self._token)
            except BlockingIOError:
                pending = "another run is at work"
            if not pending:
                return
            self._file.close()
            if time.monotonic() >= until:
                raise Busy(f"{pending}; waited {self._seconds:g} s for it")
            time.sleep(0.2)

    def __exit__(self, *_exception: object) -> None:
        self._file.close()


def _pending(own: str) -> str:
    """Return why nobody but the run `own` may change anything now, "" when anybody may. Folders of finished runs go."""
    for token in sorted(os.listdir(ROOT)):
        run = run_of(token)
        if token == own or not os.path.isdir(run.folder):
            continue
        if run.alive() and os.path.exists(run.path("applying")):  # may go on after somebody went back
            return f"another run ({token}) is at work"
        if run.call_off() or run.state in ("confirmed", "restored", "gone"):
            run.remove()
        elif run.state == "failed":
            return f"the run {token} could not put the former rules back. See {run.folder}/log, mend it, and remove {run.folder}"
        elif run.alive():
            return f"another run ({token}) waits for its confirmation"
        else:
            return (
                f"the run {token} was never confirmed, and its process is gone. Put the former rules back with `sh {run.folder}/undo`, "
                f"or remove {run.folder} to keep the new ones"
            )
    return ""


def start(run: Runner, token: str, changes: Sequence[tuple[Iptables | Nftables, Change]], seconds: int, facts: dict[str, Any]) -> Run:
    """Write the folder, start the process and wait until it has applied the rules.

    Raises ApplyError when that did not come about: then the former rules stand, and the message says so.
    """
    this = run_of(token)
    try:
        os.mkdir(this.folder, 0o700)
        _write(this, changes, seconds, facts)
    except OSError as error:
        this.remove()
        raise ApplyError(f"the former rules could not be saved in {this.folder}: {error.strerror}. Nothing was applied.") from error
    launched = _launch(run, this)
    if launched:
        this.remove()
        raise ApplyError(f"the process that would put the former rules back could not be started: {launched}. Nothing was applied.")
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and not any(os.path.exists(this.path(name)) for name in ("applied", "refused")):
        time.sleep(0.02)
    return this


def _write(this: Run, changes: Sequence[tuple[Iptables | Nftables, Change]], seconds: int, facts: dict[str, Any]) -> None:
    applies, steps = [], []
    plan = []
    for side, change in changes:
        files = {"new": change.new, "undo": change.undo, "inverse": change.inverse, "full": change.full, **change.stays}
        for name, text in files.items():
            _put(this.path(f"{side.label}.{name}"), text)
        if side.kind == "nftables":
            applies.append(f"nft -f {side.label}.new")
            steps.append(_UNDO_NFT.format(label=side.label))
        else:
            applies.append(f"{side.tool}-restore --wait 30 --noflush <{side.label}.new")
            inverse = _INVERSE.format(tool=side.tool, label=side.label)
            inverse += "".join(_STAYS.format(tool=side.tool, label=side.label, table=table) for table in change.stays)
            steps.append(_UNDO_IPTABLES.format(inverse=inverse, tool=side.tool, label=side.label))
            if side.kind == "iptables-nft":
                steps += [iptables_text.unmake(side.tool, side.family, *made.split()) for made in change.made]
        plan.append({"label": side.label, "before": change.before, "after": change.after, "made": list(change.made)})
    namespace = os.readlink("/proc/self/ns/net")
    apply = " &&\n  ".join(applies)
    _put(this.path("plan"), json.dumps({"sides": plan, **facts}))
    _put(this.path("undo"), _UNDO.format(folder=this.folder, steps="".join(steps)))
    _put(this.path("process"), _PROCESS.format(folder=this.folder, namespace=namespace, apply=apply, seconds=seconds))
    for name in ("log", "pid", "applying", "waiting", "ready"):
        _put(this.path(name), "")


def _put(path: str, text: str) -> None:
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _launch(run: Runner, this: Run) -> str:
    """Start the process outside of this session and of its control group. Return "" or why it could not."""
    process = this.path("process")
    if os.path.isdir("/run/systemd/system") and _at_home():
        argv = ["systemd-run", "--quiet", "--collect", f"--unit=loopguard-{this.token}", "sh", process]
    else:
        argv = ["sh", "-c", 'setsid sh "$1" </dev/null >/dev/null 2>&1 &', "sh", process]
    started = succeeded(run, argv)
    return started.text if isinstance(started, Gap) else ""


def _at_home() -> bool:
    """Say whether init sees the same network and the same files: else a unit of its would work elsewhere."""
    with suppress(OSError):
        return all(os.readlink(f"/proc/1/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "mnt", "pid"))
    return False
