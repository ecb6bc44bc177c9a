# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on a service: who, other than this machine itself, can reach it, and by which path?

`sealed` is said only when every path was evaluated and is closed. What could not be seen or is not evaluated yet makes
the verdict `unknown`, unless an open path was shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .._model.gap import Gap
from .._model.network import BITS, subtract
from .._model.ruleset import REWRITING
from .._model.vocabulary import SCOPES, VERDICTS, Family, Reach, Verdict
from .._services.catalogue import recognise
from .approach import Approach, allowed
from .candidates import candidates
from .discovery import listens
from .path import Path, merged, place_of

if TYPE_CHECKING:
    from .._model.evidence import Evidence
    from .._model.listener import Listener
    from .._model.ruleset import Rule, Table, Target
    from .._model.service import Service
    from .condition import Packet
    from .relays import Lead, Leads

_REWRITES = re.compile(r'"mangle":\{"key":\{"payload"|"(?:fwd|dup)"')  # nftables: a field of the packet, or its interface


class Exposure(NamedTuple):
    service: Service
    kind: str | None
    verdict: Verdict
    listeners: tuple[Listener, ...]
    paths: tuple[Path, ...]
    reasons: tuple[str, ...]
    unknowns: tuple[Gap, ...]
    checked: tuple[str, ...]


def judge(evidence: Evidence, services: Sequence[Service], forwards: Sequence[Mapping[str, Any]] = ()) -> list[Exposure]:
    """Judge each service; the worst verdict comes first.

    forwards: port forwards of routers, each with protocol, internal_address, internal_port, external_port and router.
    """
    judge_one = _Judge(evidence, forwards)
    exposures = [judge_one.service(service) for service in services]
    return sorted(exposures, key=lambda exposure: (VERDICTS.index(exposure.verdict), exposure.service.name))


class _Judge:
    def __init__(self, evidence: Evidence, forwards: Sequence[Mapping[str, Any]]) -> None:
        self._evidence, self._host, self._forwards = evidence, evidence.host, forwards
        self._rows = [row for row in evidence.listeners if row.namespace == evidence.namespace and listens(row)]
        self._approach = Approach(evidence)
        self._rewrites = list(_rewrites(evidence.firewall.tables))
        self._relays = candidates(evidence, self._rows)

    def service(self, service: Service) -> Exposure:
        rows = tuple(row for row in self._rows if row.protocol == service.protocol and row.port == service.port)
        kind = service.kind
        if kind is None and rows:
            recognised = recognise(service.protocol, service.port, rows[0].process)
            kind = recognised.name if recognised else None
        paths = [path for row in rows for path in self._approach.paths(row, service.allow)]
        paths += self._redirects(service, service.port, service.protocol, rows)
        if self._approach.redirects:
            paths += self._approach.redirects.onwards(service.protocol, service.port, service.allow, self._rows)
        if rows:
            paths += self._through_routers(service, paths)
            paths += self._through_relays(service, rows)
        joined = merged(paths, len(self._approach.interfaces))
        unknowns = self._unknowns(service, rows)
        if any(path.reach == "accepted" for path in joined):
            verdict: Verdict = "exposed"
        elif joined or unknowns:
            verdict = "unknown"
        else:
            verdict = "sealed" if rows else "absent"
        reasons = _reasons(rows, joined, unknowns)
        return Exposure(service, kind, verdict, rows, joined, reasons, unknowns, ("bind", "firewall", "redirect", "relay"))

    def _redirects(self, service: Service, port: int, protocol: str, rows: Sequence[Listener]) -> list[Path]:
        """Find rules that may send packets for another port here, or for this one elsewhere, and do not tell where: `maybe`."""
        if not self._rewrites:
            return []
        from .condition import Packet
        from .walk import Decision

        paths = []
        for table, chain, rule in self._rewrites:
            for family in _table_families(table):
                sources = tuple(subtract([(0, (1 << BITS[family]) - 1)], allowed(service.allow, family)))
                if sources and self._concerns(rule, Packet(family, protocol, 0, port, ""), rows):
                    decision = Decision(table.backend, table.family, table.name, chain, rule.number, rule.text)
                    paths.append(Path(family, "any", "redirect", "maybe", sources, (), (decision,), ""))
        return paths

    def _concerns(self, rule: Rule, probe: Packet, rows: Sequence[Listener]) -> bool:
        from .condition import Stage, holds

        target, before = rule.target, Stage("new", "prerouting", 0, whole=True)
        if any(holds(match, probe, before) is False for match in rule.matches if match.field in ("protocol", "family")):
            return False
        if any(match.field == "in_interface" and not match.negated and match.values == ("lo",) for match in rule.matches):
            return False  # packets from outside do not meet it
        if target.kind == "opaque":
            return bool(rows)
        ports = [match for match in rule.matches if match.field == "destination_port"]
        if all(holds(match, probe, before) is not False for match in ports):
            return True  # packets for this very port go elsewhere, past INPUT
        if not rows or not _may_name(target.argument, probe.port):
            return False
        if target.kind == "tproxy":
            return any(row.transparent is not False for row in rows)
        if any(row.scope != "loopback" for row in rows):
            return True
        localnet = [self._approach.sysctl(entry.name, "route_localnet") for entry in self._approach.interfaces]
        return target.kind != "redirect" and any(value != 0 for value in localnet)

    def _through_relays(self, service: Service, rows: Sequence[Listener]) -> list[Path]:
        others = [relay for relay in self._relays if relay.row not in rows]
        if not others:
            return []
        from .relays import Goal, leading

        paths = []
        goal = Goal(service.protocol, service.port, frozenset(pid for row in rows for pid in row.pids))
        for relay, lead in leading(others, goal, self._evidence.connections, self._approach.names):
            shown, told = lead.shown, _told(lead)
            if relay.row is None:
                text = f"{relay.process} (pid {relay.pid}), which lets the other end of its tunnel in{told}"
                sources = ((0, (1 << 32) - 1),)
                paths.append(Path("ipv4", "any", "relay", _reach(lead.leads), sources, (), (), text, shown))
                continue
            who = f"{relay.process} (pid {relay.pid})" if relay.pid else "a process that is not visible"
            text = f"{who} listening on {place_of(relay.row)}{told}"
            for path in self._approach.paths(relay.row, service.allow):
                reached: Reach = path.reach if lead.leads == "yes" else "maybe"
                paths.append(path._replace(via="relay", reach=reached, text=text, shown=shown))
            paths += self._redirects(service, relay.row.port, relay.row.protocol, [relay.row])
        return paths

    def _through_routers(self, service: Service, paths: Sequence[Path]) -> list[Path]:
        found = []
        for forward in self._forwards:
            here = str(forward["internal_address"]) in self._approach.names
            if here and (forward["protocol"], int(forward["internal_port"])) == (service.protocol, service.port):
                text = f"port {forward['external_port']} of the router {forward['router']}"
                found += [path._replace(via="router", text=text) for path in paths if path.via == "bind"]
        return found

    def _unknowns(self, service: Service, rows: Sequence[Listener]) -> tuple[Gap, ...]:
        if not rows:
            return tuple(gap for gap in self._evidence.listener_gaps if gap.subject != "processes")
        gaps = [*self._evidence.listener_gaps, *self._evidence.firewall.gaps, *self._host.gaps]
        for interface in self._approach.interfaces:
            for present, program in ((interface.xdp, "XDP"), (interface.tc, "tc")):
                if present:
                    text = f"a {program} program on {interface.name} sees packets before any rule"
                    gaps.append(Gap(f"{program} on {interface.name}", "not_evaluated", text))
        if self._approach.uncounted:
            text = "addresses are local by a route alone, and rules or routes part them into too many kinds to try"
            gaps.append(Gap("local routes", "not_evaluated", text))
        if any(chain.rules for table in self._evidence.firewall.tables if table.family == "bridge" for chain in table.chains.values()):
            gaps.append(Gap("bridge rules", "not_evaluated", "rules for bridged frames may hand packets to this host"))
        if any(rule.table == "local" or rule.priority == 0 for rule in self._host.rules):
            text = "routing rules come before the machine's own addresses, and may send packets elsewhere"
            gaps.append(Gap("policy routing", "not_evaluated", text))
        if self._host.sk_lookup:
            gaps.append(Gap("sk_lookup", "not_evaluated", "a BPF program may hand packets to any socket"))
        return tuple(dict.fromkeys(gaps))


