# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walk through a packet filter. That the kernel agrees is shown by tests/oracle; here stand the small cases."""

from __future__ import annotations

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.reach import Filter, Packet
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.segments import Segments
from ansible_collections.loopguard.loopback.plugins.module_utils._model.network import cidrs, network_range
from ansible_collections.loopguard.loopback.plugins.module_utils._model.ruleset import Chain, Match, Rule, Table, Target
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.iptables_save import parse

SERVER = network_range("10.0.0.5").first


def tables(*rules, policy="ACCEPT", chains=(), table="filter", backend="iptables-nft"):
    lines = [f"*{table}", f":INPUT {policy} [0:0]" if table != "raw" else ":PREROUTING ACCEPT [0:0]"]
    lines += [f":{chain} - [0:0]" for chain in chains] + list(rules) + ["COMMIT", ""]
    found, gaps = parse("\n".join(lines), "test", backend, "ip")
    assert not gaps
    return found


def answer(found, protocol="tcp", port=5432, interface="eth0", source="192.0.2.1", destination=SERVER):
    """Return reach and deciding rules for one source."""
    wanted = network_range(source).first
    parts = Filter(found, {}).reach(Packet("ipv4", protocol, destination, port, interface))
    holders = [part for part in parts if any(first <= wanted <= last for first, last in part.sources)]
    assert len(holders) == 1, "the parts must divide the sources"
    return holders[0].reach, [(decision.chain, decision.rule) for decision in holders[0].decided_by]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([], ("accepted", [("INPUT", 0)])),
        (["-A INPUT -i lo -j ACCEPT", "-A INPUT ! -i lo -p tcp -m tcp --dport 5432 -j DROP"], ("dropped", [])),
        (["-A INPUT -p tcp -m tcp --dport 5432 -j ACCEPT", "-A INPUT -p tcp --dport 5432 -j DROP"], ("accepted", [("INPUT", 1)])),
        (["-A INPUT -s 192.0.2.0/24 -j ACCEPT", "-A INPUT -j DROP"], ("accepted", [("INPUT", 1)])),
        (["-A INPUT -s 198.51.100.0/24 -j ACCEPT", "-A INPUT -j DROP"], ("dropped", [])),
        (["-A INPUT ! -s 192.0.2.0/24 -j DROP"], ("accepted", [("INPUT", 0)])),
        (["-A INPUT -m limit --limit 1/sec -j ACCEPT", "-A INPUT -j DROP"], ("maybe", [("INPUT", 1), ("INPUT", 2)])),
        (["-A INPUT -m limit --limit 1/sec -j DROP"], ("maybe", [("INPUT", 1), ("INPUT", 0)])),
        (["-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT", "-A INPUT -j DROP"], ("dropped", [])),
        (["-A INPUT -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT", "-A INPUT -j DROP"], ("accepted", [("INPUT", 1)])),
        (["-A INPUT -m conntrack --ctstate NEW -j ACCEPT", "-A INPUT -j DROP"], ("maybe", [("INPUT", 1), ("INPUT", 2)])),
        (["-A INPUT -p udp -j ACCEPT", "-A INPUT -p icmp -j ACCEPT", "-A INPUT -j DROP"], ("dropped", [])),
        (["-A INPUT -p tcp --dport 5000:6000 -j REJECT"], ("dropped", [])),
        (["-A INPUT -p tcp -m multiport ! --dports 22,80 -j DROP"], ("dropped", [])),
        (["-A INPUT -p tcp --sport 53 -j DROP"], ("accepted", [("INPUT", 0)])),  # the sender takes another port
        (["-A INPUT -p tcp --sport 53 -j ACCEPT", "-A INPUT -j DROP"], ("accepted", [("INPUT", 1)])),  # or this one
        (["-A INPUT -p tcp --sport 1024:65535 -j DROP", "-A INPUT -p tcp --sport 0:1023 -j DROP"], ("dropped", [])),
        (["-A INPUT -p tcp --sport 1024: -m limit --limit 1/sec -j ACCEPT", "-A INPUT -j DROP"], ("maybe", [("INPUT", 1), ("INPUT", 2)])),
        (["-A INPUT -i eth+ -j DROP"], ("dropped", [])),
        (["-A INPUT -i wlan+ -j DROP"], ("accepted", [("INPUT", 0)])),
        (["-A INPUT -d 10.0.0.6/32 -j DROP"], ("accepted", [("INPUT", 0)])),
        (["-A INPUT -p tcp --syn -j DROP"], ("dropped", [])),
        (["-A INPUT -p tcp --tcp-flags SYN,ACK SYN,ACK -j DROP"], ("accepted", [("INPUT", 0)])),
        (["-A INPUT -m mark --mark 0x1 -j DROP"], ("accepted", [("INPUT", 0)])),
        (["-A INPUT -j LOG", '-A INPUT -m comment --comment "a b" -j DROP'], ("dropped", [])),
        (["-A INPUT -j NFQUEUE --queue-num 0"], ("maybe", [("INPUT", 1), ("INPUT", 0)])),
    ],
)
def test_input(rules, expected):
    assert answer(tables(*rules)) == expected


