# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three steps of firewall_ruleset: apply, confirm over a new connection, or learn what became of it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from .._collect.command import succeeded
from .._collect.files import read_text
from .._parse.error import ParseError
from . import deadman, iptables_text
from .boot import Boot, possible
from .connection import cut_by, of_this_session
from .error import ApplyError, Busy
from .sides import FAMILIES, sides

if TYPE_CHECKING:
    from .._collect.command import Runner
    from .sides import Change, Iptables, Nftables

_UNASKED = 120  # seconds that this module has for its own confirmation


class Asked(NamedTuple):
    """The options of the module. token: of this run. folder: for temporary files."""

    ruleset: str
    backend: str
    families: list[str]
    present: bool
    name: str
    confirm: bool
    seconds: int
    persist: bool
    check: bool
    token: str
    remote: bool
    folder: str


def apply(run: Runner, asked: Asked) -> dict[str, Any]:
    """Apply the ruleset. `pending` in the result: seconds until the former rules come back unless somebody confirms."""
    if os.geteuid() != 0:
        raise ApplyError("Only root can change the packet filter: use `become: true`. Nothing was applied.")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,22}", asked.name):
        raise ApplyError(f"`name` must be a letter and up to 22 letters, digits, `-` or `_`, not {asked.name!r}. Nothing was applied.")
    if asked.persist and asked.present and not possible():
        raise ApplyError("`persist` takes systemd, which this host does not have. Nothing was applied.")
    if asked.check:
        return _apply(run, asked)
    try:
        with deadman.locked(asked.seconds):
            return _apply(run, asked)
    except Busy as error:
        raise ApplyError(f"{error}. Nothing was applied.") from error


def _apply(run: Runner, asked: Asked) -> dict[str, Any]:
    try:
        found = sides(run, asked.backend, asked.families, asked.folder)
        ruleset = asked.ruleset if asked.present else ""
        changes: list[tuple[Iptables | Nftables, Change]] = [(side, side.rehearse(ruleset, asked.name)) for side in found]
        connection = of_this_session()
        cut = cut_by(run, connection, changes) if connection and any(change.changed for _side, change in changes) else ""
    except (ApplyError, ParseError) as error:
        raise ApplyError(f"{error}. Nothing was applied.") from error
    if cut:
        raise ApplyError(
            f"The new rules would have cut this connection ({connection}, dropped by {cut}). Nothing was applied. "
            "Let the controller in, or see docs/lockout.md."
        )
    boot = _boot(asked, found)
    different = [(side, change) for side, change in changes if change.changed]
    result = {
        "changed": bool(different) or boot.stands != boot.wanted,
        "backend": found[0].kind,
        "families": asked.families if asked.backend != "nftables" else list(FAMILIES),
        "confirmed": False,
        "diff": _diff(different, boot),
    }
    if asked.check or not result["changed"]:
        return result
    if not different:
        boot.write(run)
        return result
    if any(side.beside(change.before, change.after) != [] for side, change in different):
        raise ApplyError("Something else changed the packet filter at the same time; run this again. Nothing was applied.")
    seconds = asked.seconds if asked.confirm else _UNASKED
    this = deadman.start(run, asked.token, different, seconds, {"connection": str(connection and connection.peer_port)})
    _verify(run, this, different)
    if asked.confirm:
        return {**result, "pending": asked.seconds}
    return {**result, **_confirm(run, asked)}


def _boot(asked: Asked, found: Sequence[Iptables | Nftables]) -> Boot:
    kept = asked.persist and asked.present
    return Boot(asked.name, found if kept else [], asked.ruleset if kept else "")


def _diff(changes: Sequence[tuple[Iptables | Nftables, Change]], boot: Boot) -> dict[str, str]:
    before, after = "", ""
    for side, change in changes:
        head = f"# {side.title} ({side.kind})\n" if side.title != side.kind else ""
        before += head + change.before
        after += head + change.after
    if boot.stands != boot.wanted:
        before += f"# {boot.unit}: {boot.stands}\n"
        after += f"# {boot.unit}: {boot.wanted}\n"
    return {"before": before, "after": after}


def _verify(run: Runner, this: deadman.Run, changes: Sequence[tuple[Iptables | Nftables, Change]]) -> None:
    """Raise ApplyError unless the rules were applied, and the kernel holds what was foreseen."""
    if os.path.exists(this.path("refused")) and this.call_off():
        raise ApplyError(f"{this.read('log').strip() or 'the process could not begin'}. Nothing was applied.")
    if os.path.exists(this.path("applied")):
        surprises = [side.title for side, change in changes if side.beside(change.after, change.before) is None]
        if not surprises:
            return
        why = f"What stands after the new rules were applied is not what was foreseen ({', '.join(surprises)}): something else changes rules as well."
    else:
        why = f"The new rules could not be applied: {' '.join(this.read('log').split())[:500] or 'no answer from the process that applies them'}."
    this.undo(run)
    message, result = _restored(this, changes)
    raise ApplyError(f"{why} {message}", **result)


