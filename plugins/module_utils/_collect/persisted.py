# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who manages the packet filter, and whether what stands now is what would stand after a reboot."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Literal, NamedTuple

from .._model.firewall import Firewall
from .._model.gap import Gap
from .._model.ruleset import Chain, Rule, Table
from .._parse.error import ParseError
from .command import succeeded
from .files import read_text

if TYPE_CHECKING:
    from .command import Runner

_DIFFERENCES = 200
# manager: how its chains begin, the tables that are its own, its units
_MANAGERS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "ufw": (("ufw-", "ufw6-"), (), ("ufw",)),
    "firewalld": (("FWDI_", "FWDO_", "IN_", "INPUT_ZONES", "FORWARD_IN_ZONES"), ("firewalld",), ("firewalld",)),
    "docker": (("DOCKER",), ("docker-bridges",), ("docker", "docker.socket")),
    "podman": (("NETAVARK", "CNI-"), ("netavark",), ()),
    "fail2ban": (("f2b-",), ("f2b-table",), ("fail2ban",)),
    "kube-proxy": (("KUBE-",), ("kube-proxy",), ("kube-proxy", "kubelet", "k3s")),
    "libvirt": (("LIBVIRT_",), ("libvirt_network",), ("libvirtd", "virtqemud", "virtnetworkd")),
}
# Managers that put their rules back by themselves; firewalld and ufw are compared with their own files.
_SELF_LIVING = ("docker", "podman", "fail2ban", "kube-proxy", "libvirt")
_SELF_LIVING_CHAINS = tuple(prefix for name in _SELF_LIVING for prefix in _MANAGERS[name][0])
_THEIR_INTERFACES = ("docker", "br-", "podman", "cni", "virbr", "flannel")

# Not its limit chains: the running ones for IPv6 stay without their rules until ufw is reloaded (ufw 0.36.2).
_UFW_CHAINS = tuple(f"{prefix}-user-{hook}" for prefix in ("ufw", "ufw6") for hook in ("input", "output", "forward"))
_TOOLS = {"ip": "iptables", "ip6": "ip6tables"}
_Key = tuple[Any, ...]

_IPTABLES_FILES: tuple[tuple[str, Literal["ip", "ip6"], tuple[str, ...]], ...] = (
    ("etc/iptables/rules.v4", "ip", ("netfilter-persistent", "iptables")),
    ("etc/iptables/rules.v6", "ip6", ("netfilter-persistent", "ip6tables")),
    ("etc/sysconfig/iptables", "ip", ("iptables",)),
    ("etc/sysconfig/ip6tables", "ip6", ("ip6tables",)),
)
_NFT_FILES = ("etc/nftables.conf", "etc/sysconfig/nftables.conf")
_UFW_FILES: tuple[tuple[str, Literal["ip", "ip6"]], ...] = (
    ("etc/ufw/user.rules", "ip"),
    ("etc/ufw/user6.rules", "ip6"),
)


class Manager(NamedTuple):
    """active: it has chains or tables in the kernel now. enabled: it starts at boot, None when that is not known here."""

    name: str
    active: bool
    enabled: bool | None
    evidence: tuple[str, ...]


class Difference(NamedTuple):
    """A rule or policy that only one side has. where: runtime, saved, or order when both have it in another place."""

    where: str
    family: str
    table: str
    chain: str
    text: str


class Source(NamedTuple):
    """Something that holds rules for the next boot. enabled: it is loaded then. state: same, different or unknown."""

    path: str
    kind: str
    enabled: bool
    state: str
    reason: str


class Persisted(NamedTuple):
    """state: same, different, nothing (nothing is loaded at boot) or unknown. ignored: what was not compared, and why."""

    state: str
    sources: tuple[Source, ...]
    differences: tuple[Difference, ...]
    ignored: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "sources": [source._asdict() for source in self.sources],
            "differences": [difference._asdict() for difference in self.differences],
            "ignored": list(self.ignored),
        }


