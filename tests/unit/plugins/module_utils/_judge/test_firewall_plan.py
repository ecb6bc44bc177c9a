# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who loads the rules, for whom they are, and when nothing may be changed."""

from __future__ import annotations

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.firewall_plan import Wishes, plan
from ansible_collections.loopguard.loopback.plugins.module_utils._model.ruleset import Chain, Rule, Table, Target
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import Service
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.iptables_save import parse

CACHE = Service("cache", 6379)
SSH = Service("ssh", 22)


def iptables(rules="-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT", backend="iptables-nft", table="filter", declared=""):
    base = {"filter": ":INPUT ACCEPT [0:0]", "nat": ":PREROUTING ACCEPT [0:0]"}[table]
    return parse(f"*{table}\n{base}\n{declared}{rules}\nCOMMIT\n", "test", backend, "ip")[0][0]


def nftables(name="filter", family="inet"):
    return Table(
        family,
        name,
        "nftables",
        "test",
        {"input": Chain("input", (Rule(1, (), Target("accept"), "accept"),), "filter", "input", 0, "accept")},
    )


def facts(managers=(), sysctls=None, gaps=(), persisted=None):
    return {
        "managers": [{"name": name, "active": True} for name in managers],
        "host": {"sysctls": sysctls or {}},
        "gaps": list(gaps),
        "persisted": persisted or {"sources": [], "differences": []},
    }


def made(*tables, services=(CACHE,), tools=("nft",), found=None, **wishes):
    return plan(found or facts(), tables, tools, services, Wishes(**wishes))


@pytest.mark.parametrize(
    ("tables", "managers", "tools", "wish", "backend"),
    [
        ((), (), ("nft",), "auto", "nftables"),
        ((), (), (), "auto", "iptables"),
        ((iptables(),), (), ("nft",), "auto", "iptables-nft"),
        ((iptables(backend="iptables-legacy"),), (), ("nft",), "auto", "iptables-legacy"),
        ((iptables(""),), (), ("nft",), "auto", "nftables"),
        ((nftables(),), (), ("nft",), "auto", "nftables"),
        ((iptables(), nftables()), (), ("nft",), "auto", "nftables"),
        ((iptables(), iptables(backend="iptables-legacy")), (), ("nft",), "auto", "nftables"),
        ((iptables(),), ("ufw",), ("nft",), "auto", "ufw"),
        ((nftables("firewalld"),), ("firewalld",), ("nft",), "auto", "firewalld"),
        ((nftables(),), ("ufw",), ("nft",), "nftables", "nftables"),
        ((iptables(backend="iptables-legacy"),), (), ("nft",), "iptables", "iptables-legacy"),
        ((iptables(), iptables(backend="iptables-legacy")), (), ("nft",), "iptables", "iptables"),
    ],
)
def test_the_backend_follows_who_manages_the_host(tables, managers, tools, wish, backend):
    found = made(*tables, tools=tools, found=facts(managers), backend=wish)
    assert (found.backend, found.problems) == (backend, ())


def test_two_managers_are_no_choice():
    assert "both active" in made(found=facts(["ufw", "firewalld"])).problems[0]
    assert made(found=facts(["ufw", "firewalld"]), backend="ufw").problems == ()


def test_rules_of_an_earlier_run_are_found_wherever_they_are():
    ours = iptables("-A LOOPGUARD -j DROP", declared=":LOOPGUARD - [0:0]\n")
    legacy = iptables("-A LOOPGUARD -j DROP", "iptables-legacy", declared=":LOOPGUARD - [0:0]\n")
    assert made(ours, legacy, nftables("loopguard")).former == ("iptables-legacy", "iptables-nft", "nftables")
    assert made(nftables("loopguard", "ip"), nftables("other"), iptables()).former == ()


def test_services_with_the_same_sources_are_one_group():
    services = [Service("a", 10), Service("b", 9), Service("c", 9, "udp"), Service("d", 11, allow=("10.0.0.0/8",))]
    shared, closed = sorted(made(services=services).groups, key=lambda group: group.ipv4, reverse=True)
    assert (closed.services, closed.ports, closed.ipv4, closed.ipv6) == (("a", "b", "c"), {"tcp": (9, 10), "udp": (9,)}, (), ())
    assert (shared.services, shared.ipv4) == (("d",), ("10.0.0.0/8",))


