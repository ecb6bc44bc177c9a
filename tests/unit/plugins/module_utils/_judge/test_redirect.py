# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.exposure import judge
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.redirect import choices
from ansible_collections.loopguard.loopback.plugins.module_utils._model.address import scope_of
from ansible_collections.loopguard.loopback.plugins.module_utils._model.evidence import Evidence
from ansible_collections.loopguard.loopback.plugins.module_utils._model.firewall import Firewall
from ansible_collections.loopguard.loopback.plugins.module_utils._model.gap import Gap
from ansible_collections.loopguard.loopback.plugins.module_utils._model.host import HostNetwork, Interface, Route, RoutingRule
from ansible_collections.loopguard.loopback.plugins.module_utils._model.listener import Listener
from ansible_collections.loopguard.loopback.plugins.module_utils._model.ruleset import Target
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import Service
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.iptables_save import parse

INTERFACES = (
    Interface("lo", 1, "", True, True, None, ("127.0.0.1/8", "::1/128")),
    Interface("eth0", 2, "", True, False, None, ("10.0.0.5/24",)),
    Interface("docker0", 3, "bridge", True, False, None, ("172.17.0.1/16",)),
)
TO_CONTAINER = Route("ipv4", "172.17.0.0/16", None, "docker0", "main", "unicast")
DNAT = "-A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80"


def listener(address="0.0.0.0", port=5432, protocol="tcp"):
    return Listener(
        protocol, "ipv6" if ":" in address else "ipv4", address, port, False, None, scope_of(address), 0, "root",
        port, (port,), "postgres", "postgres", None, None, None, "1", 0, False, None, "LISTEN", "", 0, (),
    )  # fmt: skip


def seen(
    *rows,
    protocol="tcp",
    nat="",
    rules="",
    port=5432,
    forwarding=1,
    routes=(TO_CONTAINER,),
    localnet=0,
    gaps=(),
    policy=(),
    backend="iptables-nft",
    more="",
):
    """Judge one port of a host; return the verdict and (via, reach, sources, text of the rules)."""
    text = f"*nat\n:PREROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n{nat}\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n{rules}\nCOMMIT\n"
    tables = parse(text, "test", backend, "ip")[0]
    if more:
        tables += parse(f"*nat\n:PREROUTING ACCEPT [0:0]\n{more}\nCOMMIT\n", "test", "iptables-legacy", "ip")[0]
    values = {"route_localnet": localnet, "accept_local": 0, "forwarding": forwarding}
    sysctls = {f"net/ipv4/conf/{name}/{key}": value for name in ("eth0", "docker0", "lo") for key, value in values.items()}
    sysctls |= {f"net/ipv4/conf/all/{key}": 0 for key in values}
    host = HostNetwork(INTERFACES, tuple(routes), tuple(policy), sysctls, 0, tuple(gaps))
    evidence = Evidence(rows, (), (), "1", Firewall(tuple(tables), {}, (), {}), host)
    (one,) = judge(evidence, [Service("it", port, protocol)])
    return one


def ways(exposure):
    return {(path.interface, path.via, path.reach) for path in exposure.paths}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target("dnat", "10.0.0.1:80"), [(0x0A000001, 80)]),
        (Target("dnat", "10.0.0.1"), [(0x0A000001, 9)]),
        (Target("dnat", "[::1]:80"), [(1, 80)]),
        (Target("dnat", "::1"), [(1, 9)]),
        (Target("dnat", ":80"), [(5, 80)]),
        (Target("dnat", "10.0.0.1-10.0.0.2:80-81"), [(0x0A000001, 80), (0x0A000001, 81), (0x0A000002, 80), (0x0A000002, 81)]),
        (Target("redirect", ""), [(None, 9)]),
        (Target("redirect", "80"), [(None, 80)]),
        (Target("netmap", "192.0.2.0/24"), [(0xC0000205, 9)]),
        (Target("dnat", "10.0.0.0-10.0.0.255"), []),
        (Target("dnat", "10.0.0.1:80-90/85"), []),
        (Target("dnat", '{"map":1}'), []),
        (Target("dnat", "10.0.0.1:0"), []),
        (Target("dnat", "10.0.0.1:99999"), []),
        (Target("dnat", "nonsense"), []),
        (Target("accept"), []),
    ],
)
def test_where_a_rule_sends_packets(target, expected):
    assert choices(target, 5, 9) == expected