def managers(firewall: Firewall, root: str = "/") -> list[Manager]:
    """Name the programs behind the rules; `plain` for rules that none of them made, `none` for no rules at all."""
    found = []
    for name, (prefixes, own_tables, units) in _MANAGERS.items():
        evidence = []
        for table in firewall.tables:
            where = f"{table.backend} {table.family} {table.name}"
            if table.name in own_tables:
                evidence.append(f"table {where}")
                continue
            chain = next((chain for chain in table.chains if chain.startswith(prefixes)), None)
            if chain:
                evidence.append(f"chain {chain} in {where}")
        active = bool(evidence)
        started = [unit for unit in units if _enabled(unit, root)]
        evidence += [f"{unit} is enabled" for unit in started]
        if name == "ufw":
            started = [unit for unit in started if _ufw_enabled(root)]
            evidence += ["/etc/ufw/ufw.conf: ENABLED=yes"] if _ufw_enabled(root) else []
        if active or started:
            found.append(Manager(name, active, bool(started) if units else None, tuple(evidence[:8])))
    plain = [
        f"{chain.name} in {table.backend} {table.family} {table.name}"
        for table in firewall.tables
        for chain in table.chains.values()
        if chain.hook and not _is_their_table(table) and any(not _is_theirs(rule) for rule in chain.rules)
    ]
    if plain and not any(manager.active and manager.name in ("ufw", "firewalld") for manager in found):
        found.append(Manager("plain", True, None, tuple(plain[:8])))
    if not found and not firewall.gaps:
        found.append(Manager("none", True, None, ("no rules",)))
    return found


def _enabled(unit: str, root: str) -> bool:
    """Say whether systemd or OpenRC starts a unit at boot."""
    name = unit if "." in unit else f"{unit}.service"
    mask = os.path.join(root, "etc/systemd/system", name)
    if os.path.islink(mask) and os.readlink(mask) == "/dev/null":
        return False
    return bool(
        glob.glob(os.path.join(glob.escape(root), "etc/systemd/system/*.wants", glob.escape(name)))
        or glob.glob(os.path.join(glob.escape(root), "etc/runlevels/*", glob.escape(unit)))
    )


def _ufw_enabled(root: str) -> bool:
    try:
        text = read_text(os.path.join(root, "etc/ufw/ufw.conf"))
    except OSError:
        return False
    return any(line.replace(" ", "").lower().startswith("enabled=yes") for line in text.splitlines())


def _is_their_table(table: Table) -> bool:
    return any(table.name in own_tables for _prefixes, own_tables, _units in _MANAGERS.values())


def _is_theirs(rule: Rule, names: Iterable[str] = tuple(_MANAGERS)) -> bool:
    """Say whether a rule leads into a chain of a manager, or is about an interface that one makes."""
    prefixes = tuple(prefix for name in names for prefix in _MANAGERS[name][0])
    return rule.target.argument.startswith(prefixes) or any(
        match.field in ("in_interface", "out_interface") and value.startswith(_THEIR_INTERFACES)
        for match in rule.matches
        for value in match.values
    )


def compare_persisted(firewall: Firewall, run: Runner, root: str = "/") -> Persisted:
    """Compare the rules in the kernel with those that would be loaded at boot; counters do not count."""
    return _Comparison(firewall, run, root).result()


