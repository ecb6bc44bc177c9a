# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control `bind`: does a service listen no wider than loopback, or than its declaration allows?

A firewall may seal a service that listens on every address; its bind is still wider than declared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .._model.service import Service
from .._model.vocabulary import ControlStatus

_SOCKET_TOOLS = ("ss", "netstat", "lsof", "sockstat")


class BindControl(NamedTuple):
    """The control of one service; `text` is one line for a person, with the way in and the next step.

    fixable: the bind setting of this kind can be rewritten, and the service has no `allow` that it would cut off.
    evidence: sentences, the most important first.
    """

    service: str
    control: str
    status: ControlStatus
    port: int
    protocol: str
    kind: str | None
    declared: bool
    fixable: bool
    evidence: tuple[str, ...]
    text: str


def judge(exposure: Mapping[str, Any], service: Service | None, fixable: Sequence[str] = ()) -> BindControl:
    """Judge one row of `exposure_info`'s exposures against its declaration (None: it was discovered).

    fixable: the kinds whose bind setting can be rewritten. Raises KeyError when the row is something else.
    """
    rows = exposure["listeners"]
    wide = [row for row in rows if row["scope"] != "loopback"]
    allow = service.allow if service else ()
    waived = service.controls.get("bind") if service else None
    can_fix = bool(wide) and not allow and exposure["declared"] and exposure["kind"] in fixable and waived is None
    blind = [f"{gap['subject']}: {gap['text']}" for gap in exposure["unknowns"] if _hides_sockets(gap, exposure["protocol"])]
    status: ControlStatus
    evidence: tuple[str, ...]
    if waived is not None:
        status, evidence = "not_applicable", (f"waived: {waived or 'no reason was given'}",)
    elif wide and allow:
        status, evidence = _allowed(exposure, wide, allow)
    elif wide:
        status, evidence = "fail", (f"listens on {_places(wide)}", *_ways_in(exposure))
    elif blind:
        status, evidence = "unknown", tuple(blind)
    elif rows:
        status, evidence = "pass", (f"listens on {_places(rows)} only", *_other_ways(exposure))
    else:
        status, evidence = "not_applicable", (f"nothing listens on {exposure['protocol']} port {exposure['port']}",)
    named = f"{exposure['name']} ({exposure['protocol']} port {exposure['port']})"
    text = ". ".join([f"{named}: {'; '.join(evidence)}", *_next_step(status, exposure, bool(allow), can_fix)])
    return BindControl(
        str(exposure["name"]),
        "bind",
        status,
        exposure["port"],
        exposure["protocol"],
        exposure["kind"],
        exposure["declared"],
        can_fix and status == "fail",
        evidence,
        text + ".",
    )


def _allowed(exposure: Mapping[str, Any], wide: Sequence[Any], allow: Sequence[str]) -> tuple[ControlStatus, tuple[str, ...]]:
    """A service with `allow` may listen wider, so whoever else gets in by its own sockets decides."""
    evidence = (f"listens on {_places(wide)}, allowed for {', '.join(allow)}", *_ways_in(exposure))
    own = [path["reach"] for path in exposure["paths"] if path["via"] == "bind"]
    if "accepted" in own:
        return "fail", evidence
    return "unknown" if own or exposure["verdict"] == "unknown" else "pass", evidence


def _hides_sockets(gap: Mapping[str, str], protocol: str) -> bool:
    """Say whether a gap leaves room for a socket of this protocol that was not seen."""
    return gap["subject"] == protocol or gap["subject"].partition(" ")[0] in _SOCKET_TOOLS


def _places(rows: Sequence[Mapping[str, Any]]) -> str:
    places = []
    for row in rows:
        address = f"[{row['address']}]" if ":" in row["address"] else row["address"]
        zone = f"%{row['interface']}" if row["interface"] else ""
        places.append(f"{address}{zone}:{row['port']}")
    row = rows[0]
    owner = [row["process"] or "process not visible"]
    owner += [f"pid {row['pids'][0]}"] if row["pids"] else []
    owner += [row["unit"]] if row["unit"] else []
    return f"{' and '.join(places)} ({', '.join(owner)})"


def _ways_in(exposure: Mapping[str, Any]) -> list[str]:
    paths = exposure["paths"]
    own = [str(path["text"]) for path in paths if path["via"] == "bind"] or [str(path["text"]) for path in paths]
    if own:
        return ["way in: " + ", and ".join(own)]
    return ["no open way in was found: only the firewall keeps it closed"] if exposure["verdict"] == "sealed" else []


def _other_ways(exposure: Mapping[str, Any]) -> list[str]:
    """A right bind is not the whole verdict, and the reader must not take it for that."""
    if exposure["verdict"] != "exposed":
        return []
    return ["exposed all the same: " + ", and ".join(str(path["text"]) for path in exposure["paths"] if path["reach"] == "accepted")]


def _next_step(status: ControlStatus, exposure: Mapping[str, Any], allow: bool, can_fix: bool) -> list[str]:
    if status == "unknown":
        return ["Next: run as root, with the tools named above, so that it can be seen"]
    if status != "fail":
        return []
    if allow:
        return ["Next: close it to everyone but the allowed sources (its bind is not narrowed, they need it)"]
    if can_fix:
        return ["Next: run again with verify_bind_enforce=true and --check --diff to see the change, then without --check"]
    if not exposure["declared"]:
        return [f"Next: bind it to 127.0.0.1, or declare it (name, port{'' if exposure['kind'] else ', kind'})"]
    kind = f"kind {exposure['kind']}" if exposure["kind"] else "a service of no known kind"
    return [f"Next: bind it to 127.0.0.1 in its own configuration, this role cannot do that for {kind}"]
