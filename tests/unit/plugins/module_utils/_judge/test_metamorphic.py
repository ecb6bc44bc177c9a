# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes of a ruleset that change no answer. The rulesets are those of the oracle."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import ipset_save, iptables_save
from hypothesis import assume, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[4] / "oracle"))
from compare import divided
from rulesets import IPSETS, Iptables

SETS, _GAPS = ipset_save.parse(IPSETS, "ipset save")
FAMILIES = ("ip", "ip6")
seeds = st.integers(0, 1 << 32)


def answers(lines, family):
    tables, gaps = iptables_save.parse("\n".join(lines) + "\n", "test", "iptables-nft", family)
    assert not gaps
    return divided(tables, SETS, family)


def rules_of(lines):
    """Return the places of the rules of INPUT and of chains of the filter table."""
    end = lines.index("COMMIT")
    return [place for place, line in enumerate(lines[:end]) if line.startswith("-A")]


@settings(max_examples=40)
@given(seeds, st.sampled_from(FAMILIES), st.randoms(use_true_random=False))
def test_a_rule_that_comes_again_later_changes_nothing(seed, family, pick):
    lines = Iptables(seed, family).ruleset()
    verdicts = [place for place in rules_of(lines) if lines[place].endswith(("ACCEPT", "DROP", "REJECT", "RETURN"))]
    assume(verdicts)
    place = pick.choice(verdicts)
    chain = lines[place].split()[1]
    later = [other for other in rules_of(lines) if other >= place and lines[other].split()[1] == chain]
    at = pick.choice(later) + 1
    assert answers([*lines[:at], lines[place], *lines[at:]], family) == answers(lines, family)


@settings(max_examples=40)
@given(seeds, st.sampled_from(FAMILIES), st.randoms(use_true_random=False))
def test_the_order_of_disjoint_rules_does_not_matter(seed, family, pick):
    made = Iptables(seed, family)
    lines = made.ruleset()
    places = rules_of(lines)
    pairs = [("10.77.1.2", "10.77.1.3"), ("10.77.1.0/24", "10.77.2.0/24"), ("10.77.1.0/25", "10.77.1.128/25")]
    if family == "ip6":
        pairs = [("2001:db8:77:1::2", "2001:db8:77:1::3"), ("2001:db8:77:1::/64", "2001:db8:77:2::/64"), ("fd00::/8", "fc00::/8")]
    one, other = pick.choice(
        [(f"-s {first}", f"-s {second}") for first, second in pairs]
        + [("-p tcp", "-p udp"), ("-i eth0", "-i eth1"), ("-p tcp -m tcp --dport 5432", "-p tcp -m tcp --dport 6379")]
    )
    at = pick.choice(places) if places else lines.index("COMMIT")
    chain = lines[at].split()[1] if places else "INPUT"
    two = [f"-A {chain} {match} {made.target([])}" for match in (one, other)]
    assert answers([*lines[:at], *two, *lines[at:]], family) == answers([*lines[:at], *reversed(two), *lines[at:]], family)


@settings(max_examples=30)
@given(seeds, st.sampled_from(FAMILIES), st.randoms(use_true_random=False))
def test_a_ruleset_in_another_chain_means_the_same(seed, family, pick):
    """INPUT jumps to a chain that holds what INPUT held, where no rule returns or goes elsewhere by itself."""
    lines = Iptables(seed, family).ruleset()
    assume(not any(line.startswith("-A INPUT") and (" RETURN" in line or " -g " in line) for line in lines))
    moved = [line.replace("-A INPUT", "-A MOVED") if place < lines.index("COMMIT") else line for place, line in enumerate(lines)]
    start = lines.index("*filter") + 1
    moved = [*moved[:start], ":MOVED - [0:0]", *moved[start:]]
    end = moved.index("COMMIT")
    assert answers([*moved[:end], "-A INPUT -j MOVED", *moved[end:]], family) == answers(lines, family)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=15)
@given(seed=seeds)
def test_counters_and_a_second_dump_of_other_tables_change_nothing(family, seed):
    lines = Iptables(seed, family).ruleset()
    counted = [f"[{random.Random(seed).randrange(9999)}:1] {line}" if line.startswith("-A") else line for line in lines]
    assert answers(["# a comment", *counted, "*nat", ":OUTPUT ACCEPT [0:0]", "COMMIT"], family) == answers(lines, family)
