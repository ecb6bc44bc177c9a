# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""iptables-save: captured dumps, old spellings, and text that is something else."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._model.ruleset import table_from_dict, table_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.error import ParseError
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.iptables_save import parse
from hypothesis import given, settings
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[1] / "fixtures" / "iptables"
DUMPS = sorted(path.name for path in FIXTURES.iterdir())


def read(name):
    return parse((FIXTURES / name).read_text(), name, "iptables-nft", "ip6" if name.endswith(".v6") else "ip")


def rules_of(text, family="ip"):
    tables, gaps = parse(text, "dump", "iptables-legacy", family)
    return tables[-1].chains["INPUT"].rules, gaps


def rule(options, family="ip"):
    """Return (field, values, negated) of the matches, and the target, of one rule."""
    header = "*filter\n:INPUT ACCEPT [0:0]\n:USER - [0:0]\n"
    found, gaps = rules_of(f"{header}-A INPUT {options}\nCOMMIT\n", family)
    assert not gaps
    assert [entry.text for entry in found] == [f"-A INPUT {options}"]
    return [(match.field, match.values, match.negated) for match in found[0].matches], tuple(found[0].target)


@pytest.mark.parametrize("name", DUMPS)
def test_every_rule_of_a_captured_dump_is_kept_in_its_place(name):
    text = (FIXTURES / name).read_text()
    tables, gaps = read(name)
    expected = [re.sub(r"^\[\d+:\d+\] ", "", line) for line in text.splitlines() if re.match(r"(\[\d+:\d+\] )?-A", line)]
    lines = text.splitlines()
    found = {entry.line: entry for table in tables for chain in table.chains.values() for entry in chain.rules}
    assert [found[line].text for line in sorted(found)] == expected
    assert all(lines[entry.line - 1].endswith(entry.text) for entry in found.values())
    assert not [gap for gap in gaps if gap.reason == "unparsable"]
    for table in tables:
        for chain in table.chains.values():
            assert [entry.number for entry in chain.rules] == list(range(1, len(chain.rules) + 1))
    assert [table_from_dict(table_to_dict(table)) for table in tables] == tables


def test_what_of_the_captured_dumps_is_unknown_is_what_cannot_be_evaluated():
    unknown, opaque = set(), set()
    for name in DUMPS:
        for table in read(name)[0]:
            for chain in table.chains.values():
                for entry in chain.rules:
                    unknown |= {match.text for match in entry.matches if match.field == "unknown"}
                    opaque |= {entry.target.argument} if entry.target.kind == "opaque" else set()
    assert {text.split()[1] for text in unknown if text.startswith("-m")} == {
        "addrtype", "hashlimit", "hl", "length", "limit", "mac", "pkttype", "recent", "rt", "set",
    }  # fmt: skip
    assert [text for text in unknown if not text.startswith("-m")] == ["-s 10.0.1.0/255.0.255.0"]
    assert opaque == {
        "MARK --set-xmark 0x3/0x1",
        "CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff",
        "NFQUEUE --queue-num 3",
    }


def test_counters_make_no_difference():
    plain, counted = read("1.8.9-debian12-nft.v4")[0], read("1.8.9-debian12-nft-counters.v4")[0]
    assert [table.chains for table in plain] == [table.chains for table in counted]


def test_both_backends_print_the_same_rules():
    nft, legacy = ({table.name: table.chains for table in read(f"1.8.9-debian12-{kind}.v4")[0]} for kind in ("nft", "legacy"))
    assert nft.keys() == legacy.keys()
    for table, chains in nft.items():
        assert chains.keys() == legacy[table].keys()
        for name, chain in chains.items():
            assert [entry.matches for entry in chain.rules] == [entry.matches for entry in legacy[table][name].rules]
            assert [entry.target for entry in chain.rules] == [entry.target for entry in legacy[table][name].rules]


def test_base_chains_have_hook_priority_and_policy():
    tables = {table.name: table.chains for table in read("1.8.9-debian12-nft.v4")[0]}
    assert tables["filter"]["INPUT"][2:6] == ("filter", "input", 0, "drop")
    assert tables["raw"]["PREROUTING"][2:6] == ("filter", "prerouting", -300, "accept")
    assert tables["nat"]["PREROUTING"][2:6] == ("nat", "prerouting", -100, "accept")
    assert tables["filter"]["svc"][2:6] == (None, None, None, None)


def test_an_unreadable_dnat_of_another_revision_is_not_a_redirect_to_the_same_place():
    tables = {table.name: table.chains for table in read("1.8.9-debian12-legacy-miniupnpd.v4")[0]}
    assert tables["nat"]["MINIUPNPD"].rules[0].target == ("dnat", "[unsupported revision]")


