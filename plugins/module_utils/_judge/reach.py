# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sources get to a local port past a packet filter, and which rule decides.

A connection needs three things: its first packet comes in, the answer goes out, and what follows comes in as well. A
datagram needs the first. Every base chain of every hook on the way must let the packet pass: a source that none may drop
is accepted, one that none may accept is dropped, the rest is `maybe`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .._model.network import BITS, numbers
from .condition import CONNTRACK, TURNED, Packet, Phase, Stage, early
from .segments import Segments
from .sets import members
from .walk import Decision, Ends, Program, Surroundings, Walk

if TYPE_CHECKING:
    from .._model.ruleset import Match, SetElements, Table, Target
    from .._model.vocabulary import Family, Reach

__all__ = ["Decision", "Filter", "Packet", "Part"]

_FAMILY_TABLES = {"ipv4": ("ip", "inet", "netdev"), "ipv6": ("ip6", "inet", "netdev")}
_HOOKS = {
    "new": ("ingress", "prerouting", "input"),
    "established": ("ingress", "prerouting", "input"),
    "reply": ("output", "postrouting", "egress"),
}
_LATER: tuple[Phase, ...] = ("reply", "established")
_ANSWERED = ("tcp", "sctp", "dccp")  # nothing is received before an answer was sent


class Part(NamedTuple):
    """Sources that meet the same fate for the same reason. decided_by: rules that might decide, then the one that does."""

    reach: Reach
    sources: tuple[tuple[int, int], ...]
    decided_by: tuple[Decision, ...]


class Filter:
    """All that filters on a host. marked: something other than a rule may set marks."""

    def __init__(self, tables: Sequence[Table], ipsets: Mapping[str, SetElements], marked: bool = False) -> None:
        self.tables, self.ipsets = tables, ipsets
        kinds = {(rule.target.kind, chain.hook) for table in tables for chain in table.chains.values() for rule in chain.rules}
        opaque = any(kind == "opaque" for kind, _hook in kinds)
        self.marked = marked
        self.ct_marks = opaque
        # Only a chain that no packet from outside enters can take an answer, and no request, from connection tracking.
        self.answered = not opaque and not any(kind == "notrack" and hook != "prerouting" for kind, hook in kinds)
        self._families: dict[Family, _Side] = {}

    def reach(self, packet: Packet, drops: bool = False) -> list[Part]:
        """Divide all sources by what happens to the packet. Tables of another family do not take part.

        drops: name the rules that drop it too.
        """
        side = self._families.get(packet.family)
        if side is None:
            side = self._families[packet.family] = _Side(self, packet.family)
        return side.reach(packet._replace(mark=None) if self.marked else packet, drops)

    def through(self, packet: Packet, chain: str, phase: Phase = "new") -> list[Part]:
        """Divide all sources by one hook (INPUT, FORWARD: every base chain of it), or by one chain of any table.

        A packet that falls out of a user chain is `maybe`. Raises KeyError where no table of the family has the chain.
        """
        return _Side(self, packet.family).through(packet, chain, phase)


