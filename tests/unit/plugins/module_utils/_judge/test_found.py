# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disagreements with the kernel that the oracle found: what it printed, shrunk, with what the kernel did."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.listeners import Listeners
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.reach import Filter, Packet
from ansible_collections.loopguard.loopback.plugins.module_utils._model.address import scope_of
from ansible_collections.loopguard.loopback.plugins.module_utils._model.firewall import Firewall
from ansible_collections.loopguard.loopback.plugins.module_utils._model.host import Route, RoutingRule, host_from_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.listener import Listener
from ansible_collections.loopguard.loopback.plugins.module_utils._model.ruleset import Chain, Match, Rule, SetElements, Table, Target
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import ipset_save, iptables_save, nft_json

sys.path.insert(0, str(Path(__file__).parents[4] / "oracle"))
from compare import Judge, denial
from lab import LISTENERS, End, Probe, addresses
from rulesets import IPSETS

LAB = json.loads((Path(__file__).parents[1] / "fixtures/host/6.18-debian12-lab.json").read_text())


# What `divert` in lab.py adds.
DIVERTED = (
    (Route("ipv4", "0.0.0.0/0", None, "lo", "100", "local"), Route("ipv6", "::/0", None, "lo", "100", "local")),
    tuple(
        RoutingRule(family, 32765, None, None, None, None, "0x1/0xffffffff", "100", "lookup", False, False) for family in ("ipv4", "ipv6")
    ),
)


def host(settings):
    """Return the server of the lab; ip_forward is set for every interface."""
    sysctls = dict(LAB["sysctls"])
    forwarding = settings.get("ipv4/ip_forward", 0)
    sysctls.update({name: forwarding for name in sysctls if name.startswith("net/ipv4") and name.endswith("/forwarding")})
    sysctls.update({"net/ipv4/ip_forward": forwarding, **{f"net/{name}": value for name, value in settings.items()}})
    found = host_from_dict({**LAB, "sysctls": sysctls})
    return found._replace(routes=found.routes + DIVERTED[0], rules=found.rules + DIVERTED[1]) if settings.get("diverted") else found


def sockets():
    """Return what listens on the server of the lab."""
    rows = [
        Listener(
            protocol, "ipv6" if ":" in address else "ipv4", address, port, False, None, scope_of(address), 0, "root",
            port, (port,), place, place, None, None, None, "1", 0, place == "proxy", None, "LISTEN", "", 0, (),
        )
        for place in ("server", "proxy")
        for protocol, ports in LISTENERS[place].items()
        for port in ports
        for address in addresses(place, port)
    ]  # fmt: skip
    return Listeners("1", rows, "", [], {}, [])


def agrees(rulesets, settings, probe, heard):
    """Say whether the judge allows what the kernel did with a probe. heard: (place, address, port), None for no answer."""
    tables = []
    for (backend, family), text in rulesets.items():
        if backend == "native":
            tables += nft_json.parse(text, "nft")[0]
        else:
            tables += iptables_save.parse(text, "save", f"iptables-{backend}", family)[0]
    ipsets, _gaps = ipset_save.parse(IPSETS, "ipset save")
    judge = Judge(Firewall(tuple(tables), ipsets, (), {}), host(settings), sockets())
    return denial(judge, Probe(*probe), End(*heard) if heard else None) is None


def test_seed_89():
    """bitmap:port holds ports of TCP and UDP alike; the judge said server 10.77.1.1 5353 dropped, and it answered."""
    rulesets = {
        ("legacy", "ip"): """\
*filter
:INPUT DROP [0:0]
-A INPUT -m set --match-set ports dst -j ACCEPT
COMMIT
""",
    }
    probe = ("ipv4", "eth0", "10.77.1.2", "udp", "10.77.1.1", 5353)
    assert agrees(rulesets, {}, probe, ("server", "10.77.1.1", 5353))
    assert not agrees(rulesets, {}, probe, None)


@pytest.mark.parametrize(("protocol", "reach"), [("tcp", "dropped"), ("udp", "dropped"), ("sctp", "accepted")])
def test_entries_of_a_port_set_are_of_tcp_and_udp(protocol, reach):
    ports = SetElements("ports", "bitmap:port", ("5353",))
    rule = Rule(1, (Match("set", ("ports dst",), False, ""),), Target("drop"), "")
    table = Table("ip", "filter", "iptables-nft", "test", {"INPUT": Chain("INPUT", (rule,), "filter", "input", 0, "accept")})
    parts = Filter([table], {"ports": ports}).reach(Packet("ipv4", protocol, 1, 5353, "eth0"))
    assert [part.reach for part in parts] == [reach]


def test_seed_394():
    """redirect nft: the judge said server 8053 dropped; in the kernel server 2001:db8:77:1::9 8053 answers."""
    rulesets = {
        ("nft", "ip6"): """\
*filter
:INPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate DNAT -j DROP
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -i eth+ -p udp -m udp --dport 8053 -j REDIRECT
COMMIT
""",
    }
    probe = ("ipv6", "eth0", "2001:db8:77:1::2", "udp", "2001:db8:77:1::9", 8053)
    assert agrees(rulesets, {}, probe, ("server", "2001:db8:77:1::9", 8053))


