# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets in, and how: one sentence per service, for the terminal and for the page."""

from __future__ import annotations

import re
from typing import Any

from .text import endpoint, visible

_FAMILY = re.compile(r"\(IPv[46]\)")
_LISTENS = "listens on "


def listens_on(service: dict[str, Any], most: int) -> str:
    """Return the addresses of a service, at most `most` of them, and how many there are besides."""
    places = list(dict.fromkeys(endpoint(listener) for listener in service["listeners"]))
    if not places:
        return f"nothing on {service['port']}/{visible(service['protocol'], 20)}"
    more = f" +{len(places) - most}" if len(places) > most else ""
    return ", ".join(places[:most]) + more


def ways(service: dict[str, Any]) -> list[str]:
    """Return the open ways in as sentences, certain ones first; the same way on IPv4 and IPv6 is one sentence."""
    families: dict[str, list[str]] = {}
    for path in sorted(service["paths"], key=lambda path: path["reach"] != "accepted"):
        text = _FAMILY.sub("(\0)", path["text"], count=1)
        word = {"ipv4": "IPv4", "ipv6": "IPv6"}.get(path["family"], path["family"])
        known = families.setdefault(("" if path["reach"] == "accepted" else "maybe ") + text, [])
        if word not in known:
            known.append(word)
    return [visible(text.replace("\0", ", ".join(sorted(words)))) for text, words in families.items()]


def who_gets_in(service: dict[str, Any]) -> str:
    """Return the last column: the first way in and how many more, or what kept it unknown, or what was checked."""
    found = ways(service)
    if service["verdict"] == "unknown" and service["unknowns"]:
        gap = service["unknowns"][0]
        found = [visible(f"{gap['subject']}: {gap['text']}"), *found]
    if service["verdict"] in ("exposed", "unknown") and found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return found[0] + more
    if service["verdict"] == "sealed" and service["scope"] == "loopback":
        return f"this machine only; checked: {visible(', '.join(service['checked']))}"
    told = [reason for reason in service["reasons"] if not reason.startswith(_LISTENS)] or service["reasons"]
    if told:
        return visible(told[0])
    return {"absent": "nothing listens there"}.get(service["verdict"], "no reason was given")
