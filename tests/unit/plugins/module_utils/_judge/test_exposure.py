# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on made-up hosts: what opens a path, what seals, and what must never seal."""

from __future__ import annotations

import json

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._judge import exposure as judging
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.discovery import discover
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.record import (
    RecordError,
    evidence_from_facts,
    exposure_to_dict,
)
from ansible_collections.loopguard.loopback.plugins.module_utils._model.address import scope_of
from ansible_collections.loopguard.loopback.plugins.module_utils._model.evidence import Evidence
from ansible_collections.loopguard.loopback.plugins.module_utils._model.facts import listener_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.firewall import Firewall, firewall_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.gap import Gap
from ansible_collections.loopguard.loopback.plugins.module_utils._model.host import HostNetwork, Interface, Route, host_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.listener import Listener
from ansible_collections.loopguard.loopback.plugins.module_utils._model.relay import Relay, relay_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.ruleset import Chain, Rule, Table, Target
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import Service
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.iptables_save import parse

LO = Interface("lo", 1, "", True, True, None, ("127.0.0.1/8", "::1/128"))
ETH0 = Interface("eth0", 2, "", True, False, None, ("10.0.0.5/24", "2001:db8::5/64"))
ETH1 = Interface("eth1", 3, "", True, False, None, ("192.168.9.5/24",))
DB = Service("db", 5432)
TO_LOOPBACK = "-A PREROUTING -p tcp --dport 99 -j DNAT --to-destination 127.0.0.1:5432"
GUIDE = "-A INPUT -i lo -j ACCEPT\n-A INPUT ! -i lo -p tcp -m tcp --dport 5432 -j DROP"


def listener(address="0.0.0.0", port=5432, process="postgres", protocol="tcp", **fields):
    interface = fields.pop("interface", None)
    row = Listener(
        protocol, "ipv6" if ":" in address else "ipv4", address, port, False, interface, scope_of(address, interface), 0, "root",
        port, (port,), process, process, None, None, None, "1", 0, False, None, "LISTEN", "", 0, (),
    )  # fmt: skip
    return row._replace(**fields)


def filtered(rules="", family="ip", table="filter", backend="iptables-nft"):
    base = {"filter": ":INPUT ACCEPT [0:0]", "nat": ":PREROUTING ACCEPT [0:0]", "mangle": ":PREROUTING ACCEPT [0:0]"}[table]
    return parse(f"*{table}\n{base}\n{rules}\nCOMMIT\n", "test", backend, family)[0]


def evidence(*rows, tables=(), interfaces=(LO, ETH0), sysctls=None, **fields):
    values = {f"net/ipv4/conf/{name}/{key}": 0 for name in ("all", "eth0", "eth1", "lo") for key in ("route_localnet", "accept_local")}
    host = HostNetwork(tuple(interfaces), fields.pop("routes", ()), (), {**values, **(sysctls or {})}, fields.pop("sk_lookup", 0), ())
    firewall = Firewall(tuple(tables), {}, tuple(fields.pop("firewall_gaps", ())), {})
    return Evidence(rows, fields.pop("listener_gaps", ()), fields.pop("relays", ()), "1", firewall, host)


def verdict(found, service=DB, forwards=()):
    (one,) = judging.judge(found, [service], forwards)
    return one


def ways(found, service=DB):
    return {(path.family, path.via, path.reach) for path in verdict(found, service).paths}


MANGLE = '{"mangle":{"key":{"payload":{"field":"dport","protocol":"tcp"}},"value":5432}}'
REWRITTEN = Table("ip", "n", "nftables", "test", {"r": Chain(
    "r", (Rule(1, (), Target("opaque", MANGLE), "tcp dport set 5432"),), "filter", "prerouting", -300, "accept")})  # fmt: skip
