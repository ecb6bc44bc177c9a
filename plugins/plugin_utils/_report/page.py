# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTML page: one file, no request, readable without script."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from .picture import picture
from .record import STATES, VERDICTS, WITHOUT_RESULT
from .text import count, endpoint, visible
from .words import listens_on, other_reasons, who_gets_in

HERE = Path(__file__).parent
ROWS = 5000  # rows on the page, the worst ones; the record has all
DETAILS = 1500  # of these with the evidence of each path
_PATHS = 40  # per service
_LISTENERS = 40


def render_page(record: dict[str, Any]) -> str:
    """Return the page. Everything in it that came from a host is made visible (`visible`) and then escaped."""
    style, script = (HERE / "page.css").read_text("utf-8"), (HERE / "page.js").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(visible=visible, endpoint=endpoint, label=lambda word: word.replace("_", " "))
    template = environment.from_string((HERE / "page.html.j2").read_text("utf-8"))
    return template.render(
        record=record,
        hosts=_budget(record["hosts"]),
        states=STATES,
        without_result=WITHOUT_RESULT,
        listens_on=listens_on,
        who_gets_in=who_gets_in,
        picture=picture,
        other_reasons=other_reasons,
        count=count,
        most_paths=_PATHS,
        most_listeners=_LISTENERS,
        # Both are constant texts of this collection; the policy admits exactly these two.
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _budget(hosts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each host the services that fit on the page, worst first over the whole fleet, and how many do not.

    Each host gets at least its place in the list; `full` is how many of its services show their evidence.
    """
    rows, details = ROWS, DETAILS
    shares: list[dict[str, Any]] = [{"host": host, "rows": 0, "full": 0} for host in hosts]
    for word in VERDICTS:
        for share in shares:
            number = min(rows, sum(1 for service in share["host"]["services"] if service["verdict"] == word))
            share["rows"] += number
            rows -= number
            if word in ("exposed", "unknown"):
                full = min(details, number)
                share["full"] += full
                details -= full
    return shares


def _hash(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
