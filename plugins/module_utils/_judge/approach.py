# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets to a socket from outside by its own address: every interface, every destination, every source."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from .._model.network import BITS, network_range, numbers, spell, subtract
from .._model.ruleset import REWRITING, outward
from .._model.vocabulary import ANSWERED
from .discovery import listens
from .path import Path

if TYPE_CHECKING:
    from .._model.evidence import Evidence
    from .._model.host import Interface, Route
    from .._model.listener import Listener
    from .._model.ruleset import Target
    from .._model.vocabulary import Family, Reach, Via
    from .condition import Packet
    from .reach import Filter, Part
    from .redirect import Redirects
    from .sockets import Sockets

# Never the source of a packet that the kernel takes from outside: fib_validate_source, ip_route_input_slow, ip6_rcv_core.
_IMPOSSIBLE = {
    "ipv4": ("0.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32"),
    "ipv6": ("::1/128", "ff00::/8"),
}
_LOOPBACK_V4 = (127 << 24, (128 << 24) - 1)
_GROUPS = {"ipv4": (224 << 24, (240 << 24) - 1), "ipv6": (0xFF << 120, (1 << 128) - 1)}
_EVERYONE = (1 << 32) - 1  # 255.255.255.255
STRANGE = {"ipv4": (0x7F000001, 0x01000001), "ipv6": (0x0200 << 112 | 1, 0x20010DB8 << 96 | 1)}  # in no network of this machine
_STACKED = ("vlan", "macvlan", "ipvlan", "macsec", "bridge", "bond", "team")  # on top of another interface
_TUNNELS = frozenset(
    (
        "vxlan",
        "geneve",
        "gre",
        "gretap",
        "erspan",
        "ip6gre",
        "ip6gretap",
        "ip6erspan",
        "ipip",
        "sit",
        "ip6tnl",
        "vti",
        "vti6",
        "xfrm",
        "wireguard",
        "tun",
        "gtp",
    )
)
_CARRIERS = frozenset(("esp", "ah", "gre", "ipip", "ipencap", "ipv6", "4", "41", "47", "50", "51"))  # protocols of packets around others
_LONG = 1024  # elements of a set
DELIVERED = ("local", "anycast", "broadcast")  # types of routes that end here; nobody connects to the last two
_MOST_KINDS = 64  # of addresses that are local by a route alone
_BRIDGES = ("bridge", "bond", "team", "openvswitch")


class _Destinations(NamedTuple):
    """Addresses that lead to a socket and that no rule tells apart, or one of a network. cast: see Packet."""

    cast: str
    addresses: tuple[int, ...]
    network: str = ""


