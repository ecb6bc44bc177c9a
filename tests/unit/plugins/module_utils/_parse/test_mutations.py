# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tools print, damaged: every parser gives a result or its own error, which names the line, and loses no rule."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._collect import persisted, processes
from ansible_collections.loopguard.loopback.plugins.module_utils._model.address import scope_of
from ansible_collections.loopguard.loopback.plugins.module_utils._model.ruleset import (
    set_from_dict,
    set_to_dict,
    table_from_dict,
    table_to_dict,
)
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import (
    ipset_save,
    iptables_save,
    netlink,
    nfnetlink,
    nft_json,
    proc_net,
    rtnetlink,
    sock_diag,
    socket_tools,
)
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.error import ParseError
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.protocol import protocol_name
from hypothesis import assume, given, settings
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[1] / "fixtures"
LONG = "9" * 5000  # int() refuses more than 4300 digits
ODD = ["", "!", "!!", "-1", "0", "65536", "99999999999", LONG, "²", "٣", "é", '"', "\\", "#", "\t", "\r", "\v", "\x85", "\ud800", "[", "]", "/33"]  # fmt: skip
IPTABLES = {path.name: path.read_text() for path in sorted((FIXTURES / "iptables").iterdir())}
WORDS = sorted({word for text in IPTABLES.values() for word in text.split()}) + [word for word in ODD if word != LONG]
IPSET = (FIXTURES / "ipset/7.17-debian12-every-kind.txt").read_text()
NFT = {path.name: path.read_text() for path in sorted((FIXTURES / "nft").glob("*.json"))}
RULE = re.compile(r"(?:\[\d+:\d+\]\s+)?-")


def damaged(draw, texts, words):
    """Take a few neighbouring lines of a text, change words in it, and put it together again."""
    lines = draw(st.sampled_from(texts)).split("\n")
    for _change in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(["word", "word", "word", "insert", "remove", "swap", "cut"]))
        parts = lines[at].split(" ")
        place = draw(st.integers(0, len(parts) - 1))
        if kind == "word":
            parts[place] = draw(st.sampled_from(words))
        elif kind == "insert":
            parts.insert(place, draw(st.sampled_from(words)))
        elif kind == "remove":
            del parts[place]
        elif kind == "swap":
            other = draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
            continue
        else:
            parts[place] = parts[place][: draw(st.integers(0, len(parts[place])))]
        lines[at] = " ".join(parts)
    return "\n".join(lines)


damaged_iptables = st.composite(damaged)(list(IPTABLES.values()), WORDS)
damaged_ipset = st.composite(damaged)([IPSET], sorted(set(IPSET.split())) + ODD)


def rows_of_rules(text):
    """Return the lines that begin like a rule between *table and COMMIT, as (line, text)."""
    inside, rows = False, []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not inside:
            inside = line.startswith("*")
        elif line.rstrip() == "COMMIT":
            inside = False
        elif RULE.match(line):
            rows.append((number, line))
    return rows


def shape(parsed):
    tables, gaps = parsed
    chains = [
        (table.name, chain[2:], [(rule.matches, rule.target) for rule in chain.rules])
        for table in tables
        for chain in table.chains.values()
    ]
    return chains, len(gaps)


@settings(max_examples=250)
@given(damaged_iptables)
def test_every_rule_of_a_damaged_iptables_dump_is_a_rule_or_a_gap(text):
    try:
        tables, gaps = iptables_save.parse(text, "dump", "iptables-nft", "ip")
    except ParseError as error:
        assert 0 < error.line <= text.count("\n") + 1
        return
    told = {rule.line for table in tables for chain in table.chains.values() for rule in chain.rules}
    told |= {int(gap.subject.rpartition(":")[2]) for gap in gaps if ":" in gap.subject}
    comments = {line for table in tables for chain in table.chains.values() for rule in chain.rules
                for line in range(rule.line + 1, rule.line + rule.text.count("\n") + 1)}  # fmt: skip
    created = re.compile(r"(?:\[\d+:\d+\]\s+)?(?:-N|--new-chain|-P|--policy)\s")
    assert [line for number, line in rows_of_rules(text) if number not in told | comments and not created.match(line)] == []
    for table in tables:
        assert table_from_dict(json.loads(json.dumps(table_to_dict(table)))) == table


