# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import nfnetlink
from hypothesis import given, settings
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[1] / "fixtures" / "nfnetlink"


def payloads(name):
    return [bytes.fromhex(line) for line in (FIXTURES / f"6.18-debian12-{name}.hex").read_text().split()]


def test_tables():
    tables = nfnetlink.tables(payloads("native-tables"))
    assert [(table.family, table.name, table.dormant) for table in tables] == [
        ("inet", "t", False),
        ("netdev", "nd", False),
        ("inet", "dorm", True),
        ("bridge", "b", False),
    ]
    assert len({table.generation for table in tables}) == 1
    assert tables[0].generation > 0


def test_chains():
    assert nfnetlink.chains(payloads("incompatible-chains")) == {("filter", "input")}
    assert ("filter", "svc") in nfnetlink.chains(payloads("iptables-chains"))


@pytest.mark.parametrize(("name", "family"), [("iptables-rules", "ip"), ("iptables-rules6", "ip6")])
def test_rules_that_iptables_wrote_are_its_own(name, family):
    assert len(payloads(name)) > 1
    assert nfnetlink.foreign_tables(payloads(name), family) == set()


@pytest.mark.parametrize("name", ["foreign", "mixed", "incompatible"])
def test_rules_that_nft_wrote_are_foreign(name):
    assert nfnetlink.foreign_tables(payloads(f"{name}-rules"), "ip") == {"filter"}


def test_each_rule_that_iptables_would_misprint_is_foreign_by_itself():
    """Sets, address ranges and a header field: iptables-nft-save 1.8.9 prints the first three without them."""
    rules = payloads("foreign-rules")
    assert [bool(nfnetlink.foreign_tables([rule], "ip")) for rule in rules] == [True, True, True, False]


def test_ipsets():
    names = nfnetlink.ipsets(payloads("ipsets"))
    assert sorted(names) == ["all", "bans", "forced", "hosts", "masked", "nets", "pairs", "ports", "range", "six"]


@settings(max_examples=200)
@given(
    st.lists(st.binary(max_size=80) | st.sampled_from(payloads("mixed-rules") + payloads("native-tables")), max_size=4), st.integers(0, 90)
)
def test_any_bytes_are_read_or_an_oserror(messages, cut):
    messages = [message[:cut] for message in messages]
    for read in (
        nfnetlink.tables,
        nfnetlink.chains,
        nfnetlink.ipsets,
        lambda found: nfnetlink.foreign_tables(found, "ip"),
        lambda found: nfnetlink.foreign_tables(found, "ip6"),
    ):
        with contextlib.suppress(OSError):
            read(messages)