class _Side(Surroundings):
    """The filter for one address family."""

    def __init__(self, whole: Filter, family: Family) -> None:
        self._whole, self._family = whole, family
        self._tables = [table for table in whole.tables if table.family in _FAMILY_TABLES[family]]
        self._programs: dict[tuple[int, bool], dict[str, Program]] = {}
        self._named: dict[str, tuple[int, int] | None] = {}
        self._sets = {name: members(name, whole.ipsets, family) for name in whole.ipsets}
        self.segments = Segments((1 << BITS[family]) - 1, self._bounds())

    def _bounds(self) -> Iterable[tuple[int, int]]:
        for table in self._tables:
            for chain in table.chains.values():
                for rule in chain.rules:
                    for match in rule.matches:
                        if match.field in ("source", "destination"):
                            yield from filter(None, map(self._range, match.values))
        for elements in self._sets.values():
            yield from elements.bounds()

    def _range(self, text: str) -> tuple[int, int] | None:
        """Return the numbers of a network, None for one of the other family."""
        if text not in self._named:
            family, first, last = numbers(text)
            self._named[text] = (first, last) if family == self._family else None
        return self._named[text]

    def remote(self, match: Match, packet: Packet, stage: Stage) -> Ends | None:
        turned = stage.phase == "reply"
        if match.field == "source" and not turned and not match.negated and len(match.values) == 1:
            named = self._range(match.values[0])
            return Ends(*self.segments.span(*named)) if named else Ends(0, 0, 0)
        if match.field == "set":
            name, _space, dimensions = match.values[0].partition(" ")
            elements = self._sets.get(name)
            found = elements.ends(dimensions.split(","), packet, turned, self.segments) if elements else None
            if found is None:
                return Ends(0, self.segments.count, None, False)
            mask, certain = found
            if match.negated:
                return Ends(0, 0, self.segments.everything & ~mask if certain else self.segments.everything, certain)
            return Ends(0, 0, mask, certain) if certain else Ends(0, self.segments.count, None, False)
        if (TURNED.get(match.field, match.field) if turned else match.field) != "source":
            return None
        ranges = [bounds for bounds in map(self._range, match.values) if bounds]
        if len(ranges) < len(match.values):
            return Ends(0, 0, 0)
        if len(ranges) == 1 and not match.negated:
            return Ends(*self.segments.span(*ranges[0]))
        mask = 0
        for bounds in ranges:
            mask |= self.segments.mask(*bounds)
        return Ends(0, 0, self.segments.everything & ~mask if match.negated else mask)

    def changed(self, target: Target, packet: Packet, stage: Stage) -> tuple[Packet, bool]:
        if target.kind == "notrack":  # of a packet that is tracked already it takes nothing away: nft_ct.c
            return packet._replace(tracked=False if early(stage) and stage.priority != CONNTRACK else None), True
        if target.kind != "mark":  # a rewritten packet, and what cannot be told, may end anywhere
            return packet._replace(mark=None), False
        value, _slash, bits = target.argument.partition("/")
        try:
            number, mask = int(value, 0), int(bits, 0)
        except ValueError:
            return packet._replace(mark=None), True
        if packet.mark is None:
            return packet._replace(mark=number if mask == 0xFFFFFFFF else None), True
        return packet._replace(mark=(packet.mark & ~mask) ^ number), True

    def reach(self, packet: Packet, drops: bool) -> list[Part]:
        walks: list[Walk] = []
        packets, may_drop = self._pass({packet: self.segments.everything}, "new", packet.interface, walks)
        arrived = _union(packets)
        if any(passed.tracked is not True for passed in packets):
            packet = packet._replace(tracked=None)
        for phase in _LATER if packet.protocol in _ANSWERED else ():
            # An answer has the mark of its socket.
            start = packet._replace(mark=None) if phase == "reply" else packet
            packets, dropped = self._pass({start: arrived}, phase, packet.interface, walks)
            may_drop |= dropped
            stopped = arrived & ~_union(packets)
            if stopped:
                # Who breaks the connection tracking (a reset that only the firewall believes) may pass in another state.
                packets, _dropped = self._pass({start._replace(tracked=None): stopped}, phase, packet.interface, [])
                arrived &= ~stopped | _union(packets)
        gone = self.segments.everything & ~arrived
        parts = (
            self._reasoned("dropped", gone, walks) if drops else [Part("dropped", tuple(self.segments.ranges(gone)), ())] if gone else []
        )
        parts += self._reasoned("accepted", arrived & ~may_drop, walks)
        return parts + self._reasoned("maybe", arrived & may_drop, walks)

    def through(self, packet: Packet, chain: str, phase: Phase) -> list[Part]:
        found = [(table, one) for table in self._tables for one in table.chains.values() if (one.hook or "") == chain.lower()]
        found = found or [(table, table.chains[chain]) for table in self._tables if chain in table.chains]
        if not found:
            raise KeyError(chain)
        packets, may_drop, walks, open_end = {packet: self.segments.everything}, 0, [], 0
        for table, one in sorted(found, key=lambda pair: pair[1].priority or 0):
            hook = one.hook or "forward"
            whole = hook in ("input", "output") or table.backend != "nftables"
            stage = Stage(phase, hook, one.priority or 0, whole, self._whole.answered, self._whole.ct_marks)
            walk = Walk(table, one, stage, self, {})
            walk.run(packets)
            packets = walk.passed
            may_drop |= walk.may_drop
            if one.hook is None:
                for hit in walk.hits:
                    open_end |= 0 if hit.entries else hit.mask
            walks.append(walk)
        arrived = _union(packets)
        parts = self._reasoned("dropped", self.segments.everything & ~arrived, walks)
        parts += self._reasoned("accepted", arrived & ~may_drop & ~open_end, walks)
        return parts + self._reasoned("maybe", arrived & (may_drop | open_end), walks)

    def _pass(self, packets: dict[Packet, int], phase: Phase, interface: str, walks: list[Walk]) -> tuple[dict[Packet, int], int]:
        """Send packets through every hook of a phase; return what may pass, and which sources may be dropped."""
        may_drop = 0
        for walk in self._walks(phase, interface):
            walk.run(packets)
            packets = walk.passed
            may_drop |= walk.may_drop
            walks.append(walk)
        return packets, may_drop

    def _walks(self, phase: Phase, interface: str) -> list[Walk]:
        found = []
        for number, table in enumerate(self._tables):
            for chain in table.chains.values():
                hook, priority = chain.hook, chain.priority or 0
                if hook not in _HOOKS[phase] or (chain.type == "nat" and phase != "new"):
                    continue
                if hook in ("ingress", "egress") and interface not in chain.devices:
                    continue
                whole = hook in ("input", "output") or table.backend != "nftables"
                stage = Stage(phase, hook, priority, whole, self._whole.answered, self._whole.ct_marks)
                programs = self._programs.setdefault((number, phase == "reply"), {})
                found.append(Walk(table, chain, stage, self, programs))
        return sorted(found, key=lambda walk: (_HOOKS[phase].index(walk.stage.hook), walk.stage.priority))

    def _reasoned(self, answer: Reach, mask: int, walks: list[Walk]) -> list[Part]:
        """Divide a set by the rules that decide, chain by chain. Policies that let pass are named only where no rule decides."""
        if not mask:
            return []
        policies = [walk.policy() for walk in walks if walk.chain.hook in ("input", "forward") and walk.chain.type != "nat"]
        policies.sort(key=lambda decision: decision.table != "filter")
        pieces: dict[tuple[Decision, ...], int] = {(): mask}
        for walk in walks:
            if walk.stage.phase != "new" and answer == "accepted":
                break  # that connections go on is no news
            divided: dict[tuple[Decision, ...], int] = {}
            for before, piece in pieces.items():
                for decisions, share in walk.explain(piece):
                    if walk.stage.phase != "new" and not walk.may_drop & share:
                        decisions = ()
                    key = tuple(dict.fromkeys(before + decisions))
                    divided[key] = divided.get(key, 0) | share
            pieces = divided
        return [Part(answer, tuple(self.segments.ranges(piece)), key or tuple(policies[:1])) for key, piece in pieces.items()]


def _union(packets: Mapping[Packet, int]) -> int:
    found = 0
    for mask in packets.values():
        found |= mask
    return found
