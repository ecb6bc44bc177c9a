# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Windows host tells, whole, broken and hostile. fixtures/windows/README.md says where the shapes come from."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._model.gap import Gap
from ansible_collections.loopguard.loopback.plugins.module_utils._model.relay import PortProxy
from ansible_collections.loopguard.loopback.plugins.module_utils._model.ruleset import table_from_dict, table_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import portproxy, windows
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.error import ParseError
from hypothesis import given, settings
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[1] / "fixtures" / "windows"
EVIDENCE = json.loads((FIXTURES / "evidence-documented.json").read_text())
LISTENERS = json.loads((FIXTURES / "listen_ports-documented.json").read_text())
PUBLISHED = (FIXTURES / "portproxy-published.txt").read_text().replace("\n", "\r\n")
GERMAN = (FIXTURES / "portproxy-german-documented.txt").read_text().replace("\n", "\r\n")
PARTS = ("elevated", "service", "profiles", "rules", "addresses", "networks", "portproxy", "processes")
ODD = [None, True, False, 0, 1, -1, 1 << 40, 2.5, "", "Any", "²", "٣", "\ud800", "\x1b[31m\u202e", "0", "65536", "1-", "2-1", "::/0",
       [], [[]], [1], ["Any"], {}, {"a": 1}]  # fmt: skip


def changed(**parts):
    return json.dumps({**EVIDENCE, **parts})


def rules_of(row, profile="Public"):
    """Return the rules that one row becomes, without the default."""
    found = windows.parse(changed(rules=[{**EVIDENCE["rules"][0], **row}]))
    return found.firewall.tables[0].chains[profile].rules[:-1]


def matches(row):
    (one,) = rules_of(row)
    return {match.field: match.values for match in one.matches}


def test_the_documented_host():
    host = windows.parse(json.dumps(EVIDENCE))
    (table,) = host.firewall.tables
    assert (host.hostname, host.elevated, host.gaps, host.proxies, host.own_rules) == ("WEB01", True, (), (), ())
    assert (host.firewall.gaps, host.network.gaps) == ((), ())
    assert [(entry.name, entry.loopback) for entry in host.network.interfaces] == [
        ("Ethernet", False),
        ("Loopback Pseudo-Interface 1", True),
    ]
    assert host.network.interfaces[0].addresses == ("fe80::4c98:43ae:2dce:11f3/64", "2001:db8::5/64", "10.0.0.5/24")
    assert table.chains["Public"].devices == ("Ethernet", "Loopback Pseudo-Interface 1")
    assert table.chains["Domain"].devices == ()
    assert [rule.text for rule in table.chains["Public"].rules][:2] == ["Block 'No guests'", "Allow 'PostgreSQL'"]
    assert table_from_dict(table_to_dict(table)) == table


def test_a_rule_that_blocks_stands_before_one_that_allows_and_a_bypass_before_both():
    row = EVIDENCE["rules"][0]
    rules = [row, {**row, "action": 4}, {**row, "action": 3}, {**row, "override_block": "True"}]
    found = windows.parse(changed(rules=rules)).firewall.tables[0].chains["Public"].rules
    assert [rule.number for rule in found] == [3, 4, 2, 1, 0]
    assert all("unknown" in {match.field for match in rule.matches} for rule in found[:2])


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, {"protocol": ("tcp",), "destination_port": ("5432",)}),
        ({"protocol": "17"}, {"protocol": ("udp",), "destination_port": ("5432",)}),
        ({"protocol": "Any", "local_ports": ["Any"]}, {}),
        ({"local_ports": ["80", "08000-8010"]}, {"protocol": ("tcp",), "destination_port": ("80", "8000:8010")}),
        ({"remote_ports": ["67"]}, {"protocol": ("tcp",), "destination_port": ("5432",), "source_port": ("67",)}),
        ({"remote_addresses": ["10.2.0.0/255.255.0.0"]}, {"source": ("10.2.0.0/16",)}),
        ({"remote_addresses": ["10.0.0.1-10.0.0.9"]}, {"source": ("10.0.0.1-10.0.0.9",)}),
        ({"local_addresses": ["2001:db8::5"]}, {"destination": ("2001:db8::5/128",)}),
    ],
)
def test_what_a_rule_says_of_packets(row, expected):
    base = {"protocol": ("tcp",), "destination_port": ("5432",)} if row.keys() & {"remote_addresses", "local_addresses"} else {}
    assert matches(row) == {**base, **expected}


