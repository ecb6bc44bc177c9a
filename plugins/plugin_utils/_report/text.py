# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words for people, from strings that a hostile host may have chosen."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

# Everything that could act on a terminal or reorder a line: controls, format characters (bidi overrides, zero
# width), surrogates, private use, unassigned, line and paragraph separators. Plain ASCII is decided by the pattern.
_PLAIN = re.compile(r"[ -~]*")
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: Any, limit: int = 400) -> str:
    """Return one line of printable text: control, format and bidi characters are spelled out, what exceeds `limit` is cut."""
    value = text if isinstance(text, str) else str(text)
    shown = value[:limit]
    if not _PLAIN.fullmatch(shown):
        shown = "".join(_spelled(character) for character in shown)
    if len(value) > limit:
        shown += f"… ({len(value):,} characters)"
    return shown


def _spelled(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE:
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


def endpoint(listener: dict[str, Any]) -> str:
    """Return where a listener is bound, as people write it: 0.0.0.0:53/udp, [fe80::1%eth0]:22, 127.0.0.1%lo:53."""
    address, interface = listener["address"], listener["interface"]
    if interface:
        address = f"{address}%{interface}"
    if ":" in address:
        address = f"[{address}]"
    suffix = "" if listener["protocol"] == "tcp" else f"/{listener['protocol']}"
    return visible(f"{address}:{listener['port']}{suffix}", 120)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key that puts web2 before web10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]