def test_of_the_other_family_a_rule_sends_nothing():
    assert choices(Target("dnat", "10.0.0.1"), 5, 9, "ipv6") == []
    assert choices(Target("netmap", "10.0.0.0/8"), 5, 9, "ipv6") == []


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"nat": DNAT}, "exposed"),
        ({"nat": "-A PREROUTING -j DOCKER\n-A DOCKER ! -i docker0 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80"}, "exposed"),
        ({"nat": DNAT, "rules": "-A INPUT -j DROP"}, "exposed"),
        ({"nat": DNAT, "rules": "-A FORWARD -p tcp --dport 8080 -j DROP"}, "exposed"),
        ({"nat": DNAT, "rules": "-A FORWARD -p tcp --dport 80 -j DROP"}, "absent"),
        ({"nat": DNAT, "rules": "-A FORWARD -o docker0 -j DROP"}, "absent"),
        (
            {"nat": DNAT, "rules": "-A FORWARD -i docker0 -o eth0 -p tcp --sport 80 -j DROP\n-A FORWARD -i docker0 -o docker0 -j DROP"},
            "absent",
        ),
        ({"nat": DNAT, "rules": "-A FORWARD -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL -j DROP"}, "absent"),
        # a neighbour may write any address of 127.0.0.0/8 on his packets, and it counts as local
        (
            {
                "nat": f"-A PREROUTING -i eth0 ! -d 127.0.0.0/8 -j RETURN\n{DNAT}".replace("-p", "-m addrtype --dst-type LOCAL -p"),
                "rules": "-A FORWARD -i docker0 -o docker0 -j DROP",
            },
            "exposed",
        ),
        ({"nat": DNAT, "forwarding": 0}, "absent"),
        ({"nat": DNAT, "forwarding": None}, "unknown"),
        ({"nat": DNAT, "routes": ()}, "absent"),
        ({"nat": DNAT, "routes": (TO_CONTAINER._replace(type="blackhole"),)}, "absent"),
        ({"nat": DNAT, "routes": (), "gaps": (Gap("routes", "failed", ""),)}, "unknown"),
        ({"nat": DNAT, "policy": (RoutingRule("ipv4", 5, None, None, None, None, None, "7", "lookup", False),)}, "unknown"),
    ],
)
def test_a_published_port(fields, verdict):
    assert seen(port=8080, **fields).verdict == verdict


def test_who_may_pass_to_a_container_is_told_with_both_rules():
    assert seen(port=8080, nat=DNAT, rules="-A FORWARD -i eth0 -s 192.0.2.0/24 -j ACCEPT\n-A FORWARD -j DROP").paths == (), "no answer"
    rules = "-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT\n-A FORWARD -i eth0 -s 192.0.2.0/24 -j ACCEPT\n-A FORWARD -j DROP"
    (path, *others) = seen(port=8080, nat=DNAT, rules=rules).paths
    assert not others
    assert path.to_dict()["sources"] == ["192.0.2.0/24"]
    assert [(decision.table, decision.rule) for decision in path.decided_by] == [("nat", 1), ("filter", 2)]
    assert "port 8080, which is sent on to 172.17.0.2:80" in path.text


TO_DB = "-A PREROUTING -p tcp --dport 99 -j DNAT --to-destination 127.0.0.1:5432"


@pytest.mark.parametrize(
    ("row", "fields", "expected"),
    [
        ("127.0.0.1", {"nat": TO_DB}, set()),
        ("127.0.0.1", {"nat": TO_DB, "localnet": 1}, {("any", "route_localnet", "accepted"), ("any", "redirect", "accepted")}),
        ("127.0.0.1", {"nat": TO_DB, "localnet": 1, "rules": "-A INPUT ! -i lo -p tcp --dport 5432 -j DROP"}, set()),
        ("127.0.0.1", {"nat": "-A PREROUTING -p tcp --dport 99 -j REDIRECT --to-ports 5432"}, set()),
        ("0.0.0.0", {"nat": "-A PREROUTING -p tcp --dport 99 -j REDIRECT --to-ports 5432", "rules": "-A INPUT -p tcp --dport 99 -j DROP"},
         {("any", "bind", "accepted"), ("any", "redirect", "accepted")}),
        ("0.0.0.0", {"nat": "-A PREROUTING -i eth0 -p tcp --dport 99 -j REDIRECT --to-ports 5432",
                     "rules": "-A INPUT -m conntrack ! --ctstate DNAT -j DROP"}, {("eth0", "redirect", "accepted")}),
        # what goes elsewhere does not arrive
        ("0.0.0.0", {"nat": "-A PREROUTING -i eth0 -p tcp --dport 5432 -j REDIRECT --to-ports 7"}, {("docker0", "bind", "accepted")}),
        ("10.0.0.5", {"nat": "-A PREROUTING -p tcp --dport 99 -j DNAT --to-destination 10.0.0.5:5432", "rules": "-A INPUT -i docker0 -j DROP"},
         {("eth0", "bind", "accepted"), ("eth0", "redirect", "accepted")}),
        ("127.0.0.5", {"nat": "-A PREROUTING -d 10.9.0.0/24 -p tcp -j NETMAP --to 127.0.0.0/24", "localnet": 1, "rules": "-A INPUT -i docker0 -j DROP"},
         {("eth0", "route_localnet", "accepted"), ("eth0", "redirect", "accepted")}),
        # one of several ports, and a rule that may match
        ("0.0.0.0", {"nat": "-A PREROUTING -p tcp --dport 99 -j REDIRECT --to-ports 5432-5433", "rules": "-A INPUT -m conntrack ! --ctstate DNAT -j DROP"},
         {("any", "redirect", "maybe")}),
        ("0.0.0.0", {"nat": "-A PREROUTING -p tcp --dport 99 -m limit --limit 1/s -j REDIRECT --to-ports 5432",
                     "rules": "-A INPUT -m conntrack ! --ctstate DNAT -j DROP"}, {("any", "redirect", "maybe")}),
    ],
)  # fmt: skip
def test_into_a_socket(row, fields, expected):
    assert ways(seen(listener(row), **fields)) == expected


