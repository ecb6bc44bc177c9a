# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sources get to a local port past a packet filter, and which rule decides.

A connection needs three things: its first packet comes in, the answer goes out, and what follows comes in as well. A
datagram needs the first. Every base chain of every hook on the way must let the packet pass: a source that none may drop
is accepted, one that none may accept is dropped, the rest is `maybe`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .._model.network import BITS, numbers
from .._model.ruleset import HELPER, REWRITING, Target
from .._model.vocabulary import ANSWERED
from .condition import CONNTRACK, TURNED, Packet, Phase, Stage, early
from .segments import Segments, joined
from .walk import Decision, Ends, Program, Surroundings, Walk

if TYPE_CHECKING:
    from typing import Callable

    from .._model.ruleset import Hook, Match, SetElements, Table
    from .._model.vocabulary import Family, Reach
    from .senders import Ports
    from .sets import Members
    from .sockets import Sockets
    from .walk import Given

    # Takes packets and a phase; returns what may pass, which sources may be dropped, and the base chains on the way.
    Send = Callable[[dict[Packet, int], Phase], tuple[dict[Packet, int], int, list[Walk]]]
    # Takes a base chain and packets; returns what passes, and which sources may be dropped.
    Step = Callable[[Walk, dict[Packet, int]], tuple[dict[Packet, int], int]]
    # See Surroundings.rewritten.
    Rewrite = Callable[[Target, Packet], list[Packet]]

__all__ = ["Decision", "Filter", "Packet", "Part"]

_FAMILY_TABLES = {"ipv4": ("ip", "inet", "netdev"), "ipv6": ("ip6", "inet", "netdev")}
_WAY_IN: dict[Phase, tuple[Hook, ...]] = {
    "new": ("ingress", "prerouting", "input"),
    "established": ("ingress", "prerouting", "input"),
    "reply": ("output", "postrouting", "egress"),
}
_LATER: tuple[Phase, ...] = ("reply", "established")
# Where connection tracking rewrites, whatever the priority of a nat chain: linux/netfilter_ipv4.h, nf_nat_core.c
NAT = {"prerouting": -100, "output": -100, "input": 100, "postrouting": 100}
_NOBODY = Ends(0, 0, 0)
_TURNING = frozenset(("mark", "notrack", "tproxy"))


class Part(NamedTuple):
    """Sources that meet the same fate for the same reason. decided_by: rules that might decide, then the one that does."""

    reach: Reach
    sources: tuple[tuple[int, int], ...]
    decided_by: tuple[Decision, ...]


