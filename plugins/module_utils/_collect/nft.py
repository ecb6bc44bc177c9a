# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables that only nft shows, or shows better than iptables-nft-save."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._model.gap import Gap
from .._parse import nft_json
from .._parse.error import ParseError
from .asked import SAVES, status_of
from .command import succeeded

if TYPE_CHECKING:
    from .._model.gap import GapReason
    from .._model.ruleset import Chain, Rule, Table
    from .asked import Asked
    from .command import Runner

_JSON, _TEXT = ["nft", "-j", "list", "ruleset"], ["nft", "-a", "list", "ruleset"]


def read(run: Runner, wanted: list[tuple[str, str]], foreign: set[tuple[str, str]], asked: Asked) -> None:
    """Add the wanted tables (family, name), and correct those that iptables-nft-save may show wrongly (`foreign`)."""
    shown = _tables(run, asked)
    for key in wanted:
        table = shown.get(key)
        where = f"table {key[0]} {key[1]}"
        if table is None:
            if asked.sources["nft"] == "read":
                asked.gaps.append(Gap(where, "failed", "the kernel holds it, but no tool shows it"))
            elif key in foreign:
                asked.gaps.append(Gap(where, "failed", f"{SAVES[key[0]]} shows its rules in part, and nft did not answer"))
            continue
        if key not in asked.tables:
            asked.tables[key] = table
            if key[0] in SAVES and any(_is_opaque(rule) for chain in table.chains.values() for rule in chain.rules):
                tool = SAVES[key[0]]
                reason: GapReason = "absent" if asked.sources[tool] == "absent" else "failed"
                asked.gaps.append(Gap(where, reason, f"some of its rules only {tool} can tell, which did not"))
            continue
        merged = _merged(asked.tables[key], table)
        if merged is None:
            asked.gaps.append(Gap(where, "failed", f"{SAVES[key[0]]} and nft show different rules"))
        else:
            asked.tables[key] = merged


def _tables(run: Runner, asked: Asked) -> dict[tuple[str, str], Table]:
    text = succeeded(run, _JSON)
    if isinstance(text, Gap):
        asked.sources["nft"] = status_of(text)
        asked.gaps.append(text)
        return {}
    spoken = succeeded(run, _TEXT)  # for people; the JSON says what counts
    names = None if isinstance(spoken, Gap) else nft_json.texts(spoken)
    try:
        tables, gaps = nft_json.parse(text, " ".join(_JSON), names)
    except ParseError as error:
        asked.sources["nft"] = "unparsable"
        asked.gaps.append(Gap(" ".join(_JSON), "unparsable", str(error)[:500]))
        return {}
    asked.sources["nft"] = "read"
    asked.gaps.extend(gaps)
    return {(table.family, table.name): table for table in tables}


def _is_opaque(rule: Rule) -> bool:
    """Say whether nft showed a part that iptables wrote, of which it tells the name alone."""
    return rule.target.argument.startswith("xt ") or any(match.text.startswith("xt ") for match in rule.matches)


def _merged(saved: Table, shown: Table) -> Table | None:
    """Take each rule from nft, but from iptables-nft-save where nft does not tell all of it."""
    chains: dict[str, Chain] = {}
    borrowed = False
    for name, chain in shown.chains.items():
        rules: dict[int, list[Rule]] = {}
        for rule in chain.rules:
            rules.setdefault(rule.number, []).append(rule)
        told = saved.chains[name].rules if name in saved.chains else ()
        best: list[Rule] = []
        for number, parts in rules.items():
            if not any(map(_is_opaque, parts)):
                best += parts
            elif len(told) == len(rules):
                best.append(told[number - 1])
                borrowed = True
            else:
                return None
        chains[name] = chain._replace(rules=tuple(best))
    if not borrowed:
        return shown._replace(chains=chains)
    return shown._replace(chains=chains, backend=saved.backend, source=f"{saved.source}, {shown.source}")
