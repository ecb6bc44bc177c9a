# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the packet filter closes a port, whatever listens there."""

from __future__ import annotations

from ansible_collections.loopguard.loopback.plugins.module_utils._judge.firewall_control import FirewallJudge
from ansible_collections.loopguard.loopback.plugins.module_utils._model.firewall import Firewall
from ansible_collections.loopguard.loopback.plugins.module_utils._model.gap import Gap
from ansible_collections.loopguard.loopback.plugins.module_utils._model.host import HostNetwork, Interface
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import Service
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.iptables_save import parse

LO = Interface("lo", 1, "", True, True, None, ("127.0.0.1/8", "::1/128"))
ETH0 = Interface("eth0", 2, "", True, False, None, ("10.0.0.5/24", "2001:db8::5/64"))
DB = Service("db", 5432)
OURS = """\
:LOOPGUARD - [0:0]
:LOOPGUARD-DROP - [0:0]
-A INPUT -j LOOPGUARD
-A INPUT -p tcp -m tcp --dport 5432 -j ACCEPT
-A LOOPGUARD -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j RETURN
-A LOOPGUARD -i lo -p tcp -m multiport --dports 5432 -j ACCEPT
-A LOOPGUARD{source} -p tcp -m multiport --dports 5432 -j RETURN
-A LOOPGUARD -p tcp -m multiport --dports 5432 -j LOOPGUARD-DROP
-A LOOPGUARD-DROP -m limit --limit 10/min -j LOG --log-prefix "loopguard: "
-A LOOPGUARD-DROP -j DROP"""


def tables(ipv4, ipv6):
    return [
        parse(f"*filter\n:INPUT ACCEPT [0:0]\n{text}\nCOMMIT\n", "test", "iptables-nft", family)[0][0]
        for text, family in ((ipv4, "ip"), (ipv6, "ip6"))
    ]


def judged(ipv4, ipv6, service=DB, exposure=None, gaps=(), keep=()):
    sysctls = {f"net/ipv4/conf/{name}/{key}": 0 for name in ("all", "eth0") for key in ("route_localnet", "accept_local")}
    host = HostNetwork((LO, ETH0), (), (), sysctls, 0, ())
    return FirewallJudge(Firewall(tuple(tables(ipv4, ipv6)), {}, tuple(gaps), {}), host, keep).control(service, exposure)


CLOSED = OURS.format(source=" -s 192.0.2.0/32")
CLOSED6 = OURS.format(source=" -s 2001:db8:ffff::/128")
FOR_OFFICE = Service("db", 5432, allow=("192.0.2.0/32", "2001:db8:ffff::/128"))


def test_a_port_that_nobody_closes_fails_though_nothing_listens():
    found = judged("", "")
    assert (found.status, found.control) == ("fail", "firewall")
    assert found.evidence[0].startswith("the firewall lets in anyone on eth0 (IPv4)")
    assert "restrict_firewall_enforce" in found.text


def test_the_rules_of_the_role_pass_for_the_allowed_and_no_others():
    assert judged(CLOSED, CLOSED6, FOR_OFFICE).status == "pass"
    assert judged(CLOSED, CLOSED6, keep=FOR_OFFICE.allow).status == "pass"
    assert "192.0.2.0/32" in judged(CLOSED, CLOSED6).evidence[0]


def test_ipv6_is_a_question_of_its_own():
    found = judged(CLOSED, "", FOR_OFFICE)
    assert found.status == "fail"
    assert "IPv6" in found.evidence[0] and "IPv4" not in found.evidence[0]


def test_a_rule_behind_an_accept_does_not_pass():
    late = "-A INPUT -p tcp -m tcp --dport 5432 -j ACCEPT\n-A INPUT ! -i lo -p tcp -m tcp --dport 5432 -j DROP"
    assert judged(late, late).status == "fail"


def test_what_was_not_read_is_unknown():
    found = judged(CLOSED, CLOSED6, FOR_OFFICE, gaps=[Gap("nft", "denied", "Operation not permitted")])
    assert (found.status, found.evidence) == ("unknown", ("nft: Operation not permitted",))


def test_a_redirect_counts_where_it_leads_here():
    redirect = {
        "via": "redirect",
        "reach": "maybe",
        "text": "anyone: DNAT",
        "family": "ipv4",
        "sources": ["192.0.2.0/31"],
        "sources_omitted": 0,
    }
    exposure = {"kind": None, "paths": [redirect, redirect, {"via": "relay", "reach": "accepted", "text": "another step"}]}
    found = judged(CLOSED, CLOSED6, FOR_OFFICE, exposure)
    assert (found.status, found.evidence) == ("unknown", ("anyone: DNAT",))
    redirect["reach"] = "accepted"
    assert judged(CLOSED, CLOSED6, FOR_OFFICE, exposure).status == "fail"
    assert judged(CLOSED, CLOSED6, FOR_OFFICE, exposure, keep=("192.0.2.0/30",)).status == "pass"
    redirect["sources_omitted"] = 1
    assert judged(CLOSED, CLOSED6, FOR_OFFICE, exposure, keep=("192.0.2.0/30",)).status == "fail"


def test_a_waiver_and_a_discovered_service():
    assert judged("", "", DB._replace(controls={"firewall": "a lab"})).evidence == ("waived: a lab",)
    assert judged("", "", DB._replace(declared=False)).text.endswith("Next: declare it (name, port), so that it can be closed.")