def test_two_nat_tables_of_one_priority_are_asked_in_an_order_that_nobody_knows():
    here = "-A PREROUTING -p tcp --dport 99 -j REDIRECT --to-ports 5432"
    closed = "-A INPUT -m conntrack ! --ctstate DNAT -j DROP"
    assert ways(seen(listener(), nat=here, more=here.replace("5432", "7"), rules=closed)) == {("any", "redirect", "maybe")}
    assert ways(seen(listener(), nat=here, more=here, rules=closed)) == {("any", "redirect", "accepted")}


def test_a_port_is_redirected_once():
    nat = "-A PREROUTING -p tcp --dport 99 -j REDIRECT --to-ports 98\n-A PREROUTING -p tcp --dport 98 -j REDIRECT --to-ports 5432"
    exposure = seen(listener(), nat=nat, rules="-A INPUT -m conntrack ! --ctstate DNAT -j DROP")
    assert {path.text.partition(", which")[0].rpartition(" ")[2] for path in exposure.paths} == {"98"}


def test_a_rule_with_too_many_ways_to_try_is_named():
    many = "\n".join(f"-A INPUT -p udp --dport {port} -j DROP" for port in range(1, 1200, 2))
    exposure = seen(listener("127.0.0.1"), nat="-A PREROUTING -p tcp -j DNAT --to-destination 127.0.0.1:5432", localnet=1, rules=many)
    assert ("any", "redirect", "maybe") in ways(exposure)


CLOSED = "-A INPUT -m conntrack ! --ctstate DNAT -j DROP"


@pytest.mark.parametrize(
    ("nat", "reach"),
    [
        ("-A PREROUTING -d 255.255.255.255 -p udp --dport 99 -j REDIRECT --to-ports 5432", "accepted"),
        ("-A PREROUTING -m addrtype --dst-type BROADCAST -p udp --dport 99 -j REDIRECT --to-ports 5432", "accepted"),
        ("-A PREROUTING -d 224.0.0.251 -p udp --dport 99 -j REDIRECT --to-ports 5432", "accepted"),
        ("-A PREROUTING -p udp --dport 99 -j DNAT --to-destination 10.0.0.255:5432", "maybe"),
        ("-A PREROUTING -p udp --dport 99 -j DNAT --to-destination 224.0.0.1:5432", "maybe"),
    ],
)
def test_datagrams_to_many_are_redirected_too(nat, reach):
    assert reach in {path.reach for path in seen(listener(protocol="udp"), protocol="udp", nat=nat, rules=CLOSED).paths}
    tcp = seen(listener(), nat=nat.replace("udp", "tcp"), rules=CLOSED)
    assert not [path for path in tcp.paths if set(path.destinations) & {"255.255.255.255", "10.0.0.255", "224.0.0.251"}], tcp


def test_the_sender_may_choose_a_port_that_answers_of_a_container_pass_with():
    raw = "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -i docker0 -p tcp --dport 1:19999 -j DROP\n"
    raw += "-A PREROUTING -i docker0 -p tcp --dport 20001:65535 -j DROP\nCOMMIT\n"
    rules = f"-A INPUT -p tcp --sport 40000 -j LOG\nCOMMIT\n{raw}*security\n:INPUT ACCEPT [0:0]"
    assert ("eth0", "redirect", "accepted") in ways(seen(port=8080, nat=DNAT, rules=rules))
