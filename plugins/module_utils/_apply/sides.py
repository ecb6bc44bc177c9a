# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sides of a change (IPv4, IPv6, or nftables for both): what stands, and what a ruleset would make of it.

The answer to the second comes from the kernel: what stands is loaded in a network namespace of its own, the new rules are
applied there in the very transaction that would be used, and the tool prints what came out.
"""

from __future__ import annotations

import json
import os
import re
import socket
from typing import TYPE_CHECKING, NamedTuple

from .._collect.command import Output, succeeded
from .._collect.files import read_text
from .._collect.firewall import misprinted
from .._collect.netlink import dump
from .._model.gap import Gap
from .._parse import iptables_save, nfnetlink, nft_json
from . import iptables_text, nft_text
from .error import ApplyError

if TYPE_CHECKING:
    from typing import Literal

    from .._collect.command import Runner
    from .._model.ruleset import Table

    Kind = Literal["iptables-nft", "iptables-legacy", "nftables"]

FAMILIES = {"ipv4": ("iptables", "ip", "IPv4"), "ipv6": ("ip6tables", "ip6", "IPv6")}
_LEGACY_NAMES = {"ipv4": "/proc/net/ip_tables_names", "ipv6": "/proc/net/ip6_tables_names"}
_AFTER = "#--- with the new rules\n"

# Exit statuses of the scripts: what went wrong. Anything else is unshare's own.
_NOT_REPRODUCED, _REFUSED = 98, 97
_STAND_IN = "loopguard-stand-in"  # the one chain of a table that could not be loaded aside
_REHEARSE_IPTABLES = f"""
cd "$1" || exit
[ ! -s ipsets ] || ipset restore <ipsets || exit {_NOT_REPRODUCED}
[ ! -s before ] || "$2"-restore <before || exit {_NOT_REPRODUCED}
"$2"-save && printf %s '{_AFTER}' || exit {_NOT_REPRODUCED}
"$2"-restore --noflush <new || exit {_REFUSED}
exec "$2"-save
"""
# Interfaces by name, for rules that need them to exist. A table that cannot be loaded aside has a stand-in.
_REHEARSE_NFT = f"""
cd "$1" || exit
for link in $2; do
  ip link add "$link" type dummy 2>/dev/null || ip link add "$link" type bridge 2>/dev/null
done
ip link set lo up
for table in table.*; do
  [ ! -e "$table" ] || nft -f "$table" 2>/dev/null || nft -f "stand-in.${{table#table.}}" || exit {_NOT_REPRODUCED}
