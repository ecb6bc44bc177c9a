# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`netsh interface portproxy show all`, in any language of Windows.

A section is a title that names both families, column heads, a line of dashes, and rows of four words until a blank line.
"""

from __future__ import annotations

import re

from .._model.address import canonical
from .._model.relay import PortProxy
from .error import ParseError

_MOST = 4096
_TITLE = re.compile(r"(?i)\bipv([46])\b.*\bipv[46]\b")
_DASHES = re.compile(r"-+(?:\s+-+){3}\s*")
_WILDCARDS = {"4": "0.0.0.0", "6": "::"}


def parse(text: str, source: str = "netsh") -> list[PortProxy]:
    """Return the entries. Raises ParseError for a line that is no part of a section."""
    entries: list[PortProxy] = []
    family: str | None = None
    rows = False
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        title = _TITLE.search(line)
        if not words:
            if rows:
                family, rows = None, False
        elif rows and family:
            entries.append(_entry(words, family, source, number, line))
            if len(entries) > _MOST:
                raise ParseError(source, number, f"more than {_MOST} entries")
        elif title and family is None:
            family = title[1]
        elif family and _DASHES.fullmatch(line.strip()):
            rows = True
        elif family is None or any(word.isdigit() for word in words):  # the heads of the columns have no numbers
            raise ParseError(source, number, "not a line of portproxy", line)
    if family and not rows:
        raise ParseError(source, 0, "a section of portproxy without its rows")
    return entries


def _entry(words: list[str], family: str, source: str, number: int, line: str) -> PortProxy:
    ports = words[1::2]
    if len(words) != 4 or not all(re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536 for port in ports):
        raise ParseError(source, number, "not an entry of portproxy", line)
    try:
        address = canonical(words[0])[1]
    except ValueError:  # *, or a name, which may be any address of the host
        address = _WILDCARDS[family]
    return PortProxy(address, int(ports[0]), words[2], int(ports[1]))
