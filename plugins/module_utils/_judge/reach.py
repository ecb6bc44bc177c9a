# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sources get a new packet to a local port past a packet filter, and which rule decides.

The answer has three values. A match that cannot be evaluated may hold and may not, so its rule adds to what may happen
and takes nothing away. A base chain says of every source what may be accepted and what may be dropped:
everything that may not be dropped is accepted, everything that may not be accepted is dropped, the rest is `maybe`.
Every base chain of every hook on the way must let the packet pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .._model.network import BITS, network_range
from .._model.ruleset import Chain, Match, Rule, SetElements, Table, Target
from .segments import Segments

if TYPE_CHECKING:
    from .._model.vocabulary import Family, Reach

_FAMILY_TABLES = {"ipv4": ("ip", "inet", "netdev"), "ipv6": ("ip6", "inet", "netdev")}
_HOOKS = ("ingress", "prerouting", "input")
_NUMBERS = {"tcp": "6", "udp": "17", "udplite": "136", "sctp": "132", "dccp": "33"}
_CONNTRACK = -200  # NF_IP_PRI_CONNTRACK: the priority at which prerouting packets are tracked
_PASSES = ("continue", "mark", "notrack")
# What is fixed in the first packet of a TCP connection; every other flag is the sender's choice.
_SYN = {"syn": True, "ack": False, "rst": False, "fin": False}


class Packet(NamedTuple):
    """The first packet of a connection, of which only the source is free. destination: the address as a number.

    cast: what the destination is here: LOCAL, BROADCAST, MULTICAST or ANYCAST.
    """

    family: Family
    protocol: str
    destination: int
    port: int
    interface: str
    cast: str = "LOCAL"


class Decision(NamedTuple):
    """The rule that decides; rule 0 is the policy of the chain."""

    backend: str
    family: str
    table: str
    chain: str
    rule: int
    text: str


class Part(NamedTuple):
    """Sources that meet the same fate for the same reason. decided_by: rules that might decide, then the one that does."""

    reach: Reach
    sources: tuple[tuple[int, int], ...]
    decided_by: tuple[Decision, ...]


class Context(NamedTuple):
    """What the whole filter implies. marks, untracked: some rule sets a mark, or takes packets from tracking.

    state: what connection tracking says of the first packet where a rule stands, None when that is not known.
    whole: the packet is not a fragment where a rule stands; only tracking puts fragments together.
    """

    tables: Sequence[Table]
    ipsets: Mapping[str, SetElements]
    marks: bool
    untracked: bool
    state: str | None = "NEW"
    whole: bool = True


class _Entry(NamedTuple):
    ranges: tuple[tuple[tuple[tuple[int, int], ...], bool], ...]  # each: bounds, negated; all of them must hold
    certain: bool
    target: Target
    rule: Rule


class _Hit(NamedTuple):
    mask: int
    kind: str  # accept, drop or opaque
    certain: bool
    decision: Decision


def context_of(tables: Sequence[Table], ipsets: Mapping[str, SetElements]) -> Context:
    kinds = {rule.target.kind for table in tables for chain in table.chains.values() for rule in chain.rules}
    opaque = "opaque" in kinds
    return Context(tables, ipsets, marks=opaque or "mark" in kinds, untracked=opaque or "notrack" in kinds)


def reach(context: Context, packet: Packet) -> list[Part]:
    """Divide all sources by what happens to the packet. Tables of another family do not take part."""
    walks = [
        _Walk(context, table, chain, packet)
        for table in context.tables
        if table.family in _FAMILY_TABLES[packet.family]
        for chain in table.chains.values()
        if chain.hook in _HOOKS and (chain.hook != "ingress" or packet.interface in chain.devices)
    ]
    walks.sort(key=lambda walk: (_HOOKS.index(walk.chain.hook or "input"), walk.chain.priority or 0))
    bounds = {bound for walk in walks for bound in walk.bounds()}
    segments = Segments((1 << BITS[packet.family]) - 1, bounds)
    accepted, blocked = segments.everything, 0
    for walk in walks:
        walk.run(segments)
        accepted &= ~walk.may_drop
        blocked |= segments.everything & ~walk.may_accept
    parts = [Part("dropped", tuple(segments.ranges(blocked)), ())] if blocked else []
    parts += _explained("accepted", accepted, walks, segments)
    parts += _explained("maybe", segments.everything & ~accepted & ~blocked, walks, segments)
    return parts