@pytest.mark.parametrize(
    "row",
    [
        {"program": "C:\\pg\\postgres.exe"},
        {"service": "termservice"},
        {"package": "S-1-15-2-1"},
        {"owner": "S-1-5-21-1"},
        {"platforms": ["10.0+"]},
        {"extras": ["{8d34b4c8-9fb2-4b3e-a9f6-1b8a6d1a3c11}"]},
        {"interfaces": ["Ethernet"]},
        {"interface_type": "Wireless"},
        {"dynamic_target": "ProximityApps"},
        {"authentication": "Required"},
        {"encryption": "Dynamic"},
        {"local_user": "D:(A;;CC;;;S-1-5-21-1)"},
        {"remote_user": "O:LSD:(A;;CC;;;S-1-5-84-0-0-0-0-0)"},
        {"remote_machine": ""},
        {"remote_addresses": ["LocalSubnet"]},
        {"remote_addresses": ["10.0.0.1", "DNS"]},
        {"remote_addresses": []},
        {"local_ports": ["RPC"]},
        {"local_ports": ["5432", "RPCEPMap"]},
        {"local_ports": ["\u0665"]},
        {"local_ports": ["65536"]},
        {"local_ports": []},
        {"protocol": "Twelve"},
        {"action": 4, "enforcement": [16]},
        {"action": 4, "enforcement": [1, 16]},
        {"action": 4, "enforcement": [5]},
        {"action": 4, "enforcement": []},
        {"action": 4, "enforcement": [None]},
    ],
)
def test_what_cannot_be_evaluated_makes_a_rule_doubtful(row):
    for action in (2, 4):
        (one,) = rules_of({"action": action, **row})
        assert "unknown" in {match.field for match in one.matches}


def test_addresses_of_both_families_become_a_rule_for_each():
    found = rules_of({"remote_addresses": ["10.2.0.0/16", "2001:db8::/32"]})
    assert [rule.matches[0].values for rule in found] == [("10.2.0.0/16",), ("2001:db8::/32",)]
    assert {rule.number for rule in found} == {1}
    assert rules_of({"remote_addresses": ["10.2.0.0/16"], "local_addresses": ["2001:db8::5"]}) == ()


def test_a_rule_holds_in_its_profiles_only():
    for bits, expected in ((0, {"Domain", "Private", "Public"}), (0x7FFFFFFF, {"Domain", "Private", "Public"}), (5, {"Domain", "Public"})):
        assert {profile for profile in ("Domain", "Private", "Public") if rules_of({"profiles": bits}, profile)} == expected


def test_an_interface_without_a_known_profile_may_have_any():
    host = windows.parse(changed(networks=[{"index": 12, "category": None}]))
    names = [entry.name for entry in host.network.interfaces if not entry.loopback]
    assert names == ["Ethernet, if Domain", "Ethernet, if Private", "Ethernet, if Public"]


def test_names_that_would_act_on_a_terminal():
    addresses = [{**EVIDENCE["addresses"][0], "interface": "Eth\x1b[31m\u202e"}, EVIDENCE["addresses"][3]]
    assert windows.parse(changed(addresses=addresses)).network.interfaces[0].name == "'Eth\\x1b[31m\\u202e' (12)"
    rows, _gaps = windows.parse_listeners(
        {"tcp_listen": [{**LISTENERS["tcp_listen"][0], "name": "a\x1bb.EXE", "user": "\u202e"}], "udp_listen": []}, {}
    )
    assert (rows[0].process, rows[0].user) == ("a b", " ")


def test_own_rules_are_those_of_our_group_with_a_name_that_we_give():
    row = EVIDENCE["rules"][0]
    named = [
        ("loopguard.loopback tcp 5432", "loopguard.loopback"),
        ("Remote Desktop", "loopguard.loopback"),
        ("loopguard.loopback tcp 1", ""),
    ]
    rules = [{**row, "name": name, "group": group} for name, group in named]
    assert windows.parse(changed(rules=rules)).own_rules == ("loopguard.loopback tcp 5432",)


def test_an_interface_that_the_firewall_leaves_out():
    profiles = [{**row, "disabled_interfaces": ["Ethernet"]} for row in EVIDENCE["profiles"]]
    chains = windows.parse(changed(profiles=profiles)).firewall.tables[0].chains
    assert "Ethernet" not in chains["Public"].devices
    assert chains["Public (left out)"].devices == ("Ethernet",)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_was_not_read_is_a_gap(part):
    errors = [{"subject": part, "text": "Access is\r\ndenied \x1b[31m"}]
    host = windows.parse(changed(**{part: None, "errors": errors}))
    gaps = (*host.gaps, *host.firewall.gaps, *host.network.gaps)
    if part == "elevated":
        assert not host.elevated
    elif part == "networks":  # then an interface may have any profile
        assert len({entry.name for entry in host.network.interfaces}) == 4
    else:
        subject = "processes" if part == "processes" else f"Windows {part}"
        assert Gap(subject, "failed", "Access is  denied  [31m") in gaps


def test_a_firewall_whose_service_does_not_run_is_not_read():
    assert [gap.subject for gap in windows.parse(changed(service=[1])).firewall.gaps] == ["Windows service"]
    assert [gap.subject for gap in windows.parse(changed(profiles=[])).firewall.gaps] == ["Windows profiles"]


def test_no_interface_is_not_a_closed_host():
    assert [gap.subject for gap in windows.parse(changed(addresses=[])).network.gaps] == ["Windows addresses"]