def test_policy_drop_closes_what_no_rule_accepts():
    found = tables("-A INPUT -p tcp --dport 22 -j ACCEPT", policy="DROP")
    assert answer(found)[0] == "dropped"
    assert answer(found, port=22) == ("accepted", [("INPUT", 1)])


def test_the_rule_that_drops_is_named_on_request():
    packet = Packet("ipv4", "tcp", SERVER, 5432, "eth0")
    for found, named in (
        (tables("-A INPUT -j SVC", "-A SVC -p tcp --dport 5432 -j DROP", chains=["SVC"]), ("SVC", 1)),
        (tables(policy="DROP"), ("INPUT", 0)),
        (tables("-A OUTPUT -p tcp --sport 5432 -j DROP"), ("OUTPUT", 1)),
    ):
        assert [part.decided_by for part in Filter(found, {}).reach(packet)] == [()]
        (part,) = Filter(found, {}, drops=True).reach(packet)
        assert part.reach == "dropped"
        assert (part.decided_by[-1].chain, part.decided_by[-1].rule) == named


def test_return_in_a_user_chain_goes_on_behind_the_jump():
    found = tables("-A INPUT -j SVC", "-A INPUT -j DROP", "-A SVC -s 192.0.2.0/24 -j RETURN", "-A SVC -j ACCEPT", chains=["SVC"])
    assert answer(found) == ("dropped", [])
    assert answer(found, source="198.51.100.1") == ("accepted", [("SVC", 2)])


def test_the_end_of_a_goto_is_the_policy_of_the_base_chain():
    found = tables("-A INPUT -g SVC", "-A INPUT -j DROP", "-A SVC -p udp -j DROP", chains=["SVC"])
    assert answer(found) == ("accepted", [("INPUT", 0)])


def test_a_goto_below_a_jump_returns_to_the_callers_caller():
    found = tables(
        "-A INPUT -j A", "-A INPUT -j DROP", "-A A -g B", "-A A -j ACCEPT", "-A B -p udp -j ACCEPT", chains=["A", "B"]
    )  # fmt: skip
    assert answer(found) == ("dropped", [])


def test_every_base_chain_must_accept():
    legacy = tables(policy="DROP", backend="iptables-legacy")
    assert answer([*tables(), *legacy])[0] == "dropped"
    assert answer([*tables("-A PREROUTING -p tcp --dport 5432 -j DROP", table="raw"), *tables()])[0] == "dropped"


def test_what_an_unknown_match_calls_may_and_may_not_happen():
    found = tables("-A INPUT -m recent --rcheck --name x --rsource -j A", "-A INPUT -j DROP", "-A A -j ACCEPT", chains=["A"])
    assert answer(found) == ("maybe", [("A", 1), ("INPUT", 2)])


