# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rulesets of iptables as text: what stands, what a ruleset makes of it in one transaction, and what takes that back.

A chain is its lines as iptables-save prints them: `:INPUT ACCEPT [0:0]`, then the rules. Nothing of a rule is interpreted
but whether it leads into a chain of ours.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher

from .error import ApplyError

Key = tuple[str, str]  # table, chain
Chains = dict[Key, tuple[str, ...]]

BUILTIN = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_RULE_COUNTERS = re.compile(r"\[\d+:\d+\] ")
_CHAIN_COUNTERS = re.compile(r" \[\d+:\d+\]$")


def is_own(chain: str, name: str) -> bool:
    return chain == name or chain.startswith(f"{name}-")


def parse(text: str, source: str) -> Chains:
    """Return the chains of a dump. Raises ApplyError for a line that is none of a dump, such as one inside a comment."""
    chains: dict[Key, list[str]] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        rule = _RULE_COUNTERS.sub("", line, count=1) if line.startswith("[") else line
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith(":"):
            chains[table, line[1:].split(" ")[0]] = [line]
        elif rule.startswith("-A ") and (table, rule.split(" ")[1]) in chains:
            chains[table, rule.split(" ")[1]].append(line)
        elif line and line != "COMMIT" and not line.startswith("#"):
            raise ApplyError(f"line {number} of {source} is not understood: {line}")
    return {key: tuple(lines) for key, lines in chains.items()}


def tables(text: str) -> set[str]:
    return {line[1:] for line in text.splitlines() if line.startswith("*")}


def plain(chains: Mapping[Key, tuple[str, ...]]) -> Chains:
    """Leave out counters, and built-in chains that do nothing: they come and go with their table."""
    found = {}
    for (table, chain), (head, *rules) in chains.items():
        head = _CHAIN_COUNTERS.sub("", head)
        if rules or chain not in BUILTIN or not head.endswith(" ACCEPT"):
            found[table, chain] = (head, *(_RULE_COUNTERS.sub("", rule, count=1) if rule.startswith("[") else rule for rule in rules))
    return found


def render(chains: Mapping[Key, tuple[str, ...]], wanted: Iterable[Key]) -> str:
    """Return the wanted chains as text for people, in an order that does not depend on who made them first."""
    lines: list[str] = []
    for key in sorted(set(wanted) & chains.keys(), key=lambda key: (key[0], key[1] not in BUILTIN, key[1])):
        if f"*{key[0]}" not in lines:
            lines.append(f"*{key[0]}")
        lines += chains[key]
    return "".join(f"{line}\n" for line in lines)


def transaction(ruleset: str, present: Mapping[Key, tuple[str, ...]], name: str) -> tuple[str, list[int]]:
    """Return the text for iptables-restore --noflush, and for each of its lines the line of the ruleset, or 0.

    Our chains and the jumps to them are taken out and made anew as the ruleset says. present: without counters.
    Raises ApplyError that names the line.
    """
    sections = _sections(ruleset)
    own: dict[str, list[str]] = {}
    for table, chain in present:
        if is_own(chain, name):
            own.setdefault(table, []).append(chain)
    lines: list[tuple[int, str]] = []
    for table in (*sections, *(table for table in own if table not in sections)):
        asked = sections.get(table, [])
        declared = {line[1:].split()[0] for _number, line in asked if line.startswith(":")}
        lines.append((0, f"*{table}"))
        lines += [(0, f":{chain} - [0:0]") for chain in own.get(table, [])]
        for (there, chain), (_head, *rules) in present.items():
            if there == table and not is_own(chain, name):
                lines += [(0, f"-D{rule[2:]}") for rule in rules if _leads_to_own(rule, name)]
        lines += asked
        lines += [(0, f"-X {chain}") for chain in own.get(table, []) if chain not in declared]
        lines.append((0, "COMMIT"))
    return "".join(f"{line}\n" for _number, line in lines), [number for number, _line in lines]


def _sections(ruleset: str) -> dict[str, list[tuple[int, str]]]:
    """Return the lines of each table with their numbers."""
    found: dict[str, list[tuple[int, str]]] = {}
    table = ""
    for number, line in enumerate(map(str.strip, ruleset.splitlines()), 1):
        if line.startswith("*"):
            if table:
                raise ApplyError(f"line {number} of the ruleset: the table {table} has no COMMIT before {line}")
            if not re.fullmatch(r"\*[a-z]+", line):  # iptables-restore takes the first word, and we the line
                raise ApplyError(f"line {number} of the ruleset names no table (such as *filter): {line}")
            table = line[1:]
            if table in found:
                raise ApplyError(f"line {number} of the ruleset: the table {table} comes twice")
            found[table] = []
        elif line == "COMMIT" and table:
            table = ""
        elif line and not line.startswith("#"):
            if not table:
                raise ApplyError(f"line {number} of the ruleset stands in no table (*filter ... COMMIT): {line}")
            if line.startswith(":") and not line[1:2].strip():
                raise ApplyError(f"line {number} of the ruleset names no chain (such as :LOOPGUARD - [0:0]): {line}")
            found[table].append((number, line))
    if table:
        raise ApplyError(f"the ruleset ends before the COMMIT of the table {table}")
    return found