BRIDGED = {
    "interfaces": (LO, ETH0, Interface("docker0", 4, "bridge", True, False, None, ("172.17.0.1/16",))),
    "routes": (Route("ipv4", "172.17.0.0/16", None, "docker0", "main", "unicast"),),
    "sysctls": {"net/ipv4/conf/eth0/forwarding": 1, "net/ipv4/conf/docker0/forwarding": 0, "net/ipv4/conf/docker0/route_localnet": 0},
}
SEALED = [
    ("loopback", evidence(listener("127.0.0.1"))),
    ("both loopbacks", evidence(listener("127.0.0.1"), listener("::1"))),
    ("another address of 127/8", evidence(listener("127.3.2.1"))),
    ("an IPv4-mapped loopback", evidence(listener("::ffff:127.0.0.1"))),
    ("tied to lo", evidence(listener(interface="lo"))),
    ("a redirect to the port of a relay", evidence(
        listener("127.0.0.1"), listener(port=15432, process="socat", command="socat TCP-LISTEN:15432,fork TCP:127.0.0.1:5432"),
        tables=filtered("-A INPUT ! -i lo -j DROP") + filtered("-A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 15432", table="nat"))),
    ("DNAT to loopback with route_localnet", evidence(
        listener("127.0.0.1"), sysctls={"net/ipv4/conf/eth0/route_localnet": 1},
        tables=[*filtered(TO_LOOPBACK, table="nat"), *filtered("-A INPUT -d 127.0.0.0/8 -j DROP")])),
    ("a redirect to the port", evidence(listener(), tables=[
        *filtered("-A PREROUTING -p tcp --dport 99 -j REDIRECT --to-ports 5432", table="nat"), *filtered(GUIDE)])),
    ("the guide's rules", evidence(listener(), tables=filtered(GUIDE))),
    ("both families", evidence(listener("::"), tables=[*filtered(GUIDE), *filtered(GUIDE, "ip6")])),
    ("V6ONLY leaves IPv4 alone", evidence(listener("::", v6only=True), tables=filtered(GUIDE, "ip6"))),
    ("no address of its family", evidence(listener("::", v6only=True), interfaces=(LO, ETH1))),
    ("legacy drops", evidence(listener(), tables=[*filtered(), *filtered(GUIDE, backend="iptables-legacy")])),
    ("DNAT to loopback without route_localnet", evidence(
        listener("127.0.0.1"), tables=filtered(TO_LOOPBACK, table="nat"))),
    ("a redirect from lo alone", evidence(listener("127.0.0.1"), tables=filtered(
        "-A PREROUTING -i lo -p tcp --dport 5432 -j REDIRECT --to-ports 80", table="nat"))),
    ("the machine itself", evidence(listener(), tables=filtered("-A INPUT -s 10.0.0.5/32 -j ACCEPT\n-A INPUT -j DROP"))),
    ("a source that cannot come from outside", evidence(listener(), tables=filtered("-A INPUT -s 127.0.0.0/8 -j ACCEPT\n-A INPUT -j DROP"))),
    ("socat that leads elsewhere", evidence(
        listener("127.0.0.1"), listener(port=15432, process="socat", command="socat TCP-LISTEN:15432,fork TCP:10.0.0.9:80"))),
    ("a relay behind the firewall", evidence(
        listener("127.0.0.1"), listener(port=80, process="nginx"), tables=filtered("-A INPUT ! -i lo -j DROP"))),
    ("an ssh client without -R", evidence(listener("127.0.0.1"), relays=[Relay(7, "ssh", "ssh -L 80:x:80 far")])),
    ("the port of a bridge", evidence(listener(), tables=filtered("-A INPUT -i br0 -j DROP"), interfaces=(
        LO, ETH0._replace(master="br0", addresses=()), Interface("br0", 4, "bridge", True, False, None, ("10.0.0.5/24",))))),
]  # fmt: skip


@pytest.mark.parametrize("found", [pytest.param(found, id=name) for name, found in SEALED])
def test_sealed(found):
    one = verdict(found)
    assert (one.verdict, one.paths, one.unknowns) == ("sealed", (), ())