@pytest.mark.parametrize("name", ["incompatible", "legacy-warning"])
def test_what_iptables_nft_says_that_it_hides_is_a_gap(name):
    text = (FIXTURES / f"1.8.9-debian12-nft-{name}.v4").read_text()
    _tables, gaps = parse(text, "save", "iptables-nft", "ip")
    assert [gap.reason for gap in gaps] == ["unsupported"]
    assert gaps[0].text in text


@pytest.mark.parametrize(
    ("options", "matches"),
    [
        ("-s ! 10.1.2.3/255.0.0.0", [("source", ("10.0.0.0/8",), True)]),
        ("! -s 10.0.0.0/8", [("source", ("10.0.0.0/8",), True)]),
        ("-s 10.0.0.1", [("source", ("10.0.0.1/32",), False)]),
        ("-s 10.0.0.1,10.0.0.2 -d 10.9.0.0/16",
         [("source", ("10.0.0.1/32", "10.0.0.2/32"), False), ("destination", ("10.9.0.0/16",), False)]),
        ("--source=10.0.0.1 --dst 10.0.0.2", [("source", ("10.0.0.1/32",), False), ("destination", ("10.0.0.2/32",), False)]),
        ("-s 10.0.0.0/255.0.255.0", [("unknown", (), False)]),
        ("-s www.example.com", [("unknown", (), False)]),
        ("-s 2001:db8::1", [("unknown", (), False)]),
        ("-i ! lo", [("in_interface", ("lo",), True)]),
        ("-i eth+ ! -o +", [("in_interface", ("eth+",), False), ("never", (), False)]),
        ("-i !lo", [("unknown", (), False)]),
        ("-p TCP --dport 22", [("protocol", ("tcp",), False), ("destination_port", ("22",), False)]),
        ("-p 6 --dport http", [("protocol", ("tcp",), False), ("destination_port", ("80",), False)]),
        ("-p tcp --dport 022", [("protocol", ("tcp",), False), ("unknown", (), False)]),
        ("-p tcp --dport 22:10", [("protocol", ("tcp",), False), ("unknown", (), False)]),
        ("-p tcp --dport ! 1024:", [("protocol", ("tcp",), False), ("destination_port", ("1024:65535",), True)]),
        ("-ptcp --dport=22", [("protocol", ("tcp",), False), ("destination_port", ("22",), False)]),
        ("-p all", []),
        ("-p nosuchprotocol", [("unknown", (), False)]),
        ("-m state --state NEW -m tcp -p tcp --dport 22",
         [("ct_state", ("NEW",), False), ("protocol", ("tcp",), False), ("destination_port", ("22",), False)]),
        ("-p tcp --syn", [("protocol", ("tcp",), False), ("tcp_flags", ("fin,syn,rst,ack/syn",), False)]),
        ("-p tcp --tcp-flags ! SYN,ACK NONE", [("protocol", ("tcp",), False), ("tcp_flags", ("syn,ack/",), True)]),
        ("-m limit --limit 5/s -p tcp --dport 22",
         [("unknown", (), False), ("protocol", ("tcp",), False), ("destination_port", ("22",), False)]),
        ("-p tcp -m socket", [("protocol", ("tcp",), False), ("socket", ("plain",), False)]),
        ("-m socket --transparent --nowildcard -i eth0", [("socket", ("transparent", "nowildcard"), False), ("in_interface", ("eth0",), False)]),
        ("-m socket --restore-skmark", [("unknown", (), False)]),
        ("-m mark --mark 1", [("mark", ("0x1/0xffffffff",), False)]),
        ("-m connmark --mark 0x2/0xf", [("ct_mark", ("0x2/0xf",), False)]),
        ("-m set ! --match-set bad src,dst", [("set", ("bad src,dst",), True)]),
        ("-m conntrack --ctstate NEW,EST", [("unknown", (), False)]),
        ("-m addrtype --dst-type LOCAL --limit-iface-out", [("unknown", (), False)]),
        ("-f", [("fragment", ("later",), False)]),
        ("-6 -p udp", [("never", (), False), ("protocol", ("udp",), False)]),
        ("-c 5 6 -p udp", [("protocol", ("udp",), False)]),
        ('-m comment --comment "-s 10.0.0.1 \\" -j DROP" -p udp', [("protocol", ("udp",), False)]),
        ("-m comment --comment -j -p udp", [("protocol", ("udp",), False)]),
        ("-m nosuchmatch --thing 1 ! -i lo", [("unknown", (), False), ("in_interface", ("lo",), True)]),
    ],
)  # fmt: skip
def test_match(options, matches):
    assert rule(f"{options} -j ACCEPT") == (matches, ("accept", ""))
    found, target = rule(f"-j ACCEPT {options}")  # the target may stand first
    assert (sorted(found), target) == (sorted(matches), ("accept", ""))


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ("", ("continue", "")),
        ('-j LOG --log-prefix "-j ACCEPT "', ("continue", "")),
        ("-j LOG --log-prefix -g", ("continue", "")),
        ("-j REJECT --reject-with icmp-port-unreachable", ("drop", "")),
        ("-j TARPIT", ("drop", "")),
        ("-j USER", ("jump", "USER")),
        ("-g USER", ("goto", "USER")),
        ("-j NOSUCHTARGET --x 1", ("opaque", "NOSUCHTARGET --x 1")),
        ("-j MARK --set-mark 0x1", ("mark", "0x1/0xffffffff")),
        ("-j MARK --or-mark 0x10", ("mark", "0x10/0x10")),
        ("-j MARK --and-mark 0xf", ("mark", "0x0/0xfffffff0")),
        ("-j MARK --xor-mark 0xf", ("opaque", "MARK --xor-mark 0xf")),
        ("-j CONNMARK --save-mark", ("opaque", "CONNMARK --save-mark")),
        ("-j CT --notrack", ("notrack", "")),
        ("-j NOTRACK", ("notrack", "")),
        ("-j CT --zone 5", ("continue", "")),
        ("-j DNAT --to-destination 10.0.0.1:80 --random", ("dnat", "10.0.0.1:80")),
        ("-j REDIRECT", ("redirect", "")),
        ("-j REDIRECT --to-ports 81-90", ("redirect", "81-90")),
        ("-j TPROXY --on-port 3129 --on-ip 127.0.0.1 --tproxy-mark 0x1/0x1", ("tproxy", "127.0.0.1:3129 0x1/0x1")),
        ("-j TPROXY --on-port 3129 --on-ip 0.0.0.0 --tproxy-mark 7", ("tproxy", ":3129 0x7/0xffffffff")),
        ("-j TPROXY --on-port 0 --on-ip ::1", ("tproxy", "[::1] 0x0/0x0")),
        ("-j TPROXY --on-port 3129 --newer 1", ("tproxy", "--on-port 3129 --newer 1")),
        ("-j MASQUERADE --to-ports 1024-2048", ("snat", "")),
        ("-j QUEUE", ("opaque", "QUEUE")),
    ],
)
def test_target(options, target):
    assert rule(options or "-p udp")[1] == target


