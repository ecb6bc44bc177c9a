# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""nft's JSON: every expression is read exactly, or is unknown; none is left out."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._model.ruleset import Target, table_from_dict, table_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import iptables_save, nft_json
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.error import ParseError
from hypothesis import given, settings
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMES = sorted(path.name for path in (FIXTURES / "nft").glob("*.json"))


def read(name):
    text = (FIXTURES / "nft" / name).read_text()
    spoken = FIXTURES / "nft" / name.replace(".json", ".txt")
    tables, gaps = nft_json.parse(text, name, nft_json.texts(spoken.read_text()) if spoken.exists() else None)
    return {(table.family, table.name): table for table in tables}, gaps


@pytest.fixture(scope="module")
def everything():
    tables, gaps = read("1.0.6-debian12-everything.json")
    assert not gaps
    return tables


def spelled(rules, text):
    """Return the parts of the rule whose text nft printed so: matches as field, !, values; and the target."""
    found = [
        (
            [f"{match.field}{'!' if match.negated else ''}={','.join(match.values)}" for match in rule.matches],
            f"{rule.target.kind} {rule.target.argument}".strip(),
        )
        for rule in rules
        if rule.text == text
    ]
    assert found, [rule.text for rule in rules]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_rule_of_a_captured_ruleset_is_there(name):
    items = json.loads((FIXTURES / "nft" / name).read_text())["nftables"]
    tables, _gaps = read(name)
    found = {
        (family, table, chain, rule.number)
        for (family, table), content in tables.items()
        for chain, rules in ((chain.name, chain.rules) for chain in content.chains.values())
        for rule in rules
    }
    expected: dict = {}
    for item in (item["rule"] for item in items if "rule" in item):
        key = item["family"], item["table"], item["chain"]
        expected[key] = expected.get(key, 0) + 1
    assert found == {(*key, number) for key, count in expected.items() for number in range(1, count + 1)}
    assert [table_from_dict(json.loads(json.dumps(table_to_dict(table)))) for table in tables.values()] == list(tables.values())


