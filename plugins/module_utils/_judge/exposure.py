# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verdict on a service: who, other than this machine itself, can reach it, and by which path?

`sealed` is said only when every path was evaluated and is closed. What could not be seen or is not evaluated yet makes
the verdict `unknown`, unless an open path was shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .._model.evidence import Evidence
from .._model.gap import Gap
from .._model.listener import Listener
from .._model.network import BITS, cidrs, network_range, subtract
from .._model.relay import AGENTS, FORWARDERS
from .._model.ruleset import Rule, Table
from .._model.service import SERVICE_PROTOCOLS, Service
from .._model.vocabulary import SCOPES, VERDICTS, Family, Reach, Verdict, Via
from .._services.catalogue import recognise
from .reach import Decision, Packet, Part, context_of, holds, reach
from .relays import leads_to

MOST_SOURCES = 64
_FAMILY_NAMES = {"ipv4": "IPv4", "ipv6": "IPv6"}
# Never the source of a packet that the kernel takes from outside: fib_validate_source, ip_route_input_slow, ip6_rcv_core.
_IMPOSSIBLE = {
    "ipv4": ("0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32"),
    "ipv6": ("::/128", "::1/128", "ff00::/8"),
}
_BRIDGES = ("bridge", "bond", "team", "openvswitch")


class Path(NamedTuple):
    """A way in that is open, or not shown to be closed. interface: a name, or `any` for every one but loopback."""

    family: Family
    interface: str
    via: Via
    reach: Reach
    sources: tuple[tuple[int, int], ...]
    destinations: tuple[str, ...]
    decided_by: tuple[Decision, ...]
    text: str

    def to_dict(self, limit: int = MOST_SOURCES) -> dict[str, Any]:
        networks: list[str] = []
        omitted = 0
        for first, last in self.sources:
            for network in cidrs(self.family, first, last):
                if len(networks) < limit:
                    networks.append(network)
                else:
                    omitted += 1
        return {
            **self._asdict(),
            "sources": networks,
            "sources_omitted": omitted,
            "destinations": list(self.destinations),
            "decided_by": [decision._asdict() for decision in self.decided_by],
        }


class Exposure(NamedTuple):
    service: Service
    kind: str | None
    verdict: Verdict
    listeners: tuple[Listener, ...]
    paths: tuple[Path, ...]
    reasons: tuple[str, ...]
    unknowns: tuple[Gap, ...]
    checked: tuple[str, ...]


def discover(listeners: Iterable[Listener], declared: Sequence[Service], namespace: str) -> tuple[Service, ...]:
    """Return the undeclared services of kinds that belong on loopback."""
    taken = {(service.protocol, service.port) for service in declared}
    names = {service.name for service in declared}
    found = []
    for row in sorted(listeners, key=lambda row: (row.port, row.protocol)):
        kind = recognise(row.protocol, row.port, row.process)
        if row.namespace != namespace or not _listens(row) or kind is None or not kind.private:
            continue
        if (row.protocol, row.port) in taken:
            continue
        taken.add((row.protocol, row.port))
        name = kind.name if kind.name not in names else f"{kind.name}-{row.port}"
        names.add(name)
        found.append(Service(name, row.port, row.protocol, kind.name, declared=False))
    return tuple(found)


def judge(evidence: Evidence, services: Sequence[Service], forwards: Sequence[Mapping[str, Any]] = ()) -> list[Exposure]:
    """Judge each service; the worst verdict comes first.

    forwards: port forwards of routers, each with protocol, internal_address, internal_port, external_port and router.
    """
    judge_one = _Judge(evidence, forwards)
    exposures = [judge_one.service(service) for service in services]
    return sorted(exposures, key=lambda exposure: (VERDICTS.index(exposure.verdict), exposure.service.name))


def _listens(row: Listener) -> bool:
    return row.protocol in SERVICE_PROTOCOLS and row.state in ("LISTEN", "UNCONN")