def _explained(answer: Reach, mask: int, walks: list[_Walk], segments: Segments) -> list[Part]:
    """Divide a set by the rules that decide, chain by chain. Policies that let pass are named only where no rule decides."""
    if not mask:
        return []
    policies = [walk.policy() for walk in walks if walk.chain.hook == "input" and walk.chain.type != "nat"]
    policies.sort(key=lambda decision: decision.table != "filter")
    pieces: dict[tuple[Decision, ...], int] = {(): mask}
    for walk in walks:
        divided: dict[tuple[Decision, ...], int] = {}
        for before, piece in pieces.items():
            for decisions, share in walk.explain(piece):
                key = before + decisions
                divided[key] = divided.get(key, 0) | share
        pieces = divided
    return [Part(answer, tuple(segments.ranges(piece)), key or tuple(policies[:1])) for key, piece in pieces.items()]


class _Walk:
    """The way of one packet through one base chain and the chains that it calls."""

    def __init__(self, context: Context, table: Table, chain: Chain, packet: Packet) -> None:
        self.table, self.chain, self.may_accept, self.may_drop = table, chain, 0, 0
        self._packet = packet
        self._context = context._replace(state=_state(chain, context), whole=_whole(table, chain))
        self._compiled: dict[str, list[_Entry]] = {}
        self._hits: list[_Hit] = []
        self._compile(chain)

    def _compile(self, start: Chain) -> None:
        waiting = [start]
        while waiting:
            chain = waiting.pop()
            if chain.name in self._compiled:
                continue
            entries = self._compiled[chain.name] = []
            for rule in chain.rules:
                entry = _entry(rule, self._packet, self._context)
                if entry is None:
                    continue
                entries.append(entry)
                target = self.table.chains.get(entry.target.argument)
                if entry.target.kind in ("jump", "goto") and target is not None:
                    waiting.append(target)

    def bounds(self) -> set[tuple[int, int]]:
        return {
            bound for entries in self._compiled.values() for entry in entries for condition, _negated in entry.ranges for bound in condition
        }

    def run(self, segments: Segments) -> None:
        self._segments = segments
        rest = self._chain(self.chain.name, segments.everything, True, ())
        self._decide(rest, self.chain.policy or "accept", True, self.policy())

    def policy(self) -> Decision:
        return self._decision(self.chain.name, 0, f"policy {(self.chain.policy or 'accept').upper()}")

    def _decision(self, chain: str, number: int, text: str) -> Decision:
        return Decision(self.table.backend, self.table.family, self.table.name, chain, number, text)

    def _decide(self, mask: int, kind: str, certain: bool, decision: Decision) -> None:
        if not mask:
            return
        if kind != "drop":
            self.may_accept |= mask
        if kind != "accept":
            self.may_drop |= mask
        self._hits.append(_Hit(mask, kind, certain, decision))

    def _chain(self, name: str, may: int, certain: bool, callers: tuple[str, ...]) -> int:
        """Walk one chain with the sources that may be in it; return those that may fall out at its end."""
        returned = 0
        for entry in self._compiled[name]:
            if not may:
                break
            mask = may & self._sources(entry)
            kind = entry.target.kind
            if not mask or kind in _PASSES:
                continue
            sure = certain and entry.certain
            known_chain = entry.target.argument in self._compiled and entry.target.argument not in (*callers, name)
            if kind in ("jump", "goto") and known_chain:
                fell = self._chain(entry.target.argument, mask, sure, (*callers, name))
                if kind == "goto":
                    returned |= fell
                    may = may & ~mask if entry.certain else may
                elif entry.certain:
                    may = (may & ~mask) | fell
                continue
            if kind == "return":
                returned |= mask
            elif kind in ("accept", "drop", "snat"):  # snat ends its chain, and the packet goes on
                self._decide(mask, "drop" if kind == "drop" else "accept", sure, self._decision(name, entry.rule.number, entry.rule.text))
            else:  # it may accept, drop, rewrite or do nothing
                self._decide(mask, "opaque", False, self._decision(name, entry.rule.number, entry.rule.text))
                continue
            if entry.certain:
                may &= ~mask
        return returned | may

    def _sources(self, entry: _Entry) -> int:
        mask = self._segments.everything
        for bounds, negated in entry.ranges:
            found = 0
            for first, last in bounds:
                found |= self._segments.mask(first, last)
            mask &= ~found if negated else found
        return mask

    def explain(self, mask: int) -> list[tuple[tuple[Decision, ...], int]]:
        """Divide a set by what decides in this base chain; a policy that lets pass says nothing by itself."""
        pieces = []
        possible: list[_Hit] = []
        for hit in self._hits:
            share = hit.mask & mask
            if not share:
                continue
            if not hit.certain:
                possible.append(hit)
                continue
            mask &= ~share
            doubts = tuple(doubt.decision for doubt in possible if doubt.mask & share)
            silent = hit.decision.rule == 0 and hit.kind == "accept" and not doubts
            pieces.append(((), share) if silent else ((*doubts, hit.decision), share))
        if mask:
            pieces.append((tuple(doubt.decision for doubt in possible if doubt.mask & mask), mask))
        return pieces