EXPOSED = [
    ("no firewall", evidence(listener()), {("ipv4", "bind", "accepted")}),
    ("dual stack", evidence(listener("::")), {("ipv4", "bind", "accepted"), ("ipv6", "bind", "accepted")}),
    ("IPv4 alone is closed", evidence(listener("::"), tables=filtered(GUIDE)), {("ipv6", "bind", "accepted")}),
    ("V6ONLY unknown is dual stack", evidence(listener("::", v6only=None, unknowns=("v6only",))),
     {("ipv4", "bind", "accepted"), ("ipv6", "bind", "accepted")}),
    ("a drop on one interface", evidence(listener(), tables=filtered("-A INPUT -i eth1 -j DROP"), interfaces=(LO, ETH0, ETH1)),
     {("ipv4", "bind", "accepted")}),
    ("a drop for one address", evidence(listener(), tables=filtered("-A INPUT -d 10.0.0.5/32 -j DROP"), interfaces=(LO, ETH0, ETH1)),
     {("ipv4", "bind", "accepted")}),
    ("a second socket", evidence(listener("127.0.0.1"), listener("10.0.0.5")), {("ipv4", "bind", "accepted")}),
    ("route_localnet", evidence(listener("127.0.0.1"), sysctls={"net/ipv4/conf/eth0/route_localnet": 1}),
     {("ipv4", "route_localnet", "accepted")}),
    ("socat", evidence(listener("127.0.0.1"), listener(port=15432, process="socat", command="socat TCP-LISTEN:15432,fork TCP4:localhost:5432")),
     {("ipv4", "relay", "accepted")}),
    ("a wildcard, and route_localnet", evidence(
        listener(), tables=filtered("-A INPUT ! -d 127.0.0.0/8 -j DROP"), sysctls={"net/ipv4/conf/eth0/route_localnet": 1}),
     {("ipv4", "route_localnet", "accepted")}),
    ("DNAT to loopback with route_localnet", evidence(
        listener("127.0.0.1"), sysctls={"net/ipv4/conf/eth0/route_localnet": 1}, tables=filtered(TO_LOOPBACK, table="nat")),
     {("ipv4", "route_localnet", "accepted"), ("ipv4", "redirect", "accepted")}),
    ("the port is published by DNAT", evidence(listener(process="docker-proxy"), **BRIDGED, tables=[
        *filtered("-A PREROUTING -p tcp --dport 5432 -j DNAT --to-destination 172.17.0.2:5432", table="nat"), *filtered(GUIDE)]),
     {("ipv4", "redirect", "accepted")}),
    ("published, and nothing listens", evidence(**BRIDGED, tables=filtered(
        "-A PREROUTING -p tcp --dport 5432 -j DNAT --to-destination 172.17.0.2:5432", table="nat")), {("ipv4", "redirect", "accepted")}),
    ("a relay over a relay", evidence(
        listener("127.0.0.1"), listener("127.0.0.1", port=3000, process="socat", command="socat TCP-LISTEN:3000,bind=127.0.0.1 TCP:127.0.0.1:5432"),
        listener(port=80, process="socat", command="socat TCP-LISTEN:80,fork TCP:127.0.0.1:3000")), {("ipv4", "relay", "accepted")}),
    ("a relay in a container", evidence(listener("127.0.0.1"), listener(
        port=80, process="socat", command="socat TCP-LISTEN:80,fork TCP:127.0.0.1:5432", container={"engine": "podman", "id": "4f"})),
     {("ipv4", "relay", "accepted")}),
    ("a datagram relay", evidence(listener("127.0.0.1"), listener(
        port=15432, protocol="udp", process="socat", command="socat UDP-LISTEN:15432,fork TCP:127.0.0.1:5432", state="UNCONN")),
     {("ipv4", "relay", "accepted")}),
    ("a remote forward", evidence(listener("127.0.0.1"), relays=[Relay(7, "ssh", "ssh -N -R 15432:localhost:5432 far")]),
     {("ipv4", "relay", "accepted")}),
]  # fmt: skip