class _Judge:
    def __init__(self, evidence: Evidence, forwards: Sequence[Mapping[str, Any]]) -> None:
        self._evidence, self._host = evidence, evidence.host
        self._rows = [row for row in evidence.listeners if row.namespace == evidence.namespace and _listens(row)]
        firewall = evidence.firewall
        self._context = context_of(firewall.tables, firewall.ipsets)
        if any(interface.tc for interface in self._host.interfaces):
            self._context = self._context._replace(marks=True)  # a tc program may set one
        self._forwards = forwards
        self._interfaces = [entry for entry in self._host.interfaces if not entry.loopback and not self._is_port(entry.master)]
        self._own: dict[Family, list[tuple[int, int]]] = {"ipv4": [], "ipv6": []}
        for interface in self._host.interfaces:
            for address in interface.addresses:
                own = network_range(address.partition("/")[0])
                self._own[own.family].append((own.first, own.last))
        self._names = frozenset(address.partition("/")[0] for entry in self._host.interfaces for address in entry.addresses)
        self._rewrites = list(_rewrites(firewall.tables))
        self._reached: dict[tuple[Any, ...], list[Part]] = {}

    def _is_port(self, master: str | None) -> bool:
        """Say whether packets of an interface with this master arrive on the master instead."""
        return any(entry.name == master and entry.kind in _BRIDGES for entry in self._host.interfaces)

    def service(self, service: Service) -> Exposure:
        rows = tuple(row for row in self._rows if row.protocol == service.protocol and row.port == service.port)
        kind = service.kind
        if kind is None and rows:
            recognised = recognise(service.protocol, service.port, rows[0].process)
            kind = recognised.name if recognised else None
        paths: list[Path] = []
        for row in rows:
            paths += self._bind(row, service)
        paths += self._redirects(service, rows)
        paths += self._relays(service, rows)
        paths += self._routers(service, rows, paths)
        merged = _merged(paths, len(self._interfaces))
        unknowns = self._unknowns(service, rows, merged)
        if any(path.reach == "accepted" for path in merged):
            verdict: Verdict = "exposed"
        elif merged or unknowns:
            verdict = "unknown"
        else:
            verdict = "sealed" if rows else "absent"
        reasons = _reasons(rows, merged, unknowns)
        return Exposure(service, kind, verdict, rows, merged, reasons, unknowns, ("bind", "firewall", "redirect", "relay"))

    # bind and firewall

    def _bind(self, row: Listener, service: Service) -> list[Path]:
        if row.interface in ("lo", "lo0"):
            return []
        if row.scope == "loopback":
            return self._route_localnet(row, service) if row.family == "ipv4" or "." in row.address else []
        paths = []
        for family in _families(row):
            paths += self._through_interfaces(row, family, service, "bind")
        return paths

    def _through_interfaces(self, row: Listener, family: Family, service: Service, via: Via) -> list[Path]:
        paths = []
        for interface in self._interfaces:
            if row.interface is not None and row.interface != interface.name and "interface" not in row.unknowns:
                continue
            for destinations in self._destinations(row, family):
                packet = Packet(family, row.protocol, destinations[0], row.port, interface.name)
                for part in self._reach(packet):
                    paths += self._path(part, packet, destinations, via, service, interface.xdp or interface.tc)
        return paths

    def _destinations(self, row: Listener, family: Family) -> list[list[int]]:
        """Return the addresses that lead to the socket, grouped by what the rules can tell apart."""
        if row.scope == "wildcard":
            addresses = [first for first, _last in self._own[family] if not _is_loopback(family, first)]
        else:
            addresses = [network_range(row.address.rpartition("::ffff:")[2] if "." in row.address else row.address).first]
        if len(addresses) < 2:
            return [[address] for address in addresses]
        tests = self._destination_tests(family)
        groups: dict[tuple[bool, ...], list[int]] = {}
        for address in addresses:
            groups.setdefault(tuple(first <= address <= last for first, last in tests), []).append(address)
        return list(groups.values())

    def _destination_tests(self, family: Family) -> list[tuple[int, int]]:
        key = ("tests", family)
        if key not in self._reached:
            found: set[tuple[Family, int, int]] = set()
            for table in self._context.tables:
                for chain in table.chains.values():
                    for rule in chain.rules:
                        for match in rule.matches:
                            if match.field == "destination":
                                found.update(network_range(value)[:3] for value in match.values)
            self._reached[key] = [(first, last) for kind, first, last in found if kind == family]  # type: ignore[misc]
        return self._reached[key]  # type: ignore[return-value]

    def _reach(self, packet: Packet) -> list[Part]:
        if packet not in self._reached:
            self._reached[packet] = reach(self._context, packet)
        return self._reached[packet]

    def _path(self, part: Part, packet: Packet, destinations: Sequence[int], via: Via, service: Service, programs: bool) -> list[Path]:
        if part.reach == "dropped":
            return []
        sources = subtract(part.sources, _allowed(service, packet.family))
        if not subtract(sources, self._no_strangers(packet)):
            return []
        answer: Reach = "maybe" if programs or self._evidence.firewall.gaps else part.reach
        names = tuple(next(cidrs(packet.family, address, address)).partition("/")[0] for address in destinations)
        return [Path(packet.family, packet.interface, via, answer, tuple(sources), names, part.decided_by, "")]

    def _no_strangers(self, packet: Packet) -> list[tuple[int, int]]:
        """Return the sources that need no judging: impossible ones, and the machine itself."""
        bounds = [network_range(text)[1:3] for text in _IMPOSSIBLE[packet.family]]
        if packet.family == "ipv4":
            if self._sysctl(packet.interface, "route_localnet") == 0:
                bounds.append((127 << 24, (128 << 24) - 1))
            if self._sysctl(packet.interface, "accept_local") == 0:
                bounds += self._own["ipv4"]
        elif packet.protocol in ("tcp", "sctp", "dccp"):  # the answer would stay here, so no connection comes about
            bounds += self._own["ipv6"]
        return bounds

    def _sysctl(self, interface: str, name: str) -> int | None:
        """Return the effective value: the larger of `all` and the interface's own; None when one is not known."""
        values = [self._host.sysctls.get(f"net/ipv4/conf/{scope}/{name}") for scope in ("all", interface)]
        return None if None in values else max(value for value in values if value is not None)

    def _route_localnet(self, row: Listener, service: Service) -> list[Path]:
        """127/8 arrives from outside only where route_localnet lets it."""
        address = network_range(row.address.rpartition(":")[2]).first
        paths = []
        for interface in self._interfaces:
            value = self._sysctl(interface.name, "route_localnet")
            if value == 0:
                continue
            packet = Packet("ipv4", row.protocol, address, row.port, interface.name)
            for part in self._reach(packet):
                found = self._path(part, packet, [address], "route_localnet", service, interface.xdp or interface.tc)
                paths += [path if value else path._replace(reach="maybe") for path in found]
        return paths

    # redirects on this host

    def _redirects(self, service: Service, rows: Sequence[Listener]) -> list[Path]:
        """Find rules that send packets for this port elsewhere, or packets for another port here.

        The way behind such a rule (FORWARD, or INPUT with the new port) is not evaluated yet: the reach is `maybe`.
        """
        paths = []
        for table, chain, rule in self._rewrites:
            for family in _table_families(table):
                if not self._concerns(rule, family, service, rows):
                    continue
                decision = Decision(table.backend, table.family, table.name, chain, rule.number, rule.text)
                sources = tuple(subtract([(0, (1 << BITS[family]) - 1)], _allowed(service, family)))
                if sources:
                    paths.append(Path(family, "any", "redirect", "maybe", sources, (), (decision,), ""))
        return paths

    def _concerns(self, rule: Rule, family: Family, service: Service, rows: Sequence[Listener]) -> bool:
        target = rule.target
        probe = Packet(family, service.protocol, 0, service.port, "")
        fixed = [match for match in rule.matches if match.field in ("protocol", "family")]
        if any(holds(match, probe, self._context) is False for match in fixed):
            return False
        ports = [match for match in rule.matches if match.field == "destination_port"]
        if all(holds(match, probe, self._context) is not False for match in ports) and not self._leads_to_loopback_only(rule, rows):
            return True  # packets for this very port go elsewhere, past INPUT
        if not rows:
            return False
        if target.kind == "tproxy":
            return any(row.transparent is not False for row in rows) and _names_port(target.argument, service.port)
        if not _names_port(target.argument, service.port):
            return False
        if target.kind == "redirect":
            return any(row.scope != "loopback" for row in rows)
        localnet = [self._sysctl(entry.name, "route_localnet") for entry in self._interfaces]
        return any(row.scope != "loopback" for row in rows) or any(value != 0 for value in localnet)

    def _leads_to_loopback_only(self, rule: Rule, rows: Sequence[Listener]) -> bool:
        """A rule that is bound to lo (`-i lo`) does not see packets from outside."""
        return any(match.field == "in_interface" and not match.negated and match.values == ("lo",) for match in rule.matches)

    # relays

    def _relays(self, service: Service, rows: Sequence[Listener]) -> list[Path]:
        if not rows or service.protocol != "tcp":
            return []
        own = {pid for row in rows for pid in row.pids}
        blind = any(gap.subject == "processes" for gap in self._evidence.listener_gaps)
        paths = []
        for row in self._rows:
            if row.protocol != "tcp" or row.scope == "loopback" or row.port == service.port or own & set(row.pids):
                continue
            if row.process is None and (blind or recognise(row.protocol, row.port, None)):
                continue  # said once, as a gap; a kernel service such as NFS is no relay
            if row.process is not None and row.process not in FORWARDERS:
                continue
            if row.process == "systemd" and recognise(row.protocol, row.port, None):
                continue  # a socket unit of a known service
            leads = leads_to(row.process or "", row.command or "", service.port, self._names)
            if row.process == "ssh":
                leads = "maybe"  # -L and -D lead to the other end, which may be this machine
            if leads == "no":
                continue
            who = f"{row.process} (pid {row.pids[0]})" if row.pids else "a process that is not visible"
            for path in self._bind(row, service):
                answer: Reach = path.reach if leads == "yes" else "maybe"
                paths.append(path._replace(via="relay", reach=answer, text=f"{who} listening on {_place(row)}"))
        for process in self._evidence.relays:
            if process.name not in AGENTS or process.pid in own:
                continue
            leads = leads_to(process.name, process.command, service.port, self._names)
            if leads != "no":
                text = f"{process.name} (pid {process.pid}), which lets the other end of its tunnel in"
                reached: Reach = "accepted" if leads == "yes" else "maybe"
                paths.append(Path("ipv4", "any", "relay", reached, ((0, (1 << 32) - 1),), (), (), text))
        return paths

    # routers

    def _routers(self, service: Service, rows: Sequence[Listener], paths: Sequence[Path]) -> list[Path]:
        found = []
        for forward in self._forwards:
            if forward["protocol"] != service.protocol or int(forward["internal_port"]) != service.port or not rows:
                continue
            if str(forward["internal_address"]) not in self._names:
                continue
            for path in paths:
                if path.via == "bind":
                    text = f"port {forward['external_port']} of the router {forward['router']}"
                    found.append(path._replace(via="router", text=text))
        return found

    # what could not be seen

    def _is_own(self, destination: str) -> bool:
        network = network_range(destination)
        own = self._own[network.family]
        loopback = _is_loopback(network.family, network.first)
        return loopback or any(network.first == network.last == first for first, _last in own)

    def _unknowns(self, service: Service, rows: Sequence[Listener], paths: Sequence[Path]) -> tuple[Gap, ...]:
        gaps = [gap for gap in self._evidence.listener_gaps if gap.subject != "processes" or service.protocol == "tcp"]
        if not rows:
            return tuple(gap for gap in gaps if gap.subject != "processes")
        gaps += self._evidence.firewall.gaps
        gaps += self._host.gaps
        for interface in self._interfaces:
            for present, program in ((interface.xdp, "XDP"), (interface.tc, "tc")):
                if present:
                    text = f"a {program} program on {interface.name} sees packets before any rule"
                    gaps.append(Gap(f"{program} on {interface.name}", "not_evaluated", text))
        for route in self._host.routes:
            if route.table == "local" and route.type == "local" and not self._is_own(route.destination):
                text = f"{route.destination} is local too (AnyIP), and rules may treat it differently"
                gaps.append(Gap("local route", "not_evaluated", text))
        if self._host.sk_lookup:
            gaps.append(Gap("sk_lookup", "not_evaluated", "a BPF program may hand packets to any socket"))
        return tuple(dict.fromkeys(gaps))