@settings(max_examples=80)
@given(damaged_iptables)
def test_line_ends_of_windows_make_no_difference(text):
    assume("\r" not in text)
    try:
        expected = shape(iptables_save.parse(text, "dump", "iptables-nft", "ip"))
    except ParseError:
        with pytest.raises(ParseError):
            iptables_save.parse(text.replace("\n", "\r\n"), "dump", "iptables-nft", "ip")
        return
    assert shape(iptables_save.parse(text.replace("\n", "\r\n"), "dump", "iptables-nft", "ip")) == expected


@pytest.mark.parametrize("name", list(IPTABLES))
@settings(max_examples=10)
@given(numbers=st.tuples(st.integers(0, 1 << 64), st.integers(0, 1 << 64)), words=st.text("abc -jsd!.019", max_size=20))
def test_counters_and_comments_do_not_change_what_a_rule_matches(name, numbers, words):
    lines = IPTABLES[name].split("\n")
    heads = {number for number, _line in rows_of_rules(IPTABLES[name])}
    commented = [
        f'{line} -m comment --comment "{words}"' if number in heads and " -j " not in line else line for number, line in enumerate(lines, 1)
    ]
    counted = [
        f"[{numbers[0]}:{numbers[1]}] {line}" if number in heads and line.startswith("-") else line
        for number, line in enumerate(commented, 1)
    ]
    expected = shape(iptables_save.parse("\n".join(lines), "dump", "iptables-nft", "ip"))
    assert shape(iptables_save.parse("\n".join(["# a comment", *counted]), "dump", "iptables-nft", "ip")) == expected


@settings(max_examples=200)
@given(damaged_ipset)
def test_a_damaged_ipset_dump(text):
    try:
        sets, _gaps = ipset_save.parse(text, "ipset save")
    except ParseError as error:
        assert 0 < error.line <= text.count("\n") + 1
        return
    assert {name: set_from_dict(set_to_dict(elements)) for name, elements in sets.items()} == sets


def places(node, path=()):
    """Yield the path of every node of a JSON tree."""
    yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from places(child, (*path, key))


def replaced(node, path, value):
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


RULESETS = [json.loads(text) for text in NFT.values()]
PLACES = [[path for path in places(ruleset) if len(path) > 2] for ruleset in RULESETS]
VALUES = st.one_of(
    st.sampled_from([None, True, False, 0, -1, 1 << 70, 1.5, "", "*", "@s", "lo", "ip", "inet", "tcp", "{", "\ud800", "5-2", LONG]),
    st.sampled_from([[], {}, [[]], [None], {"": None}, {"set": []}, {"range": [5]}, {"prefix": {"addr": "::", "len": -1}}, ["a", "b"]]),
    st.sampled_from(RULESETS).flatmap(lambda ruleset: st.sampled_from([ruleset["nftables"][-1], ruleset["nftables"][1]])),
)


@st.composite
def damaged_nft(draw):
    number = draw(st.integers(0, len(RULESETS) - 1))
    ruleset = RULESETS[number]
    path = draw(st.sampled_from(PLACES[number]))
    if draw(st.booleans()):
        return replaced(ruleset, path, draw(VALUES))
    other = draw(st.sampled_from(PLACES[number]))
    value = ruleset
    for key in other:
        value = value[key]
    return replaced(ruleset, path, value)


@settings(max_examples=300)
@given(damaged_nft())
def test_every_rule_of_a_damaged_ruleset_of_nft_is_kept(ruleset):
    try:
        tables, _gaps = nft_json.parse(json.dumps(ruleset), "nft")
    except ParseError:
        return
    numbers = {}
    for item in ruleset["nftables"]:
        if "rule" in item:
            key = item["rule"]["family"], item["rule"]["table"], item["rule"]["chain"]
            numbers[key] = numbers.get(key, 0) + 1
    found = {(table.family, table.name, chain.name): {rule.number for rule in chain.rules}
             for table in tables for chain in table.chains.values() if chain.rules}  # fmt: skip
    assert found == {key: set(range(1, count + 1)) for key, count in numbers.items()}
    for table in tables:
        assert table_from_dict(json.loads(json.dumps(table_to_dict(table)))) == table


@settings(max_examples=60)
@given(st.sampled_from(list(NFT.values())), st.integers(0, 4000), st.integers(0, 40), st.sampled_from(ODD))
def test_a_ruleset_of_nft_with_damaged_bytes(text, at, length, put):
    try:
        nft_json.parse(text[:at] + put + text[at + length :], "nft", nft_json.texts(text[at:] + put))
    except ParseError as error:
        assert str(error).startswith("nft")