@pytest.mark.parametrize(("found", "expected"), [pytest.param(*case, id=name) for name, *case in EXPOSED])
def test_exposed(found, expected):
    assert verdict(found).verdict == "exposed"
    assert ways(found) == expected


DENIED = Gap("iptables-nft-save", "denied", "must be root")
UNKNOWN = [
    ("rules unread", evidence(listener(), firewall_gaps=[DENIED])),
    ("rules unread, and those read drop", evidence(listener(), tables=filtered(GUIDE), firewall_gaps=[DENIED])),
    ("rules unread, bound to loopback", evidence(listener("127.0.0.1"), firewall_gaps=[DENIED])),
    ("a wildcard, and route_localnet past a rule for other addresses", evidence(
        listener(), tables=filtered("-A INPUT ! -d 127.0.0.0/8 -j DROP"), sysctls={"net/ipv4/conf/eth0/route_localnet": None})),
    ("a rewritten port", evidence(listener(), tables=[*filtered(GUIDE), REWRITTEN])),
    ("a port shift", evidence(listener(), tables=[*filtered(
        "-A PREROUTING -p tcp --dport 99 -j DNAT --to-destination 10.0.0.5:5432-5433/99", table="nat"), *filtered(GUIDE)])),
    ("a systemd socket that may be a proxy's", evidence(listener("127.0.0.1"), listener(port=5433, process="systemd", pids=(1,)))),
    ("the proxy's own backend", evidence(listener("127.0.0.1", process="nginx"), listener(port=80, process="nginx"))),
    ("sockets unread", evidence(listener("127.0.0.1"), listener_gaps=[Gap("tcp", "denied", "")])),
    ("processes hidden", evidence(listener("127.0.0.1"), listener_gaps=[Gap("processes", "denied", "")])),
    ("nothing seen, sockets unread", evidence(listener_gaps=[Gap("tcp", "denied", "")])),
    ("a match that cannot be evaluated", evidence(listener(), tables=filtered("-A INPUT -m recent --rcheck --name x -j ACCEPT\n-A INPUT -j DROP"))),
    ("XDP", evidence(listener(), interfaces=(LO, ETH0._replace(xdp=True)))),
    ("tc beside a drop", evidence(listener(), tables=filtered(GUIDE), interfaces=(LO, ETH0._replace(tc=True)))),
    ("sk_lookup", evidence(listener("127.0.0.1"), sk_lookup=1)),
    ("route_localnet unread", evidence(listener("127.0.0.1"), sysctls={"net/ipv4/conf/eth0/route_localnet": None})),
    ("TPROXY to a socket that may be transparent", evidence(listener("127.0.0.1", transparent=None), tables=filtered(
        "-A PREROUTING -p tcp --dport 99 -j TPROXY --on-port 5432 --on-ip 127.0.0.1 --tproxy-mark 0x1/0x1", table="mangle"))),
    ("TPROXY that does not tell where", evidence(listener("127.0.0.1", transparent=True), tables=filtered(
        "-A PREROUTING -p tcp --dport 99 -j TPROXY --on-port 5432 --newer 1", table="mangle"))),
    ("nginx, whose configuration is not read", evidence(listener("127.0.0.1"), listener(port=80, process="nginx"))),
    ("a tunnel agent", evidence(listener("127.0.0.1"), relays=[Relay(9, "cloudflared", "cloudflared tunnel run")])),
    ("a wide socket that nobody seems to hold", evidence(listener("127.0.0.1"), listener(port=2024, process=None, pids=()))),
]  # fmt: skip


@pytest.mark.parametrize("found", [pytest.param(found, id=name) for name, found in UNKNOWN])
def test_what_is_not_shown_to_be_closed_is_unknown(found):
    one = verdict(found)
    assert one.verdict == "unknown"
    assert one.reasons
    assert one.paths or one.unknowns


