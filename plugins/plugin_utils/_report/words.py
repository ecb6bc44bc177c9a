# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets in, and how: one sentence per service, for the terminal and for the page."""

from __future__ import annotations

import re
from typing import Any

from .text import endpoint, visible

_FAMILY = re.compile(r"\(IPv[46]\)")
_WHO = re.compile(r"(.{1,80}?) (?:on|via) ")


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
        known = families.setdefault(_FAMILY.sub("(\0)", path["text"], count=1), [])
        word = {"ipv4": "IPv4", "ipv6": "IPv6"}.get(path["family"], path["family"])
        if word not in known:
            known.append(word)
    return [visible(text.replace("\0", ", ".join(sorted(words)))) for text, words in families.items()]


def who_gets_in(service: dict[str, Any]) -> str:
    """Return the last column: the first way in and how many more, or what kept it unknown, or what was checked."""
    verdict, found = service["verdict"], ways(service)
    if verdict == "unknown":
        found += [visible(f"{gap['subject']}: {gap['text']}") for gap in service["unknowns"]]
    if verdict in ("exposed", "unknown"):
        found = found or [visible(reason) for reason in service["reasons"]] or ["no reason was given"]
        return found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
    if verdict == "absent":
        return "nothing listens there"
    closed = "this machine only" if service["scope"] == "loopback" else "every way in is closed"
    return f"{closed}; checked: {visible(', '.join(service['checked'])) or 'nothing'}"


def who(path: dict[str, Any]) -> str:
    """Return the sources of a path: the words of its sentence (anyone, anyone but ...), or else the networks."""
    said = _WHO.match(path["text"])
    if said:
        return visible(said.group(1))
    more = len(path["sources"]) - 3 + path["sources_omitted"]
    return visible(", ".join(path["sources"][:3]), 160) + (f" +{more}" if more > 0 else "")


def target(service: dict[str, Any], path: dict[str, Any]) -> str:
    """Return where a path ends, as people write it: 10.0.0.5:6379."""
    places = [f"[{address}]" if ":" in address else address for address in path["destinations"]]
    more = f" +{len(places) - 2}" if len(places) > 2 else ""
    return visible(f"{', '.join(places[:2])}:{service['port']}{more}", 200)


def other_reasons(service: dict[str, Any]) -> list[str]:
    """Return the reasons that neither a path, nor an unknown, nor a listener tells already."""
    told = {path["text"] for path in service["paths"]} | {f"{gap['subject']}: {gap['text']}" for gap in service["unknowns"]}
    return [text for text in service["reasons"] if text not in told and not (service["listeners"] and text.startswith("listens on "))]