def _entry(rule: Rule, packet: Packet, context: Context) -> _Entry | None:
    """Return what is left of a rule when all but the source is known; None when it cannot match."""
    certain = True
    ranges = []
    for match in rule.matches:
        bounds = _source_bounds(match, packet, context)
        if bounds is not None:
            if not bounds and not match.negated:
                return None
            ranges.append((bounds, match.negated))
            continue
        answer = holds(match, packet, context)
        if answer is False:
            return None
        certain = certain and answer is True
    return _Entry(tuple(ranges), certain, rule.target, rule)


def _source_bounds(match: Match, packet: Packet, context: Context) -> tuple[tuple[int, int], ...] | None:
    """Return the sources that a match names, None when it is about something else or not known."""
    if match.field == "source":
        found = [network_range(value) for value in match.values]
        if any(entry.family != packet.family for entry in found):
            return None
        return tuple((entry.first, entry.last) for entry in found)
    return None


def holds(match: Match, packet: Packet, context: Context) -> bool | None:
    """Say whether a match that is not about the source holds for the packet; None when that is not known."""
    answer = _holds(match, packet, context)
    return answer if answer is None or not match.negated or match.field in ("source", "destination") else not answer


def _holds(match: Match, packet: Packet, context: Context) -> bool | None:
    field, values = match.field, match.values
    if field == "protocol":
        number = _NUMBERS.get(packet.protocol, packet.protocol)
        return any(value in (packet.protocol, number, "all", "0") for value in values)
    if field == "in_interface":
        return any(_interface(value, packet.interface) for value in values)
    if field == "out_interface":
        return any(value in ("+", "*") for value in values)
    if field == "destination":
        found = [network_range(value) for value in values]
        if any(entry.family != packet.family for entry in found):
            return False
        inside = any(entry.first <= packet.destination <= entry.last for entry in found)
        return inside != match.negated
    if field == "source":  # of the other family; in an inet table it cannot hold, negated or not
        return False
    if field == "destination_port":
        return _port(values, packet.port)
    if field == "source_port":
        return True if any(_all_ports(value) for value in values) else None
    if field == "any_port":
        return True if _port(values, packet.port) else None
    if field == "ct_state":
        return None if context.state is None else context.state in values
    if field == "tcp_flags":
        return _flags(values, packet.protocol) if context.whole else None
    if field == "mark":
        return None if context.marks else _mark_zero(values)
    if field == "ct_mark":
        return None if context.marks or context.state != "NEW" else _mark_zero(values)
    if field == "destination_type":
        # The kernel's tables do not agree on what an IPv6 group or anycast address is.
        return packet.cast in values if packet.cast == "LOCAL" or packet.family == "ipv4" else None
    if field == "family":
        return packet.family in values
    if field in ("icmp_type", "fragment", "never"):
        return False
    return None  # unknown, set, source_type


def _state(chain: Chain, context: Context) -> str | None:
    """Before connection tracking has seen a packet its state is INVALID: xt_conntrack.c, nft_ct.c."""
    if context.untracked:
        return None
    if chain.hook == "input" or (chain.priority or 0) > _CONNTRACK:
        return "NEW" if chain.hook != "ingress" else "INVALID"
    return "INVALID" if (chain.priority or 0) < _CONNTRACK else None


def _whole(table: Table, chain: Chain) -> bool:
    """A fragment may hold the ports and not the flags. iptables drops such a packet, nftables goes on to the next rule."""
    return chain.hook == "input" or table.backend != "nftables"


def _interface(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern[-1:] in ("+", "*") else name == pattern


def _port(values: tuple[str, ...], port: int) -> bool | None:
    unknown = False
    for value in values:
        first, colon, last = value.partition(":")
        try:
            low, high = int(first or 0), int((last or 65535) if colon else first)
        except ValueError:
            unknown = True
            continue
        if low <= port <= high:
            return True
    return None if unknown else False


def _all_ports(value: str) -> bool:
    first, colon, last = value.partition(":")
    return bool(colon) and first in ("", "0") and last in ("", "65535")


def _flags(values: tuple[str, ...], protocol: str) -> bool | None:
    if protocol != "tcp":
        return False
    known: list[bool | None] = []
    for value in values:
        mask, _slash, wanted = value.partition("/")
        flags, expected = _names(mask), _names(wanted)
        if any(_SYN[flag] != (flag in expected) for flag in flags & _SYN.keys()) or expected - flags:
            known.append(False)
        else:
            known.append(None if flags - _SYN.keys() else True)
    return True if True in known else None if None in known else False


def _names(flags: str) -> set[str]:
    names = {flag for flag in flags.lower().split(",") if flag not in ("", "none")}
    return names if "all" not in names else {"fin", "syn", "rst", "psh", "ack", "urg"}


def _mark_zero(values: tuple[str, ...]) -> bool | None:
    try:
        return any(int(value.partition("/")[0], 0) == 0 for value in values)
    except ValueError:
        return None