def _leads_to_own(rule: str, name: str) -> bool:
    if name not in rule:
        return False
    words = shlex.split(rule)  # a comment is one word
    return any(option in ("-j", "-g") and is_own(chain, name) for option, chain in zip(words, words[1:]))


def undo(before: Mapping[Key, tuple[str, ...]], touched: Iterable[Key], mended: Mapping[Key, list[str]] | None = None) -> str:
    """Return the text for iptables-restore --noflush --counters that puts these chains back.

    before: with counters. A chain is replaced, whatever stands in it now, but for those with lines of their own in `mended`. No
    other chain is written, so that what other programs do meanwhile in theirs is not lost.
    """
    mended = mended or {}
    lines: list[str] = []
    chains: dict[str, list[str]] = {}
    for table, chain in sorted(touched):
        chains.setdefault(table, []).append(chain)
    for table, names in chains.items():
        lines.append(f"*{table}")
        replaced = [chain for chain in names if (table, chain) not in mended]
        lines += [before.get((table, chain), (_idle(chain),))[0] for chain in replaced]
        lines += [f"-F {chain}" for chain in replaced]
        for chain in replaced:
            lines += before.get((table, chain), ())[1:]
        for chain in names:
            lines += mended.get((table, chain), ())
        lines += [f"-X {chain}" for chain in replaced if chain not in BUILTIN and (table, chain) not in before]
        lines.append("COMMIT")
    return "".join(f"{line}\n" for line in lines)


def _idle(chain: str) -> str:
    return f":{chain} {'ACCEPT' if chain in BUILTIN else '-'} [0:0]"


def inverse(before: Chains, after: Chains, touched: Iterable[Key], name: str) -> dict[Key, list[str]]:
    """Return for the chains of others the lines that take out what was put in, and put in again what was taken out.

    before: with counters. after: without. What others add meanwhile stays.
    """
    was = plain(before)
    found = {}
    for table, chain in touched:
        key = table, chain
        if is_own(chain, name) or (chain not in BUILTIN and not (key in before and key in after)):
            continue
        head, *rules = before.get(key, (_idle(chain),))
        old_head, *old = was.get(key, (f":{chain} ACCEPT",))
        new_head, *new = after.get(key, (f":{chain} ACCEPT",))
        changes = [change for change in SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if change[0] != "equal"]
        found[key] = [
            *([head] if old_head != new_head else []),
            *(f"-D{rule[2:]}" for _what, _i, _j, start, end in changes for rule in new[start:end]),
            *(
                rules[at].replace(f"-A {chain}", f"-I {chain} {at + 1}", 1)
                for _what, start, end, _i, _j in changes
                for at in range(start, end)
            ),
        ]
    return found


def in_order(before: Chains, keys: Iterable[Key]) -> dict[str, str]:
    """Return for each table the rules of these chains, one a line, in the order of `sort -s -k 2,2`. before: without counters."""
    found: dict[str, str] = {}
    for table, chain in sorted(keys):
        found[table] = found.get(table, "") + "".join(f"{rule}\n" for rule in before.get((table, chain), ())[1:])
    return found


def beside(now: Chains, wanted: Chains, unwanted: Chains) -> list[str] | None:
    """Return the rules that others have put beside the wanted ones. None: not all the wanted ones stand, or one of the unwanted does."""
    found = []
    for table, chain in now.keys() | wanted.keys():
        idle = (f":{chain} ACCEPT",) if chain in BUILTIN else ("",)
        (head, *rules), (wanted_head, *asked), (_head, *other) = (chains.get((table, chain), idle) for chains in (now, wanted, unwanted))
        rest = list(asked)
        extra = [rule for rule in rules if not rest or rule != rest[0] or not rest.pop(0)]
        if rest or head != wanted_head or Counter(extra) & (Counter(other) - Counter(asked)):
            return None
        found += extra
    return found


def declared(text: str, name: str) -> Key | None:
    """Return the first chain of ours that a ruleset declares."""
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":") and is_own(line[1:].split()[0], name):
            return table, line[1:].split()[0]
    return None


def unmake(tool: str, family: str, table: str, chain: str = "") -> str:
    """Return the line of shell that takes away a table or a built-in chain of iptables-nft, unless somebody uses it."""
    used = f"^-A {chain} |^:{chain} DROP" if chain else "^-A |^:[^ ]+ (-|DROP)"
    what = f"chain {family} {table} {chain}" if chain else f"table {family} {table}"
    return f"{tool}-save -t {table} | grep -qE '{used}' || nft delete {what} 2>/dev/null || :\n"
