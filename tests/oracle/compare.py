# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the judge says of a case, what the kernel does, and the smallest ruleset on which they differ."""

from __future__ import annotations

import functools
import random
from collections.abc import Collection
from typing import NamedTuple

import kernel
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.host_network import collect_network
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.listeners import Listeners, collect
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.netlink import dump
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.approach import Approach
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.reach import REWRITING, Filter, Packet
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.redirect import Redirects, choices, ends
from ansible_collections.loopguard.loopback.plugins.module_utils._model.evidence import Evidence
from ansible_collections.loopguard.loopback.plugins.module_utils._model.network import network_range, spell
from cases import Case
from lab import BEHIND, PATIENCE, STRANGE, End, Lab, Probe, address, divert, listens, set_sysctl

ANYWHERE = End("", "", 0)  # where a rule may send packets that does not say where
SENDER = 49152  # stands for the ports that systems choose, which no rule here tells apart


class Judge:
    """Answers of the judge for the rules that are loaded now."""

    def __init__(self, firewall, host, found: Listeners):
        approach = Approach(Evidence(found.rows, found.gaps, (), found.namespace, firewall, host))
        self._filter = approach.filter
        self._reach = functools.lru_cache(None)(self._filter.reach)
        self._ends = functools.lru_cache(None)(self._ways_of)
        self._ways, self._rewrites = approach.redirects or Redirects(host, firewall, approach), approach.redirects is not None
        rules = [(table.family, rule.target) for table in firewall.tables for chain in table.chains.values() for rule in chain.rules]
        self.translating = _translating(firewall.tables)
        self._counts = any(table.backend == "iptables-legacy" for table in firewall.tables)
        # A hook that is asked alone does not know of what an earlier one changes.
        self._changes = not {target.kind for _family, target in rules}.isdisjoint(("mark", "notrack"))
        untold = {family for family, target in rules if target.kind in (*REWRITING, "tproxy", "opaque") and not choices(target, 0, 1)}
        self._untold = {version for family, version in (("ip", "ipv4"), ("ip6", "ipv6")) if {family, "inet"} & untold}

    def expected(self, probe: Probe, sender: int | None = SENDER) -> dict[End, str]:
        """Return where a probe may arrive, and what is said of that. An address or place that is not known is empty."""
        packet = _packet(probe, sender)
        if packet.cast == "LOCAL" and not self._rewrites:
            return {End("server", probe.destination, probe.port): _share(self._reach(packet), probe).reach}
        found: dict[End, str] = {ANYWHERE: "maybe"} if packet.family in self._untold else {}
        for way in self._ends(packet):
            sent = way.packet
            place = "proxy" if sent.taken else {"": "server", "back0": "back", None: ""}.get(sent.leaving, sent.leaving)
            port = sent.taken[1] if sent.taken else sent.port
            end = End(place, "" if sent.destination is None else spell(probe.family, sent.destination), port)
            reach = _share(way.parts, probe).reach
            if place == "server" and sent.cast == "FOREIGN" and (probe.family, probe.protocol) == ("ipv4", "tcp"):
                reach = "dropped"  # from an address that is not the machine's own only a transparent socket answers
            if end not in found or found[end] == "dropped":
                found[end] = reach
        return found

    def _ways_of(self, packet):
        """Ask about one port of the sender; `Redirects.ends` is about all of them."""
        return self._ways.ends(packet) if packet.sport is None else ends(self._filter.side(packet.family), packet, self._ways.route)

    def reasons(self, probe: Probe) -> tuple[str, list[tuple]] | None:
        """Return what is said of a probe and the rules that are named for it, None when they cannot be asked for."""
        packet = _packet(probe, SENDER)
        if packet.cast == "LOCAL" and not self._rewrites:
            part = _share(self._reach(packet), probe)
            return (part.reach, _rules(part)) if part.reach != "dropped" else self._dropped(packet, probe)
        ways = [(way.packet, _share(way.parts, probe)) for way in self._ends(packet)]
        ways = [(sent, part) for sent, part in ways if part.reach != "dropped"]
        if len(ways) != 1 or (ways[0][0].leaving != "" and self._counts):  # the counters count the answer too
            return None
        return ways[0][1].reach, _rules(ways[0][1])

    def _dropped(self, packet, probe):
        """A hook says why it drops something, `reach` does not."""
        if self._changes:
            return None
        found = []
        for hook in ("PREROUTING", "INPUT"):
            try:
                part = _share(self._filter.through(packet, hook), probe)
            except KeyError:  # nothing stands there
                continue
            found += _rules(part)
            if part.reach == "dropped":
                break
        return "dropped", found


