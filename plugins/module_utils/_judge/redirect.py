# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where packets go that rules rewrite: to another port or address of this machine, or on to a container or a neighbour."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .._model.network import BITS, network_range, spell
from .._model.ruleset import REWRITING
from .._model.vocabulary import ANSWERED
from .approach import DELIVERED, STRANGE, answers, families_of, is_loopback, is_special, unmapped
from .condition import AWAY, Packet, Stage, bounds, holds
from .path import Path
from .reach import standing, union, unmasked
from .routing import Routing
from .senders import settled
from .sets import set_ports
from .walk import Decision

if TYPE_CHECKING:
    from typing import Callable

    from .._model.firewall import Firewall
    from .._model.host import HostNetwork, Interface, Route
    from .._model.listener import Listener
    from .._model.ruleset import Hook, Rule, Table, Target
    from .._model.vocabulary import Family, Reach
    from .approach import Approach
    from .condition import Phase
    from .reach import Part, Side
    from .walk import Walk

    # Takes a packet after PREROUTING; returns it with `cast` and `leaving` as routing may set them, each with whether that is
    # sure; nothing when it is dropped. Where it leaves is None only when that is not sure.
    Router = Callable[[Packet], "list[tuple[Packet, bool]]"]

_DESTINATION = re.compile(
    r"(?:\[?(?P<low>[0-9a-fA-F:.]*?)(?:-(?P<high>[0-9a-fA-F:.]+))?\]?)?(?::(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?)?"
)
_MOST = 16  # addresses and ports that one rule may choose from
_MOST_PROBES, _FEW = 2048, 8  # ports, destinations and interfaces that are tried for one socket
_NAT = Stage("new", "prerouting", -100, whole=True)


class End(NamedTuple):
    """Where the first packet of a connection ends. packet: as it arrives; `leaving` is "" where it stays on this machine."""

    packet: Packet
    parts: tuple[Part, ...]


def choices(target: Target, destination: int | None, port: int, family: Family | None = None) -> list[tuple[int | None, int]]:
    """Return the addresses and ports that a rule sends a packet to; nothing when that is not known, or of another family.

    An address is None where it is one of the interface's own (redirect, tproxy), or depends on a destination that is not given.
    """
    if target.kind not in REWRITING and target.kind != "tproxy":
        return []
    try:
        if target.kind == "netmap":
            network = network_range(target.argument)
            return (
                []
                if family not in (network.family, None)
                else [(None if destination is None else network.first | destination & (network.last - network.first), port)]
            )
        argument = target.argument.partition(" ")[0] if target.kind == "tproxy" else target.argument
        argument = f":{argument}" if argument and target.kind == "redirect" else argument
        found = _DESTINATION.fullmatch(argument if argument.count(":") < 2 or "[" in argument else f"[{argument}]")
        if not found:
            return []
        first = int(found["first"] or port)
        ports = range(first, int(found["last"] or first) + 1)
        if found["low"]:
            low = network_range(found["low"])
            if family not in (low.family, None):
                return []
            addresses: Sequence[int | None] = range(low.first, network_range(found["high"] or found["low"]).last + 1)
            addresses = [None] if target.kind == "tproxy" and not low.first else addresses  # nf_tproxy_laddr4
        else:
            addresses = [destination if target.kind == "dnat" else None]
    except ValueError:
        return []
    if not 0 < len(ports) * len(addresses) <= _MOST or not 0 < ports[0] <= ports[-1] < 65536:
        return []
    return [(address, number) for address in addresses for number in ports]


def rewriting(tables: Iterable[Table]) -> list[tuple[Table, str, Rule]]:
    """Return the rules that rewrite what comes from outside, in a way that can be told."""
    return [
        (table, chain.name, rule)
        for table in tables
        for chain in table.chains.values()
        if chain.hook in (None, "prerouting")
        for rule in chain.rules
        if choices(rule.target, 0, 1)
    ]