class Approach:
    """The host seen from outside. names: its addresses as text. interfaces: those on which packets come in."""

    def __init__(self, evidence: Evidence) -> None:
        host, firewall = evidence.host, evidence.firewall
        self._sysctls, self._blind = host.sysctls, bool(firewall.gaps)
        self._evidence = evidence
        self._sockets: Sockets | None = None
        self._kinds = {entry.name: entry.kind for entry in host.interfaces}
        self.interfaces = [entry for entry in host.interfaces if not entry.loopback and self._kinds.get(entry.master or "") not in _BRIDGES]
        self._loopbacks = {entry.name for entry in host.interfaces if entry.loopback}
        self._networks = [network_range(address) for entry in host.interfaces for address in entry.addresses]
        self.names = frozenset(address.partition("/")[0] for entry in host.interfaces for address in entry.addresses)
        own = [network_range(name) for name in self.names]
        self._own = {family: sorted({entry.first for entry in own if entry.family == family}) for family in BITS}
        # of IPv4; sent to the machines of a network
        self.broadcasts = {entry.last for entry in self._networks if entry.family == "ipv4" and entry.last > entry.first + 1}
        # AnyIP: what is for this machine by a route alone
        self.elsewhere = [route for route in host.routes if route.type in DELIVERED and not self.is_own(route.destination)]
        self._tests = _destination_tests(evidence, self._own, self.elsewhere)
        self._reached: dict[Packet, list[Part]] = {}
        self._local: dict[Family, list[_Destinations]] = {}
        self._cast: dict[Family, list[_Destinations]] = {}
        self._strange: dict[Family, list[_Destinations]] = {}
        self.uncounted = False  # whether there were more kinds of them than are tried
        self.redirects: Redirects | None = None
        leading = REWRITING | {"tproxy"}
        if self.elsewhere or any(
            rule.target.kind in leading for table in firewall.tables for chain in table.chains.values() for rule in chain.rules
        ):
            from .redirect import Redirects

            self.redirects = Redirects(host, firewall, self)

    @cached_property
    def filter(self) -> Filter:
        """The packet filter; a service that nobody can send a packet to needs none."""
        from .reach import Filter

        firewall, sysctls = self._evidence.firewall, self._sysctls
        helped = sysctls.get("net/netfilter/nf_conntrack_helper") == 1
        fast_open = sysctls.get("net/ipv4/tcp_fastopen") or 0
        marked = _may_be_marked(self._evidence)
        return Filter(
            firewall.tables,
            firewall.ipsets,
            marked,
            self._rewrite,
            helped=helped,
            fast_open=fast_open,
            sockets=self._sockets_of_host,
        )

    def is_own(self, destination: str) -> bool:
        """Say whether a local network is one of the host's addresses, or loopback."""
        network = network_range(destination)
        if network.family == "ipv4" and network.first >= _LOOPBACK_V4[0] and network.last <= _LOOPBACK_V4[1]:
            return True
        return network.first == network.last and (network.first in self._own[network.family] or network.text == "::1/128")

    def is_elsewhere(self, family: Family, address: int) -> bool:
        """Say whether an address may be local by a route alone."""
        networks = (network_range(route.destination) for route in self.elsewhere if route.family == family)
        return any(network.first <= address <= network.last for network in networks)

    def paths(self, row: Listener, allow: Sequence[str]) -> list[Path]:
        """Return the ways to a socket past the packet filter for all sources but those of `allow`."""
        if row.interface in self._loopbacks:
            return []
        paths = []
        for family in families_of(row):
            for interface in self.interfaces:
                if self.hears(row, interface):
                    paths += self._on(interface, family, row, allow)
        return paths + (self.redirects.into(row, allow) if self.redirects else [])

    def hears(self, row: Listener, interface: Interface) -> bool:
        if row.interface is None or "interface" in row.unknowns or row.interface == interface.name:
            return True
        # In a VRF the INPUT hook sees the VRF as the interface, and PREROUTING both.
        pair = (row.interface, interface.name)
        return any(self._kinds.get(name) == "vrf" for name in pair)

    def _on(self, interface: Interface, family: Family, row: Listener, allow: Sequence[str]) -> list[Path]:
        paths = []
        groups: list[tuple[Via, _Destinations]] = []
        if row.scope != "loopback":
            groups += [("bind", group) for group in self._destinations(row, family)]
        localnet = self.sysctl(interface.name, "route_localnet") if family == "ipv4" else 0
        if localnet != 0 and row.scope in ("loopback", "wildcard"):
            groups += [("route_localnet", group) for group in self._loopback_destinations(row)]
        if not groups:
            return []
        from .condition import Packet

        for via, group in groups:
            packet = Packet(family, row.protocol, group.addresses[0], row.port, interface.name, group.cast)
            for part, cast in self._reach(packet):
                sources = self.strangers(packet, part, allow)
                answered = answers(row, family, cast)
                if sources and answered is not False:
                    doubt = answered is None or (via == "route_localnet" and localnet is None)
                    answer: Reach = "maybe" if doubt else self.doubted(interface.name, part.reach)
                    names = (group.network,) if group.network else tuple(spell(family, address) for address in group.addresses)
                    paths.append(Path(family, interface.name, via, answer, sources, names, part.decided_by, ""))
        return paths

    def _reach(self, packet: Packet) -> Sequence[tuple[Part, str]]:
        """Divide all sources by what happens to a packet that nothing rewrites; tell also what its destination is here."""
        if self.redirects:
            straight = [
                end for end in self.redirects.ends(packet) if not (end.packet.origin or end.packet.taken or end.packet.leaving != "")
            ]
            return [(part, end.packet.cast) for end in straight for part in end.parts]
        if packet not in self._reached:
            self._reached[packet] = self.filter.reach(packet)
        return [(part, packet.cast) for part in self._reached[packet]]

    def _rewrite(self, target: Target, packet: Packet) -> list[Packet]:
        """Return what a target may make of where a packet goes."""
        if target.kind not in REWRITING:
            return []
        from .redirect import choices

        origin = packet.destination, packet.port, packet.cast
        there = self._only_address(packet) if target.kind == "redirect" else None
        found = choices(target, packet.destination, packet.port, packet.family)
        return [packet._replace(destination=there if address is None else address, port=port, origin=origin) for address, port in found]

    def _only_address(self, packet: Packet) -> int | None:
        """Return the address of the interface where a packet came in, None when it has several."""
        addresses = self._addresses_on(packet.family, packet.interface)
        return addresses[0] if len(addresses) == 1 else None

    def _addresses_on(self, family: Family, interface: str) -> list[int]:
        own = {network_range(text.partition("/")[0]) for entry in self.interfaces if entry.name == interface for text in entry.addresses}
        return [entry.first for entry in own if entry.family == family]

    def _sockets_of_host(self) -> Sockets:
        if self._sockets is None:
            from .sockets import Sockets

            evidence = self._evidence
            rows = [row for row in evidence.listeners if row.namespace == evidence.namespace and listens(row)]
            complete = all(gap.subject == "processes" for gap in evidence.listener_gaps)
            self._sockets = Sockets(rows, complete, self._addresses_on)
        return self._sockets

    def strangers(self, packet: Packet, part: Part, allow: Sequence[str]) -> tuple[tuple[int, int], ...]:
        """Return the sources of a part that count: not dropped, not allowed, and not all of them impossible."""
        sources = () if part.reach == "dropped" else tuple(subtract(part.sources, allowed(allow, packet.family)))
        return sources if subtract(sources, self._no_strangers(packet)) else ()

    def doubted(self, name: str, answer: Reach) -> Reach:
        """Return `maybe` where something may decide that was not read, or that no rule shows."""
        unseen = self._blind or any(entry.xdp or entry.tc for entry in self.interfaces if entry.name == name)
        return "maybe" if unseen else answer

    def _destinations(self, row: Listener, family: Family) -> list[_Destinations]:
        if row.scope != "wildcard":
            address = network_range(unmapped(row.address)).first
            first, last = _GROUPS[family]
            away = self.is_elsewhere(family, address) and not self.is_own(spell(family, address))
            return [_Destinations("MULTICAST" if first <= address <= last else "ROUTED" if away else "LOCAL", (address,))]
        # a datagram also comes by broadcast, to a group, or to an anycast address
        datagrams = self._datagrams(family) if row.protocol in ("udp", "udplite") else []
        return self.own_destinations(family) + self._elsewhere(family) + datagrams

    def _elsewhere(self, family: Family) -> list[_Destinations]:
        """Return one address of each kind among those that are local by a route alone."""
        if family not in self._strange:
            self._strange[family] = list(itertools.islice(self._strange_kinds(family), _MOST_KINDS + 1))
            self.uncounted = self.uncounted or len(self._strange[family]) > _MOST_KINDS
        return self._strange[family]

    def _strange_kinds(self, family: Family) -> Iterator[_Destinations]:
        for route in self.elsewhere:
            if route.family == family:
                network = network_range(route.destination)
                inside = [one for one in STRANGE[family] if network.first <= one <= network.last]
                for address in sorted({*self.one_of_each(family, network.first, network.last), *inside}):
                    if not is_special(family, address) and not is_loopback(family, address) and not self.is_own(spell(family, address)):
                        yield _Destinations("ROUTED", (address,), route.destination)

    def _datagrams(self, family: Family) -> list[_Destinations]:
        if family not in self._cast:
            networks = [
                entry
                for entry in self._networks
                if entry.family == family and entry.last > entry.first + 1 and not is_loopback(family, entry.first)
            ]
            self._cast[family] = self._grouped("MULTICAST", family, self.one_of_each(family, *_GROUPS[family]))
            if family == "ipv4":
                self._cast[family] += self._grouped("BROADCAST", family, [_EVERYONE, *(entry.last for entry in networks)])
            else:
                self._cast[family] += self._grouped("ANYCAST", family, [entry.first for entry in networks])
        return self._cast[family]

    def shared_destinations(self, family: Family) -> list[tuple[str, int]]:
        """Return broadcast addresses, and one address of each kind of group."""
        found = [("MULTICAST", address) for address in self.one_of_each(family, *_GROUPS[family])]
        if family == "ipv4":
            found += [("BROADCAST", address) for address in sorted({_EVERYONE, *self.broadcasts})]
        return found

    def own_destinations(self, family: Family) -> list[_Destinations]:
        """Return the addresses of this machine that lead in from outside."""
        if family not in self._local:
            addresses = [address for address in self._own[family] if not is_loopback(family, address)]
            self._local[family] = self._grouped("LOCAL", family, addresses)
        return self._local[family]

    def _loopback_destinations(self, row: Listener) -> list[_Destinations]:
        if row.scope == "loopback":
            return [_Destinations("LOCAL", (network_range(unmapped(row.address)).first,))]
        return [_Destinations("LOCAL", (address,)) for address in self.one_of_each("ipv4", *_LOOPBACK_V4)]

    def _grouped(self, cast: str, family: Family, addresses: Iterable[int]) -> list[_Destinations]:
        """Put together the addresses that no rule tells apart."""
        groups: dict[tuple[bool, ...], list[int]] = {}
        for address in dict.fromkeys(addresses):
            groups.setdefault(tuple(first <= address <= last for first, last in self._tests[family]), []).append(address)
        return [_Destinations(cast, tuple(members)) for members in groups.values()]

    def one_of_each(self, family: Family, first: int, last: int) -> list[int]:
        """Return one address of each part of a range that rules can tell apart."""
        bounds = {first}
        for low, high in self._tests[family]:
            bounds.update(bound for bound in (low, high + 1) if first <= bound <= last)
        return sorted(bounds)

    def _no_strangers(self, packet: Packet) -> list[tuple[int, int]]:
        """Return the sources that need no judging: impossible ones, and the machine itself."""
        impossible = [network_range(text)[1:3] for text in _IMPOSSIBLE[packet.family]]
        if packet.family == "ipv6":
            if packet.protocol not in ANSWERED:
                return impossible
            # Of an answer that stays here, or goes nowhere, no connection comes about; a datagram needs none.
            return [*impossible, (0, 0), *((own, own) for own in self._own["ipv6"])]
        if packet.destination == _EVERYONE:  # 0.0.0.0 asks for its address this way (DHCP)
            impossible = impossible[1:]
        if self.sysctl(packet.interface, "route_localnet") == 0:
            impossible.append(_LOOPBACK_V4)
        if self.sysctl(packet.interface, "accept_local") == 0:
            impossible += [(own, own) for own in self._own["ipv4"]]
        return impossible

    def sysctl(self, interface: str, name: str, both: bool = True) -> int | None:
        """Return the effective value: the interface's own, or (`both`) the larger of it and `all`; None when one is not known."""
        values = [self._sysctls.get(f"net/ipv4/conf/{scope}/{name}") for scope in (("all", interface) if both else (interface,))]
        return None if None in values else max(value for value in values if value is not None)