@pytest.mark.parametrize(
    "item",
    [
        '{"chain": {"family": "inet", "table": "t", "name": "c", "hook": "ingress", "prio": 0, "dev": 5}}',
        '{"chain": {"family": "inet", "table": "t", "name": "c", "hook": "ingress", "prio": 0, "dev": null}}',
        f'{{"table": {{"family": "inet", "name": "t", "handle": {LONG}}}}}',
    ],
)
def test_an_object_that_nft_does_not_write_is_refused(item):
    with pytest.raises(ParseError, match=r"^nft:1: "):
        nft_json.parse(f'{{"nftables": [{{"metainfo": {{"json_schema_version": 1}}}}, {item}]}}', "nft")


@pytest.mark.parametrize("elements", [5, "abc", {"a": 1}])
def test_a_set_whose_elements_are_no_list_is_not_complete(elements):
    items = [{"metainfo": {"json_schema_version": 1}}, {"set": {"family": "ip", "table": "t", "name": "s", "type": "x", "elem": elements}}]
    tables, _gaps = nft_json.parse(json.dumps({"nftables": items}), "nft")
    assert (tables[0].sets["s"].entries, tables[0].sets["s"].complete) == ((), False)


SOCKETS = [
    (socket_tools.parse_ss, "ss/6.1.0-debian12-every_address.txt"),
    (socket_tools.parse_netstat, "netstat/2.10-debian12-every_address.txt"),
    (socket_tools.parse_lsof, "lsof/4.95-debian12-every_address.txt"),
    (lambda text: proc_net.parse_inet(text, "tcp", "tcp", "ipv4"), "proc_net/6.18-debian12-tcp.txt"),
    (lambda text: proc_net.parse_inet(text, "udp6", "udp", "ipv6"), "proc_net/6.18-debian12-udp6.txt"),
    (lambda text: proc_net.parse_unix(text, "unix", True), "proc_net/6.18-debian12-unix.txt"),
]
SCTP = (
    " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n"
    "ffff9c0a ffff9c0b 2   10  29   9999      0 28467 127.0.0.1 ::1\n"
    "ffff9c0c ffff9c0d 2   10  30   9998   1000 28468 192.0.2.1\n"
)
PACKET = (
    "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"
    "0000000000000000 3      3    0003   2     1 0      0      23455\n"
    "0000000000000000 3      2    88cc   3     1 0      101    23456\n"
)
SOCKSTAT = (
    "USER     COMMAND    PID   FD  PROTO  LOCAL ADDRESS         FOREIGN ADDRESS\n"
    "root     sshd       871   3   tcp46  *:22                  *:*\n"
    "root     ntpd       910   22  udp6   fe80::1%lo0:123       *:*\n"
)
READERS = [(parse, (FIXTURES / name).read_text()) for parse, name in SOCKETS]
READERS += [
    (lambda text: proc_net.parse_sctp(text, "eps"), SCTP),
    (lambda text: proc_net.parse_packet(text, "packet"), PACKET),
    (socket_tools.parse_sockstat, SOCKSTAT),
]


@pytest.mark.parametrize(("parse", "text"), READERS)
@settings(max_examples=120)
@given(data=st.data())
def test_damaged_sockets(parse, text, data):
    lines = text.split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    parts = re.split(r"([\s:(),=%]+)", lines[at])
    parts[data.draw(st.integers(0, len(parts) - 1))] = data.draw(st.sampled_from([*ODD, "*", "::", "10.0.0.1", "A0:", "tcp6", "FFFFFFFF"]))
    lines[at] = "".join(parts)
    try:
        rows = parse("\n".join(lines))
    except ParseError as error:
        assert error.line > 0
        return
    for row in rows:
        assert 0 <= row.port <= 65535
        if row.protocol not in ("unix", "packet"):
            scope_of(row.address, row.interface)
        json.dumps(row)


def hex_lines(name):
    return [bytes.fromhex(line) for line in (FIXTURES / name).read_text().split()]