def confirm(run: Runner, asked: Asked) -> dict[str, Any]:
    """Keep the rules of the run with this token. Raises ApplyError with `state` in its result."""
    with deadman.locked(asked.seconds, asked.token):
        return _confirm(run, asked)


def _confirm(run: Runner, asked: Asked) -> dict[str, Any]:
    this = deadman.run_of(asked.token)
    if this.state == "armed" and asked.remote:
        connection = of_this_session()
        if connection and str(connection.peer_port) == this.plan()["connection"]:
            raise ApplyError(f"this is the same connection as before, from port {connection.peer_port}", state="armed")
    if this.confirm():
        _note_made(this.plan())
    elif this.state != "confirmed":  # the answer to an earlier confirmation was lost
        raise ApplyError("it came too late", state=this.state)
    found = sides(run, asked.backend, asked.families, asked.folder)
    if not asked.present:
        _unmake(run, found)
    try:
        _boot(asked, found).write(run)
    except ApplyError as error:
        raise ApplyError(str(error), state="confirmed", changed=True, confirmed=asked.confirm) from error
    this.close()
    return {"confirmed": asked.confirm}


def outcome(run: Runner, asked: Asked) -> dict[str, Any]:
    """Say what became of the run with this token; when it still waits, end it. Always raises ApplyError."""
    this = deadman.run_of(asked.token)
    if this.state == "gone":
        raise ApplyError("Nothing of this run is left on the host: it applied nothing, or another run came after it.", state="gone")
    if this.state == "confirmed":
        raise ApplyError("The new rules stand.", state="confirmed")
    this.undo(run)
    planned = {side["label"]: side for side in this.plan()["sides"]}
    found = [(side, planned[side.label]) for side in sides(run, asked.backend, asked.families, asked.folder) if side.label in planned]
    message, result = _restored(this, [(side, _Planned(plan["before"], plan["after"])) for side, plan in found])
    raise ApplyError(message, **result)


class _Planned(NamedTuple):
    before: str
    after: str


def _restored(this: deadman.Run, changes: Sequence[tuple[Any, Any]]) -> tuple[str, dict[str, Any]]:
    """Look at what stands, and say it."""
    state = this.state
    beside = {side: side.beside(change.before, change.after) for side, change in changes}
    wrong = [side.title for side, found in beside.items() if found is None]
    right = [side.label for side, found in beside.items() if found is not None]
    titles = " and ".join(side.title for side, found in beside.items() if found is not None)
    added = [f"{side.title} {rule}" for side, found in beside.items() for rule in found or ()]
    result = {"changed": bool(wrong), "restored": right, "confirmed": False, "state": state}
    if not wrong:
        others = f" Others have added meanwhile: {'; '.join(added)}." if added else ""
        return f"The former rules stand again ({titles}, checked).{others}", result
    said = " ".join(this.read("log").split())[:500]
    return f"NOT restored: {' and '.join(wrong)}. See {this.folder}, {this.folder}/log says: {said}", result


def _note_made(plan: dict[str, Any]) -> None:
    """Remember the tables and chains that our rules brought into being; like them, the note lasts until the host restarts."""
    made = [f"{FAMILIES[side['label']][1]} {made}\n" for side in plan["sides"] for made in side["made"]]
    if made:
        with open(os.path.join(deadman.ROOT, "made"), "a", encoding="utf-8") as file:
            file.writelines(made)


def _unmake(run: Runner, found: Sequence[Iptables | Nftables]) -> None:
    """Take away the tables and chains that our rules brought into being, where nobody else uses them."""
    path = os.path.join(deadman.ROOT, "made")
    with suppress(FileNotFoundError):
        noted = dict.fromkeys(read_text(path).splitlines())
        for side in found:
            if side.kind == "iptables-nft":
                lines = [iptables_text.unmake(side.tool, *note.split()) for note in noted if note.startswith(f"{side.family} ")]
                succeeded(run, ["sh", "-c", "PATH=$PATH:/usr/sbin:/sbin\n" + "".join(lines)])
                standing = side.kernel_chains() | {(table, "") for table in iptables_text.tables(side.present())}
                noted = {
                    note: None for note in noted if not note.startswith(f"{side.family} ") or tuple(f"{note} ".split(" ")[1:3]) in standing
                }
        if noted:
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(f"{note}\n" for note in noted)
        else:
            os.unlink(path)


STEPS = {"apply": apply, "confirm": confirm, "outcome": outcome}