def allowed(allow: Sequence[str], family: Family) -> list[tuple[int, int]]:
    return [entry[1:3] for entry in map(network_range, allow) if entry.family == family]


def answers(row: Listener, family: Family, cast: str) -> bool | None:
    """Say whether a socket takes what is routed to it; IPv4 answers from an address of the table `local` alone: __ip_dev_find."""
    return True if cast not in ("FOREIGN", "ROUTED") or family == "ipv6" or row.protocol not in ANSWERED else row.transparent


def families_of(row: Listener) -> tuple[Family, ...]:
    """Return the families of the packets that a socket takes."""
    if row.family == "ipv4" or unmapped(row.address) != row.address:
        return ("ipv4",)
    if row.address == "::" and row.v6only is not True:
        return ("ipv4", "ipv6")
    return ("ipv6",)


def unmapped(address: str) -> str:
    """Return the IPv4 address that an IPv4-mapped one stands for; `::10.0.0.1` (IPv4-compatible) is none."""
    return address[7:] if address.startswith("::ffff:") and "." in address else address


def is_loopback(family: Family, address: int) -> bool:
    return address >> 24 == 127 if family == "ipv4" else address == 1


def is_special(family: Family, address: int) -> bool:
    """Say whether no packet goes to the address as to one machine: unspecified, a group, broadcast."""
    first, last = _GROUPS[family]
    return first <= address <= last or address == _EVERYONE or address >> (24 if family == "ipv4" else 0) == 0