def test_untracked_packets_have_a_state_of_their_own():
    raw = tables("-A PREROUTING -s 192.0.2.0/24 -p tcp --dport 5432 -j NOTRACK", table="raw")
    closed = [*raw, *tables("-A INPUT -m state --state NEW -j DROP")]
    assert answer(closed)[0] == "accepted"
    assert answer(closed, source="198.51.100.1")[0] == "dropped"
    assert answer([*raw, *tables("-A INPUT -m state --state UNTRACKED -j DROP")])[0] == "dropped"


def test_before_tracking_every_packet_is_invalid():
    """Found by the oracle, seeds 1113 and 1314: raw comes before connection tracking."""
    raw = tables("-A PREROUTING -m conntrack --ctstate NEW,RELATED -j DROP", table="raw")
    assert answer([*raw, *tables()])[0] == "accepted"
    raw = tables("-A PREROUTING -m conntrack --ctstate INVALID -j ACCEPT", "-A PREROUTING -j DROP", table="raw")
    assert answer([*raw, *tables()])[0] == "accepted"
    raw = tables("-A PREROUTING -m conntrack --ctstate INVALID -j DROP", table="raw")
    assert answer([*raw, *tables()])[0] == "dropped"


def test_a_mark_is_what_an_earlier_rule_sets():
    mangle = tables("-A INPUT -s 192.0.2.0/24 -j MARK --set-xmark 0x1/0xffffffff", table="mangle")
    assert answer([*mangle, *tables("-A INPUT -m mark --mark 0x1 -j DROP")])[0] == "dropped"
    assert answer([*mangle, *tables("-A INPUT -m mark --mark 0x1 -j DROP")], source="198.51.100.1")[0] == "accepted"
    doubt = tables("-A INPUT -m limit --limit 1/sec -j MARK --set-xmark 0x1/0xffffffff", table="mangle")
    assert answer([*doubt, *tables("-A INPUT -m mark --mark 0x1 -j DROP")])[0] == "maybe"


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["-A OUTPUT -p tcp --sport 5432 -j DROP"], "dropped"),
        (["-A OUTPUT -p tcp --dport 5432 -j DROP"], "accepted"),  # the other end takes another port
        (["-A OUTPUT -d 192.0.2.0/24 -j DROP"], "dropped"),
        (["-A OUTPUT -d 198.51.100.0/24 -j DROP"], "accepted"),
        (["-A OUTPUT -s 10.0.0.6 -j DROP"], "accepted"),
        (["-A OUTPUT -o lo -j DROP"], "accepted"),
        (["-A OUTPUT -m state --state NEW -j DROP"], "accepted"),
        (["-A OUTPUT -m state --state ESTABLISHED -j ACCEPT", "-A OUTPUT -j DROP"], "accepted"),
        (["-A OUTPUT -m state --state ESTABLISHED -j DROP"], "maybe"),  # a connection that tracking forgot has another state
        (["-A OUTPUT -p tcp --tcp-flags SYN,ACK SYN,ACK -j DROP"], "maybe"),
    ],
)
def test_the_answer_must_get_out(rules, expected):
    found = tables(":OUTPUT ACCEPT [0:0]", *rules)
    assert answer(found)[0] == expected
    assert answer(found, protocol="udp")[0] == "accepted", "a datagram needs no answer"


def test_chains_that_call_each_other_end():
    rules = (Rule(1, (), Target("jump", "B"), "-A A -j B"),)
    back = (Rule(1, (), Target("jump", "A"), "-A B -j A"),)
    base = Chain("INPUT", (Rule(1, (), Target("jump", "A"), "-A INPUT -j A"),), "filter", "input", 0, "drop")
    loop = Table("ip", "filter", "iptables-nft", "test", {"INPUT": base, "A": Chain("A", rules), "B": Chain("B", back)})
    assert answer([loop])[0] == "maybe"