ALL_FLAGS = "fin,syn,rst,psh,ack,urg,ecn,cwr"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        # trap 11: a bit test, and sets that compare every bit
        ("tcp flags syn,ack accept", [(["protocol=tcp", "tcp_flags=syn/syn,ack/ack"], "accept")]),
        ("tcp flags { syn, ack } accept", [(["protocol=tcp", f"tcp_flags={ALL_FLAGS}/syn,{ALL_FLAGS}/ack"], "accept")]),
        ("tcp flags { syn | ack, ack } accept", [(["protocol=tcp", f"tcp_flags={ALL_FLAGS}/syn,ack,{ALL_FLAGS}/ack"], "accept")]),
        ("tcp flags == syn accept", [(["protocol=tcp", f"tcp_flags={ALL_FLAGS}/syn"], "accept")]),
        ("tcp flags syn / fin,syn accept", [(["protocol=tcp", "tcp_flags=fin,syn/syn"], "accept")]),
        ("tcp flags != syn / fin,syn,rst,ack accept", [(["protocol=tcp", "tcp_flags!=fin,syn,rst,ack/syn"], "accept")]),
        ("ct state established,related accept", [(["ct_state=ESTABLISHED,RELATED"], "accept")]),
        ("ct state != established | related accept", [(["ct_state!="], "accept")]),
        (
            "ct state vmap { invalid : drop, established : accept, related : accept, untracked : jump other }",
            [
                (["ct_state=INVALID"], "drop"),
                (["ct_state=ESTABLISHED"], "accept"),
                (["ct_state=RELATED"], "accept"),
                (["ct_state=UNTRACKED"], "jump other"),
            ],
        ),
        ("ct status snat,dnat accept", [(["ct_state=SNAT,DNAT"], "accept")]),
        ("ct mark & 0x000000ff == 0x00000005 accept", [(["ct_mark=0x5/0xff"], "accept")]),
        (
            'ip saddr @bl tcp dport 22 accept comment "hello"',
            [(["family=ipv4", "source=10.0.0.0/8,192.168.1.1-192.168.1.9", "protocol=tcp", "destination_port=22"], "accept")],
        ),
        ("ip saddr @dyn drop", [(["family=ipv4", "unknown="], "drop")]),
        (
            "ip saddr . tcp dport { 1.1.1.1 . 5, 2.2.2.0/24 . 6-9 } accept",
            [
                (["family=ipv4", "source=1.1.1.1/32", "protocol=tcp", "destination_port=5"], "accept"),
                (["family=ipv4", "source=2.2.2.0/24", "protocol=tcp", "destination_port=6:9"], "accept"),
            ],
        ),
        ("ip saddr . tcp dport != { 1.1.1.1 . 5 } accept", [(["unknown="], "accept")]),
        (
            "tcp dport vmap @vm",
            [(["protocol=tcp", "destination_port=22"], "accept"), (["protocol=tcp", "destination_port=23"], "jump other")],
        ),
        ("meta mark set meta mark | 0x00000004", [([], "mark 0x4/0x4")]),
        ("meta mark set meta mark & 0x0000fff3 | 0x00000003", [([], "mark 0x3/0xffff000f")]),
        ("ct mark set 0x00000007", [([], 'opaque {"mangle":{"key":{"ct":{"key":"mark"}},"value":7}}')]),
        ('iif "lo" accept', [(["in_interface=lo"], "accept")]),
        ("iif 77 accept", [(["unknown="], "accept")]),
        ('iifname "veth*" oifname != "lo" accept', [(["in_interface=veth*", "out_interface!=lo"], "accept")]),
        ("fib daddr type { local, broadcast } accept", [(["destination_type=LOCAL,BROADCAST"], "accept")]),
        ("fib saddr . iif oif missing drop", [(["unknown="], "drop")]),
        ("icmpv6 type nd-neighbor-solicit accept", [(["family=ipv6", "protocol=ipv6-icmp", "icmp_type=nd-neighbor-solicit"], "accept")]),
        ("ip6 nexthdr tcp accept", [(["family=ipv6", "protocol=tcp", "unknown="], "accept")]),
        ("meta l4proto { tcp, udp } th dport 53 accept", [(["protocol=tcp,udp", "destination_port=53"], "accept")]),
        ("tcp dport != { 22, 80-90 } reject with tcp reset", [(["protocol=tcp", "destination_port!=22,80:90"], "drop")]),
        ("tcp dport < 1024 drop", [(["protocol=tcp", "destination_port=0:1023"], "drop")]),
        ("tcp dport { 22, 80-90 } limit rate 5/second burst 3 packets accept",
         [(["protocol=tcp", "destination_port=22,80:90", "unknown="], "accept")]),
        ("tcp dport 22 ct count over 3 reject", [(["protocol=tcp", "destination_port=22", "unknown="], "drop")]),
        ("add @dyn { ip saddr }", [(["unknown="], "continue")]),
        ("synproxy mss 1460 wscale 7", [([], 'opaque synproxy {"mss":1460,"wscale":7}')]),
        ("ip saddr & 255.0.0.255 == 10.0.0.1 accept", [(["family=ipv4", "unknown="], "accept")]),
        ("ip saddr != { 1.1.1.1-1.1.1.5, 10.0.0.0/8 } drop", [(["family=ipv4", "source!=1.1.1.1-1.1.1.5,10.0.0.0/8"], "drop")]),
        ("numgen random mod 2 0 drop", [(["unknown="], "drop")]),
        ("ip dscp set cs1", [([], "continue")]),
        ("udplite dport 5 drop", [(["protocol=udplite", "destination_port=5"], "drop")]),
    ],
)  # fmt: skip
def test_rule(everything, text, parts):
    assert spelled(everything["inet", "t"].chains["i"].rules, text) == parts


def test_a_statement_with_an_effect_comes_before_what_follows_it(everything):
    chains = everything["inet", "t"].chains
    matches = ["protocol=tcp"]
    assert spelled(chains["r"].rules, "meta l4proto tcp meta mark set 0x00000001 tcp sport 5 tcp dport 6 accept") == [
        (matches, "mark 0x1/0xffffffff"),
        ([*matches, "source_port=5", "destination_port=6"], "accept"),
    ]
    assert [rule.target for rule in chains["m"].rules] == [("tproxy", "127.0.0.1:8"), ("mark", "0x1/0xffffffff"), ("accept", "")]
    assert {rule.number for rule in chains["m"].rules} == {1}