def test_sent_to_where_it_was_going_is_not_marked():
    """The same with an address: nf_nat_setup_info sets IPS_DST_NAT only where something changes."""
    rulesets = {
        ("nft", "ip"): """\
*filter
:INPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate DNAT -j DROP
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport 8053 -j DNAT --to-destination 10.77.1.1
COMMIT
""",
    }
    probe = ("ipv4", "eth0", "10.77.1.2", "udp")
    assert agrees(rulesets, {}, (*probe, "10.77.1.1", 8053), ("server", "10.77.1.1", 8053))
    assert not agrees(rulesets, {}, (*probe, "10.77.1.1", 8053), None)
    assert not agrees(rulesets, {}, (*probe, "10.77.1.9", 8053), ("server", "10.77.1.1", 8053))


def test_seed_551():
    """redirect legacy: the judge said back 10.77.9.2 8080 accepted; in the kernel nothing answers."""
    rulesets = {
        ("legacy", "ip"): """\
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING ! -i eth0 -p tcp -m tcp --tcp-flags SYN,ACK SYN -j CT --notrack
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -o back0 -j MASQUERADE
COMMIT
""",
    }
    probe = ("ipv4", "eth1", "10.77.2.2", "tcp", "10.77.9.2", 8080)
    assert agrees(rulesets, {"ipv4/ip_forward": 1}, probe, None)


@pytest.mark.parametrize(("ports", "verdict", "policy"), [("1024:65535", "ACCEPT", "DROP"), ("1:1023", "DROP", "ACCEPT")])
@pytest.mark.parametrize("target", ["CT --notrack", "MARK --set-xmark 0x1/0xffffffff"])
def test_an_end_is_the_same_from_every_port_of_the_sender(ports, verdict, policy, target):
    """What a rule does to packets from some ports only, mark or untrack them, does not make it another end."""
    match = "-m conntrack --ctstate UNTRACKED" if "CT" in target else "-m mark --mark 0x1"
    rulesets = {
        ("legacy", "ip"): f"""\
*{"raw" if "CT" in target else "mangle"}
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --sport {ports} -j {target}
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 9 -j REDIRECT --to-ports 10
COMMIT
*filter
:INPUT {policy} [0:0]
-A INPUT {match} -j {verdict}
COMMIT
""",
    }
    probe = ("ipv4", "eth0", "10.77.1.2", "tcp", "10.77.1.1", 5432)
    assert agrees(rulesets, {}, probe, ("server", "10.77.1.1", 5432))


def test_a_mark_of_the_first_packet_is_not_one_of_those_that_follow():
    rulesets = {
        ("nft", "ip"): """\
*mangle
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m conntrack --ctstate NEW -j MARK --set-xmark 0x1/0xffffffff
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 5432
COMMIT
*filter
:INPUT DROP [0:0]
-A INPUT -m mark --mark 0x1 -j ACCEPT
COMMIT
""",
    }
    probe = ("ipv4", "eth0", "10.77.1.2", "tcp", "10.77.1.1", 8080)
    assert agrees(rulesets, {}, probe, None)