UDP = Service("names", 5353, "udp")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("-A INPUT -p udp --dport 5353 -m addrtype --dst-type LOCAL -j DROP", "exposed"),
        ("-A INPUT -d 10.0.0.5/32 -p udp --dport 5353 -j DROP", "exposed"),
        ("-A INPUT -p udp --dport 5353 -j DROP", "sealed"),
        ("-A INPUT -d 10.0.0.5/32 -j DROP\n-A INPUT -d 10.0.0.255/32 -j DROP\n-A INPUT -d 224.0.0.0/3 -j DROP", "sealed"),
    ],
)
def test_datagrams_come_by_broadcast_and_to_groups_too(rules, expected):
    found = evidence(listener(port=5353, protocol="udp", state="UNCONN"), tables=filtered(rules))
    assert verdict(found, UDP).verdict == expected


def test_an_interface_without_an_address_hears_broadcasts():
    found = evidence(listener(port=5353, protocol="udp", state="UNCONN"), interfaces=(LO, ETH0._replace(addresses=())))
    assert verdict(found, UDP).verdict == "exposed"


def test_an_ipv4_compatible_address_is_ipv6():
    found = evidence(listener("::10.0.0.5"), tables=filtered("-A INPUT -j DROP"))
    assert ways(found) == {("ipv6", "bind", "accepted")}


@pytest.mark.parametrize(
    ("asked", "gap"), [({"protocols": ["udp"], "processes": True}, "tcp"), ({"protocols": ["tcp", "udp"], "processes": False}, "processes")]
)
def test_a_record_that_leaves_something_out_is_unknown(asked, gap):
    listeners = {
        "loopguard_listeners": [listener_to_dict(listener("127.0.0.1"))], "loopguard_listeners_gaps": [], "loopguard_relays": [], "loopguard_connections": [],
        "loopguard_listeners_namespace": "1", "loopguard_listeners_asked": asked,
    }  # fmt: skip
    whole = evidence()
    firewall = {**firewall_to_dict(whole.firewall), "host": host_to_dict(whole.host)}
    one = verdict(evidence_from_facts(listeners, firewall))
    assert one.verdict == "unknown"
    assert gap in {gap.subject for gap in one.unknowns}


def test_absent():
    assert verdict(evidence(listener(port=1))).verdict == "absent"


def test_sockets_of_other_namespaces_do_not_count():
    assert verdict(evidence(listener(namespace="2"))).verdict == "absent"


def test_allowed_sources_are_left_out_and_the_rest_is_named():
    allowed = DB._replace(allow=("10.0.0.0/8",))
    closed = evidence(listener(), tables=filtered("-A INPUT -s 10.0.0.0/8 -j ACCEPT\n-A INPUT -j DROP"))
    assert verdict(closed, allowed).verdict == "sealed"
    assert verdict(closed).verdict == "exposed"
    one = verdict(evidence(listener()), allowed)
    assert one.paths[0].text == "anyone but 10.0.0.0/8 on eth0 (IPv4): no firewall rule stands in the way"


def test_the_sentence_names_who_where_and_which_rule():
    rules = "-A INPUT -s 10.2.0.0/16 -j ACCEPT\n-A INPUT -j DROP"
    one = verdict(evidence(listener(), tables=filtered(rules), interfaces=(LO, ETH0, ETH1)))
    (path,) = one.paths
    assert path.text == "10.2.0.0/16 on any interface (IPv4): filter INPUT rule 1 `-A INPUT -s 10.2.0.0/16 -j ACCEPT`"
    assert path.destinations == ("10.0.0.5", "192.168.9.5")
    assert one.reasons == (path.text, "listens on 0.0.0.0:5432 (postgres, pid 5432)")


def test_a_policy_that_decides_is_named():
    one = verdict(evidence(listener(), tables=filtered("-A INPUT -p udp -j DROP")))
    assert one.paths[0].text == "anyone on eth0 (IPv4): no rule in INPUT decides, policy ACCEPT"