def test_listeners():
    rows, gaps = windows.parse_listeners(LISTENERS, {5332: "postgres.exe -D data"})
    assert gaps == []
    assert [(row.address, row.port, row.process, row.scope) for row in rows if row.port in (5432, 6379, 1900)] == [
        ("::", 5432, "postgres", "wildcard"),
        ("127.0.0.1", 6379, "redis-server", "loopback"),
        ("fe80::4c98:43ae:2dce:11f3", 1900, "svchost", "link_local"),
    ]
    assert rows[4].command == "postgres.exe -D data"
    assert rows[4].v6only is None  # a socket on :: may take IPv4


def test_no_listener_at_all_is_not_believed():
    _rows, gaps = windows.parse_listeners({"tcp_listen": [], "udp_listen": LISTENERS["udp_listen"]}, {})
    assert [gap.subject for gap in gaps] == ["tcp"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2}', "[" * 100_000, '{"version": 1, "errors": [1]}', "9" * 5000, changed(hostname=None), changed(rules={}),
     changed(rules=[[]]), changed(rules=[{}]), changed(rules=[{**EVIDENCE["rules"][0], "name": 1}]), changed(networks=[{"index": True}]),
     changed(addresses=[EVIDENCE["addresses"][0], {**EVIDENCE["addresses"][1], "index": 13}],
             networks=[{"index": 12, "category": 0}, {"index": 13, "category": 0}]),
     changed(addresses=[{**EVIDENCE["addresses"][0], "address": "10.0.0"}]), changed(addresses=[{**EVIDENCE["addresses"][0], "length": 129}])],
)  # fmt: skip
def test_other_shapes_are_refused(text):
    with pytest.raises(ParseError, match="the evidence of Windows: "):
        windows.parse(text)


@pytest.mark.parametrize(
    "rows", [None, {}, [1], [{}], [{**LISTENERS["tcp_listen"][0], "port": 65536}], [{**LISTENERS["tcp_listen"][0], "address": "*"}]]
)
def test_other_listeners_are_refused(rows):
    with pytest.raises(ParseError, match="tcp_listen"):
        windows.parse_listeners({"tcp_listen": rows, "udp_listen": []}, {})


def places(value, path=()):
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


PLACES = [path for path in places(EVIDENCE) if path]


@settings(max_examples=500)
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(ODD)), min_size=1, max_size=3))
def test_damaged_evidence_is_read_or_refused(changes):
    data = copy.deepcopy(EVIDENCE)
    for path, value in changes:
        inner = data
        for key in path[:-1]:
            known = inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
            inner = inner[key] if key in known else None
        if isinstance(inner, dict) or (isinstance(inner, list) and path[-1] in range(len(inner))):
            inner[path[-1]] = copy.deepcopy(value)
    try:
        host = windows.parse(json.dumps(data))
    except ParseError as error:
        assert str(error).startswith("the evidence of Windows: ")
        return
    for chain in host.firewall.tables[0].chains.values():
        assert all(rule.text.isprintable() for rule in chain.rules)
        assert chain.rules[-1].number == 0


@settings(max_examples=300)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text):
    for read in (windows.parse, portproxy.parse):
        try:
            read(text)
        except ParseError as error:
            assert str(error)


def test_portproxy():
    assert portproxy.parse("\r\n") == []
    assert portproxy.parse(PUBLISHED) == [
        PortProxy("0.0.0.0", 3000, "172.18.240.1", 3000),
        PortProxy("0.0.0.0", 15432, "127.0.0.1", 5432),
    ]


def test_portproxy_in_another_language_with_every_address():
    assert portproxy.parse(GERMAN) == [PortProxy("0.0.0.0", 8080, "::1", 8080), PortProxy("::", 8081, "localhost", 80)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("The following command was not found: interface portproxy show all.", 1),
        (PUBLISHED.replace("15432", "0"), 7),
        (PUBLISHED.replace("15432", "99999"), 7),
        (PUBLISHED.replace("15432", ""), 7),
        (PUBLISHED.replace("127.0.0.1       5432", "127.0.0.1       5432 more"), 7),
        (PUBLISHED.replace("---------------", "==============="), 6),
        (PUBLISHED.replace("Listen on ipv4", "Listen on"), 2),
        (PUBLISHED + "0.0.0.0 1 127.0.0.1 2\n", 9),
    ],
)
def test_portproxy_that_is_not_understood_names_the_line(text, line):
    with pytest.raises(ParseError) as caught:
        portproxy.parse(text)
    assert caught.value.line == line


def test_a_cut_off_portproxy_is_refused():
    with pytest.raises(ParseError, match="without its rows"):
        portproxy.parse(PUBLISHED[:80])


def test_portproxy_without_end_is_refused():
    with pytest.raises(ParseError, match="more than 4096"):
        portproxy.parse(PUBLISHED.rstrip() + "\n1.1.1.1 1 1.1.1.1 1" * 4096)


def test_a_portproxy_that_was_not_understood_is_a_gap():
    assert [gap.subject for gap in windows.parse(changed(portproxy=["what?"])).gaps] == ["Windows portproxy"]
