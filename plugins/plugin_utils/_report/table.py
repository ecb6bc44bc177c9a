# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The terminal table: worst first, one screen, every string from a host made harmless."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Callable
from typing import Any

from .record import STATES, WITHOUT_RESULT, WORST
from .text import count, visible
from .words import listens_on, who_gets_in

_LAST_COLUMN = 44  # below this width the last column moves to lines of its own
_NARROWEST = 6
_CAPS = {"HOST": 24, "SERVICE": 24, "LISTENS ON": 26}
_UNKNOWN_GAPS = 3

Paint = Callable[[str, str], str]


def render_table(
    record: dict[str, Any], width: int, links: dict[str, str], ansible: list[str], paint: Paint = lambda text, _word: text
) -> list[str]:
    """Return the lines to print.

    ansible: the command of the next step and the options that name the inventory.
    links: format -> path as shown to the user, for the reports that are (or in check mode would be) written.
    paint: called with a padded verdict and its word; returns it coloured. The word itself always stands there.
    """
    fleet = record["summary"]["hosts"]["total"] != 1
    lines = [*_wrapped(_header(record, fleet), width), ""]
    rows = [row for host in record["hosts"] for row in _host_rows(host)]
    rows.sort(key=lambda row: STATES.index(row[0]))  # stable: hosts and services keep their order
    shown = rows
    if fleet:
        lines += [*_wrapped(_fleet(record), width), ""]
        if len(rows) > WORST:
            lines += _ranking(record, width)
            shown = rows[: WORST // 2]
    if shown:
        lines += [*_grid(shown, width, fleet, paint), ""]
    if len(rows) > len(shown):
        where = links.get("html") or links.get("json")
        rest = f"{len(rows) - len(shown):,} more rows, none worse than these"
        lines += [*_wrapped(f"... {rest}: {where}" if where else f"... {rest} (no report is written)", width), ""]
    if not rows:
        lines += ["No service that belongs on loopback was found.", ""]
    lines += _wrapped(_counts(record), width)
    lines += _not_seen(record, width)
    for label, kind in (("Report", "html"), ("Record", "json")):
        if kind in links:
            lines.append(f"{label}   {links[kind]}")
    return lines + _next(record, ansible)


def _header(record: dict[str, Any], fleet: bool) -> str:
    start = f"loopguard.loopback {record['collection']['version']}:"
    if fleet:
        return f"{start} auditing {count(len(record['hosts']), 'host')} (nothing is changed)"
    host = record["hosts"][0]
    name = "this machine" if host["name"] in ("localhost", "127.0.0.1", "::1") else visible(host["name"], 60)
    if host["facts"] is None:
        return f"{start} auditing {name} (nothing is changed)"
    who = "as root" if host["facts"]["privileged"] else "as an ordinary user"
    return f"{start} auditing {name} ({who}; nothing is changed)"


def _fleet(record: dict[str, Any]) -> str:
    hosts = record["summary"]["hosts"]
    order = ("sealed", "exposed", "unknown", "absent", *WITHOUT_RESULT)
    names = {"no_result": "without result", "absent": "with no such service"}
    parts = [f"{hosts[state]:,} {names.get(state, state)}" for state in order if hosts[state]]
    return f"FLEET  {count(hosts['total'], 'host')}: {' · '.join(parts) or 'none'}"


def _ranking(record: dict[str, Any], width: int) -> list[str]:
    lines = [f"{'EXPOSED ON':<12}{'UNKNOWN ON':<12}SERVICE"]
    for row in record["worst"]:
        names = ", ".join(visible(name, 30) for name in row["hosts"][:3])
        more = row["exposed"] + row["unknown"] - min(3, len(row["hosts"]))
        text = f"{visible(row['name'], 40)} {row['port']}/{visible(row['protocol'], 20)}: {names}{f' +{more}' if more > 0 else ''}"
        lines += textwrap.wrap(text, width, initial_indent=f"{row['exposed']:<12,}{row['unknown']:<12,}", subsequent_indent=" " * 24)
    return [*lines, ""] if record["worst"] else []


def _host_rows(host: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return (state, host, service, listens on, who gets in) per service; a host without any is one row."""
    name = visible(host["name"], 60)
    if host["state"] in WITHOUT_RESULT:
        return [(host["state"], name, "-", "-", visible(host["message"] or "no message", 300))]
    if not host["services"]:
        if host["unknowns"]:
            gap = host["unknowns"][0]
            return [("unknown", name, "-", "-", visible(f"{gap['subject']}: {gap['text']}", 300))]
        return []
    return [
        (service["verdict"], name, visible(service["name"], 60), listens_on(service, 4), who_gets_in(service))
        for service in host["services"]
    ]


def _grid(rows: list[tuple[str, str, str, str, str]], width: int, fleet: bool, paint: Paint) -> list[str]:
    heads = ["HOST", "SERVICE", "LISTENS ON", "VERDICT"] if fleet else ["SERVICE", "LISTENS ON", "VERDICT"]
    cells = [[*row[1 if fleet else 2 : 4], _label(row[0])] for row in rows]
    sizes = [max(len(head), min(_CAPS.get(head, 11), max(len(row[i]) for row in cells))) for i, head in enumerate(heads)]
    while sum(sizes) + 2 * len(sizes) > width + 2 and max(sizes[:-1]) > _NARROWEST:
        sizes[sizes.index(max(sizes[:-1]))] -= 1
    left = sum(sizes) + 2 * len(sizes)
    inline = width - left >= _LAST_COLUMN
    lines = []
    for row, values in zip([("", "", "", "", "WHO GETS IN, AND HOW" if inline else ""), *rows], [heads, *cells]):
        columns = [_fold(value, size) for value, size in zip(values, sizes)]
        if inline:
            columns.append(_fold(row[4], width - left))
        for number in range(max(len(column) for column in columns)):
            parts = [column[number] if number < len(column) else "" for column in columns]
            padded = [f"{part:<{size}}" for part, size in zip(parts, sizes)]
            padded[-1] = paint(padded[-1], row[0]) if row[0] else padded[-1]
            lines.append("  ".join([*padded, *parts[len(sizes) :]]).rstrip())
        if not inline:
            lines += textwrap.wrap(row[4], width, initial_indent="    ", subsequent_indent="    ")
    return lines


def _label(state: str) -> str:
    return state.replace("_", " ").upper()


def _fold(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False, drop_whitespace=True)


def _counts(record: dict[str, Any]) -> str:
    services, hosts = record["summary"]["services"], record["summary"]["hosts"]
    parts = [f"{services[word]:,} {word}" for word in ("exposed", "unknown", "sealed", "absent") if services[word]]
    total = f"of {count(services['total'], 'service')} on {count(hosts['total'], 'host')} ({record['seconds']} s)"
    return ", ".join([*parts, total]) if parts else f"0 services on {count(hosts['total'], 'host')} ({record['seconds']} s)"


def _not_seen(record: dict[str, Any], width: int) -> list[str]:
    """Say once what could not be seen, and what would show it."""
    ordinary = [host for host in record["hosts"] if host["facts"] and not host["facts"]["privileged"]]
    gaps = {gap["subject"]: gap for host in record["hosts"] for gap in host["unknowns"]}
    if not gaps:
        return []
    subjects = list(gaps)
    named = ", ".join(visible(subject, 60) for subject in subjects[:_UNKNOWN_GAPS])
    more = f" and {len(subjects) - _UNKNOWN_GAPS} more" if len(subjects) > _UNKNOWN_GAPS else ""
    hint = ". To see it, run again as root: sudo make audit, or --become" if ordinary else ""
    return _wrapped(f"Not seen: {named}{more}{hint}.", width)


def _next(record: dict[str, Any], ansible: list[str]) -> list[str]:
    """Name one command: what verify_bind would change on the worst host. It is never folded, so that it can be copied."""
    host = record["hosts"][0] if record["hosts"] else {"state": "absent"}
    if host["state"] != "exposed":
        return []
    variables: dict[str, Any] = {"verify_bind_enforce": True}
    exposed = [service for service in host["services"] if service["verdict"] == "exposed"]
    if not any(service["declared"] for service in exposed):  # the role changes declared services only
        variables["loopguard_services"] = [{"name": row["name"], "port": row["port"], "protocol": row["protocol"]} for row in exposed[:3]]
    words = [ansible[0], host["name"], *ansible[1:], *["-m", "include_role", "-a", "name=loopguard.loopback.verify_bind"]]
    command = shlex.join([*words, "-e", json.dumps(variables), "--check", "--diff"])
    return [f"Next     {visible(command, 2000)}"]