def test_sources_do_not_overlap():
    """nftables refuses a set with intervals that do."""
    service = Service("a", 10, allow=("10.0.0.0/25", "10.0.0.128/25", "10.0.0.7/32", "192.0.2.1-192.0.2.3", "2001:db8::/64"))
    (group,) = made(services=[service], keep=("10.0.0.0/24", "2001:db8::5/128")).groups
    assert group.ipv4 == ("10.0.0.0/24", "192.0.2.1/32", "192.0.2.2/31")
    assert group.ipv6 == ("2001:db8::/64",)


def test_a_waived_service_is_left_open():
    assert made(services=[Service("a", 10, controls={"firewall": "a lab"})]).groups == ()


@pytest.mark.parametrize(
    ("connection", "services", "keep", "refused"),
    [
        ("10.0.3.7 50000 10.0.3.21 22", [SSH], (), True),
        ("fe80::7%eth0 50000 fe80::1%eth0 22", [SSH], (), True),
        ("10.0.3.7 50000 10.0.3.21 22", [SSH._replace(allow=("2001:db8::/32",))], (), True),
        ("10.0.3.7 50000 10.0.3.21 22", [SSH._replace(allow=("10.0.3.0/24",))], (), False),
        ("10.0.3.7 50000 10.0.3.21 22", [SSH], ("10.0.3.7",), False),
        ("10.0.3.7 50000 10.0.3.21 2222", [SSH], (), False),
        ("10.0.3.7 50000 10.0.3.21 22", [SSH._replace(protocol="udp")], (), False),
        ("127.0.0.1 50000 127.0.0.1 22", [SSH], (), False),
        ("::1 50000 ::1 22", [SSH], (), False),
        ("10.0.3.7 50000 10.0.3.21 22", [SSH._replace(controls={"firewall": ""})], (), False),
        ("", [SSH], (), False),
    ],
)
def test_the_way_by_which_this_login_came_in_stays_open(connection, services, keep, refused):
    problems = made(services=services, connection=connection, keep=keep).problems
    assert bool(problems) is refused
    assert not refused or problems[0].startswith("ssh (tcp port 22) is what this very login came in by, from ")


def test_who_may_not_see_may_not_change():
    gap = {"subject": "nf_tables", "reason": "denied", "text": "Operation not permitted"}
    assert made(found=facts(gaps=[gap])).problems == ("nf_tables: Operation not permitted.",)
    assert made(found=facts(gaps=[{**gap, "reason": "unparsable"}])).problems == ()


def test_firewalld_is_told_what_it_can_do():
    found = facts(["firewalld"])
    assert "firewalld has no rules for udplite" in made(services=[Service("a", 9, "udplite")], found=found).problems[0]
    assert "nflog" in made(found=found, log="nflog").problems[0]
    assert made(found=found, log="log").problems == ()
    lost = {
        "sources": [{"kind": "firewalld", "state": "different"}],
        "differences": [{"family": "inet", "chain": "public", "text": "ports: 80/tcp"}],
    }
    assert "public ports: 80/tcp" in made(found=facts(["firewalld"], persisted=lost)).problems[0]


def test_packets_that_go_elsewhere():
    assert not made(iptables()).forwards
    assert made(iptables("-A PREROUTING -p tcp -m tcp --dport 1 -j DNAT --to-destination 10.9.9.9:2", table="nat")).forwards
    assert made(found=facts(["docker"])).forwards


def test_route_localnet_and_who_needs_it():
    sysctls = {"net/ipv4/conf/all/route_localnet": 0, "net/ipv4/conf/eth0.1/route_localnet": 1, "net/ipv4/ip_forward": 1}
    found = made(found=facts(["podman"], sysctls))
    assert found.localnet == ("net/ipv4/conf/eth0.1/route_localnet",)
    assert found.needed_by == ("podman",)
    assert made(found=facts(["plain"], sysctls)).needed_by == ()