def _told(lead: Lead) -> str:
    """Say what shows that a relay leads to a service."""
    if lead.shown == "command_line":
        return ", by its command line"
    if lead.shown == "connection":
        return f", by an open connection {lead.detail}"
    return f", by its configuration {lead.detail}" if lead.shown == "configuration" else ""


def _reach(leads: Leads) -> Reach:
    return "accepted" if leads == "yes" else "maybe"


def _rewrites(tables: Iterable[Table]) -> Iterable[tuple[Table, str, Rule]]:
    """Yield the rules that change where a packet goes in a way that cannot be followed."""
    for table in tables:
        for chain in table.chains.values():
            if chain.hook in ("output", "postrouting", "forward"):
                continue
            for rule in chain.rules:
                target = rule.target
                rewritten = target.kind == "opaque" and _REWRITES.search(target.argument)
                untold = (target.kind in REWRITING or target.kind == "tproxy") and not _followed(target)
                if untold or rewritten:
                    yield table, chain.name, rule


def _followed(target: Target) -> bool:
    """Say whether it is known where a rule sends packets."""
    from .redirect import choices

    return bool(choices(target, 0, 1))


def _table_families(table: Table) -> tuple[Family, ...]:
    if table.family in ("ip", "ip6"):
        return ("ipv4",) if table.family == "ip" else ("ipv6",)
    return ("ipv4", "ipv6")


def _may_name(argument: str, port: int) -> bool:
    """Say whether a rewrite may end at `port`: address, address:port, address:first-last, or ports alone.

    An address alone keeps the port. Any other shape (a map, a port shift, an option) may name any port.
    """
    found = re.fullmatch(r"(?:(?:\[[0-9a-fA-F:.]+\]|[0-9.]+)?:)?(\d{1,5})(?:-(\d{1,5}))?", argument)
    if found:
        return int(found[1]) <= port <= int(found[2] or found[1])
    return not re.fullmatch(r"\[?[0-9a-fA-F:.]+\]?", argument)


def _reasons(rows: Sequence[Listener], paths: Sequence[Path], unknowns: Sequence[Gap]) -> tuple[str, ...]:
    places = []
    for row in rows:
        owner = f" ({row.process}, pid {row.pids[0]})" if row.process and row.pids else ""
        places.append(f"listens on {place_of(row)}{owner}")
    said = [path.text for path in paths] + [f"{gap.subject}: {gap.text}" for gap in unknowns]
    return tuple(dict.fromkeys([*said, *places])) if paths or unknowns else tuple(places or ["nothing listens on the port"])


def widest_scope(rows: Sequence[Listener]) -> str | None:
    return max((row.scope for row in rows), key=SCOPES.index, default=None)
