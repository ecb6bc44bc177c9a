# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disagreements with the kernel that the oracle found: what it printed, shrunk, with what the kernel did."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.reach import Filter, Packet
from ansible_collections.loopguard.loopback.plugins.module_utils._model.firewall import Firewall
from ansible_collections.loopguard.loopback.plugins.module_utils._model.host import host_from_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.ruleset import Chain, Match, Rule, SetElements, Table, Target
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import ipset_save, iptables_save, nft_json

sys.path.insert(0, str(Path(__file__).parents[4] / "oracle"))
from compare import Judge, denial
from lab import End, Probe
from rulesets import IPSETS

LAB = json.loads((Path(__file__).parents[1] / "fixtures/host/6.18-debian12-lab.json").read_text())


def host(settings):
    """Return the server of the lab; ip_forward is set for every interface."""
    sysctls = dict(LAB["sysctls"])
    forwarding = settings.get("ipv4/ip_forward", 0)
    sysctls.update({name: forwarding for name in sysctls if name.startswith("net/ipv4") and name.endswith("/forwarding")})
    sysctls.update({"net/ipv4/ip_forward": forwarding, **{f"net/{name}": value for name, value in settings.items()}})
    return host_from_dict({**LAB, "sysctls": sysctls})


def agrees(rulesets, settings, probe, heard):
    """Say whether the judge allows what the kernel did with a probe. heard: (place, address, port), None for no answer."""
    tables = []
    for (backend, family), text in rulesets.items():
        if backend == "native":
            tables += nft_json.parse(text, "nft")[0]
        else:
            tables += iptables_save.parse(text, "save", f"iptables-{backend}", family)[0]
    ipsets, _gaps = ipset_save.parse(IPSETS, "ipset save")
    judge = Judge(Firewall(tuple(tables), ipsets, (), {}), host(settings))
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