def _allowed(service: Service, family: Family) -> list[tuple[int, int]]:
    return [entry[1:3] for entry in map(network_range, service.allow) if entry.family == family]


def _rewrites(tables: Iterable[Table]) -> Iterable[tuple[Table, str, Rule]]:
    """Yield the rules that change where a packet goes, wherever it comes in."""
    for table in tables:
        for chain in table.chains.values():
            if chain.hook in ("output", "postrouting", "forward"):
                continue
            for rule in chain.rules:
                if rule.target.kind in ("dnat", "redirect", "tproxy"):
                    yield table, chain.name, rule


def _table_families(table: Table) -> tuple[Family, ...]:
    return {"ip": ("ipv4",), "ip6": ("ipv6",)}.get(table.family, ("ipv4", "ipv6"))  # type: ignore[return-value]


def _names_port(argument: str, port: int) -> bool:
    """Say whether a rewrite may end at `port`; an argument without any port keeps the packet's own."""
    import re

    numbers = re.findall(r"(?::|^|\s|--to-ports?\s)(\d{1,5})(?:-(\d{1,5}))?(?=$|[\s,])", argument)
    if not numbers:
        return bool(re.search(r"[^\d.\s/:a-fA-F\[\]-]", argument))  # a map, a set or an expression may name any port
    return any(int(low) <= port <= int(high or low) for low, high in numbers)