@pytest.mark.parametrize(
    "line",
    [
        "-A INPUT --frobnicate -j ACCEPT",
        "-A INPUT -s",
        "-A INPUT ! -s ! 10.0.0.1 -j ACCEPT",
        "-A INPUT -j ACCEPT -j DROP",
        "-A INPUT -j ACCEPT nonsense",
        "-A INPUT -g NOSUCHCHAIN",
        "-A INPUT -m limit --limit 5/s --jum ACCEPT",
        '-A INPUT -m comment --comment "never closed',
        "-D INPUT -j DROP",
        "-A INPUT !",
    ],
)
def test_a_rule_that_cannot_be_read_stays_in_its_chain_and_may_do_anything(line):
    found, gaps = rules_of(f"*filter\n:INPUT DROP\n-A INPUT -i lo -j ACCEPT\n{line}\n-A INPUT -j DROP\nCOMMIT\n")
    assert [entry.text for entry in found] == ["-A INPUT -i lo -j ACCEPT", line, "-A INPUT -j DROP"]
    assert [match.field for match in found[1].matches] == ["unknown"]
    assert found[1].target.kind == "opaque"
    assert [(gap.subject, gap.reason) for gap in gaps] == [("dump:4", "unparsable")]
    assert line.strip() in gaps[0].text


def test_a_line_that_is_no_rule_is_named():
    _found, gaps = rules_of("*filter\n:INPUT DROP\nbash: warning: something\nCOMMIT\n")
    assert [(gap.subject, gap.reason) for gap in gaps] == [("dump:3", "unparsable")]


def test_several_dumps_in_one_text_and_carriage_returns():
    one = (FIXTURES / "1.8.9-debian12-nft.v4").read_text()
    tables, gaps = parse((one + one).replace("\n", "\r\n"), "dump", "iptables-nft", "ip")
    alone = read("1.8.9-debian12-nft.v4")[0]
    assert not gaps
    assert [table.name for table in tables] == [table.name for table in alone] * 2
    assert tables[0].chains == alone[0].chains