def _rules(part) -> list[tuple]:
    return [tuple(decision[:5]) for decision in part.decided_by]


def _translating(tables) -> set[tuple[str, str, str, str]]:
    """Return the chains that translate addresses, and those that they call; they do not decide who gets in."""
    found = set()
    for table in tables:
        waiting = [chain for chain in table.chains.values() if chain.type == "nat"]
        while waiting:
            chain = waiting.pop()
            found.add((table.backend, table.family, table.name, chain.name))
            waiting += [table.chains[rule.target.argument] for rule in chain.rules if rule.target.kind in ("jump", "goto")]
    return found


def _packet(probe: Probe, sender: int | None) -> Packet:
    cast = "FOREIGN" if probe.destination in _FOREIGN else "LOCAL"
    return Packet(probe.family, probe.protocol, number(probe.destination), probe.port, probe.client, cast, sport=sender)


def _share(parts, probe: Probe):
    """Return the part of the sources that the probe belongs to."""
    source = number(probe.source)
    found = [part for part in parts if any(low <= source <= high for low, high in part.sources)]
    if len(found) != 1:
        raise AssertionError(f"the parts must divide the sources: {found}")
    return found[0]


_FOREIGN = frozenset((*(address(family, "back0", host) for family in ("ipv4", "ipv6") for host in BEHIND), *STRANGE.values()))


def number(text: str) -> int:
    return network_range(text).first


class Round(NamedTuple):
    """wrong: probe -> (what was said, what the kernel did)."""

    wrong: dict[Probe, tuple[dict[End, str], End | None]]
    said: dict[Probe, dict[End, str]]
    heard: dict[Probe, End]


@functools.cache
def listeners():
    return collect(dump, kernel.tool)


def prepare(case: Case) -> Judge:
    for name, value in case.settings.items():
        set_sysctl(name, value)
    divert(case.diverted)
    return Judge(kernel.load(case.rulesets), collect_network(), listeners())


def compare(lab: Lab, case: Case, judge: Judge, patience: float = PATIENCE) -> Round:
    said = {probe: judge.expected(probe) for probe in case.probes}
    wanted = [probe for probe, ends in said.items() if promised(probe, ends)]
    heard = lab.probe(case.probes, wanted, patience)
    wrong = {probe: denied for probe in case.probes if (denied := denial(judge, probe, heard.get(probe)))}
    return Round(wrong, said, heard)


def denial(judge: Judge, probe: Probe, heard: End | None) -> tuple[dict[End, str], End | None] | None:
    """Return what was said and what was heard where that does not agree. To the judge a sender may use any port."""
    said = judge.expected(probe)
    if contradicts(probe, said, heard):
        return said, heard
    if heard and not open_to(possible := judge.expected(probe, None), heard):
        return possible, heard
    return None


def promised(probe: Probe, said: dict[End, str]) -> list[End]:
    """Return where something listens that is said to be reached for sure."""
    return [end for end, reach in said.items() if reach == "accepted" and listens(end, probe.protocol)]


def contradicts(probe: Probe, said: dict[End, str], heard: End | None) -> bool:
    if heard is None:
        return bool(promised(probe, said))
    return not open_to(said, heard) or any(not _is(end, heard) for end in promised(probe, said))


def open_to(said: dict[End, str], heard: End) -> bool:
    return any(reach != "dropped" and _is(end, heard) for end, reach in said.items())


def _is(end: End, heard: End) -> bool:
    return end.port in (heard.port, 0) and end.place in (heard.place, "") and end.address in (heard.address, "")


def disagreements(lab: Lab, case: Case) -> tuple[Round, Judge]:
    """Compare, and again where something differs: a packet that was lost once is no disagreement, one that got in is."""
    judge = prepare(case)
    first = compare(lab, case, judge)
    wrong = first.wrong
    for patience in (2 * PATIENCE, 4 * PATIENCE):  # on a busy machine an answer takes its time
        if not any(heard is None for _ends, heard in wrong.values()):
            break
        again = compare(lab, case, prepare(case), patience).wrong
        wrong = {**again, **{probe: seen for probe, seen in wrong.items() if seen[1]}}
    return first._replace(wrong=wrong), judge