class Filter:
    """All that filters on a host. marked: something other than a rule may set marks. rewrite: see Surroundings.rewritten.

    drops: name the rules that drop as well. helped: helpers of connection tracking may expect connections. fast_open: the
    sysctl tcp_fastopen. sockets: of the host; without them nobody knows what TPROXY does.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        ipsets: Mapping[str, SetElements],
        marked: bool = False,
        rewrite: Rewrite | None = None,
        drops: bool = False,
        helped: bool = False,
        fast_open: int = 0,
        sockets: Callable[[], Sockets] | None = None,
    ) -> None:
        self.tables, self.ipsets, self.rewrite, self.drops, self.fast_open = tables, ipsets, rewrite, drops, fast_open
        self.sockets = sockets
        targets = {(rule.target, chain.hook) for table in tables for chain in table.chains.values() for rule in chain.rules}
        kinds = {(target.kind, hook) for target, hook in targets}
        opaque = any(kind == "opaque" for kind, _hook in kinds)
        # Tables whose chains change what a later one tests.
        self.turning = {id(table) for table in tables if _turns(table)} if any(kind in _TURNING for kind, _hook in kinds) else set()
        self.marked = marked
        self.ct_marks = opaque
        self.helped = helped or any(target == HELPER for target, _hook in targets)
        self.translates = any(kind == "snat" or kind in REWRITING for kind, _hook in kinds)
        # Only a chain that no packet from outside enters can take an answer, and no request, from connection tracking.
        self.answered = not opaque and not any(kind == "notrack" and hook != "prerouting" for kind, hook in kinds)
        self._families: dict[Family, Side] = {}

    def reach(self, packet: Packet) -> list[Part]:
        """Divide all sources by what happens to the packet. Tables of another family do not take part."""
        return self.side(packet.family).reach(packet._replace(mark=None) if self.marked else packet)

    def side(self, family: Family) -> Side:
        """Return the filter for one address family."""
        side = self._families.get(family)
        if side is None:
            side = self._families[family] = Side(self, family)
        return side

    def through(self, packet: Packet, chain: str, phase: Phase = "new") -> list[Part]:
        """Divide all sources by one hook (INPUT, FORWARD: every base chain of it), or by one chain of any table.

        A packet that falls out of a user chain is `maybe`. Raises KeyError where no table of the family has the chain.
        """
        return Side(self, packet.family).through(packet, chain, phase)


class Side(Surroundings):
    """The filter for one address family."""

    def __init__(self, whole: Filter, family: Family) -> None:
        self._whole, self._family = whole, family
        self._tables = [table for table in whole.tables if table.family in _FAMILY_TABLES[family]]
        self._programs: dict[tuple[int, bool], dict[str, Program]] = {}
        self._senders: Ports | None = None
        self._sets: dict[str, Members] = {}
        if whole.ipsets:
            from .sets import members

            self._sets = {name: members(name, whole.ipsets, family) for name in whole.ipsets}
        named = {text: bounds[1:] for text, bounds in self._networks() if bounds[0] == family}
        listed = (bounds for elements in self._sets.values() for bounds in elements.bounds())
        self.segments = Segments((1 << BITS[family]) - 1, itertools.chain(named.values(), listed))
        self._ends = {text: tuple.__new__(Ends, (*self.segments.span(*bounds), None, True)) for text, bounds in named.items()}

    def _networks(self) -> Iterable[tuple[str, tuple[Family, int, int]]]:
        """Name every network that a rule asks for."""
        texts: set[str] = set()
        for table in self._tables:
            for one in table.chains.values():
                for rule in one.rules:
                    for match in rule.matches:
                        if match.field in ("source", "destination"):
                            texts.update(match.values)
        return zip(texts, map(numbers, texts))

    def remote(self, match: Match, packet: Packet, stage: Stage) -> Ends | None:
        turned = stage.phase == "reply"
        if match.field == "source" and not turned and not match.negated and len(match.values) == 1:
            return self._ends.get(match.values[0], _NOBODY)
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
        if match.field == "socket":
            exists = self._whole.sockets().exists(match, packet, stage) if self._whole.sockets else None
            if exists is None:
                return Ends(0, self.segments.count, None, False)
            return Ends(0, 0) if exists == match.negated else Ends(0, self.segments.count)
        if (TURNED.get(match.field, match.field) if turned else match.field) != "source":
            return None
        named = [self._ends[value] for value in match.values if value in self._ends]
        if len(named) < len(match.values):  # of the other family
            return _NOBODY
        if len(named) == 1 and not match.negated:
            return named[0]
        mask = 0
        for ends in named:
            mask |= ends.set()
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

    def given(self, target: Target, packet: Packet, stage: Stage) -> Given | None:
        given = self._whole.sockets().given(target, packet, stage) if self._whole.sockets else None
        mark = target.argument.partition(" ")[2]
        if given is None or not mark:
            return given
        return given._replace(packets=[self.changed(Target("mark", mark), one, stage)[0] for one in given.packets])

    def rewritten(self, target: Target, packet: Packet, stage: Stage) -> list[Packet]:
        if self._whole.rewrite is None or stage.hook != "prerouting" or stage.phase != "new":
            return []
        return self._whole.rewrite(target, packet)

    def reach(self, packet: Packet) -> list[Part]:
        parts = self._reach(packet)
        if packet.sport is None and any(part.reach == "maybe" for part in parts):
            from .senders import settled

            parts = [*settled({"": parts}, self.senders(), lambda port: {"": self._reach(packet._replace(sport=port))})[""]]
        return parts

    def senders(self) -> Ports:
        """Return the source ports that rules tell apart."""
        if self._senders is None:
            from .senders import kinds

            self._senders = kinds(self._tables)
        return self._senders

    def _reach(self, packet: Packet) -> list[Part]:
        masked = 0

        def send(packets: dict[Packet, int], phase: Phase) -> tuple[dict[Packet, int], int, list[Walk]]:
            nonlocal masked
            walks = self.walks(phase, _WAY_IN[phase], packet.interface)
            passed, dropped, masked, met = self.passing(packets, walks, masked)
            return passed, dropped, met

        packets, may_drop, walks = send({packet: self.segments.everything}, "new")
        return self.answered(packet, packets, may_drop, walks, send)

    def answered(self, packet: Packet, packets: Mapping[Packet, int], may_drop: int, walks: list[Walk], send: Send) -> list[Part]:
        """Follow what comes after the first packet, as which `packets` arrived; divide all sources by what happens to it all."""
        arrived = union(packets)
        if any(passed.tracked is not True for passed in packets):
            packet = packet._replace(tracked=None)
        for phase in _LATER if packet.protocol in ANSWERED else ():
            # An answer has the mark of its socket.
            start = packet._replace(mark=None) if phase == "reply" else packet
            packets, dropped, more = send({start: arrived}, phase)
            walks = walks + more
            may_drop |= dropped
            if self._whole.translates:
                # Of a connection whose first packet was not tracked, a later one may be, and go elsewhere, or come from elsewhere.
                may_drop |= union({one: mask for one, mask in packets.items() if one.tracked is None})
            stopped = arrived & ~union(packets)
            if stopped and packet.protocol == "tcp" and self._fast(phase):
                may_drop |= stopped  # TCP Fast Open: the first packet carries data
            elif stopped:
                # Who breaks the connection tracking (a reset that only the firewall believes) may pass in another state.
                packets, _dropped, _more = send({start._replace(tracked=None): stopped}, phase)
                arrived &= ~stopped | union(packets)
        parts = self.explained("dropped", self.segments.everything & ~arrived, walks)
        parts += self.explained("accepted", arrived & ~may_drop, walks)
        return parts + self.explained("maybe", arrived & may_drop, walks)

    def through(self, packet: Packet, chain: str, phase: Phase) -> list[Part]:
        found = [(table, one) for table in self._tables for one in table.chains.values() if (one.hook or "") == chain.lower()]
        found = found or [(table, table.chains[chain]) for table in self._tables if chain in table.chains]
        if not found:
            raise KeyError(chain)
        packets, may_drop, walks, open_end = {packet: self.segments.everything}, 0, [], 0
        for table, one in sorted(found, key=lambda pair: pair[1].priority or 0):
            hook = one.hook or "forward"
            whole = hook in ("input", "output") or table.backend != "nftables"
            stage = Stage(phase, hook, one.priority or 0, whole, self._whole.answered, self._whole.ct_marks, helped=self._whole.helped)
            walk = Walk(table, one, stage, self, {})
            walk.run(packets)
            packets = walk.passed
            may_drop |= walk.may_drop
            if one.hook is None:
                for hit in walk.hits:
                    open_end |= 0 if hit.entries else hit.mask
            walks.append(walk)
        arrived = union(packets)
        parts = self._reasoned("dropped", self.segments.everything & ~arrived, walks)
        parts += self._reasoned("accepted", arrived & ~may_drop & ~open_end, walks)
        return parts + self._reasoned("maybe", arrived & (may_drop | open_end), walks)

    def passing(self, packets: dict[Packet, int], walks: Sequence[Walk], masked: int = 0) -> tuple[dict[Packet, int], int, int, list[Walk]]:
        """Send packets through base chains.

        Returns what may pass, which sources may be dropped, which were given another address, and the base chains that tell why.
        masked: such sources. What a chain says of them where it sees the other address is not known.
        """

        def step(walk: Walk, packets: dict[Packet, int]) -> tuple[dict[Packet, int], int]:
            nonlocal masked
            walk.run(packets)
            left, doubt = unmasked(walk, packets, walk.passed, masked)
            for hit in walk.hits:
                if any(entry.rule.target.kind == "snat" for entry in hit.entries):
                    masked |= hit.mask
            return left, walk.may_drop | doubt

        left, may_drop, met = self.in_every_order(packets, walks, step)
        return left, may_drop, masked, met

    def in_every_order(self, packets: dict[Packet, int], walks: Sequence[Walk], step: Step) -> tuple[dict[Packet, int], int, list[Walk]]:
        """Send packets through base chains, where no dump tells in which order those of one priority are asked: in every one.

        Of nat chains the first that rewrites ends it; a mark, and the socket of TPROXY, is what the last one makes it.
        """
        may_drop = 0
        met: list[Walk] = []
        for _place, group in itertools.groupby(walks, key=lambda walk: (walk.chain.type == "nat", walk.stage.hook, standing(walk))):
            tied = list(group)
            matters = len(tied) > 1 and any(walk.chain.type == "nat" or id(walk.table) in self._whole.turning for walk in tied)
            results: list[dict[Packet, int]] = []
            for start in range(len(tied) if matters else 1):  # each of two comes first once
                order = [walk.again() for walk in tied[start:] + tied[:start]] if start else tied
                left = packets
                for walk in order:
                    left, doubt = step(walk, left)
                    may_drop |= doubt
                if left not in results:
                    results.append(left)
                    met += order
            packets = results[0]
            for other in results[1:]:
                both = packets.keys() | other.keys()
                for one in both:
                    may_drop |= packets.get(one, 0) ^ other.get(one, 0)
                packets = {one: packets.get(one, 0) | other.get(one, 0) for one in both}
        return packets, may_drop, met

    def walks(self, phase: Phase, hooks: Sequence[Hook], interface: str | None, forwarded: bool = False) -> list[Walk]:
        """Return the base chains of some hooks in the order in which a packet meets them. interface: of ingress and egress."""
        found = []
        for number, table in enumerate(self._tables):
            for chain in table.chains.values():
                hook, priority = chain.hook, chain.priority or 0
                if hook is None or hook not in hooks or (chain.type == "nat" and phase != "new"):
                    continue
                if hook in ("ingress", "egress") and interface not in chain.devices:
                    continue
                whole = hook in ("input", "output") or table.backend != "nftables"
                stage = Stage(phase, hook, priority, whole, self._whole.answered, self._whole.ct_marks, forwarded, self._whole.helped)
                programs = self._programs.setdefault((number, phase == "reply"), {})
                found.append(Walk(table, chain, stage, self, programs))
        return sorted(found, key=lambda walk: (hooks.index(walk.stage.hook), *standing(walk)))

    def _fast(self, phase: Phase) -> bool:
        """Say whether a socket may take data before a phase: with a cookie from an earlier answer, or without (tcp_fastopen)."""
        return self._whole.fast_open & 2 > 0 and (phase == "established" or self._whole.fast_open & 0x200 > 0)

    def explained(self, answer: Reach, mask: int, walks: list[Walk]) -> list[Part]:
        """Divide a set by the rules that decide, chain by chain. Policies that let pass are named only where no rule decides."""
        if not mask:
            return []
        if answer == "dropped" and not self._whole.drops:
            return [Part(answer, tuple(self.segments.ranges(mask)), ())]
        return self._reasoned(answer, mask, walks)

    def _reasoned(self, answer: Reach, mask: int, walks: list[Walk]) -> list[Part]:
        if not mask:
            return []
        policies = [walk.policy() for walk in walks if walk.chain.hook in ("input", "forward") and walk.chain.type != "nat"]
        policies.sort(key=lambda decision: decision.table != "filter")
        pieces: dict[tuple[Decision, ...], int] = {(): mask}
        # That connections go on is no news.
        telling = [walk for walk in walks if walk.stage.phase == "new" or answer != "accepted"]
        for walk in telling[:-1]:
            divided: dict[tuple[Decision, ...], int] = {}
            for key, share in _divided(pieces, walk):
                divided[key] = divided.get(key, 0) | share
            pieces = divided
        # The last one may name thousands of rules: their sets are not kept.
        found: dict[tuple[Decision, ...], list[tuple[int, int]]] = {}
        for key, share in _divided(pieces, telling[-1]) if telling else pieces.items():
            found.setdefault(key, []).extend(self.segments.ranges(share))
        return [Part(answer, tuple(joined(ranges)), key or tuple(policies[:1])) for key, ranges in found.items()]


def _divided(pieces: Mapping[tuple[Decision, ...], int], walk: Walk) -> Iterator[tuple[tuple[Decision, ...], int]]:
    """Divide sets further, by what decides in one more base chain."""
    for before, piece in pieces.items():
        for decisions, share in walk.explain(piece):
            if walk.stage.phase != "new" and not walk.may_drop & share:
                decisions = ()
            yield tuple(dict.fromkeys(before + decisions)), share


def _turns(table: Table) -> bool:
    return any(rule.target.kind in _TURNING for chain in table.chains.values() for rule in chain.rules)


def unmasked(walk: Walk, before: Mapping[Packet, int], left: dict[Packet, int], masked: int) -> tuple[dict[Packet, int], int]:
    """Take back the drops of a base chain that sees another source than the one it was asked for; return also whom that is about.

    masked: the sources in place of which SNAT puts another address.
    """
    hook, place = walk.stage.hook, standing(walk)[0]
    if walk.stage.phase == "reply":
        elsewhere = hook == "ingress" or (hook in ("prerouting", "output") and place < -100)
    else:
        elsewhere = hook == "egress" or (hook in ("input", "postrouting") and place > 100)
    doubt = masked & union(before) if masked and elsewhere and walk.may_drop else 0
    if doubt:
        left = dict(left)
        for packet, mask in before.items():
            left[packet] = left.get(packet, 0) | mask & doubt
    return left, doubt


def standing(walk: Walk) -> tuple[int, int]:
    """Return where a base chain stands within its hook: a nat chain where the rewriting is done, in its order among them."""
    priority = walk.stage.priority
    return (NAT.get(walk.stage.hook, priority), priority) if walk.chain.type == "nat" else (priority, priority)


def union(packets: Mapping[Packet, int]) -> int:
    found = 0
    for mask in packets.values():
        found |= mask
    return found
