# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on a documented Windows host: what opens a path there, what seals, and what must never seal."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.loopguard.loopback.plugins.filter.windows_block_rules import windows_block_rules
from ansible_collections.loopguard.loopback.plugins.filter.windows_exposure import windows_exposure
from ansible_collections.loopguard.loopback.plugins.plugin_utils._report.record import build_record

FIXTURES = Path(__file__).parents[1] / "module_utils/fixtures/windows"
EVIDENCE = json.loads((FIXTURES / "evidence-documented.json").read_text())
LISTENERS = json.loads((FIXTURES / "listen_ports-documented.json").read_text())
PUBLISHED = (FIXTURES / "portproxy-published.txt").read_text().replace("\n", "\r\n")
ALLOW = EVIDENCE["rules"][0]
BLOCK = {**ALLOW, "name": "closed", "action": 4}
OTHER = {**ALLOW, "name": "other", "local_ports": ["1"]}
DB = {"name": "db", "port": 5432}


def socket(address, port, name="postgres.exe", pid=5332):
    return {**LISTENERS["tcp_listen"][4], "address": address, "port": port, "name": name, "pid": pid}


def judged(declared=None, listeners=None, **parts):
    evidence = copy.deepcopy({**EVIDENCE, **parts})
    return windows_exposure(json.dumps(evidence), listeners or LISTENERS, [declared or DB], discover=False)["exposures"][0]


def ways(exposure):
    return {(path["family"], path["via"], path["reach"]) for path in exposure["paths"]}


BOTH = {("ipv4", "bind", "accepted"), ("ipv6", "bind", "accepted")}


def test_a_rule_that_allows_opens():
    found = judged()
    assert (found["verdict"], ways(found)) == ("exposed", BOTH)
    assert found["paths"][0]["decided_by"][0]["text"] == "Allow 'PostgreSQL'"
    assert found["paths"][0]["text"] == "anyone on Ethernet (IPv4): Windows Firewall Public rule 1 `Allow 'PostgreSQL'`"


def profile(**state):
    return [{**row, **state} for row in EVIDENCE["profiles"]]


SEALED = {
    "no rule allows": {"rules": [OTHER]},
    "a block beats an allow": {"rules": [ALLOW, BLOCK]},
    "wherever it stands": {"rules": [BLOCK, ALLOW]},
    "a block of the port range": {"rules": [ALLOW, {**BLOCK, "local_ports": ["5000-6000"]}]},
    "a block of every port": {"rules": [ALLOW, {**BLOCK, "protocol": "Any", "local_ports": ["Any"]}]},
    "a block where a default allows": {"rules": [BLOCK], "profiles": profile(inbound="Allow")},
    "the allow is for another profile": {"rules": [{**ALLOW, "profiles": 3}]},
    "the allow is for another port": {"rules": [{**ALLOW, "local_ports": ["5433"]}]},
    "everything inbound is blocked": {"profiles": profile(allow_rules="False")},
    "a loopback source does not come in": {"rules": [{**ALLOW, "remote_addresses": ["127.0.0.1", "::1"]}]},
    "a rule that allows what goes out": {"rules": [{**ALLOW, "direction": 2}]},
    "a block by two rules": {
        "rules": [ALLOW, {**BLOCK, "remote_addresses": ["0.0.0.0-255.255.255.255"]}, {**BLOCK, "remote_addresses": ["::/1", "8000::/1"]}]
    },
}
EXPOSED = {
    "the firewall is off": {"rules": [BLOCK], "profiles": profile(enabled="False")},
    "the firewall is off on the interface": {"rules": [BLOCK], "profiles": profile(disabled_interfaces=["Ethernet"])},
    "the default allows": {"rules": [OTHER], "profiles": profile(inbound="Allow")},
    "the block is for another profile": {"rules": [ALLOW, {**BLOCK, "profiles": 1}]},
    "the block is for UDP": {"rules": [ALLOW, {**BLOCK, "protocol": "UDP"}]},
    "the block has loopback addresses": {"rules": [ALLOW, {**BLOCK, "remote_addresses": ["127.0.0.1", "::1"]}]},
    "the block is for IPv4": {"rules": [ALLOW, {**BLOCK, "remote_addresses": ["0.0.0.0-255.255.255.255"]}]},
    "the block goes out": {"rules": [ALLOW, {**BLOCK, "direction": 2}]},
}
UNKNOWN = {
    "an allow for a program": {"rules": [{**ALLOW, "program": "C:\\pg\\postgres.exe"}]},
    "a block for a program": {"rules": [ALLOW, {**BLOCK, "program": "C:\\pg\\postgres.exe"}]},
    "an allow for a keyword": {"rules": [{**ALLOW, "remote_addresses": ["LocalSubnet"]}]},
    "an allow for dynamic ports": {"rules": [{**ALLOW, "local_ports": ["RPC"]}]},
    "a block that is not in force": {"rules": [ALLOW, {**BLOCK, "enforcement": [16]}]},
    "an authenticated bypass": {"rules": [BLOCK, {**ALLOW, "override_block": "True"}]},
    "a bypass where everything is blocked": {
        "rules": [{**ALLOW, "override_block": "True"}],
        "profiles": [{**row, "allow_rules": "False"} for row in EVIDENCE["profiles"]],
    },
    "a bypass rule": {"rules": [BLOCK, {**ALLOW, "action": 3}]},
    "an action that is not known": {"rules": [{**ALLOW, "action": 9}]},
    "a direction that is not known": {"rules": [{**ALLOW, "direction": None, "program": ""}]},
    "a default that is not known": {"rules": [OTHER], "profiles": profile(inbound="NotConfigured")},
    "a switch that is not known": {"rules": [OTHER], "profiles": profile(enabled="NotConfigured")},
    "rules that were not read": {"rules": None},
    "no rule at all": {"rules": []},
    "profiles that were not read": {"profiles": None},
    "a service that does not run": {"rules": [OTHER], "service": [1]},
    "addresses that were not read": {"rules": [OTHER], "addresses": None},
    "no address": {"rules": [OTHER], "addresses": []},
    "portproxy that was not read": {"rules": [OTHER], "portproxy": None},
    "portproxy that was not understood": {"rules": [OTHER], "portproxy": ["?"]},
    "processes that were not read": {"rules": [OTHER], "processes": None},
}