def test_a_forward_of_the_router_is_a_path_when_the_socket_is_open():
    forward = {"protocol": "tcp", "internal_address": "10.0.0.5", "internal_port": 5432, "external_port": 99, "router": "gw"}
    one = verdict(evidence(listener()), forwards=[forward])
    assert "router" in {path.via for path in one.paths}
    assert verdict(evidence(listener("127.0.0.1")), forwards=[forward]).verdict == "sealed"


def test_discovery_takes_what_belongs_on_loopback_and_gives_each_a_name_of_its_own():
    rows = [listener(), listener(port=22, process="sshd"), listener(port=6379, process="redis-server"),
            listener(port=6380, process="redis-server"), listener(port=80, process="nginx"), listener(port=5432, namespace="2")]  # fmt: skip
    found = discover(rows, [Service("redis", 9999)], "1")
    assert [(service.name, service.port, service.kind) for service in found] == [
        ("postgresql", 5432, "postgresql"), ("redis-6379", 6379, "redis"), ("redis-6380", 6380, "redis"),
    ]  # fmt: skip
    assert discover(rows[:1], [DB], "1") == ()


def test_the_worst_comes_first():
    found = evidence(listener("127.0.0.1"), listener(port=6379, process="redis-server"))
    assert [one.verdict for one in judging.judge(found, [DB, Service("gone", 1), Service("cache", 6379)])] == [
        "exposed",
        "sealed",
        "absent",
    ]


def test_many_sources_are_cut_for_people_and_counted():
    rules = "\n".join(f"-A INPUT -s 10.{number}.0.0/24 -j ACCEPT" for number in range(100)) + "\n-A INPUT -j DROP"
    one = verdict(evidence(listener(), tables=filtered(rules)))
    data = exposure_to_dict(one, full=False)
    assert all(len(path["sources"]) <= 64 for path in data["paths"])
    assert sum(len(path["sources"]) + path["sources_omitted"] for path in data["paths"]) == 100
    odd = evidence(listener(), tables=filtered("-A INPUT -m iprange --src-range 10.0.0.1-10.255.255.254 -j ACCEPT\n-A INPUT -j DROP"))
    brief, full = (exposure_to_dict(verdict(odd), full)["paths"][0] for full in (False, True))
    assert len(brief["sources"]) + brief["sources_omitted"] == len(full["sources"]) == 46


def test_recorded_evidence_is_judged_alike():
    found = evidence(listener(), tables=filtered("-A INPUT -s 10.0.0.0/8 -j ACCEPT\n-A INPUT -j DROP"), relays=[Relay(9, "frpc", "frpc")])
    listeners = {
        "loopguard_listeners": [listener_to_dict(row) for row in found.listeners], "loopguard_listeners_gaps": [],
        "loopguard_relays": [relay_to_dict(relay) for relay in found.relays], "loopguard_connections": [], "loopguard_listeners_namespace": "1",
        "loopguard_listeners_asked": {"protocols": ["tcp", "udp", "udplite", "sctp", "dccp"], "processes": True},
    }  # fmt: skip
    firewall = {**firewall_to_dict(found.firewall), "host": host_to_dict(found.host)}
    again = evidence_from_facts(*json.loads(json.dumps([listeners, firewall])))
    assert judging.judge(again, [DB]) == judging.judge(found, [DB])
    firewall["tables"][0]["chains"][0]["rules"][0]["matches"][0]["values"] = ["nonsense"]
    with pytest.raises(RecordError, match=r"firewall: .*nonsense"):
        evidence_from_facts(listeners, firewall)


def test_a_datagram_needs_no_source():
    found = evidence(
        listener("::", port=5353, protocol="udp", state="UNCONN", v6only=True), tables=filtered("-A INPUT ! -s ::/128 -j DROP", "ip6")
    )
    assert verdict(found, UDP).verdict == "exposed"
    tcp = evidence(listener("::", v6only=True), tables=filtered("-A INPUT ! -s ::/128 -j DROP", "ip6"))
    assert verdict(tcp).verdict == "sealed"
