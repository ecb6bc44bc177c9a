# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of a packet through one base chain and the chains that it calls, for all other ends at once.

The answer has three values. A match that cannot be evaluated may hold and may not, so its rule adds to what may happen
and takes nothing away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from .condition import Packet, Stage, holds
from .segments import first_of

if TYPE_CHECKING:
    from .._model.ruleset import Chain, Match, Rule, Table, Target
    from .segments import Segments

_COLOURS = {"accept": 1, "snat": 1, "drop": 2, "return": 3}  # snat ends its chain, and the packet goes on
_KINDS = ((1, "accept"), (2, "drop"))
_DEEPEST = 64  # calls within calls; nf_tables allows 16
_CALLS = 20_000  # of chains in one walk; chains that call each other twice would make it endless
_CHANGED = 64  # packets that one walk may turn into
_NAMED = 16  # rules that one verdict names one by one
SPECIAL = frozenset(("set", "socket", "out_interface", "source_type", "destination_type"))  # may be about the other end


class Decision(NamedTuple):
    """The rule that decides; rule 0 is the policy of the chain. handle: nftables' own number, 0 without one."""

    backend: str
    family: str
    table: str
    chain: str
    rule: int
    text: str
    handle: int = 0


class Ends(NamedTuple):
    """Other ends: a span of segments, or a set where one span cannot say it. certain: False when they are at most these."""

    low: int
    high: int
    mask: int | None = None
    certain: bool = True

    def set(self) -> int:
        return ((1 << self.high - self.low) - 1) << self.low if self.mask is None else self.mask


class Given(NamedTuple):
    """What TPROXY may make of a packet: nothing where there is no socket to give it to. sure: it does just that."""

    packets: list[Packet]
    sure: bool


class Surroundings:
    """What a walk asks of the host and of the whole filter."""

    segments: Segments

    def remote(self, match: Match, packet: Packet, stage: Stage) -> Ends | None:
        """Return the other ends that a match names, None when it is about something else."""
        raise NotImplementedError

    def changed(self, target: Target, packet: Packet, stage: Stage) -> tuple[Packet, bool]:
        """Return the packet that a target makes of one, and whether it does that, and nothing else, for sure."""
        raise NotImplementedError

    def rewritten(self, target: Target, packet: Packet, stage: Stage) -> list[Packet]:
        """Return what a target that ends the chain may make of where the packet goes, nothing when that cannot be told."""
        return []

    def given(self, target: Target, packet: Packet, stage: Stage) -> Given | None:
        """Return what TPROXY makes of a packet, None when that cannot be told."""
        return None


class _Entry(NamedTuple):
    place: int
    ends: Ends
    colour: int
    rule: Rule


class _Step(NamedTuple):
    """Verdicts that are applied together (`sets`: colour -> other ends), or one rule with another target (colour 0)."""

    place: int
    certain: bool
    sets: Mapping[int, int]
    entries: list[_Entry]


class Hit(NamedTuple):
    """Other ends that met a verdict. kind: accept, drop or opaque. entries: the rules, none for the policy."""

    mask: int
    kind: str
    certain: bool
    packet: Packet
    chain: str
    entries: list[_Entry]


class _Question(NamedTuple):
    """What rules ask of all but the other end. special: who that is depends on the packet.

    simple: only the first match of a rule is about the other end. ports: the only ones that it can hold for.
    places: the rules that ask it.
    """

    matches: tuple[Match, ...]
    certain: bool
    special: bool
    simple: bool
    ports: frozenset[str]
    places: list[int]