@pytest.mark.parametrize("name", SEALED)
def test_what_seals(name):
    found = judged(**SEALED[name])
    assert (found["verdict"], found["paths"], found["unknowns"]) == ("sealed", [], [])


@pytest.mark.parametrize("name", EXPOSED)
def test_what_opens(name):
    assert judged(**EXPOSED[name])["verdict"] == "exposed"


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_never_seals(name):
    found = judged(**UNKNOWN[name])
    doubted = [path for path in found["paths"] if path["reach"] == "maybe"]
    assert doubted or found["unknowns"]
    assert found["verdict"] in ("unknown", "exposed")
    if name != "a block for a program":
        assert found["verdict"] == "unknown"


def test_whoever_comes_in_chooses_the_port_he_comes_from():
    assert judged(rules=[ALLOW, {**BLOCK, "remote_ports": ["1024-2048"]}])["verdict"] != "sealed"
    assert judged(rules=[{**ALLOW, "remote_ports": ["1024-2048"]}])["verdict"] != "sealed"


def test_ipv4_and_ipv6_are_two_questions():
    found = judged(rules=[ALLOW, {**BLOCK, "remote_addresses": ["0.0.0.0-255.255.255.255"]}])
    assert ways(found) == {("ipv6", "bind", "accepted")}
    assert ways(judged(rules=[{**ALLOW, "remote_addresses": ["10.2.0.0/16"]}])) == {("ipv4", "bind", "accepted")}
    mixed = judged(rules=[{**ALLOW, "remote_addresses": ["10.2.0.0/16", "2001:db8::/32"]}])
    assert [path["sources"] for path in mixed["paths"]] == [["10.2.0.0/16"], ["2001:db8::/32"]]


def test_a_profile_that_is_not_known_must_be_closed_in_all():
    rules = [{**ALLOW, "profiles": 1}]
    assert judged(rules=rules, networks=[])["verdict"] == "exposed"
    assert judged(rules=[*rules, BLOCK], networks=[])["verdict"] == "sealed"


def test_loopback_needs_no_rule_and_another_address_does():
    listeners = {**LISTENERS, "tcp_listen": [socket("127.0.0.1", 5432), socket("::1", 5432)]}
    assert judged(listeners=listeners)["verdict"] == "sealed"
    listeners["tcp_listen"].append(socket("10.0.0.5", 5432))
    assert ways(judged(listeners=listeners)) == {("ipv4", "bind", "accepted")}


def test_no_socket_at_all_is_unknown():
    listeners = {**LISTENERS, "tcp_listen": []}
    assert judged(listeners=listeners)["verdict"] == "unknown"
    assert judged({"name": "db", "port": 5499})["verdict"] == "absent"


LOOPBACK = {**LISTENERS, "tcp_listen": [socket("127.0.0.1", 5432), socket("0.0.0.0", 15432, "svchost.exe", 1372)]}