def _families(row: Listener) -> tuple[Family, ...]:
    if row.family == "ipv4" or "." in row.address:
        return ("ipv4",)
    if row.address == "::" and row.v6only is not True:
        return ("ipv4", "ipv6")
    return ("ipv6",)


def _is_loopback(family: Family, address: int) -> bool:
    return address >> 24 == 127 if family == "ipv4" else address == 1


def _place(row: Listener) -> str:
    address = f"[{row.address}]" if ":" in row.address else row.address
    zone = f"%{row.interface}" if row.interface else ""
    return f"{address}{zone}:{row.port}"


def _merged(paths: Sequence[Path], interfaces: int) -> tuple[Path, ...]:
    """Join paths that differ in interface or destination only, write their sentences, and put the worst first."""
    groups: dict[tuple[Any, ...], list[Path]] = {}
    for path in paths:
        groups.setdefault((path.reach, path.family, path.via, path.sources, path.decided_by, path.text), []).append(path)
    merged = []
    for members in groups.values():
        names = list(dict.fromkeys(path.interface for path in members))
        destinations = tuple(dict.fromkeys(name for path in members for name in path.destinations))
        everywhere = len(names) == interfaces and interfaces > 1
        for name in ["any"] if everywhere else names:
            path = members[0]._replace(interface=name, destinations=destinations)
            merged.append(path._replace(text=_sentence(path)))
    return tuple(sorted(merged, key=lambda path: (path.reach != "accepted", path.via != "bind", path.family, path.interface)))