def shrink(lab: Lab, case: Case) -> Case:
    """Leave out half of the rules, then a quarter, and so on to single ones, as long as some disagreement stays."""
    for place in list(case.rulesets):
        size = max(1, len(case.rulesets[place]) // 2)
        while size:
            start = 0
            while start < len(case.rulesets[place]):
                lines = case.rulesets[place]
                kept = [line for at, line in enumerate(lines) if not (start <= at < start + size and is_rule(line))]
                fewer = case._replace(rulesets={**case.rulesets, place: kept})
                if len(kept) < len(lines) and _differs(lab, fewer):
                    case = fewer
                else:
                    start += size
            size //= 2
    return case


def is_rule(line: str) -> bool:
    """Say whether a line of either language can go by itself."""
    return not line.startswith(("*", "table ", "chain ", "type ", "}")) and line != "COMMIT" and not line.endswith("{")


def _differs(lab, case) -> bool:
    try:
        return bool(disagreements(lab, case)[0].wrong)
    except RuntimeError:  # what is left cannot be loaded
        return False


def a_test(case: Case, wrong: Round) -> str:
    """Return a test to keep. It holds the rulesets as they are read back."""
    probe, (ends, heard) = next(iter(wrong.wrong.items()))
    prepare(case)
    dumps = []
    for backend, family in case.rulesets:
        text = kernel.run("nft", "-j", "list", "ruleset") if backend == "native" else kernel.run(kernel.command(backend, family, "save"))
        lines = [line for line in text.split("\n") if not line.startswith("#")]
        dumps.append(f'        ("{backend}", "{family}"): """\\\n' + "\n".join(lines).rstrip() + '\n""",\n')
    said = ", ".join(f"{end.place} {end.address} {end.port} {reach}" for end, reach in ends.items()) or "nowhere"
    did = f"{heard.place} {heard.address} {heard.port} answers" if heard else "nothing answers"
    settings = {name: value for name, value in case.settings.items() if value} | ({"diverted": 1} if case.diverted else {})
    return (
        f"def test_seed_{case.seed}():\n"
        f'    """{case.kind}: the judge said {said}; in the kernel {did}."""\n'
        "    rulesets = {\n" + "".join(dumps) + "    }\n"
        f"    probe = {tuple(probe)}\n"
        f"    assert agrees(rulesets, {settings}, probe, {tuple(heard) if heard else None})\n"
    )


def wrong_reason(lab: Lab, case: Case, judge: Judge) -> str | None:
    """See which rules decide on one probe; return how that differs from what the judge names, None when it names none."""
    probe = random.Random(case.seed).choice(case.probes)
    reasons = judge.reasons(probe)
    if reasons is None:
        return None
    said, named = reasons
    for _attempt in range(3):
        true = kernel.deciders(probe, lab.first_packet)
        problem = explained(true, named, said, judge.translating)
        if not problem:
            return ""
    return f"{probe}: {problem}: said {said} by {named}; the kernel: {true}"


def divided(tables, ipsets, family: str) -> dict[tuple[str, int, str], list[tuple[int, int]]]:
    """Return {(protocol, port, reach): sources} for a few ports of the server, neighbouring sources joined."""
    judge, version = Filter(tables, ipsets), "ipv4" if family == "ip" else "ipv6"
    found = {}
    for protocol, port, link in (("tcp", 5432, "eth0"), ("tcp", 6379, "eth1"), ("udp", 5353, "eth0")):
        for part in judge.reach(Packet(version, protocol, number(address(version, link, 1)), port, link)):
            found.setdefault((protocol, port, part.reach), []).extend(part.sources)
    return {key: _joined(ranges) for key, ranges in found.items()}


def _joined(ranges):
    found = []
    for first, last in sorted(ranges):
        if found and found[-1][1] + 1 == first:
            first = found.pop()[0]
        found.append((first, last))
    return found


def explained(true: list[kernel.Decider], named: list[tuple], reach: str, translating: Collection[tuple]) -> str:
    """Say what is wrong with the rules that the judge names, or nothing.

    true: the verdict of each base chain that the packet met. A policy that accepts is named where no rule may decide.
    """
    true = [decider for decider in true if decider[:4] not in translating]
    if reach == "dropped" and named and named[-1][:3] not in {decider[:3] for decider in true}:
        return ""  # two chains of one priority drop it, and the order of those is not known
    if reach == "maybe" and any(rule[:4] in translating and rule[4] for rule in named):
        return ""  # it may have been sent another way, on which another rule decides
    deciding = {decider[:5] for decider in true if decider.drops or (decider.rule and reach != "dropped")}
    if deciding - set(named):
        return f"{min(deciding - set(named))} decides and is not named"
    filtering = {rule for rule in named if rule[:4] not in translating and rule[1] != "netdev"}  # no trace begins so early
    if deciding and reach == "accepted" and len(filtering) == len(deciding) and deciding != filtering:
        return "another rule is named"
    policies = not any(rule[4] for rule in named)
    if true and not deciding and policies and not {decider[:5] for decider in true} & filtering:
        return "a policy decides, and is not named"
    return ""