def _destination_tests(
    evidence: Evidence, own: Mapping[Family, Sequence[int]], elsewhere: Iterable[Route]
) -> dict[Family, list[tuple[int, int]]]:
    """Return every range by which some rule may tell destinations apart; in an answer they are the source.

    elsewhere: what is local by a route alone. Where there is some, other routes and their rules tell as well.
    """
    found: dict[Family, set[tuple[int, int]]] = {"ipv4": set(), "ipv6": set()}
    if any(elsewhere):
        networks = [route.destination for route in evidence.host.routes] + [rule.destination or "" for rule in evidence.host.rules]
        for family, first, last in map(numbers, filter(None, networks)):
            found[family].add((first, last))
    here = {family: [(one, one) for one in own[family]] for family in BITS}
    here["ipv4"].append((_LOOPBACK_V4[0] + 1,) * 2)
    for family, first, last in (numbers(route.destination) for route in elsewhere):
        here[family].append((first, last))
    rules = [rule for table in evidence.firewall.tables for chain in table.chains.values() for rule in chain.rules]
    looked_up = any(rule.target.kind == "tproxy" or any(match.field == "socket" for match in rule.matches) for rule in rules)
    for row in evidence.listeners if looked_up else ():
        if row.protocol in ("tcp", "udp") and row.scope != "wildcard":
            family, first, last = numbers(unmapped(row.address))
            found[family].add((first, last))
    sets = set()
    for table in evidence.firewall.tables:
        answers = outward(table)
        for chain in table.chains.values():
            for rule in chain.rules:
                for match in rule.matches:
                    if match.field == "set":
                        sets.add(match.values[0].partition(" ")[0])
                    elif match.field in ("destination", "ct_original_destination"):
                        for family, first, last in map(numbers, match.values):
                            found[family].add((first, last))
                    elif match.field == "source" and chain.name in answers:  # maybe a long list of strangers
                        for family, first, last in map(numbers, match.values):
                            if any(first <= high and low <= last for low, high in here[family]):
                                found[family].add((first, last))
    for name in sets & evidence.firewall.ipsets.keys():
        from .sets import members

        for family in found:
            bounds = list(members(name, evidence.firewall.ipsets, family).bounds())
            if len(bounds) > _LONG:
                bounds = [(first, last) for first, last in bounds if any(first <= high and low <= last for low, high in here[family])]
            found[family].update(bounds)
    return {family: sorted(ranges) for family, ranges in found.items()}


def _may_be_marked(evidence: Evidence) -> bool:
    """Say whether a packet may have a mark that no rule on its own way has set.

    A tc program sets one; and a packet keeps what was set on the port of a bridge, or on the packet around it (a tunnel).
    """
    interfaces = evidence.host.interfaces
    stacked = any(entry.master or entry.kind in _STACKED for entry in interfaces)
    tunnels = any(entry.kind in _TUNNELS for entry in interfaces)
    for table in evidence.firewall.tables:
        for chain in table.chains.values():
            for rule in chain.rules:
                if rule.target.kind != "mark":
                    continue
                carries = any(match.field == "protocol" and not _CARRIERS.isdisjoint(match.values) for match in rule.matches)
                if tunnels or carries or (stacked and chain.hook in ("ingress", None)):
                    return True
    return any(entry.tc for entry in interfaces)
