# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the packet filter of the caller's network namespace: nf_tables, iptables (nft and legacy) and ipsets.

The kernel is asked first which tables it holds, so that no tool runs for what is proven empty: that is fast, it tells a
tool that shows nothing from a host that has nothing, and iptables-legacy-save would create the tables it looks for.
"""

from __future__ import annotations

import errno
import re
from typing import Callable, NamedTuple

from .._model.firewall import Firewall, SourceStatus
from .._model.gap import Gap, GapReason
from .._model.ruleset import Backend, Chain, Rule, SetElements, Table
from .._parse import nfnetlink
from .._parse.error import ParseError
from .._parse.nfnetlink import KernelTable
from .command import Runner, succeeded
from .files import Read
from .netlink import Dump

_IPTABLES = ("filter", "nat", "mangle", "raw", "security")
_SAVES = {"ip": "iptables-nft-save", "ip6": "ip6tables-nft-save"}
_LEGACY = {"ip": ("iptables-legacy-save", "ip_tables_names"), "ip6": ("ip6tables-legacy-save", "ip6_tables_names")}
_NFT, _NFT_TEXT, _IPSET = ["nft", "-j", "list", "ruleset"], ["nft", "-a", "list", "ruleset"], ["ipset", "save"]
_ATTEMPTS = 2
_CHANGING_SET = re.compile(r"--(?:add|del|map)-set (\S+)")


class _Asked(NamedTuple):
    """Tables by (family, name), what is missing, and how each source answered."""

    tables: dict[tuple[str, str], Table]
    gaps: list[Gap]
    sources: dict[str, SourceStatus]


def collect_ruleset(run: Runner, read: Read, dump: Dump) -> Firewall:
    """Return everything that filters here; what could not be read is in its `gaps`. Changes nothing on the host."""
    nft = _nf_tables(run, dump)
    legacy = _legacy(run, read)
    tables = (*nft.tables.values(), *legacy.tables.values())
    ipsets, gaps, status = _ipsets(run, read, dump, tables)
    return Firewall(tables, ipsets, (*nft.gaps, *legacy.gaps, *gaps), {**nft.sources, **legacy.sources, "ipset": status})


def _nf_tables(run: Runner, dump: Dump) -> _Asked:
    attempt = 0
    while True:
        attempt += 1
        asked = _Asked({}, [], {})
        before = _kernel_tables(dump)
        if isinstance(before, Gap):
            asked.gaps.append(before)
            status: SourceStatus = "denied" if before.reason == "denied" else "failed"
            asked.sources.update(dict.fromkeys((*_SAVES.values(), "nft"), status))
            return asked
        foreign = _read_saves(run, dump, before, asked)
        _read_nft(run, before, foreign, asked)
        if not before or _kernel_tables(dump) == before:
            break
        if attempt == _ATTEMPTS:
            asked.gaps.append(Gap("nf_tables", "failed", f"the rules changed during each of {_ATTEMPTS} reads"))
            break
    for table in before:
        key = table.family, table.name
        if table.dormant and key in asked.tables:
            asked.tables[key] = _switched_off(asked.tables[key])
    return asked


def _kernel_tables(dump: Dump) -> list[KernelTable] | Gap:
    try:
        return nfnetlink.tables(dump(nfnetlink.NETLINK_NETFILTER, nfnetlink.NFT_MSG_GETTABLE, nfnetlink.get_tables()))
    except OSError as error:
        # EPROTONOSUPPORT: a kernel without nfnetlink; EINVAL: without nf_tables
        return [] if error.errno in (errno.EPROTONOSUPPORT, errno.EINVAL) else _refused("nf_tables", error)


def _refused(subject: str, error: OSError) -> Gap:
    denied = error.errno in (errno.EPERM, errno.EACCES)
    return Gap(subject, "denied" if denied else "failed", f"the kernel says: {error.strerror or error}")


def _read_saves(run: Runner, dump: Dump, known: list[KernelTable], asked: _Asked) -> set[tuple[str, str]]:
    """Add the tables that iptables-nft-save shows; return those that it may show wrongly."""
    foreign: set[tuple[str, str]] = set()
    for family, tool in _SAVES.items():
        names = {table.name for table in known if table.family == family and table.name in _IPTABLES}
        asked.sources[tool] = "empty"
        if not names:
            continue
        text = _save(run, tool, lambda first: "nf_tables" in first)
        if isinstance(text, Gap):
            asked.sources[tool] = _status(text)
            if text.reason != "absent":
                asked.gaps.append(text)
            continue
        if not text.strip():
            continue
        tables = _parsed(text, tool, "iptables-nft", family, asked)
        wrong = _misprinted(dump, family, tables)
        asked.tables.update({(family, name): table for name, table in tables.items()})
        foreign |= {(family, name) for name in tables if name in wrong}
    return foreign


def _misprinted(dump: Dump, family: str, tables: dict[str, Table]) -> set[str]:
    """Return the tables of which iptables-nft-save leaves chains out, or parts of rules."""
    of_family = nfnetlink.of_family(family)
    try:
        chains = nfnetlink.chains(dump(nfnetlink.NETLINK_NETFILTER, nfnetlink.NFT_MSG_GETCHAIN, of_family))
        rules = dump(nfnetlink.NETLINK_NETFILTER, nfnetlink.NFT_MSG_GETRULE, of_family)
        wrong = nfnetlink.foreign_tables(rules, family)
    except OSError:
        return set(tables)
    return wrong | {table for table, chain in chains if table in tables and chain not in tables[table].chains}


def _save(run: Runner, tool: str, wanted: Callable[[str], bool]) -> str | Gap:
    """Run a save tool by its name, or by its plain name where that is the same backend."""
    text = succeeded(run, [tool])
    if isinstance(text, Gap) and text.reason == "absent":
        plain = succeeded(run, [tool.replace("-nft", "").replace("-legacy", "")])
        if isinstance(plain, str) and plain.startswith("#") and wanted(plain.partition("\n")[0]):
            return plain
    return text


def _parsed(text: str, tool: str, backend: Backend, family: str, asked: _Asked) -> dict[str, Table]:
    from .._parse import iptables_save

    asked.sources[tool] = "read"
    try:
        tables, gaps = iptables_save.parse(text, tool, backend, "ip" if family == "ip" else "ip6")
    except ParseError as error:
        asked.sources[tool] = "unparsable"
        asked.gaps.append(Gap(tool, "unparsable", str(error)[:500]))
        return {}
    asked.gaps.extend(gap for gap in gaps if gap.reason != "unsupported")  # what it does not show is looked for elsewhere
    return {table.name: table for table in tables}


def _read_nft(run: Runner, known: list[KernelTable], foreign: set[tuple[str, str]], asked: _Asked) -> None:
    """Add the tables that are still missing, and correct those that iptables-nft-save may show wrongly."""
    keys = [(table.family, table.name) for table in known]
    wanted = [key for key in keys if key not in asked.tables or key in foreign]
    asked.sources["nft"] = "empty"
    if not wanted:
        return
    shown = _nft_tables(run, asked)
    for key in wanted:
        table = shown.get(key)
        where = f"table {key[0]} {key[1]}"
        if table is None:
            if asked.sources["nft"] == "read":
                asked.gaps.append(Gap(where, "failed", "the kernel holds it, but no tool shows it"))
            elif key in foreign:
                asked.gaps.append(Gap(where, "failed", f"{_SAVES[key[0]]} shows its rules in part, and nft did not answer"))
            continue
        if key not in asked.tables:
            asked.tables[key] = table
            if key[0] in _SAVES and any(_is_opaque(rule) for chain in table.chains.values() for rule in chain.rules):
                tool = _SAVES[key[0]]
                reason: GapReason = "absent" if asked.sources[tool] == "absent" else "failed"
                asked.gaps.append(Gap(where, reason, f"some of its rules only {tool} can tell, which did not"))
            continue
        merged = _merged(asked.tables[key], table)
        if merged is None:
            asked.gaps.append(Gap(where, "failed", f"{_SAVES[key[0]]} and nft show different rules"))
        else:
            asked.tables[key] = merged


def _nft_tables(run: Runner, asked: _Asked) -> dict[tuple[str, str], Table]:
    from .._parse import nft_json

    text = succeeded(run, _NFT)
    if isinstance(text, Gap):
        asked.sources["nft"] = _status(text)
        asked.gaps.append(text)
        return {}
    spoken = succeeded(run, _NFT_TEXT)  # for people; the JSON says what counts
    names = None if isinstance(spoken, Gap) else nft_json.texts(spoken)
    try:
        tables, gaps = nft_json.parse(text, " ".join(_NFT), names)
    except ParseError as error:
        asked.sources["nft"] = "unparsable"
        asked.gaps.append(Gap(" ".join(_NFT), "unparsable", str(error)[:500]))
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


def _switched_off(table: Table) -> Table:
    off = {name: Chain(name, chain.rules) for name, chain in table.chains.items()}
    return table._replace(chains=off)


def _legacy(run: Runner, read: Read) -> _Asked:
    asked = _Asked({}, [], {})
    for family, (tool, file) in _LEGACY.items():
        asked.sources[tool] = "empty"
        names = _legacy_names(read, f"/proc/net/{file}")
        if isinstance(names, Gap):
            asked.sources[tool] = _status(names)
            asked.gaps.append(names)
            continue
        if not names:
            continue
        text = _save(run, tool, lambda first: "nf_tables" not in first)
        if isinstance(text, Gap):
            asked.sources[tool] = _status(text)
            asked.gaps.append(Gap(tool, text.reason, f"{text.text}; the kernel holds {' '.join(names)}"[:500]))
            continue
        tables = _parsed(text, tool, "iptables-legacy", family, asked)
        asked.tables.update({(f"legacy {family}", name): table for name, table in tables.items()})
        missing = [name for name in names if name not in tables]
        if missing and asked.sources[tool] == "read":
            asked.gaps.append(Gap(tool, "failed", f"the kernel holds {' '.join(missing)}, which it does not show"))
    return asked


def _legacy_names(read: Read, path: str) -> list[str] | Gap:
    """Return the tables of iptables-legacy; without its module the file does not exist."""
    try:
        return read(path).split()
    except FileNotFoundError:
        try:
            read("/proc/net/dev")
        except OSError as error:
            return _refused("/proc/net", error)
        return []
    except OSError as error:
        return _refused(path, error)


def _ipsets(run: Runner, read: Read, dump: Dump, tables: tuple[Table, ...]) -> tuple[dict[str, SetElements], list[Gap], SourceStatus]:
    texts = [rule.text for table in tables for chain in table.chains.values() for rule in chain.rules if "-set " in rule.text]
    if not texts and not _exists(read, "/sys/module/ip_set/parameters/max_sets"):
        return {}, [], "empty"
    try:
        names = nfnetlink.ipsets(dump(nfnetlink.NETLINK_NETFILTER, nfnetlink.IPSET_CMD_LIST, nfnetlink.get_ipsets()))
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EINVAL):
            return {}, [], "empty"
        gap = _refused("ipset", error)
        return {}, [gap], _status(gap)
    if not names:
        return {}, [], "empty"
    from .._parse import ipset_save

    text = succeeded(run, _IPSET)
    if isinstance(text, Gap):
        return {}, [text], _status(text)
    try:
        sets, gaps = ipset_save.parse(text, " ".join(_IPSET))
    except ParseError as error:
        return {}, [Gap(" ".join(_IPSET), "unparsable", str(error)[:500])], "unparsable"
    missing = [name for name in names if name not in sets]
    if missing:
        gaps.append(Gap("ipset save", "failed", f"the kernel holds {' '.join(missing)}, which it does not show"[:500]))
    for name in {name for text in texts for name in _CHANGING_SET.findall(text)} & sets.keys():
        sets[name] = sets[name]._replace(complete=False)
    return sets, gaps, "read"


def _exists(read: Read, path: str) -> bool:
    try:
        read(path)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True


def _status(gap: Gap) -> SourceStatus:
    reason = gap.reason
    return "failed" if reason in ("unsupported", "not_evaluated") else reason  # type: ignore[return-value]