class _Comparison:
    def __init__(self, firewall: Firewall, run: Runner, root: str) -> None:
        self.firewall, self.run, self.root = firewall, run, root
        self.sources: list[Source] = []
        self.differences: list[Difference] = []
        self.ignored: set[str] = set()
        self.covered: set[tuple[str, str]] = set()  # family and name of the tables that a source speaks of

    def result(self) -> Persisted:
        for path, family, units in _IPTABLES_FILES:
            self._file(path, "iptables", units, partial(self._iptables, family))
        for path in _NFT_FILES:
            self._file(path, "nftables", ("nftables",), self._nftables)
        if _ufw_enabled(self.root):
            for path, family in _UFW_FILES:
                self._file(path, "ufw", ("ufw",), partial(self._ufw, family))
        if _enabled("firewalld", self.root):
            self._firewalld()
        loaded = [source for source in self.sources if source.enabled]
        states = {source.state for source in loaded}
        left = self._left() if loaded and "unknown" not in states else []
        if not loaded:
            state = "nothing"
        elif "different" in states or left:
            state = "different"
        else:
            state = "unknown" if "unknown" in states or self.firewall.gaps else "same"
        differences = (*self.differences, *left)[:_DIFFERENCES]
        return Persisted(state, tuple(self.sources), differences, tuple(sorted(self.ignored)))

    def _file(self, path: str, kind: str, units: tuple[str, ...], compare: Callable[[str, str], list[Difference] | str]) -> None:
        """Add a file as a source, unless there is none. `compare` returns the differences, or why it cannot tell."""
        enabled = any(_enabled(unit, self.root) for unit in units)
        try:
            found = compare(read_text(os.path.join(self.root, path)), f"/{path}") if enabled else []
            if not enabled and not os.path.exists(os.path.join(self.root, path)):
                return
        except FileNotFoundError:
            return
        except (OSError, ParseError) as error:
            found = str(error)
        if isinstance(found, str):
            self.sources.append(Source(f"/{path}", kind, enabled, "unknown", found[:500]))
            return
        state = "unknown" if not enabled else "different" if found else "same"
        reason = "" if enabled else f"not compared: no unit loads it ({', '.join(units)})"
        self.sources.append(Source(f"/{path}", kind, enabled, state, reason))
        self.differences += found

    def _iptables(self, family: Literal["ip", "ip6"], text: str, path: str) -> list[Difference] | str:
        saved = _parsed(text, path, family)
        running = self._running(family)
        self.covered |= {(family, name) for name in (*saved, *running)}
        found = self._tables(running, saved, family)
        if not found or text.startswith("# Generated by"):
            return found
        # written by a person: the kernel may spell it otherwise
        spelled = self._aside(f'{_TOOLS[family]}-restore < "$1" && exec {_TOOLS[family]}-save', path)
        return spelled.text if isinstance(spelled, Gap) else self._tables(running, _parsed(spelled, path, family), family)

    def _running(self, family: str) -> dict[str, Table]:
        tables = [table for table in self.firewall.tables if table.family == family and table.backend != "nftables"]
        return {table.name: table for table in tables}

    def _aside(self, script: str, path: str) -> str | Gap:
        """Load a file in a network namespace of its own, which dies with the command, and print what the kernel made of it."""
        gap = succeeded(self.run, ["unshare", "-n", "sh", "-c", script, "sh", os.path.join(self.root, path[1:])])
        return gap._replace(text=f"the file could not be loaded aside: {gap.text}") if isinstance(gap, Gap) else gap

    def _nftables(self, _text: str, path: str) -> list[Difference] | str:
        from .._parse import nft_json

        text = self._aside('nft -f "$1" && exec nft -j list ruleset', path)
        if isinstance(text, Gap):
            return text.text
        tables, gaps = nft_json.parse(text, path)
        _refuse(gaps, path)
        found: list[Difference] = []
        for family in sorted({table.family for table in (*tables, *self.firewall.tables)}):
            saved = {table.name: table for table in tables if table.family == family}
            running = {
                table.name: table
                for table in self.firewall.tables
                if table.family == family and (table.backend == "nftables" or table.name in saved)
            }
            self.covered |= {(family, name) for name in (*saved, *running)}
            found += self._tables(running, saved, family)
        return found

    def _ufw(self, family: Literal["ip", "ip6"], _text: str, path: str) -> list[Difference] | str:
        self.ignored.add("chains of ufw other than those of its user rules: ufw makes them from its own files")
        self.covered |= {(family, table.name) for table in self.firewall.tables if table.family == family}
        text = self._aside(f'{_TOOLS[family]}-restore < "$1" && exec {_TOOLS[family]}-save', path)
        if isinstance(text, Gap):
            return text.text
        running, saved = (
            {name: _only(table, _UFW_CHAINS) for name, table in side.items()}
            for side in (self._running(family), _parsed(text, path, family))
        )
        return self._tables(running, saved, family)

    def _firewalld(self) -> None:
        self.covered |= {(table.family, table.name) for table in self.firewall.tables}
        self.ignored.add("rules of firewalld are compared as firewalld tells them: its zones, not its chains")
        now = succeeded(self.run, ["firewall-cmd", "--list-all-zones"])
        saved = succeeded(self.run, ["firewall-cmd", "--permanent", "--list-all-zones"])
        path = "/etc/firewalld"
        gap = now if isinstance(now, Gap) else saved
        if isinstance(now, Gap) or isinstance(saved, Gap):
            self.sources.append(Source(path, "firewalld", True, "unknown", gap.text if isinstance(gap, Gap) else ""))
            return
        running, stored = _zones(now), _zones(saved)
        found = [
            Difference(where, "inet", "firewalld", zone, line)
            for where, these, those in (("runtime", running, stored), ("saved", stored, running))
            for zone, line in these
            if (zone, line) not in those
        ]
        self.sources.append(Source(path, "firewalld", True, "different" if found else "same", ""))
        self.differences += found

    def _left(self) -> list[Difference]:
        """Return the rules of tables that no source speaks of."""
        found = []
        for table in self.firewall.tables:
            if (table.family, table.name) not in self.covered and not _is_their_table(table):
                found += self._tables({table.name: table}, {}, table.family)
        return found

    def _tables(self, running: Mapping[str, Table], saved: Mapping[str, Table], family: str) -> list[Difference]:
        found = []
        for name in sorted({*running, *saved}):
            now, then = (side[name].chains if name in side else {} for side in (running, saved))
            for chain in sorted({*now, *then}):
                if chain.startswith(_SELF_LIVING_CHAINS):
                    self.ignored.add(f"chains {chain.split('-')[0].split('_')[0]}*: the program that owns them makes them again")
                    continue
                sides = self._rules(now.get(chain)), self._rules(then.get(chain))
                found += [Difference(where, family, name, chain, text) for where, text in _compared(*sides)]
        return found

    def _rules(self, chain: Chain | None) -> list[tuple[_Key, str]]:
        """Return what counts of a chain: its policy, and the rules that no other program puts back by itself."""
        if chain is None:
            return []
        rules: list[tuple[_Key, str]] = []
        if chain.policy == "drop":
            rules.append((("policy",), "policy DROP"))
        for rule in chain.rules:
            if _is_theirs(rule, _SELF_LIVING):
                self.ignored.add("rules about chains or interfaces of Docker, podman, fail2ban, Kubernetes or libvirt")
            else:
                rules.append((_key(rule), rule.text))
        return rules


