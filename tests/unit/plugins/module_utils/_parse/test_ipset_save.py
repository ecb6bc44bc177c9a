# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._model.ruleset import SetElements, set_from_dict, set_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.error import ParseError
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.ipset_save import parse
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = (Path(__file__).parents[1] / "fixtures" / "ipset" / "7.17-debian12-every-kind.txt").read_text()


def test_every_kind():
    sets, gaps = parse(TEXT, "ipset save")
    assert not gaps
    assert sets == {
        "nets": SetElements("nets", "hash:net", ("10.0.0.0/8",), ("10.1.0.0/16",)),
        "hosts": SetElements("hosts", "hash:ip", ("192.0.2.1/32",)),
        "masked": SetElements("masked", "hash:ip", ("192.0.2.0/24",)),
        "bans": SetElements("bans", "hash:ip", ("192.0.2.9/32",), complete=False),
        "six": SetElements("six", "hash:net", ("2001:db8::/32",)),
        "pairs": SetElements("pairs", "hash:ip,port", ("192.0.2.1,tcp:80",)),
        "range": SetElements("range", "bitmap:ip", tuple(f"192.168.0.{last}/32" for last in (4, 5, 6, 7))),
        "ports": SetElements("ports", "bitmap:port", ("22",)),
        "all": SetElements("all", "list:set", ("nets", "hosts")),
        "forced": SetElements("forced", "hash:ip", ()),
    }
    assert {name: set_from_dict(set_to_dict(elements)) for name, elements in sets.items()} == sets


def test_an_element_that_cannot_be_read_makes_the_set_incomplete():
    sets, gaps = parse("create a hash:net family inet\nadd a 10.0.0.0/8\nadd a nonsense\n", "ipset save")
    assert sets["a"] == SetElements("a", "hash:net", ("10.0.0.0/8",), complete=False)
    assert [(gap.subject, gap.reason) for gap in gaps] == [("ipset save:3", "unparsable")]


def test_no_sets():
    assert parse("", "ipset save") == ({}, [])


@pytest.mark.parametrize("text", ["<html>", "create a", "add a 10.0.0.1", "create a hash:ip\nfoo a 10.0.0.1"])
def test_what_is_not_of_ipset_is_refused(text):
    with pytest.raises(ParseError, match=r"^ipset save:[12]: "):
        parse(text, "ipset save")


WORDS = st.sampled_from(
    [
        "create",
        "add",
        "a",
        "b",
        "hash:ip",
        "hash:net",
        "10.0.0.0/8",
        "::/0",
        "nomatch",
        "timeout",
        "5",
        "netmask",
        "24",
        "comment",
        "\n",
        "\n",
    ]
)


@settings(max_examples=200)
@given(st.text() | st.lists(WORDS).map(" ".join))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ParseError):
        parse(text, "ipset save")