class Program:
    """One chain, made ready for any packet of one family and direction."""

    def __init__(self, chain: Chain, turned: bool) -> None:
        remote, port = ("destination", "source_port") if turned else ("source", "destination_port")
        self._rules = chain.rules
        self._any: list[_Question] = []  # what is asked of packets for any port, and of those for one
        self._of_port: dict[str, list[_Question]] = {}
        self._entries: dict[int, list[_Entry]] = {}
        self._built: dict[tuple[int, ...], list[_Step]] = {}
        self._steps: dict[tuple[Packet, Stage, int], list[_Step]] = {}
        asked: dict[tuple[int, ...], _Question] = {}  # by identity: a parser gives equal rules the same matches
        for place, rule in enumerate(chain.rules):
            if rule.target.kind == "continue":
                continue
            matches = rule.matches
            rest = matches[1:] if matches and matches[0].field == remote else matches
            key = tuple(map(id, rest))
            question = asked.get(key)
            if question is None:
                question = asked[key] = _question(rest, remote, port)
                for value in question.ports:
                    self._of_port.setdefault(value, []).append(question)
                if not question.ports:
                    self._any.append(question)
            question.places.append(place)

    def steps(self, packet: Packet, stage: Stage, around: Surroundings, start: int) -> list[_Step]:
        """Return what is left of the chain, from a place on, when all but the other end is known."""
        found = self._steps.get((packet, stage, start))
        if found is None:
            found = self._steps[packet, stage, start] = self._left(packet, stage, around, start)
        return found

    def _left(self, packet: Packet, stage: Stage, around: Surroundings, start: int) -> list[_Step]:
        live = []
        for question in self._any + self._of_port.get(str(packet.port), []):
            answer = _answer(question.matches, packet, stage, around)
            if answer is not False:
                live.append((question, question.certain and answer is True))
        if any(question.special for question, _certain in live):
            return self._put_together(live, packet, stage, around, start)
        key = (start, *(id(question) << 1 | certain for question, certain in live))
        if key not in self._built:
            self._built[key] = self._put_together(live, packet, stage, around, start)
        return self._built[key]

    def _put_together(
        self, live: list[tuple[_Question, bool]], packet: Packet, stage: Stage, around: Surroundings, start: int
    ) -> list[_Step]:
        entries: list[_Entry] = []
        doubtful: set[int] = set()
        for question, certain in live:
            found = self._of(question, packet, stage, around)
            entries += found
            if not certain or question.special:
                doubtful.update(entry.place for entry in found if not (certain and entry.ends.certain))
        if len(live) > 1:
            entries.sort()  # by place
        if start:
            entries = [entry for entry in entries if entry.place >= start]
        steps: list[_Step] = []
        for (certain, verdict), group in groupby(entries, lambda entry: (entry.place not in doubtful, entry.colour > 0)):
            together = list(group)
            if verdict:
                steps.append(_Step(together[0].place, certain, _painted(together, certain, around.segments), together))
            else:
                steps += [_Step(entry.place, certain, {0: entry.ends.set()}, [entry]) for entry in together]
        return steps

    def _of(self, question: _Question, packet: Packet, stage: Stage, around: Surroundings) -> list[_Entry]:
        entries = self._entries.get(id(question))
        if entries is None:
            entries = []
            everyone = Ends(0, around.segments.count)
            for place in question.places:
                rule = self._rules[place]
                matches = rule.matches
                ends = (around.remote(matches[0], packet, stage) if matches else None) or everyone
                if not question.simple:
                    for match in matches[1:]:
                        more = around.remote(match, packet, stage)
                        if more is not None:
                            ends = Ends(0, 0, ends.set() & more.set(), ends.certain and more.certain) if ends is not everyone else more
                if ends.low < ends.high or ends.mask:
                    entries.append(tuple.__new__(_Entry, (place, ends, _COLOURS.get(rule.target.kind, 0), rule)))
            if not question.special:
                self._entries[id(question)] = entries
        return entries


def _question(matches: tuple[Match, ...], remote: str, port: str) -> _Question:
    fields = {match.field for match in matches}
    asked = tuple(match for match in matches if match.field not in ("unknown", remote))
    special = not SPECIAL.isdisjoint(fields)
    ports = next((frozenset(match.values) for match in asked if match.field == port and not match.negated), frozenset())
    ports = ports if all(value.isdigit() for value in ports) else frozenset()
    return _Question(asked, "unknown" not in fields, special, not special and remote not in fields, ports, [])


def _answer(matches: tuple[Match, ...], packet: Packet, stage: Stage, around: Surroundings) -> bool | None:
    answer: bool | None = True
    for match in matches:
        if match.field in SPECIAL and around.remote(match, packet, stage) is not None:
            continue
        held = holds(match, packet, stage)
        if held is False:
            return False
        answer = answer if held else None
    return answer


def _painted(entries: list[_Entry], certain: bool, segments: Segments) -> Mapping[int, int]:
    """Return who meets which verdict; where one is not certain, others may be met as well."""
    if len(entries) == 1:
        return {entries[0].colour: entries[0].ends.set()}
    found: dict[int, int] = {}
    if len(entries) < 8 or any(entry.ends.mask is not None for entry in entries):
        taken = 0
        for _place, ends, colour, _rule in entries:
            mask = ends.set() & ~taken
            found[colour] = found.get(colour, 0) | mask
            taken |= mask if certain else 0
        return found
    spans = [(ends.low, ends.high, colour) for _place, ends, colour, _rule in entries]
    if certain:
        return segments.painted(spans)
    for colour in {colour for _low, _high, colour in spans}:
        found.update(segments.painted([span for span in spans if span[2] == colour]))
    return found


