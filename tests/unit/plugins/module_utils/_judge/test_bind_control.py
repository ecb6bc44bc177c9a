# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.bind_control import judge
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import Service

REDIS = Service("cache", 6379)
SHARED = Service("cache", 6379, allow=("10.2.0.0/24",))
OPEN = {"via": "bind", "reach": "accepted", "text": "anyone on eth0 (IPv4): no firewall rule stands in the way"}
MAYBE = {**OPEN, "reach": "maybe"}
RELAY = {**OPEN, "via": "relay", "text": "anyone on eth0 via socat (pid 9) listening on 0.0.0.0:16379"}


def listener(address: str, scope: str, interface: str | None = None) -> dict[str, Any]:
    return {
        "address": address,
        "port": 6379,
        "scope": scope,
        "interface": interface,
        "process": "redis-server",
        "pids": [812],
        "unit": "redis-server.service",
    }


def exposure(*listeners: dict[str, Any], verdict: str, paths: Any = (), unknowns: Any = (), declared: bool = True) -> dict[str, Any]:
    return {
        "name": "cache",
        "port": 6379,
        "protocol": "tcp",
        "kind": "redis",
        "declared": declared,
        "verdict": verdict,
        "listeners": list(listeners),
        "paths": list(paths),
        "unknowns": list(unknowns),
    }


LOOPBACK = (listener("127.0.0.1", "loopback"), listener("::1", "loopback"))
EVERYWHERE = (listener("0.0.0.0", "wildcard"), listener("::", "wildcard"))


@pytest.mark.parametrize(
    ("row", "service", "status"),
    [
        (exposure(*LOOPBACK, verdict="sealed"), REDIS, "pass"),
        (exposure(*LOOPBACK, verdict="exposed", paths=[RELAY]), REDIS, "pass"),
        (exposure(listener("0.0.0.0", "loopback", "lo"), verdict="sealed"), REDIS, "pass"),
        (exposure(*EVERYWHERE, verdict="exposed", paths=[OPEN]), REDIS, "fail"),
        (exposure(*EVERYWHERE, verdict="sealed"), REDIS, "fail"),
        (exposure(*EVERYWHERE, verdict="unknown", paths=[MAYBE]), REDIS, "fail"),
        (exposure(LOOPBACK[0], listener("fe80::1", "link_local", "eth0"), verdict="sealed"), REDIS, "fail"),
        (exposure(*EVERYWHERE, verdict="sealed"), SHARED, "pass"),
        (exposure(*EVERYWHERE, verdict="exposed", paths=[OPEN]), SHARED, "fail"),
        (exposure(*EVERYWHERE, verdict="exposed", paths=[RELAY]), SHARED, "pass"),
        (exposure(*EVERYWHERE, verdict="unknown", paths=[MAYBE]), SHARED, "unknown"),
        (exposure(*EVERYWHERE, verdict="unknown"), SHARED, "unknown"),
        (exposure(*EVERYWHERE, verdict="exposed", paths=[OPEN]), REDIS._replace(controls={"bind": "a lab"}), "not_applicable"),
        (exposure(verdict="absent"), REDIS, "not_applicable"),
        (exposure(*EVERYWHERE, verdict="exposed", declared=False), None, "fail"),
    ],
)
def test_status(row, service, status):
    assert judge(row, service).status == status


@pytest.mark.parametrize("subject", ["tcp", "ss -tulnpH", "netstat -tulnp"])
def test_sockets_that_may_be_hidden_make_it_unknown(subject):
    gap = {"subject": subject, "reason": "denied", "text": "not permitted"}
    assert judge(exposure(verdict="unknown", unknowns=[gap]), REDIS).status == "unknown"
    control = judge(exposure(*LOOPBACK, verdict="unknown", unknowns=[gap]), REDIS)
    assert (control.status, control.evidence) == ("unknown", (f"{subject}: not permitted",))


@pytest.mark.parametrize("subject", ["iptables-nft-save", "processes", "udp"])
def test_a_gap_elsewhere_says_nothing_about_the_bind(subject):
    gap = {"subject": subject, "reason": "denied", "text": "not permitted"}
    assert judge(exposure(*LOOPBACK, verdict="unknown", unknowns=[gap]), REDIS).status == "pass"


def test_a_tired_person_reads_service_address_process_way_in_and_next_step():
    control = judge(exposure(*EVERYWHERE, verdict="exposed", paths=[OPEN]), REDIS, ["redis"])
    assert control.text == (
        "cache (tcp port 6379): listens on 0.0.0.0:6379 and [::]:6379 (redis-server, pid 812, redis-server.service); "
        "way in: anyone on eth0 (IPv4): no firewall rule stands in the way. "
        "Next: run again with verify_bind_enforce=true and --check --diff to see the change, then without --check."
    )


def test_a_right_bind_does_not_hide_another_way_in():
    control = judge(exposure(LOOPBACK[0], verdict="exposed", paths=[RELAY]), REDIS)
    assert control.evidence == (
        "listens on 127.0.0.1:6379 (redis-server, pid 812, redis-server.service) only",
        "exposed all the same: anyone on eth0 via socat (pid 9) listening on 0.0.0.0:16379",
    )


def test_own_sockets_are_told_before_other_ways():
    control = judge(exposure(*EVERYWHERE, verdict="exposed", paths=[RELAY, OPEN]), REDIS)
    assert control.evidence[1] == "way in: " + OPEN["text"]


@pytest.mark.parametrize(
    ("row", "service", "fixable"),
    [
        (exposure(*EVERYWHERE, verdict="exposed", paths=[OPEN]), REDIS, True),
        (exposure(*EVERYWHERE, verdict="sealed"), REDIS, True),
        (exposure(*LOOPBACK, verdict="sealed"), REDIS, False),
        (exposure(*EVERYWHERE, verdict="exposed", paths=[OPEN]), SHARED, False),
        (exposure(*EVERYWHERE, verdict="exposed", paths=[OPEN]), REDIS._replace(controls={"bind": ""}), False),
        (exposure(*EVERYWHERE, verdict="exposed", declared=False), None, False),
        ({**exposure(*EVERYWHERE, verdict="exposed"), "kind": "mongodb"}, REDIS, False),
        ({**exposure(*EVERYWHERE, verdict="exposed"), "kind": None}, REDIS, False),
    ],
)
def test_only_a_declared_service_of_a_known_kind_that_nobody_else_needs_is_fixable(row, service, fixable):
    assert judge(row, service, ["redis"]).fixable is fixable