def test_nat(everything):
    chains = everything["inet", "t"].chains
    assert chains["n"][2:6] == ("nat", "prerouting", -100, "accept")
    assert [tuple(rule.target) for rule in chains["n"].rules[:4]] == [
        ("dnat", "10.0.0.1:8080"),
        ("dnat", "[fe00::1]:8080"),
        ("redirect", "8080"),
        ("redirect", ""),
    ]
    looked_up = chains["n"].rules[4]
    assert looked_up.target == Target("dnat", "1.2.3.4")
    assert [(match.field, match.values) for match in looked_up.matches] == [
        ("family", ("ipv4",)),
        ("protocol", ("tcp",)),
        ("destination_port", ("84",)),
    ]
    assert [rule.target.kind for rule in chains["p"].rules] == ["snat", "snat"]


def test_what_follows_a_tproxy_is_for_those_that_have_a_socket(everything):
    parts = [
        ([match.field for match in rule.matches], rule.target) for rule in everything["inet", "t"].chains["m"].rules if rule.number == 1
    ]
    asked = ["protocol", "destination_port", "family"]
    assert parts == [
        (asked, ("tproxy", "127.0.0.1:8")),
        ([*asked, "taken"], ("mark", "0x1/0xffffffff")),
        ([*asked, "taken"], ("accept", "")),
    ]
    (asked_for,) = [match for rule in everything["inet", "t"].chains["i"].rules for match in rule.matches if match.field == "socket"]
    assert asked_for.values == ("transparent", "nowildcard")


def test_devices_of_an_ingress_chain_come_from_the_text_where_the_json_lacks_them(everything):
    assert everything["netdev", "nd"].chains["ing"].devices == ("lo",)
    text = (FIXTURES / "nft" / "1.0.6-debian12-everything.json").read_text()
    assert [gap.subject for gap in nft_json.parse(text, "nft")[1]] == ["chain netdev nd ing"]


def test_a_dormant_table_filters_nothing(everything):
    chain = everything["inet", "dorm"].chains["i"]
    assert (chain.hook, chain.policy, len(chain.rules)) == (None, None, 1)


def test_a_set_that_rules_change_is_not_complete(everything):
    sets = everything["inet", "t"].sets
    assert {name: elements.complete for name, elements in sets.items()} == {"bl": True, "dyn": False, "cc": True, "vm": True}
    assert sets["bl"].entries == ("10.0.0.0/8", "192.168.1.1-192.168.1.9")


def test_rules_of_miniupnpd_are_raw_bytes():
    tables, gaps = read("1.0.6-debian12-miniupnpd.json")
    assert not gaps
    rules = tables["inet", "filter"].chains["miniupnpd"].rules
    assert {match.field for match in rules[0].matches} == {"in_interface", "destination_port", "unknown"}
    assert tables["inet", "filter"].chains["prerouting_miniupnpd"].rules[0].target == ("dnat", "192.168.77.10:22")


def test_what_iptables_wrote_is_opaque_or_the_same_as_iptables_save_tells():
    """Another reader of the same kernel: each rule that nft shows in full has the meaning that iptables-nft-save gives it."""
    tables, _gaps = read("1.0.6-debian12-of-iptables.json")
    compared = 0
    for family, name in (("ip", "1.8.9-debian12-nft.v4"), ("ip6", "1.8.9-debian12-nft.v6")):
        saved, _gaps = iptables_save.parse((FIXTURES / "iptables" / name).read_text(), name, "iptables-nft", family)
        for table in saved:
            for chain in table.chains.values():
                shown = tables[family, table.name].chains.get(chain.name)
                if shown is None:  # iptables-nft makes a built-in chain when it gets its first rule
                    assert not chain.rules
                    continue
                if table.name != "security":  # which iptables-nft 1.8.9 puts at priority 150, not at 50
                    assert shown[2:6] in (chain[2:6], ("route", *chain[3:6]))
                assert len({rule.number for rule in shown.rules}) == len(chain.rules)
                for rule in shown.rules:
                    fields = [match.field for match in rule.matches]
                    if "unknown" in fields or rule.target.kind == "opaque":
                        continue
                    told = chain.rules[rule.number - 1]
                    assert meaning(rule) == meaning(told)
                    compared += 1
    assert compared > 20