def test_portproxy_is_a_relay():
    opened = [{**ALLOW, "local_ports": ["15432"]}]
    found = judged(listeners=LOOPBACK, rules=opened, portproxy=[PUBLISHED])
    assert (found["verdict"], ways(found)) == ("exposed", {("ipv4", "relay", "accepted")})
    assert (
        found["paths"][0]["text"]
        == "anyone on Ethernet via portproxy (pid 1372) listening on 0.0.0.0:15432, by its configuration netsh interface portproxy"
    )
    assert judged(listeners=LOOPBACK, rules=[OTHER], portproxy=[PUBLISHED])["verdict"] == "sealed"
    assert judged(listeners=LOOPBACK, rules=opened, portproxy=["\r\n"])["verdict"] == "sealed"
    to_name = PUBLISHED.replace("127.0.0.1 ", "db.example")
    assert ways(judged(listeners=LOOPBACK, rules=opened, portproxy=[to_name])) == {("ipv4", "relay", "maybe")}
    elsewhere = PUBLISHED.replace("127.0.0.1 ", "10.0.0.9  ")
    assert judged(listeners=LOOPBACK, rules=opened, portproxy=[elsewhere])["verdict"] == "sealed"
    own = PUBLISHED.replace("127.0.0.1 ", "10.0.0.5  ")
    assert judged(listeners=LOOPBACK, rules=opened, portproxy=[own])["verdict"] == "exposed"


def test_an_entry_of_portproxy_for_which_nothing_listens_may_open():
    listeners = {**LISTENERS, "tcp_listen": [socket("127.0.0.1", 5432)]}
    found = judged(listeners=listeners, rules=[{**ALLOW, "local_ports": ["15432"]}], portproxy=[PUBLISHED])
    assert (found["verdict"], ways(found)) == ("unknown", {("ipv4", "relay", "maybe")})


def test_a_tunnel_agent_may_lead_in():
    agent = {"pid": 77, "name": "cloudflared.exe", "command": "cloudflared.exe tunnel run"}
    found = judged(listeners=LOOPBACK, rules=[OTHER], processes=[agent])
    assert (found["verdict"], ways(found)) == ("unknown", {("ipv4", "relay", "maybe")})


@pytest.mark.parametrize(
    ("allow", "reached"),
    [
        (["10.2.0.0/16"], {"10.2.0.0/16"}),
        (["10.2.0.0/16", "10.9.0.3", "2001:db8::/32"], {"10.2.0.0/16", "10.9.0.3/32", "2001:db8::/32"}),
        (["0.0.0.0/0"], {"0.0.0.0/0"}),
        (["::1", "192.0.2.7-192.0.2.9"], {"192.0.2.7/32", "192.0.2.8/31"}),
    ],
)
def test_the_block_rule_of_a_service_closes_it_to_all_but_the_allowed(allow, reached):
    (rule,) = windows_block_rules([{**DB, "allow": allow}])
    closed = {**BLOCK, "local_ports": [rule["localport"]], "remote_addresses": rule["remoteip"].split(",")}
    assert judged({**DB, "allow": allow}, rules=[ALLOW, closed])["verdict"] == "sealed"
    assert {source for path in judged(rules=[ALLOW, closed])["paths"] for source in path["sources"]} == reached


def test_the_block_rule_of_a_service_without_allow():
    assert windows_block_rules([DB, {"name": "dns", "port": 53, "protocol": "udp"}]) == [
        {"name": "loopguard.loopback tcp 5432", "protocol": "tcp", "localport": "5432", "remoteip": "any"},
        {"name": "loopguard.loopback udp 53", "protocol": "udp", "localport": "53", "remoteip": "any"},
    ]
    assert windows_block_rules([{**DB, "allow": ["0.0.0.0/0", "::/0"]}]) == []


def test_services_that_windows_cannot_close():
    with pytest.raises(AnsibleFilterError, match="db: Windows has no rules for ports of sctp"):
        windows_block_rules([{**DB, "protocol": "sctp"}])
    with pytest.raises(AnsibleFilterError, match="not a port"):
        windows_block_rules([{**DB, "port": 0}])


def test_what_is_no_evidence_is_refused():
    with pytest.raises(AnsibleFilterError, match="windows_exposure: the evidence of Windows: not JSON"):
        windows_exposure("{", LISTENERS)
    with pytest.raises(AnsibleFilterError, match="takes the JSON text"):
        windows_exposure({}, LISTENERS)
    with pytest.raises(AnsibleFilterError, match="tcp_listen is not a list"):
        windows_exposure(json.dumps(EVIDENCE), {})


def test_undeclared_services_are_found():
    listeners = {**LISTENERS, "tcp_listen": [socket("0.0.0.0", 1433, "sqlservr.exe")]}
    (found,) = windows_exposure(json.dumps(EVIDENCE), listeners)["exposures"]
    assert (found["name"], found["declared"]) == ("mssql", False)


def test_the_report_takes_a_windows_host():
    now = datetime.now(timezone.utc)
    result = {**windows_exposure(json.dumps(EVIDENCE), LISTENERS, [DB]), "changed": False}
    record = build_record({"web1": json.loads(json.dumps(result))}, "0.1.0", now, now)
    (host,) = record["hosts"]
    assert (host["state"], host["message"], host["facts"]["hostname"]) == ("exposed", None, "WEB01")