def test_commands_of_files_that_people_write():
    found, gaps = rules_of(
        "*filter\n-P INPUT DROP\n-N mine\n-A INPUT -i lo -j ACCEPT\n-I INPUT -p udp -j mine\n-I INPUT 2 -p tcp -j DROP\nCOMMIT\n"
    )
    assert not gaps
    assert [(entry.number, entry.text) for entry in found] == [
        (1, "-I INPUT -p udp -j mine"),
        (2, "-I INPUT 2 -p tcp -j DROP"),
        (3, "-A INPUT -i lo -j ACCEPT"),
    ]
    assert found[0].target == ("jump", "mine")


def test_a_comment_with_a_line_break_does_not_make_a_rule():
    """iptables-save prints a line break in a comment as it is."""
    found, gaps = rules_of('*filter\n:INPUT DROP\n-A INPUT -m comment --comment "a\n-A INPUT -j ACCEPT" -j DROP\nCOMMIT\n')
    assert not gaps
    assert [entry.target.kind for entry in found] == ["drop"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("\n \n", 1),
        ("<html><body>404</body></html>", 1),
        ("table inet filter {\n}\n", 1),
        ("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\n", 4),
        ("*filter\n:INPUT ACCEPT [0:0]\n*nat\nCOMMIT\n", 3),
        ("*filter\nCOMMIT\n-A INPUT -j ACCEPT\n", 3),
        ("*filter\n:INPUT ACCEPT\n\0\nCOMMIT\n", 3),
        ("*\nCOMMIT\n", 1),
    ],
)
def test_what_is_no_dump_is_refused_with_file_and_line(text, line):
    with pytest.raises(ParseError) as caught:
        parse(text, "/etc/iptables/rules.v4", "iptables-nft", "ip")
    assert str(caught.value).startswith(f"/etc/iptables/rules.v4:{line}: ")


def test_port_names_come_from_the_host(monkeypatch):
    def nothing(name, protocol=None):
        raise OSError("service/proto not found")

    monkeypatch.setattr(socket, "getservbyname", nothing)
    assert rule("-p tcp --dport nosuch -j DROP")[0][1] == ("unknown", (), False)


WORDS = st.sampled_from(
    [
        "-A",
        "INPUT",
        "-j",
        "ACCEPT",
        "DROP",
        "-s",
        "-d",
        "!",
        "10.0.0.0/8",
        "-p",
        "tcp",
        "udp",
        "--dport",
        "22",
        ":",
        ",",
        "-m",
        "state",
        "--state",
        "NEW",
        "comment",
        "--comment",
        '"',
        "'",
        "\\",
        "[1:2]",
        "*",
        "COMMIT",
        "*filter",
        ":INPUT",
        ":X",
        "-",
        "#",
        "-g",
        "X",
        "-I",
        "-P",
        "-N",
        "conntrack",
        "--ctstate",
        "multiport",
        "--dports",
        "1,2",
        "set",
        "--match-set",
        "a",
        "src",
        "-f",
        "-c",
        "1",
        "MARK",
        "--set-mark",
        "0x1",
        "-ptcp",
        "--dport=5",
        "-j=DROP",
        "\n",
        "\n",
        "\n",
        "\t",
    ]
)


@settings(max_examples=400)
@given(
    st.one_of(
        st.text(), st.lists(WORDS).map(" ".join), st.lists(WORDS).map(lambda words: f"*filter\n:INPUT DROP\n{' '.join(words)}\nCOMMIT\n")
    )
)
def test_any_text_is_read_or_refused(text):
    try:
        tables, gaps = parse(text, "any", "iptables-nft", "ip")
    except ParseError:
        return
    commands = sum(bool(re.match(r"(\[\d+:\d+\]\s+)?-A \w", line)) for line in text.split("\n"))
    kept = sum(len(chain.rules) for table in tables for chain in table.chains.values())
    joined = text.count('"')
    assert kept >= commands or joined  # no rule is lost but inside quotes
    assert [table_from_dict(table_to_dict(table)) for table in tables] == tables
    assert all(gap.text and len(gap.text) <= 500 for gap in gaps)


@pytest.mark.parametrize("words", ["-A INPUT -s 192.0.2.4/{} -j DROP", "-I INPUT {} -j DROP"])
def test_a_number_without_end_is_no_number(words):
    found, gaps = parse(f"*filter\n:INPUT ACCEPT [0:0]\n{words.format('1' * 5000)}\nCOMMIT\n", "test", "iptables-nft", "ip")
    assert gaps or found[0].chains["INPUT"].rules[0].matches[0].field == "unknown"


def test_a_length_that_iptables_reads_as_octal_is_unknown():
    found, _gaps = parse("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 10.0.0.0/010 -j ACCEPT\nCOMMIT\n", "test", "iptables-nft", "ip")
    assert [match.field for match in found[0].chains["INPUT"].rules[0].matches] == ["unknown"]