BINARY = {
    kind: [payload for path in sorted((FIXTURES / folder).glob(f"*{kind}*.hex")) for payload in hex_lines(f"{folder}/{path.name}")]
    for folder, kinds in (("rtnetlink", ("links", "addresses", "routes", "routing-rules", "qdiscs")), ("nfnetlink", ("tables", "chains", "rules", "ipsets")))
    for kind in kinds
}  # fmt: skip
DUMPED = json.loads((FIXTURES / "sock_diag/6.18-x86_64-every_address.json").read_text())
BINARY["sockets"] = [bytes.fromhex(payload) for protocol in ("tcp", "udp") for payload in DUMPED[protocol]]
BINARY_READERS = [
    ("links", rtnetlink.links),
    ("addresses", rtnetlink.addresses),
    ("routes", lambda found: rtnetlink.routes(found, {})),
    ("routing-rules", rtnetlink.rules),
    ("qdiscs", rtnetlink.classified),
    ("tables", nfnetlink.tables),
    ("chains", nfnetlink.chains),
    ("rules", lambda found: nfnetlink.foreign_tables(found, "ip")),
    ("rules", lambda found: nfnetlink.foreign_tables(found, "ip6")),
    ("ipsets", nfnetlink.ipsets),
    ("sockets", lambda found: sock_diag.parse(found, "tcp")),
]


@pytest.mark.parametrize(("kind", "read"), BINARY_READERS)
@settings(max_examples=150)
@given(data=st.data())
def test_damaged_bytes_are_read_or_an_oserror(kind, read, data):
    payload = bytearray(data.draw(st.sampled_from(BINARY[kind])))
    for _change in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.sampled_from([0, 1, 3, 4, 8, 16, 0x40, 0x7F, 0x80, 0xFF]))
    cut = data.draw(st.integers(0, len(payload)))
    for damaged_payload in (bytes(payload), bytes(payload[:cut])):
        try:
            read([damaged_payload])
        except OSError as error:
            assert error.errno


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5), st.binary(max_size=24))),
    st.binary(max_size=24),
    st.integers(0, 40),
)
def test_any_datagram_is_messages_or_a_netlink_error(parts, rest, position):
    data = b"".join(
        netlink.request(kind, payload)[:-length] if 0 < length < 4 else netlink.request(kind, payload) for length, kind, payload in parts
    )
    for read in (lambda: list(netlink.messages(data + rest)), lambda: netlink.attributes(data + rest, position)):
        try:
            found = read()
        except netlink.NetlinkError as error:
            assert error.errno
        else:
            assert len(found) <= len(data + rest)


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=20)), max_size=6))
def test_attributes_come_back(pairs):
    data = b"".join(
        (len(value) + 4).to_bytes(2, "little") + kind.to_bytes(2, "little") + value + bytes(-len(value) % 4) for kind, value in pairs
    )
    assert netlink.attributes(data) == dict(pairs)


@given(st.text(max_size=30) | st.sampled_from(ODD) | st.integers(-5, 300).map(str))
def test_a_protocol_is_a_name_a_number_or_none(text):
    found = protocol_name(text)
    assert found is None or (found and protocol_name(found) == found)


@given(st.text())
def test_what_firewalld_and_the_kernel_list_in_any_text(text):
    assert all(line for _zone, line in persisted._zones(text))
    cgroup = processes.cgroup_path(text)
    processes.unit_of(cgroup)
    processes.container_of(cgroup)


ANY_TEXT = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=200).map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.lists(
        st.sampled_from([*WORDS, *ODD, "\n", " ", "*filter\n", "COMMIT\n", "-A INPUT ", "add s ", "create s hash:ip\n"]), max_size=40
    ).map("".join),
)
TEXT_READERS = [
    *(parse for parse, _text in READERS),
    lambda text: iptables_save.parse(text, "dump", "iptables-legacy", "ip6"),
    lambda text: ipset_save.parse(text, "ipset save"),
    lambda text: nft_json.parse(text, "nft", nft_json.texts(text)),
]


@pytest.mark.parametrize("parse", TEXT_READERS)
@settings(max_examples=100)
@given(text=ANY_TEXT)
def test_any_text_is_read_or_an_error_that_names_a_line(parse, text):
    try:
        parse(text)
    except ParseError as error:
        assert 0 < error.line <= len(text.splitlines()) + 1


@pytest.mark.parametrize(("kind", "read"), BINARY_READERS)
@settings(max_examples=100)
@given(payload=st.binary(max_size=120))
def test_any_bytes_are_read_or_an_oserror(kind, read, payload):
    try:
        read([payload])
    except OSError as error:
        assert error.errno