def _parsed(text: str, path: str, family: Literal["ip", "ip6"]) -> dict[str, Table]:
    """Return the tables of a dump by name; a later section replaces an earlier one. Raises ParseError."""
    from .._parse import iptables_save

    tables, gaps = iptables_save.parse(text, path, "iptables-nft", family)
    _refuse(gaps, path)
    return {table.name: table for table in tables}


def _refuse(gaps: Iterable[Gap], path: str) -> None:
    """Raise ParseError for a rule that could not be read; what a tool remarks about other rules does not matter here."""
    for gap in gaps:
        if gap.reason != "unsupported":
            raise ParseError(path, 0, gap.text)


def _key(rule: Rule) -> _Key:
    matches = (
        (match.field, tuple(sorted(match.values)), match.negated, match.text if match.field == "unknown" else "") for match in rule.matches
    )
    return (*sorted(matches), rule.target)


def _compared(now: list[tuple[_Key, str]], then: list[tuple[_Key, str]]) -> list[tuple[str, str]]:
    if [key for key, _text in now] == [key for key, _text in then]:
        return []
    found = []
    for where, these, those in (("runtime", now, then), ("saved", then, now)):
        rest = Counter(key for key, _text in those)
        for key, text in these:
            if rest[key]:
                rest[key] -= 1
            else:
                found.append((where, text))
    if found:
        return found
    return [("order", next(text for (key, text), (other, _text) in zip(now, then) if key != other))]


def _only(table: Table, prefixes: tuple[str, ...]) -> Table:
    return table._replace(chains={name: chain for name, chain in table.chains.items() if name.startswith(prefixes)})


def _zones(text: str) -> list[tuple[str, str]]:
    """Return (zone, line) of what firewall-cmd lists; what is bound to a zone by the network manager is left out."""
    found = []
    zone = ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            zone = line.split()[0]
        elif line.strip() and not line.strip().startswith("interfaces:"):
            found.append((zone, line.strip()))
    return found