def test_chains_that_call_each_other_twice_end():
    def twice(name, other):
        return Chain(name, tuple(Rule(number, (), Target("jump", other), f"-A {name} -j {other}") for number in (1, 2)))

    base = Chain("INPUT", (Rule(1, (), Target("jump", "A"), "-A INPUT -j A"),), "filter", "input", 0, "drop")
    assert (
        answer([Table("ip", "filter", "iptables-nft", "test", {"INPUT": base, "A": twice("A", "B"), "B": twice("B", "A")})])[0] == "maybe"
    )


def test_notrack_after_tracking_takes_nothing_away():
    untrack = Rule(1, (), Target("notrack"), "notrack")
    new = Rule(2, (Match("ct_state", ("NEW", "ESTABLISHED"), False, "ct state new,established"),), Target("accept"), "ct state new accept")
    base = Chain("in", (untrack, new), "filter", "input", 0, "drop")
    assert answer([Table("inet", "t", "nftables", "test", {"in": base})])[0] == "maybe"


def test_an_ipv4_address_in_an_inet_table_says_nothing_about_ipv6():
    match = Match("source", ("192.0.2.0/24",), True, "ip saddr != 192.0.2.0/24")
    chain = Chain("in", (Rule(1, (match,), Target("drop"), ""),), "filter", "input", 0, "accept")
    table = Table("inet", "t", "nftables", "test", {"in": chain})
    parts = Filter([table], {}).reach(Packet("ipv6", "tcp", 1, 5432, "eth0"))
    assert [part.reach for part in parts] == ["accepted"]


def test_segments_give_back_what_they_were_given():
    ranges = [network_range(text)[1:3] for text in ("10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/32", "255.255.255.255/32")]
    segments = Segments((1 << 32) - 1, ranges)
    for bounds in ranges:
        assert segments.ranges(segments.mask(*bounds)) == [bounds]
    assert segments.ranges(segments.everything) == [(0, (1 << 32) - 1)]
    assert segments.ranges(0) == []
    outside = segments.everything & ~segments.mask(*ranges[0])
    assert segments.ranges(outside) == [(0, (10 << 24) - 1), (11 << 24, (1 << 32) - 1)]


def test_cidrs_cover_a_range_exactly():
    assert list(cidrs("ipv4", 0, (1 << 32) - 1)) == ["0.0.0.0/0"]
    assert list(cidrs("ipv4", 1, 6)) == ["0.0.0.1/32", "0.0.0.2/31", "0.0.0.4/31", "0.0.0.6/32"]
    assert list(cidrs("ipv6", 0, (1 << 128) - 1)) == ["::/0"]


@pytest.mark.parametrize(
    ("rules", "options", "expected"),
    [
        (["-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A INPUT -j DROP"], {}, "dropped"),
        (["-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A INPUT -j DROP"], {"helped": True}, "maybe"),
        (["-A INPUT -p tcp --syn -j ACCEPT", "-A INPUT -j DROP"], {"fast_open": 1}, "dropped"),
        (["-A INPUT -p tcp --syn -j ACCEPT", "-A INPUT -j DROP"], {"fast_open": 3}, "maybe"),
        ([":OUTPUT ACCEPT [0:0]", "-A OUTPUT -p tcp --sport 5432 -j DROP"], {"fast_open": 3}, "dropped"),
        ([":OUTPUT ACCEPT [0:0]", "-A OUTPUT -p tcp --sport 5432 -j DROP"], {"fast_open": 0x603}, "maybe"),
    ],
)
def test_connections_that_are_expected_and_data_in_the_first_packet(rules, options, expected):
    parts = Filter(tables(*rules), {}, **options).reach(Packet("ipv4", "tcp", network_range("10.0.0.5").first, 5432, "eth0"))
    assert {part.reach for part in parts} == {expected}


def test_a_rule_that_assigns_a_helper_makes_connections_expected():
    rules = ["-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "-A INPUT -j DROP"]
    raw = parse(
        "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp --dport 21 -j CT --helper ftp\nCOMMIT\n", "test", "iptables-legacy", "ip"
    )[0]
    assert answer([*raw, *tables(*rules)])[0] == "maybe"