class Walk:
    """One base chain. After `run`, `passed` says which packets may go on, and `may_drop` who may not."""

    def __init__(self, table: Table, chain: Chain, stage: Stage, around: Surroundings, programs: dict[str, Program]) -> None:
        self.table, self.chain, self.stage = table, chain, stage
        self.passed: dict[Packet, int] = {}
        self.may_drop = 0
        self.hits: list[Hit] = []
        self._around, self._programs, self._turns, self._calls = around, programs, 0, 0

    def again(self) -> Walk:
        return Walk(self.table, self.chain, self.stage, self._around, self._programs)

    def run(self, packets: Mapping[Packet, int]) -> None:
        policy = self.chain.policy or "accept"
        for packet, mask in packets.items():
            nat = self.chain.type == "nat"
            if nat and (packet.tracked is False or (packet.origin and self.stage.hook == "prerouting")):
                _add(self.passed, packet, mask)  # only what is tracked is rewritten, and only once
                continue
            sure = not nat or packet.tracked is True
            if not sure:
                _add(self.passed, packet, mask)
            for fallen, rest in self._chain(self.chain.name, packet, mask, sure, 0, 0).items():
                self._meet(rest, policy, sure, fallen, self.chain.name, [])

    def _meet(self, mask: int, kind: str, certain: bool, packet: Packet, chain: str, entries: list[_Entry]) -> None:
        if not mask:
            return
        if kind == "drop" and self.chain.type == "nat":  # only packets that are tracked enter, and nothing may ask for tracking
            kind, certain = "opaque", False
        if kind != "drop":
            self.passed[packet] = self.passed.get(packet, 0) | mask
        if kind != "accept":
            self.may_drop |= mask
        self.hits.append(Hit(mask, kind, certain, packet, chain, entries))

    def _chain(self, name: str, packet: Packet, may: int, sure: bool, depth: int, start: int) -> dict[Packet, int]:
        """Walk one chain from a place on with those who may be there; return who may fall out at its end, and as what."""
        out: dict[Packet, int] = {}
        left = 0  # who may have returned before
        if name not in self._programs:
            self._programs[name] = Program(self.table.chains[name], self.stage.phase == "reply")
        for step in self._programs[name].steps(packet, self.stage, self._around, start):
            if not may:
                break
            certain = sure and step.certain
            if 0 not in step.sets:
                gone = 0
                for colour, members in step.sets.items():
                    mask = may & members
                    gone |= mask
                    if colour == 3:
                        _add(out, packet, mask)
                        left |= 0 if certain else mask
                    else:
                        if left:
                            self._meet(mask & left, _KINDS[colour - 1][1], False, packet, name, step.entries)
                            mask &= ~left
                        self._meet(mask, _KINDS[colour - 1][1], certain, packet, name, step.entries)
                may = may & ~gone if step.certain else may
                continue
            mask = may & step.sets[0]
            if not mask:
                continue
            certain = certain and not mask & left
            target = step.entries[0].rule.target
            self._calls += 1
            if target.kind in ("jump", "goto") and target.argument in self.table.chains and depth < _DEEPEST and self._calls < _CALLS:
                fell = self._chain(target.argument, packet, mask, certain, depth + 1, 0)
                may = may & ~mask if step.certain else may
                for fallen, rest in fell.items():
                    if target.kind == "goto":
                        _add(out, fallen, rest)
                    elif fallen == packet:
                        may |= rest
                    else:
                        _merge(out, self._chain(name, fallen, rest, certain, depth, step.place + 1))
                continue
            if self._change(step, packet, mask, certain, name, depth, out):
                may &= ~mask
        _add(out, packet, may)
        return out

    def _change(self, step: _Step, packet: Packet, mask: int, certain: bool, name: str, depth: int, out: dict[Packet, int]) -> bool:
        """Apply a target that changes the packet, or may do anything; say whether none goes on with the packet as it was."""
        target = step.entries[0].rule.target
        if target.kind == "tproxy" and (given := self._around.given(target, packet, self.stage)):
            return self._give(given, step, packet, mask, certain, name, depth, out)
        rewritten = self._around.rewritten(target, packet, self.stage)
        for one in rewritten:
            self._meet(mask, "accept", certain and len(rewritten) == 1, one, name, step.entries)
        if rewritten:
            return step.certain
        changed, known = self._around.changed(target, packet, self.stage)
        if not known:
            self._meet(mask, "opaque", False, packet, name, step.entries)
        if changed == packet:
            return False
        return self._go_on(changed, step, packet, mask, certain and known, name, depth, out) and known and step.certain

    def _go_on(
        self, changed: Packet, step: _Step, packet: Packet, mask: int, certain: bool, name: str, depth: int, out: dict[Packet, int]
    ) -> bool:
        """Follow a changed packet through the rest of the chain; say whether that was done."""
        self._turns += 1
        if self._turns > _CHANGED:  # too many to follow: whatever it becomes, it may meet anything
            self._meet(mask, "opaque", False, packet, name, step.entries)
            return False
        _merge(out, self._chain(name, changed, mask, certain, depth, step.place + 1))
        return True

    def _give(
        self, given: Given, step: _Step, packet: Packet, mask: int, certain: bool, name: str, depth: int, out: dict[Packet, int]
    ) -> bool:
        """Give a packet to a socket. Where there is none iptables drops it, and nftables goes on behind the rule."""
        final = self.table.backend != "nftables"
        if not given.sure:
            self._meet(mask, "opaque", False, packet, name, step.entries)
        elif not given.packets:
            if final:
                self._meet(mask, "drop", certain, packet, name, step.entries)
            return final and step.certain
        for one in given.packets:
            if final:
                self._meet(mask, "accept" if given.sure else "opaque", certain and given.sure, one, name, step.entries)
            elif not self._go_on(one, step, packet, mask, certain and given.sure, name, depth, out):
                return False
        return given.sure and step.certain

    def explain(self, mask: int) -> Iterator[tuple[tuple[Decision, ...], int]]:
        """Divide a set by what decides in this base chain; a policy that lets pass says nothing by itself."""
        possible: list[Hit] = []
        for hit in self.hits:
            share = hit.mask & mask
            if not share:
                continue
            if not hit.certain:
                possible.append(hit)
                continue
            mask &= ~share
            doubts = self._doubts(possible, share)
            if hit.entries:
                for decision, piece in self._decisions(hit, share):
                    yield (*doubts, decision), piece
            else:
                yield (*doubts, self.policy()) if doubts or hit.kind == "drop" else (), share
        if mask:
            yield self._doubts(possible, mask), mask

    def _doubts(self, possible: list[Hit], share: int) -> tuple[Decision, ...]:
        return tuple(decision for hit in possible if hit.mask & share for decision, _piece in self._decisions(hit, hit.mask & share))

    def _decisions(self, hit: Hit, share: int) -> list[tuple[Decision, int]]:
        """Divide a set by the rules of one hit. Beyond the first few rules the rest is told by the first of them."""
        if not hit.entries:
            return [(self.policy(), share)]
        found: list[tuple[Decision, int]] = []
        start = first_of(share)
        bits = bin(share >> start)[:1:-1] if len(hit.entries) > 1 else ""
        for _place, ends, colour, rule in hit.entries:
            if (colour, hit.kind) not in _KINDS and colour:
                continue
            if (
                bits
                and ends.mask is None
                and ends.high - ends.low == 1
                and bits[max(ends.low - start, 0) : max(ends.high - start, 0)] != "1"
            ):
                continue
            piece = share & ends.set() if len(hit.entries) > 1 else share
            if piece and len(found) == _NAMED:
                found.append((self._decision(hit.chain, rule, f"{rule.text}, and rules after it"), share))
                break
            if piece:
                found.append((self._decision(hit.chain, rule, rule.text), piece))
                share &= ~piece if hit.certain else share
        return found

    def policy(self) -> Decision:
        text = f"policy {(self.chain.policy or 'accept').upper()}"
        return Decision(self.table.backend, self.table.family, self.table.name, self.chain.name, 0, text)

    def _decision(self, chain: str, rule: Rule, text: str) -> Decision:
        return Decision(self.table.backend, self.table.family, self.table.name, chain, rule.number, text, rule.handle)


def _add(packets: dict[Packet, int], packet: Packet, mask: int) -> None:
    if mask:
        packets[packet] = packets.get(packet, 0) | mask


def _merge(packets: dict[Packet, int], more: Mapping[Packet, int]) -> None:
    for packet, mask in more.items():
        _add(packets, packet, mask)