@pytest.mark.parametrize(("reject", "v4", "v6"), [("icmpv6", True, False), ("icmp", False, True), ("icmpx", False, False)])
def test_seed_200331(reject, v4, v6):
    """firewalld: the judge said server 10.77.2.1 11211 dropped, and it answered: nft leaves `meta nfproto ipv6` out."""
    rule = {"family": "inet", "table": "t", "chain": "in", "handle": 2, "expr": [
        {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 11211}},
        {"reject": {"type": reject, "expr": "port-unreachable"}},
    ]}  # fmt: skip
    ruleset = [
        {"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
        {"table": {"family": "inet", "name": "t", "handle": 1}},
        {
            "chain": {
                "family": "inet",
                "table": "t",
                "name": "in",
                "handle": 1,
                "type": "filter",
                "hook": "input",
                "prio": 0,
                "policy": "accept",
            }
        },
        {"rule": rule},
    ]
    rulesets = {("native", "inet"): json.dumps({"nftables": ruleset})}
    for family, client, server, opened in (("ipv4", "10.77.2.2", "10.77.2.1", v4), ("ipv6", "2001:db8:77:2::2", "2001:db8:77:2::1", v6)):
        probe = (family, "eth1", client, "tcp", server, 11211)
        assert agrees(rulesets, {}, probe, ("server", server, 11211)) is opened
        assert agrees(rulesets, {}, probe, None) is not opened


def test_seed_400612():
    """redirect nft: the judge said back 10.77.9.9 8080 accepted; an answer that is not tracked is not translated back."""
    rulesets = {
        ("nft", "ip"): """\
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m iprange ! --src-range 10.77.2.3-10.77.2.150 -m length --length 0:100 -j CT --notrack
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 5432 -j DNAT --to-destination 10.77.9.9:8080
COMMIT
""",
    }
    probe = ("ipv4", "eth1", "10.77.2.3", "tcp", "10.77.2.1", 5432)
    assert agrees(rulesets, {"ipv4/ip_forward": 1}, probe, None)
    assert agrees(rulesets, {"ipv4/ip_forward": 1}, probe, ("back", "10.77.9.9", 8080)), "its raw sockets may take the answer"


def test_seed_404746():
    """redirect nft: the judge said back 10.77.9.2 8080 accepted; what back sends is new to connection tracking, and redirected."""
    rulesets = {
        ("nft", "ip"): """\
*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING ! -s 10.77.2.3/32 -i eth1 -j CT --notrack
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -j DNAT --to-destination 127.0.0.9:8080
COMMIT
""",
    }
    probe = ("ipv4", "eth1", "10.77.2.2", "tcp", "10.77.9.2", 8080)
    assert agrees(rulesets, {"ipv4/ip_forward": 1}, probe, None)


def test_seed_5287():
    """tproxy nft: the judge said back 2001:db8:77:9::2 8080 dropped; in the kernel back 2001:db8:77:9::2 8080 answers."""
    rulesets = {
        ("nft", "ip6"): """\
*mangle
:PREROUTING ACCEPT [0:0]
:DIVERT - [0:0]
-A PREROUTING -m socket --nowildcard -j DIVERT
-A PREROUTING -i eth0 -j DROP
-A DIVERT -j ACCEPT
COMMIT
""",
    }
    probe = ("ipv6", "eth0", "2001:db8:77:1::2", "tcp", "2001:db8:77:9::2", 8080)
    assert agrees(
        rulesets,
        {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1, "ipv4/conf/all/route_localnet": 1},
        probe,
        ("back", "2001:db8:77:9::2", 8080),
    )


def test_seed_5129():
    """tproxy native: the judge said proxy 2001:db8:77:1::1 3129 maybe; in the kernel proxy 2001:db8:77:1::1 3130 answers."""
    rulesets = {
        ("native", "inet"): """\
{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
{"table": {"family": "ip6", "name": "t", "handle": 131}},
{"chain": {"family": "ip6", "table": "t", "name": "pre", "handle": 1, "type": "filter", "hook": "prerouting", "prio": -50, "policy": "accept"}},
{"chain": {"family": "ip6", "table": "t", "name": "input", "handle": 2, "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
{"chain": {"family": "ip6", "table": "t", "name": "forward", "handle": 3, "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
{"rule": {"family": "ip6", "table": "t", "chain": "pre", "handle": 4,
"expr": [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}},
{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 8080}},
{"tproxy": {"addr": "2001:db8:77:2::1", "port": 3129}},
{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}},
{"counter": null}]}},
{"rule": {"family": "ip6", "table": "t", "chain": "pre", "handle": 5,
"expr": [{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth0"}},
{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 8080}},
{"tproxy": {"addr": "::1", "port": 3130}},
{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}}]}},
{"rule": {"family": "ip6", "table": "t", "chain": "input", "handle": 6,
"expr": [{"accept": null}]}}]}
""",
    }
    probe = ("ipv6", "eth0", "2001:db8:77:1::2", "tcp", "2001:db8:77:1::1", 8080)
    assert agrees(
        rulesets, {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1, "diverted": 1}, probe, ("proxy", "2001:db8:77:1::1", 3130)
    )


def test_seed_20137():
    """tproxy native: the judge said server 2001:db8:77:9::2 8080 accepted; a socket of a handshake has no `socket wildcard`."""
    rulesets = {
        ("native", "inet"): """\
{"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
{"table": {"family": "inet", "name": "t", "handle": 38}},
{"chain": {"family": "inet", "table": "t", "name": "pre", "handle": 1, "type": "filter", "hook": "prerouting", "prio": -150, "policy": "accept"}},
{"rule": {"family": "inet", "table": "t", "chain": "pre", "handle": 4,
"expr": [{"match": {"op": "==", "left": {"socket": {"key": "wildcard"}}, "right": 0}},
{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}},
{"accept": null}]}},
{"rule": {"family": "inet", "table": "t", "chain": "pre", "handle": 5,
"expr": [{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}},
{"mangle": {"key": {"meta": {"key": "mark"}}, "value": 1}}]}}]}
""",
    }
    probe = ("ipv6", "eth0", "2001:db8:77:1::2", "tcp", "2001:db8:77:9::2", 8080)
    assert agrees(rulesets, {"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1, "diverted": 1}, probe, None)


def test_seed_972():
    """native: who may have returned from a chain meets the policy, and a rule behind the return does not decide for sure."""
    text = "*filter\n:INPUT DROP [0:0]\n:C - [0:0]\n-A INPUT -j C\n-A C -m pkttype --pkt-type unicast -j RETURN\n-A C -j ACCEPT\nCOMMIT\n"
    judge = Filter(iptables_save.parse(text, "save", "iptables-nft", "ip")[0], {})
    (part,) = judge.through(Packet("ipv4", "tcp", 1, 22, "eth0"), "INPUT")
    assert part.reach == "maybe"
    assert [(decision.chain, decision.rule) for decision in part.decided_by] == [("C", 2), ("INPUT", 0)]