def meaning(rule):
    matches = {(match.field, tuple(sorted(value.replace("*", "+") for value in match.values)), match.negated) for match in rule.matches}
    return matches, rule.target.kind


def test_iptables_parts_are_unknown_by_name():
    tables, _gaps = read("1.0.6-debian12-of-iptables.json")
    rules = tables["ip", "filter"].chains["INPUT"].rules
    assert "xt match recent" in {match.text for rule in rules for match in rule.matches}
    assert "xt target LOG" in {rule.target.argument for rule in rules}


@pytest.mark.parametrize(
    "text",
    ["", "<html>", "[]", "{}", '{"nftables": 5}', '{"nftables": []}', '{"nftables": [{"table": {"family": "inet", "name": "x"}}]}',
     '{"nftables": [{"metainfo": {"json_schema_version": 2}}]}', "table inet filter {\n}\n",
     '{"nftables": [{"metainfo": {"json_schema_version": 1}}, {"rule": {"family": "ip", "table": "a", "chain": "b", "expr": []}}]}',
     '{"nftables": [{"metainfo": {"json_schema_version": 1}}, {"chain": {"family": "ip", "table": "a", "name": "b", "hook": "x"}}]}',
     '{"nftables":' + "[" * 20000, '{"nftables": [{"metainfo": {"json_schema_version": 1}}, {"table": '],
)  # fmt: skip
def test_what_is_not_the_ruleset_of_nft_is_refused(text):
    with pytest.raises(ParseError, match=r"^ruleset"):
        nft_json.parse(text, "ruleset")


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 300), st.sampled_from(["@s", "*", "tcp", "10.0.0.0", "syn", "lo", "new", "0x1", "mark", ""])
)
KEYS = st.sampled_from(
    [
        "match",
        "op",
        "left",
        "right",
        "payload",
        "protocol",
        "field",
        "meta",
        "key",
        "ct",
        "set",
        "map",
        "vmap",
        "data",
        "accept",
        "drop",
        "jump",
        "target",
        "concat",
        "range",
        "prefix",
        "addr",
        "len",
        "&",
        "|",
        "elem",
        "val",
        "limit",
        "mangle",
        "value",
        "dnat",
        "redirect",
        "port",
        "xt",
        "type",
        "name",
        "fib",
        "result",
        "flags",
        "base",
        "offset",
    ]
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12)
STATEMENTS = TREES | st.builds(
    lambda op, left, right: {"match": {"op": op, "left": left, "right": right}}, st.sampled_from(["==", "!=", "in", "<"]), TREES, TREES
)


@settings(max_examples=120)
@given(st.lists(STATEMENTS, max_size=4))
def test_any_expression_leaves_a_rule(statements):
    items = [
        {"metainfo": {"json_schema_version": 1}},
        {"table": {"family": "inet", "name": "t"}},
        {"chain": {"family": "inet", "table": "t", "name": "c"}},
        {"set": {"family": "inet", "table": "t", "name": "s", "type": "ipv4_addr", "elem": ["10.0.0.1"]}},
        {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 3, "expr": statements}},
    ]
    tables, _gaps = nft_json.parse(json.dumps({"nftables": items}), "nft")
    assert {rule.number for rule in tables[0].chains["c"].rules} == {1}
    assert table_from_dict(json.loads(json.dumps(table_to_dict(tables[0])))) == tables[0]


@settings(max_examples=120)
@given(st.text() | TREES.map(json.dumps) | st.lists(TREES).map(lambda trees: json.dumps({"nftables": trees})))
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(ParseError):
        nft_json.parse(text, "nft", nft_json.texts(text))
