# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what `ipset save` prints (ipset(8))."""

from __future__ import annotations

from .._model.gap import Gap
from .._model.network import network_range
from .._model.ruleset import SetElements
from .error import ParseError

_ADDRESSES = ("hash:ip", "hash:net", "bitmap:ip")


def parse(text: str, source: str) -> tuple[dict[str, SetElements], list[Gap]]:
    """Return the sets by name, and the elements that could not be read; their set is then not complete.

    A list:set has the names of its sets as entries. Raises ParseError for what is not the output of ipset save.
    """
    headers: dict[str, tuple[str, str]] = {}  # name: type, netmask
    entries: dict[str, list[str]] = {}
    excluded: dict[str, list[str]] = {}
    changing: set[str] = set()
    gaps: list[Gap] = []
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split()
        if not words or words[0][0] == "#":
            continue
        if len(words) < 3 or words[0] not in ("create", "add"):
            raise ParseError(source, number, "not a line of ipset save", line)
        command, name, value = words[:3]
        options = words[3:]
        if command == "create":
            netmask = options[options.index("netmask") + 1] if "netmask" in options[:-1] else ""
            headers[name] = (value, netmask)
            entries[name], excluded[name] = [], []
            if not {"timeout", "forceadd", "bitmask"}.isdisjoint(options):
                changing.add(name)
            continue
        if name not in headers:
            raise ParseError(source, number, f"set {name} is not created", line)
        kind, netmask = headers[name]
        if "timeout" in options:
            changing.add(name)
        if kind in _ADDRESSES:
            try:
                value = network_range(f"{value}/{netmask}" if netmask and "/" not in value else value).text
            except ValueError as error:
                gaps.append(Gap(f"{source}:{number}", "unparsable", f"{error} in set {name}"[:500]))
                changing.add(name)
                continue
        comment = options.index("comment") if "comment" in options else len(options)
        (excluded if "nomatch" in options[:comment] else entries)[name].append(value)
    sets = {
        name: SetElements(name, kind, tuple(entries[name]), tuple(excluded[name]), name not in changing)
        for name, (kind, _netmask) in headers.items()
    }
    return sets, gaps