def ends(side: Side, packet: Packet, route: Router) -> list[End]:
    """Follow a packet from outside to every end that it may have, each with its sources."""
    early = side.walks("new", ("ingress", "prerouting"), packet.interface)
    packets, may_drop, _masked, walks = side.passing({packet: side.segments.everything}, early)
    groups: dict[tuple[object, ...], dict[Packet, int]] = {}
    unsure = 0  # of where they go
    for passed, mask in packets.items():
        ways = route(passed)
        unsure |= 0 if len(ways) == 1 and ways[0][1] else mask
        for sent, _sure in ways:
            key = (sent.destination, sent.port, sent.origin, sent.taken, sent.cast, sent.leaving)
            group = groups.setdefault(key, {})
            group[sent] = group.get(sent, 0) | mask
    found = []
    for late in groups.values():
        doubt = may_drop | unsure
        for other in groups.values():
            doubt |= union(other) if other is not late else 0
        found.append(End(next(iter(late)), tuple(_onwards(side, packet, late, doubt, walks, route))))
    return found


def _onwards(side: Side, came: Packet, packets: dict[Packet, int], may_drop: int, walks: list[Walk], route: Router) -> list[Part]:
    """Follow the packet behind routing, the answer to it, and what comes after that."""
    sent = next(iter(packets))
    forwarded = sent.leaving != ""
    late: tuple[Hook, ...] = ("forward", "postrouting", "egress") if forwarded else ("input",)
    passed, dropped, masked, new = side.passing(packets, side.walks("new", late, sent.leaving, forwarded))

    def send(start: dict[Packet, int], phase: Phase) -> tuple[dict[Packet, int], int, list[Walk]]:
        first, last = (sent.leaving, came.interface) if phase == "reply" else (came.interface, sent.leaving)
        early: tuple[Hook, ...] = ("ingress", "prerouting")
        if phase == "reply" and not forwarded:
            halves = [side.walks(phase, ("output", "postrouting", "egress"), last)]
        else:
            halves = [side.walks(phase, early, first, forwarded), side.walks(phase, late, last, forwarded)]
        may_stop, left, met = 0, start, []

        def step(walk: Walk, packets: dict[Packet, int]) -> tuple[dict[Packet, int], int]:
            if _as_sent(walk):
                walk.run({_before(packet): mask for packet, mask in packets.items()})
                passed = {_after(packet, sent): mask for packet, mask in walk.passed.items()}
            else:
                walk.run(packets)
                passed = walk.passed
            passed, doubt = unmasked(walk, packets, passed, masked)
            return passed, walk.may_drop | doubt

        for half in halves:
            left, doubt, walks = side.in_every_order(left, half, step)
            may_stop |= doubt
            met += walks
            if phase == "established" and half is halves[0] and not forwarded and sent.cast in AWAY:
                left, doubt = _arriving(left, route)
                may_stop |= doubt
        if phase == "reply" and forwarded and (sent.origin or masked):  # an answer that is not tracked is not translated back
            may_stop |= union({packet: mask for packet, mask in left.items() if packet.tracked is not True})
        return left, may_stop, met

    later = sent._replace(mark=came.mark, tracked=came.tracked)  # what rules made of the first packet is not passed on
    return side.answered(later, passed, may_drop | dropped, walks + new, send)


def _arriving(packets: dict[Packet, int], route: Router) -> tuple[dict[Packet, int], int]:
    """Leave out who is not routed to this machine, for want of a mark perhaps; return also who may not be."""
    arriving, may_stop = {}, 0
    for packet, mask in packets.items():
        ways = route(packet)
        here = any(way.leaving == "" for way, _sure in ways)
        if here:
            arriving[packet] = mask
        may_stop |= 0 if here and len(ways) == 1 and ways[0][1] else mask
    return arriving, may_stop


def _as_sent(walk: Walk) -> bool:
    """Say whether a base chain sees the connection's packets with the address that they were sent to."""
    hook, place = walk.stage.hook, standing(walk)[0]
    if walk.stage.phase == "reply":
        return hook == "egress" or (hook == "postrouting" and place >= 100)
    return hook == "ingress" or (hook == "prerouting" and place < -100)


def _before(packet: Packet) -> Packet:
    if packet.origin is None:
        return packet
    destination, port, cast = packet.origin
    return packet._replace(destination=destination, port=port, cast=cast)


def _after(packet: Packet, sent: Packet) -> Packet:
    return packet._replace(destination=sent.destination, port=sent.port, cast=sent.cast)