done
nft -s list ruleset && printf %s '{_AFTER}' || exit {_NOT_REPRODUCED}
nft -f new || exit {_REFUSED}
nft -s list ruleset && printf %s '{_AFTER}' && nft -j list ruleset && printf %s '{_AFTER}' && nft -a list ruleset
"""


class Change(NamedTuple):
    """What a side would become. before, after: the touched parts as text, without counters.

    new, undo: input for the tool. inverse: the same as `undo`, but what others add meanwhile stays, and `stays` has by table the
    rules that must stand in this order after it. full: replaces whole tables, for when iptables refuses `undo`. made: tables and
    chains that do not exist yet, as `table [chain]`. tables: everything of this side as it would be.
    """

    before: str
    after: str
    new: str
    undo: str
    inverse: str
    stays: dict[str, str]
    full: str
    made: tuple[str, ...]
    tables: tuple[Table, ...]

    @property
    def changed(self) -> bool:
        return self.before != self.after


class Iptables(NamedTuple):
    """One family. tool: the name that iptables-save and its like begin with, such as ip6tables-nft."""

    run: Runner
    folder: str
    label: Literal["ipv4", "ipv6"]
    kind: Literal["iptables-nft", "iptables-legacy"]
    tool: str

    @property
    def title(self) -> str:
        return FAMILIES[self.label][2]

    @property
    def family(self) -> str:
        return FAMILIES[self.label][1]

    def kernel_chains(self) -> set[iptables_text.Key]:
        """Return what there is in the kernel: iptables-nft-save also shows built-in chains that there are not."""
        answer = dump(nfnetlink.NETLINK_NETFILTER, nfnetlink.NFT_MSG_GETCHAIN, nfnetlink.of_family(self.family))
        return nfnetlink.chains(answer)

    def present(self) -> str:
        """Return what iptables-save prints, with counters. Where legacy iptables has no table, none is made by looking."""
        if self.kind == "iptables-legacy" and not _exists(_LEGACY_NAMES[self.label]):
            return ""
        return _said(succeeded(self.run, [f"{self.tool}-save", "-c"]))

    def beside(self, wanted: str, unwanted: str) -> list[str] | None:
        """Return what others have put beside what is wanted, one side of a change as text. None: the wanted does not stand."""
        asked, other = (iptables_text.parse(text, self.title) for text in (wanted, unwanted))
        now = iptables_text.plain(iptables_text.parse(self.present(), f"{self.tool}-save"))
        touched = asked.keys() | other.keys()
        return iptables_text.beside({key: lines for key, lines in now.items() if key in touched}, asked, other)

    def rehearse(self, ruleset: str, name: str) -> Change:
        saved = self.present()
        raw = iptables_text.parse(saved, f"{self.tool}-save")
        standing = iptables_text.plain(raw)
        new, lines = iptables_text.transaction(ruleset, standing, name)
        if not new:
            return Change("", "", "", "", "", {}, "", (), ())
        with _Folder(self.folder, self.label) as folder:
            sets = _said(succeeded(self.run, ["ipset", "save"])) if "-set " in saved + ruleset else ""
            folder.write({"before": saved, "new": new, "ipsets": sets})
            output = _aside(self.run, _REHEARSE_IPTABLES, folder.path, self.tool)
        if output.status == _REFUSED:
            raise ApplyError(f"{self.title}: {_refusal(output.stderr, lines, ruleset)}")
        before_text, _mark, after_text = output.stdout.partition(_AFTER)
        before, after = (iptables_text.plain(iptables_text.parse(text, f"{self.tool}-save")) for text in (before_text, after_text))
        touched = {key for key in (*before, *after) if before.get(key) != after.get(key)}
        for key in touched:
            if before.get(key) != standing.get(key):
                raise ApplyError(
                    f"{self.title}: the chain {key[1]} of the table {key[0]} could not be reproduced aside, so it cannot be restored"
                )
        if self.kind == "iptables-nft":
            self._refuse_foreign(saved, touched)
        concerned = {table for table, _chain in touched}
        mended = iptables_text.inverse(raw, after, touched, name)
        return Change(
            iptables_text.render(before, touched),
            iptables_text.render(after, touched),
            new,
            iptables_text.undo(raw, touched),
            iptables_text.undo(raw, touched, mended),
            iptables_text.in_order(before, mended),
            _of_tables(saved, concerned),
            self._made(raw, concerned) if self.kind == "iptables-nft" else (),
            tuple(self._judged(after_text)),
        )

    def _made(self, raw: iptables_text.Chains, concerned: set[str]) -> tuple[str, ...]:
        known = self.kernel_chains()
        tables = {table for table, _chain in raw}
        chains = {
            f"{table} {chain}"
            for table, chain in raw
            if table in concerned and chain in iptables_text.BUILTIN and (table, chain) not in known
        }
        return tuple(sorted(chains | (concerned - tables)))

    def _judged(self, text: str) -> list[Table]:
        """Return a dump as the judge takes it."""
        if not text.strip():
            return []
        return iptables_save.parse(text, f"{self.tool}-save", self.kind, self.family)[0]  # type: ignore[arg-type]  # not nftables

    def _refuse_foreign(self, saved: str, touched: set[iptables_text.Key]) -> None:
        """Raise ApplyError for rules that nft put into a table of iptables: iptables-save shows them in part."""
        tables = {table.name: table for table in self._judged(saved)}
        wrong = misprinted(dump, self.family, tables) & {table for table, _chain in touched} if tables else set()
        if wrong:
            raise ApplyError(
                f"{self.title}: the table {sorted(wrong)[0]} holds rules that nft made and {self.tool}-save shows only in part, so it cannot be restored"
            )


class Nftables(NamedTuple):
    run: Runner
    folder: str

    label: Literal["nftables"] = "nftables"
    kind: Literal["nftables"] = "nftables"
    title: str = "nftables"

    def present(self) -> str:
        return _said(succeeded(self.run, ["nft", "list", "ruleset"]))

    def beside(self, wanted: str, unwanted: str) -> list[str] | None:
        """A table is put back as a whole, so others have nothing in it."""
        now = nft_text.plain(nft_text.parse(_said(succeeded(self.run, ["nft", "-s", "list", "ruleset"]))))
        touched = {key for text in (wanted, unwanted) for key in nft_text.parse(text)}
        return [] if nft_text.render(now, touched) == wanted else None

    def rehearse(self, ruleset: str, name: str) -> Change:
        raw = nft_text.parse(self.present())
        new = nft_text.transaction(ruleset, name)
        opaque = _with_xt(_said(succeeded(self.run, ["nft", "-j", "list", "ruleset"])))
        with _Folder(self.folder, self.label) as folder:
            files = {"new": new}
            for number, (key, text) in enumerate(raw.items()):
                stand_in = f"table {key[0]} {key[1]} {{ chain {_STAND_IN} {{ }}; }}\n"
                files[f"table.{number}"] = stand_in if key in opaque else text
                files[f"stand-in.{number}"] = stand_in
            folder.write(files)
            links = " ".join(name for _index, name in socket.if_nameindex() if name != "lo")
            output = _aside(self.run, _REHEARSE_NFT, folder.path, links)
        if output.status == _REFUSED:
            said = re.sub(r"^new:(\d+):\S*", r"line \1 of the ruleset:", output.stderr.strip(), flags=re.MULTILINE)
            raise ApplyError(said)
        before_text, after_text, after_json, spoken = output.stdout.split(_AFTER)
        before, after = (nft_text.plain(nft_text.parse(text)) for text in (before_text, after_text))
        touched = {key for key in (*before, *after) if before.get(key) != after.get(key)}
        for key in sorted(touched):
            if _STAND_IN in before.get(key, ""):
                raise ApplyError(
                    f"the ruleset changes the table {key[0]} {key[1]}, which nft cannot restore: iptables made it, or it could not be loaded aside"
                )
        tables = nft_json.parse(after_json, "the new rules", nft_json.texts(spoken))[0]
        kept = [table for table in tables if _STAND_IN not in table.chains]
        return Change(
            nft_text.render(before, touched), nft_text.render(after, touched), new, nft_text.undo(raw, touched), "", {}, "", (), tuple(kept)
        )


def sides(run: Runner, backend: str, families: list[str], folder: str) -> list[Iptables] | list[Nftables]:
    """Return the sides of a backend. Raises ApplyError when a tool is missing, or is of another kind than asked for."""
    if backend == "nftables":
        _said(succeeded(run, ["nft", "--version"]))
        return [Nftables(run, folder)]
    found = [_iptables(run, backend, family, folder) for family in FAMILIES if family in families]
    kinds = {side.kind for side in found}
    if len(kinds) > 1:
        raise ApplyError("iptables and ip6tables are of different kinds here (nf_tables and legacy): name one with `backend`")
    return found


def _iptables(run: Runner, backend: str, family: str, folder: str) -> Iptables:
    plain = FAMILIES[family][0]
    named = f"{plain}{backend[len('iptables') :]}"
    for tool in dict.fromkeys((named, plain)):
        version = succeeded(run, [tool, "--version"])
        if isinstance(version, Gap):
            continue
        kind: Literal["iptables-nft", "iptables-legacy"] = "iptables-nft" if "nf_tables" in version else "iptables-legacy"
        if backend in ("iptables", kind):
            return Iptables(run, folder, family, kind, tool)  # type: ignore[arg-type]  # ip or ip6
    raise ApplyError(f"{named} is not installed")


class _Folder:
    """Files for a rehearsal, gone after it."""

    def __init__(self, parent: str, label: str) -> None:
        self.path = os.path.join(parent, f"rehearsal-{label}")

    def __enter__(self) -> _Folder:
        os.mkdir(self.path, 0o700)
        return self

    def write(self, files: dict[str, str]) -> None:
        try:
            for name, text in files.items():
                with open(os.path.join(self.path, name), "w", encoding="utf-8") as file:
                    file.write(text)
        except OSError as error:
            raise ApplyError(f"{self.path}: {error.strerror}") from error

    def __exit__(self, *_exception: object) -> None:
        for name in os.listdir(self.path):
            os.unlink(os.path.join(self.path, name))
        os.rmdir(self.path)


def _aside(run: Runner, script: str, folder: str, argument: str) -> Output:
    """Run a script in a network namespace of its own. Raises ApplyError unless it ended well or refused the new rules."""
    output = run(["unshare", "--net", "sh", "-c", f"PATH=$PATH:/usr/sbin:/sbin\n{script}", "sh", folder, argument])
    if isinstance(output, Gap):
        raise ApplyError(f"the new rules could not be tried aside: {output.text}")
    if output.status in (0, _REFUSED):
        return output
    what = (
        "the rules that stand now could not be loaded aside"
        if output.status == _NOT_REPRODUCED
        else "there is no network namespace to try the new rules in"
    )
    raise ApplyError(f"{what}: {' '.join(output.stderr.split())[:500]}")


def _refusal(stderr: str, lines: list[int], ruleset: str) -> str:
    """Tell the line of the ruleset, its text, and what the tool said of it."""
    said = " ".join(line for line in stderr.splitlines() if line.strip() and not line.startswith(("Error occurred", "Try `", "# Warning")))
    asked = ruleset.splitlines()
    named = re.search(r"Error occurred at line: (\d+)|line (\d+) failed", stderr)
    place = int(named[1] or named[2]) - 1 if named else -1
    number = lines[place] if 0 <= place < len(lines) else 0
    quoted = re.search(r"'([^']+)'", said)
    if not number and quoted:  # iptables-nft tells of a missing chain only its name
        number = next((number for number, line in enumerate(asked, 1) if quoted[1] in line.split()), 0)
    where = f"line {number} of the ruleset ({asked[number - 1].strip()}): " if number else ""
    return f"{where}{said[:500]}"


def _of_tables(saved: str, wanted: set[str]) -> str:
    """Return the sections of a dump that speak of the wanted tables; of a table that does not exist, an empty one."""
    sections = re.findall(r"^\*(\S+)\n(.*?^COMMIT\n)", saved, re.MULTILINE | re.DOTALL)
    found = {table: body for table, body in sections if table in wanted}
    return "".join(f"*{table}\n{found.get(table, 'COMMIT' + chr(10))}" for table in sorted(wanted))


def _with_xt(ruleset: str) -> set[nft_text.Key]:
    """Return the tables with parts that only iptables can tell."""
    try:
        entries = json.loads(ruleset)["nftables"]
    except (ValueError, KeyError) as error:
        raise ApplyError(f"nft -j list ruleset printed something else than JSON: {error}") from error
    rules = [entry["rule"] for entry in entries if "rule" in entry]
    return {(rule["family"], rule["table"]) for rule in rules if any("xt" in part for part in rule["expr"])}


def _exists(path: str) -> bool:
    try:
        return bool(read_text(path).split())
    except FileNotFoundError:  # without the module there is no table
        return False
    except OSError as error:
        raise ApplyError(f"{path}: {error.strerror}") from error


def _said(answer: str | Gap) -> str:
    if isinstance(answer, Gap):
        raise ApplyError(answer.text if answer.reason == "absent" else f"{answer.subject}: {answer.text}")
    return answer