def _sentence(path: Path) -> str:
    who = _who(path)
    where = "any interface" if path.interface == "any" else path.interface
    if path.via == "relay":
        doubt = "" if path.reach == "accepted" else ", which may lead here"
        return f"{who} on {where} via {path.text}{doubt}" if path.destinations else f"anyone via {path.text}{doubt}"
    way = {"route_localnet": " to 127.0.0.0/8 (route_localnet)", "router": f" via {path.text}"}.get(path.via, "")
    start = f"{who} on {where} ({_FAMILY_NAMES[path.family]}){way}: "
    if path.via == "redirect":
        return start + f"{_rule(path.decided_by[-1])} sends packets elsewhere, and that way is not evaluated yet"
    if not path.decided_by:
        return start + ("no firewall rule stands in the way" if path.reach == "accepted" else "not every rule could be read")
    last = path.decided_by[-1]
    if path.reach == "maybe":
        return start + f"not shown to be closed, {_rule(path.decided_by[0])} may decide"
    if last.rule == 0:
        return start + f"no rule in {last.chain} decides, {last.text}"
    return start + _rule(last)


def _rule(decision: Decision) -> str:
    if decision.rule == 0:
        return f"{decision.table} {decision.chain} {decision.text}"
    return f"{decision.table} {decision.chain} rule {decision.rule} `{decision.text}`"


def _who(path: Path) -> str:
    """Name the sources for a person: anyone, a few networks, or anyone but a few."""
    missing = subtract([(0, (1 << BITS[path.family]) - 1)], path.sources)
    if not missing:
        return "anyone"
    excepted = [text for first, last in missing[:4] for text in cidrs(path.family, first, last)]
    named = [text for first, last in path.sources[:4] for text in cidrs(path.family, first, last)]
    if len(missing) <= 3 and len(excepted) <= 4 and len(excepted) < len(named):
        return "anyone but " + ", ".join(excepted)
    if len(path.sources) <= 3 and len(named) <= 4:
        return ", ".join(named)
    return f"{len(path.sources)} ranges of sources, {named[0]} the first"


def _reasons(rows: Sequence[Listener], paths: Sequence[Path], unknowns: Sequence[Gap]) -> tuple[str, ...]:
    places = []
    for row in rows:
        owner = f" ({row.process}, pid {row.pids[0]})" if row.process and row.pids else ""
        places.append(f"listens on {_place(row)}{owner}")
    said = [path.text for path in paths] + [f"{gap.subject}: {gap.text}" for gap in unknowns]
    return tuple(dict.fromkeys([*said, *places])) if paths or unknowns else tuple(places or ["nothing listens on the port"])


def widest_scope(rows: Sequence[Listener]) -> str | None:
    return max((row.scope for row in rows), key=SCOPES.index, default=None)
