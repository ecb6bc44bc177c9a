# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A path as a picture: who, through which interface, past which rule, over what, to which service. Inline SVG, from top to bottom.

It has no size of its own but its height, so that letters are as large on a phone as on a desk. The styles are in page.css,
the symbols in page.html.j2.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, NamedTuple

from markupsafe import Markup

from .text import visible
from .words import listens_on, target, who

_RELAY = re.compile(r"(.+?\(pid \d+\)|a process that is not visible),? (.*)")
_FAMILIES = {"ipv4": "IPv4", "ipv6": "IPv6"}
_LEFT = 44  # where words begin, in CSS pixels; the symbols are left of it
_HEAD, _LINE, _GAP = 22, 16, 16
_HEAD_WIDTH, _LINE_WIDTH = 28, 35  # letters that fit beside the symbols on a phone


class Step(NamedTuple):
    """One station of a path. kind: its symbol, and its name for those who do not see the picture."""

    kind: str
    words: str
    detail: str


def steps(service: dict[str, Any], path: dict[str, Any]) -> list[Step]:
    """Return the stations of a path; what a host said is visible text."""
    family = _FAMILIES.get(path["family"], visible(path["family"], 20))
    said = visible(path["text"], 600)
    name = visible(service["name"], 60)
    if path["via"] == "relay" and not path["destinations"]:  # it dials out: no packet from outside begins this way
        return [Step("who", "anyone", "at the other end of a tunnel"), _relay(said), Step("service", name, listens_on(service, 2))]
    everywhere = path["interface"] == "any"
    interface = ("any interface", "but loopback") if everywhere else (visible(path["interface"], 40), "where the packets arrive")
    found = [Step("who", who(path), family), Step("interface", *interface), _rule(path)]
    if path["via"] == "relay":
        return [*found, _relay(said), Step("service", name, listens_on(service, 2))]
    if path["via"] != "bind":
        told = (said.partition(" via ") if path["via"] == "router" else said.partition(": "))[2]
        found.append(Step("redirect", visible(path["via"], 40).replace("_", " "), told))
    return [*found, Step("service", name, target(service, path))]


def _relay(said: str) -> Step:
    """Take the sentence of a path apart: ... via socat (pid 7) listening on 0.0.0.0:80, by its command line."""
    relay = said.partition(" via ")[2]
    known = _RELAY.match(relay)
    return Step("relay", known[1], known[2]) if known else Step("relay", relay or "relay", "")


def _rule(path: dict[str, Any]) -> Step:
    if not path["decided_by"]:
        doubt = path["reach"] == "maybe"
        return Step(
            "rule",
            "no firewall rule is known" if doubt else "no firewall rule",
            "not every rule could be read" if doubt else "nothing is in the way",
        )
    rule = path["decided_by"][-1] if path["reach"] == "accepted" else path["decided_by"][0]
    number = f"rule {rule['rule']}" if rule["rule"] else "policy"
    return Step("rule", f"{visible(rule['chain'], 60)} {number}", visible(rule["text"], 300))


def picture(service: dict[str, Any], path: dict[str, Any]) -> Markup:
    """Return the SVG of a path."""
    stations = steps(service, path)
    doubt = path["reach"] == "maybe"
    body, y = Markup(), 0
    last = len(stations) - 1
    for number, step in enumerate(stations):
        heads, details = cut(step.words, _HEAD_WIDTH, 2), cut(step.detail, _LINE_WIDTH, 4)
        height = _HEAD * len(heads) + _LINE * len(details) + _GAP
        if number < last:
            body += Markup('<path d="M18 {}V{}"/><use href="#way-arrow" x="10" y="{}" width="16" height="16"/>').format(
                y + 32, y + height - 8, y + height - 14
            )
        body += Markup('<use href="#way-{}" x="4" y="{}" width="28" height="28"/>').format(step.kind, y + 2)
        for place, text in enumerate(heads):
            body += Markup('<text x="{}" y="{}" class="head">{}</text>').format(_LEFT, y + 16 + _HEAD * place, text)
        for place, text in enumerate(details):
            body += Markup('<text x="{}" y="{}">{}</text>').format(_LEFT, y + 12 + _HEAD * len(heads) + _LINE * place, text)
        y += height
    told = ". ".join(f"{step.kind}: {step.words}{', ' if step.detail else ''}{step.detail}" for step in stations)
    title = f"{'A way that is not shown to be closed' if doubt else 'An open way'} to {visible(service['name'], 60)}"
    start = Markup('<svg class="way {}" role="img" height="{}"><title>{}</title><desc>{}</desc>')
    return start.format("doubt" if doubt else "open", y, title, told) + body + Markup("</svg>")


def cut(text: str, width: int, most: int) -> list[str]:
    """Return at most `most` lines of `width` letters, wide ones counted twice, broken at blanks where there are any."""
    lines: list[str] = []
    rest = text.strip()
    while rest and len(lines) < most:
        fits = _fitting(rest, width)
        if fits < len(rest):
            blank = rest.rfind(" ", 0, fits + 1)
            fits = blank if blank > width // 2 else fits
        lines.append(rest[:fits].rstrip())
        rest = rest[fits:].lstrip()
    if rest:
        lines[-1] = lines[-1][: max(1, _fitting(lines[-1], width - 1))] + "…"
    return lines


def _fitting(text: str, width: int) -> int:
    """Return how many characters fit; at least one."""
    used = 0
    for number, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > width:
            return max(1, number)
    return len(text)