class Redirects:
    """The rules of a host that rewrite, and the ways that they open to its sockets and to what lies behind it."""

    def __init__(self, host: HostNetwork, firewall: Firewall, approach: Approach) -> None:
        self._approach = approach
        self._rules = rewriting(firewall.tables)
        self._routing = Routing(host)
        self._local_elsewhere = bool(host.gaps or approach.elsewhere)  # addresses other than its own may be local
        self._sysctls = host.sysctls
        self._ends: dict[Packet, list[End]] = {}
        self._bounds = sorted({*_port_bounds(firewall.tables), *set_ports(firewall.ipsets)})

    def ends(self, packet: Packet) -> list[End]:
        found = self._ends.get(packet)
        if found is None:
            side = self._approach.filter.side(packet.family)

            def ask(port: int | None) -> dict[Packet, Sequence[Part]]:
                start = packet._replace(sport=port, mark=None if self._approach.filter.marked else packet.mark)
                # the same end from every port, whatever rules made of the packet on its way
                return {end.packet._replace(sport=None, mark=None, tracked=None): end.parts for end in ends(side, start, self.route)}

            answers: Mapping[Packet, Sequence[Part]] = ask(None)
            if any(part.reach == "maybe" for parts in answers.values() for part in parts):
                answers = settled(answers, side.senders(), ask)
            found = self._ends[packet] = [End(sent, tuple(parts)) for sent, parts in answers.items()]
        return found

    def route(self, packet: Packet) -> list[tuple[Packet, bool]]:
        """Decide as the kernel does whether a packet is for this machine, or where it leaves (fib_lookup, ip6_route_input)."""
        destination, family = packet.destination, packet.family
        if destination is not None and is_loopback(family, destination):
            localnet = self._approach.sysctl(packet.interface, "route_localnet") if family == "ipv4" else 0
            return [(packet._replace(cast="LOCAL"), localnet is not None)] if localnet != 0 else []
        if destination is None or (packet.origin is None and packet.cast not in AWAY):
            return [(packet._replace(cast="LOCAL" if packet.origin else packet.cast), True)]
        if self._approach.is_own(spell(family, destination)):
            return [(packet._replace(cast="LOCAL"), True)]
        if self._is_shared(family, destination):
            return [(packet._replace(cast="BROADCAST" if destination in self._approach.broadcasts else "MULTICAST"), False)]
        forwarding = self._forwarding(family, packet.interface)
        ways, sure = self._routing.look_up(packet, destination)
        found = []
        for way in ways:
            if way is None and (packet.taken or self._local_elsewhere):
                found.append((packet._replace(cast="FOREIGN", leaving=""), False))
            if way and way.type in DELIVERED and way.type != "local" and packet.protocol in ANSWERED:
                continue
            if way and way.type in DELIVERED:  # to rules an address is local when it is so in the table `local`
                casts = self._casts(way, family)
                found += [(packet._replace(cast=cast, leaving=""), sure and len(casts) == 1) for cast in casts]
            elif forwarding != 0 and not packet.taken:  # what has a socket is not forwarded: ip_forward
                known = sure and way is not None and way.interface is not None and family not in self._routing.policed
                leaving = way.interface if known and way else None
                found.append((packet._replace(cast="FOREIGN", leaving=leaving), known and forwarding is not None))
        return found

    def _casts(self, way: Route, family: Family) -> list[str]:
        """Say what a local address is to rules. IPv4 looks into `local`, which may be one with `main`; IPv6 asks routing."""
        if way.table == "local" and way.type == "local":
            return ["LOCAL"]
        if family == "ipv6" or way.type != "local":
            return ["ROUTED"]
        return ["LOCAL", "FOREIGN"] if way.table == "main" and family not in self._routing.policed else ["FOREIGN"]

    def _forwarding(self, family: Family, interface: str) -> int | None:
        """Return the sysctl that counts for what comes in on an interface; None when it is not known (ip6_forward)."""
        if family == "ipv4":
            return self._approach.sysctl(interface, "forwarding", both=False)
        every = self._sysctls.get("net/ipv6/conf/all/forwarding", 0)
        return every or self._sysctls.get(f"net/ipv6/conf/{interface}/force_forwarding", every)

    def into(self, row: Listener, allow: Sequence[str]) -> list[Path]:
        """Return the ways over a rewriting rule to a socket."""
        paths = []
        for family in families_of(row):
            wanted = self._ports(family, row)
            interfaces = [interface for interface in self._approach.interfaces if self._approach.hears(row, interface)] if wanted else []
            destinations = self._destinations(family, row.protocol, row) if interfaces else []
            if len(wanted) * len(destinations) * len(interfaces) > _MOST_PROBES:
                paths += self._untold(family, row)
                wanted, destinations = wanted[:_FEW], destinations[:_FEW]
            for interface in interfaces:
                for cast, destination in destinations:
                    for port in wanted:
                        packet = Packet(family, row.protocol, destination, port, interface.name, cast)
                        for end in self.ends(packet):
                            if self._leads_to(end.packet, row):
                                paths += self._paths(packet, end, self._meets(end.packet, row), allow)
        return paths

    def onwards(self, protocol: str, port: int, allow: Sequence[str], rows: Sequence[Listener]) -> list[Path]:
        """Return the ways of packets for a port of this machine that rules send on: to another socket, a container, a machine."""
        paths = []
        for family in BITS:
            if not any(self._may_concern(table, rule, family, protocol) for table, _chain, rule in self._rules):
                continue
            for interface in self._approach.interfaces:
                for cast, destination in self._destinations(family, protocol):
                    packet = Packet(family, protocol, destination, port, interface.name, cast)
                    for end in self.ends(packet) if cast != "FOREIGN" else ():
                        if end.packet.origin or end.packet.taken:
                            paths += self._paths(packet, end, self._answered(end.packet, interface, rows), allow)
        return paths

    def _paths(self, packet: Packet, end: End, meets: Reach, allow: Sequence[str]) -> list[Path]:
        target = end.packet
        text = f"port {packet.port}, which is "
        if target.taken:
            text += f"handed to the socket on {_place(*target.taken[:2])} (TPROXY)"
        elif target.destination is None or (target.leaving == "" and not is_loopback(target.family, target.destination)):
            text += f"sent on to port {target.port} of this machine"
        else:
            text += f"sent on to {_place(spell(target.family, target.destination), target.port)}"
        paths = []
        for part in end.parts:
            sources = self._approach.strangers(packet, part, allow)
            if sources and meets != "dropped":
                answer: Reach = "maybe" if meets == "maybe" else self._approach.doubted(packet.interface, part.reach)
                names = () if packet.cast == "FOREIGN" else (spell(packet.family, packet.destination or 0),)
                paths.append(Path(packet.family, packet.interface, "redirect", answer, sources, names, part.decided_by, text))
        return paths

    @staticmethod
    def _leads_to(packet: Packet, row: Listener) -> bool:
        """Say whether a packet that rules sent elsewhere is for the socket's port on this machine."""
        if packet.taken:
            return packet.leaving == "" and packet.taken[:2] == (row.address, row.port)
        return bool(packet.origin) and packet.leaving == "" and packet.port == row.port

    def _untold(self, family: Family, row: Listener) -> list[Path]:
        """Return a way that may be open for each rule that leads to a socket, perhaps, where there are too many ways to try."""
        everyone = ((0, (1 << BITS[family]) - 1),)
        return [
            Path(family, "any", "redirect", "maybe", everyone, (), (decision_of(table, chain, rule),), "")
            for table, chain, rule in self._rules
            if self._leads(table, rule, family, row)
        ]

    def _answered(self, packet: Packet, interface: Interface, rows: Sequence[Listener]) -> Reach:
        """Say whether somebody takes the packet. Of another machine, or a container, that is not asked."""
        if packet.leaving != "":
            return "accepted"
        port = packet.taken[1] if packet.taken else packet.port
        here = [row for row in rows if (row.protocol, row.port) == (packet.protocol, port) and packet.family in families_of(row)]
        answers = {self._meets(packet, row) for row in here if self._approach.hears(row, interface)}
        return "accepted" if "accepted" in answers else "maybe" if "maybe" in answers else "dropped"

    def _meets(self, packet: Packet, row: Listener) -> Reach:
        """Say whether the socket takes a packet for its port on this machine."""
        if packet.taken:
            return "dropped" if packet.taken[:2] != (row.address, row.port) else "accepted" if row.transparent else "maybe"
        if row.scope == "wildcard" and packet.cast in AWAY:
            answered = answers(row, packet.family, packet.cast)
            return "maybe" if answered is None else "accepted" if answered else "dropped"
        if row.scope == "wildcard":
            return "accepted" if packet.cast in ("LOCAL", "ANYCAST") or row.protocol in ("udp", "udplite") else "dropped"
        address = unmapped(row.address)
        if packet.destination is None:  # one of the interface's addresses
            here = {
                own.partition("/")[0] for entry in self._approach.interfaces if entry.name == packet.interface for own in entry.addresses
            }
            return "maybe" if address in here else "dropped"
        return "accepted" if network_range(address).first == packet.destination else "dropped"

    def _may_concern(self, table: Table, rule: Rule, family: Family, protocol: str) -> bool:
        if table.family not in ("inet", "ip" if family == "ipv4" else "ip6"):
            return False
        probe = Packet(family, protocol, None, 0, "")
        asked = [match for match in rule.matches if match.field in ("protocol", "family", "in_interface")]
        return all(holds(match, probe, _NAT) is not False for match in asked)

    def _leads(self, table: Table, rule: Rule, family: Family, row: Listener) -> bool:
        """Say whether a rule may send packets to the socket's port on this machine."""
        if rule.target.kind == "tproxy" and row.transparent is False:
            return False
        return self._may_concern(table, rule, family, row.protocol) and any(
            port == row.port and (address is None or rule.target.kind == "tproxy" or self._may_be_here(family, address))
            for address, port in choices(rule.target, None, row.port, family)
        )

    def _may_be_here(self, family: Family, address: int) -> bool:
        here = is_loopback(family, address) or self._approach.is_own(spell(family, address)) or self._approach.is_elsewhere(family, address)
        return here or self._is_shared(family, address)

    def _is_shared(self, family: Family, address: int) -> bool:
        return is_special(family, address) or (family == "ipv4" and address in self._approach.broadcasts)

    def _ports(self, family: Family, row: Listener) -> list[int]:
        """Return one of each kind of port that rules may turn into the socket's, as far as rules tell ports apart."""
        found: set[int] = set()
        for table, _chain, rule in self._rules:
            if not self._leads(table, rule, family, row):
                continue
            other = row.port ^ 1 or 2
            if choices(rule.target, None, other)[0][1] == other:
                found.add(row.port)  # the rule keeps the port
                continue
            named = [match for match in rule.matches if match.field == "destination_port" and not match.negated]
            for value in named[0].values if named else ("1:65535",):
                low, high = bounds(value)
                found.update(bound for bound in (low, *self._bounds) if low <= bound <= high)
        return sorted(found)

    def _destinations(self, family: Family, protocol: str, row: Listener | None = None) -> list[tuple[str, int]]:
        """Return one address of each kind that rules tell apart: of this machine, loopback (IPv4), and foreign ones."""
        found = [(group.cast, group.addresses[0]) for group in self._approach.own_destinations(family)]
        others = {*self._approach.one_of_each(family, 0, (1 << BITS[family]) - 1), *STRANGE[family]}
        if row and row.scope != "wildcard":
            others |= self._mapped(family, network_range(unmapped(row.address)).first, [*others, *(address for _cast, address in found)])
        for address in sorted(others):
            if self._approach.is_own(spell(family, address)) and not is_loopback(family, address):
                continue
            if family == "ipv4" and is_loopback(family, address):
                found.append(("LOCAL", address))
            elif not is_special(family, address):
                found.append(("ROUTED" if self._approach.is_elsewhere(family, address) else "FOREIGN", address))
        if protocol in ("udp", "udplite"):
            found += self._approach.shared_destinations(family)
        return found

    def _mapped(self, family: Family, address: int, destinations: Iterable[int]) -> set[int]:
        """Return the destinations that a NETMAP turns into an address."""
        found = set()
        for _table, _chain, rule in self._rules:
            if rule.target.kind == "netmap" and (network := network_range(rule.target.argument)).family == family:
                rest = network.last - network.first
                if network.first <= address <= network.last:
                    found |= {destination & ~rest | address & rest for destination in destinations}
        return found


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def decision_of(table: Table, chain: str, rule: Rule) -> Decision:
    return Decision(table.backend, table.family, table.name, chain, rule.number, rule.text, rule.handle)


def _port_bounds(tables: Iterable[Table]) -> list[int]:
    """Return every port at which some rule begins, or ends, to hold."""
    found: set[int] = set()
    for table in tables:
        for chain in table.chains.values():
            for rule in chain.rules:
                for match in rule.matches:
                    if match.field in ("destination_port", "any_port", "ct_original_port"):
                        for low, high in map(bounds, match.values):
                            found.update((low, high + 1))
    return sorted(found - {65536})
