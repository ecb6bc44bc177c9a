# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the packet filter of the caller's network namespace: nf_tables, iptables (nft and legacy) and ipsets.

The kernel is asked first which tables it holds, so that no tool runs for what is proven empty: that is fast, it tells a
tool that shows nothing from a host that has nothing, and iptables-legacy-save would create the tables it looks for.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from .._model.firewall import Firewall
from .._model.gap import Gap
from .._model.ruleset import Chain
from .._parse import nfnetlink
from .._parse.error import ParseError
from .asked import SAVES, Asked, refused, status_of
from .command import succeeded

if TYPE_CHECKING:
    from typing import Callable

    from .._model.firewall import SourceStatus
    from .._model.ruleset import Backend, SetElements, Table
    from .command import Runner
    from .files import Read
    from .netlink import Dump

_IPTABLES = ("filter", "nat", "mangle", "raw", "security")
_LEGACY = {"ip": ("iptables-legacy-save", "ip_tables_names"), "ip6": ("ip6tables-legacy-save", "ip6_tables_names")}
_ATTEMPTS = 2


def collect_ruleset(run: Runner, read: Read, dump: Dump) -> Firewall:
    """Return everything that filters here; what could not be read is in its `gaps`. Changes nothing on the host."""
    nft = _nf_tables(run, dump)
    legacy = _legacy(run, read)
    tables = (*nft.tables.values(), *legacy.tables.values())
    ipsets, gaps, status = _ipsets(run, read, dump, tables)
    return Firewall(tables, ipsets, (*nft.gaps, *legacy.gaps, *gaps), {**nft.sources, **legacy.sources, "ipset": status})


def _nf_tables(run: Runner, dump: Dump) -> Asked:
    attempt = 0
    while True:
        attempt += 1
        asked = Asked({}, [], {})
        before = _kernel_tables(dump)
        if isinstance(before, Gap):
            asked.gaps.append(before)
            status: SourceStatus = "denied" if before.reason == "denied" else "failed"
            asked.sources.update(dict.fromkeys((*SAVES.values(), "nft"), status))
            return asked
        foreign = _read_saves(run, dump, before, asked)
        asked.sources["nft"] = "empty"
        keys = [(table.family, table.name) for table in before]
        wanted = [key for key in keys if key not in asked.tables or key in foreign]
        if wanted:
            from . import nft

            nft.read(run, wanted, foreign, asked)
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


def _kernel_tables(dump: Dump) -> list[nfnetlink.KernelTable] | Gap:
    try:
        return nfnetlink.tables(dump(nfnetlink.NETLINK_NETFILTER, nfnetlink.NFT_MSG_GETTABLE, nfnetlink.get_tables()))
    except OSError as error:
        # EPROTONOSUPPORT: a kernel without nfnetlink; EINVAL: without nf_tables
        return [] if error.errno in (errno.EPROTONOSUPPORT, errno.EINVAL) else refused("nf_tables", error)


def _read_saves(run: Runner, dump: Dump, known: list[nfnetlink.KernelTable], asked: Asked) -> set[tuple[str, str]]:
    """Add the tables that iptables-nft-save shows; return those that it may show wrongly."""
    foreign: set[tuple[str, str]] = set()
    for family, tool in SAVES.items():
        names = {table.name for table in known if table.family == family and table.name in _IPTABLES}
        asked.sources[tool] = "empty"
        if not names:
            continue
        text = _save(run, tool, lambda first: "nf_tables" in first)
        if isinstance(text, Gap):
            asked.sources[tool] = status_of(text)
            if text.reason != "absent":
                asked.gaps.append(text)
            continue
        if not text.strip():
            continue
        tables = _parsed(text, tool, "iptables-nft", family, asked)
        wrong = misprinted(dump, family, tables)
        asked.tables.update({(family, name): table for name, table in tables.items()})
        foreign |= {(family, name) for name in tables if name in wrong}
    return foreign


def misprinted(dump: Dump, family: str, tables: dict[str, Table]) -> set[str]:
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


def _parsed(text: str, tool: str, backend: Backend, family: str, asked: Asked) -> dict[str, Table]:
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


def _switched_off(table: Table) -> Table:
    off = {name: Chain(name, chain.rules) for name, chain in table.chains.items()}
    return table._replace(chains=off)


def _legacy(run: Runner, read: Read) -> Asked:
    asked = Asked({}, [], {})
    for family, (tool, file) in _LEGACY.items():
        asked.sources[tool] = "empty"
        names = _legacy_names(read, f"/proc/net/{file}")
        if isinstance(names, Gap):
            asked.sources[tool] = status_of(names)
            asked.gaps.append(names)
            continue
        if not names:
            continue
        text = _save(run, tool, lambda first: "nf_tables" not in first)
        if isinstance(text, Gap):
            asked.sources[tool] = status_of(text)
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
            return refused("/proc/net", error)
        return []
    except OSError as error:
        return refused(path, error)


def _ipsets(run: Runner, read: Read, dump: Dump, tables: tuple[Table, ...]) -> tuple[dict[str, SetElements], list[Gap], SourceStatus]:
    texts = [rule.text for table in tables for chain in table.chains.values() for rule in chain.rules if "-set " in rule.text]
    if not texts and not _exists(read, "/sys/module/ip_set/parameters/max_sets"):
        return {}, [], "empty"
    from . import ipsets

    return ipsets.read(run, dump, texts)


def _exists(read: Read, path: str) -> bool:
    try:
        read(path)
    except FileNotFoundError:
        return False
    except OSError:
        pass
    return True
