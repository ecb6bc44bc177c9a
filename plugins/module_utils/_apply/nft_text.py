# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rulesets of nftables as text: the same three questions as in iptables_text, by whole tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

Key = tuple[str, str]  # family, name
Tables = dict[Key, str]

_TABLE = re.compile(r"^table (\S+) (\S+) \{.*?^\}\n", re.MULTILINE | re.DOTALL)
_SET = re.compile(r"^\t(?:set|map) \S+ \{\n.*?^\t\}\n", re.MULTILINE | re.DOTALL)
_MOVING = re.compile(r"^\t\tflags .*\b(?:dynamic|timeout)\b", re.MULTILINE)
_ELEMENTS = re.compile(r"^\t\telements = \{[^}]*\}\n", re.MULTILINE)


def parse(text: str) -> Tables:
    """Return the tables of what `nft list ruleset` printed."""
    return {(found[1], found[2]): found[0] for found in _TABLE.finditer(text)}


def plain(tables: Mapping[Key, str]) -> Tables:
    """Leave out the elements that come and go by themselves. tables: as `nft -s` prints them, without counters."""
    return {key: _SET.sub(_without_moving, text) for key, text in tables.items()}


def _without_moving(found: re.Match[str]) -> str:
    return _ELEMENTS.sub("", found[0]) if _MOVING.search(found[0]) else found[0]


def render(tables: Mapping[Key, str], wanted: Iterable[Key]) -> str:
    return "".join(tables[key] for key in sorted(set(wanted) & tables.keys()))


def replaced(family: str, name: str) -> str:
    """Return the commands that leave no table of that name, whether there is one or not."""
    return f"add table {family} {name}; delete table {family} {name}; "


def transaction(ruleset: str, name: str) -> str:
    """Return the text for `nft -f`. Line numbers stay those of the ruleset."""
    return replaced("inet", name.lower()) + ruleset.rstrip("\n") + "\n"


def undo(before: Mapping[Key, str], touched: Iterable[Key]) -> str:
    """Return the text for `nft -f` that puts these tables back, whatever stands in them now. before: with counters."""
    return "".join(f"{replaced(*key)}\n{before.get(key, '')}" for key in sorted(touched))
