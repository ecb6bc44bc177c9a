# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

pytest.importorskip("ansible.errors")  # a filter runs on the controller

from ansible.errors import AnsibleFilterError
from ansible_collections.loopguard.loopback.plugins.filter.firewall_controls import firewall_controls
from ansible_collections.loopguard.loopback.plugins.filter.firewall_plan import firewall_plan

FACT = {
    "tables": [],
    "ipsets": [],
    "gaps": [],
    "sources": {},
    "managers": [],
    "persisted": {"sources": [], "differences": []},
    "host": {
        "interfaces": [
            {
                "name": "eth0",
                "index": 2,
                "kind": "",
                "up": True,
                "loopback": False,
                "master": None,
                "addresses": ["10.0.0.5/24"],
                "xdp": False,
                "tc": False,
            }
        ],
        "routes": [],
        "rules": [],
        "sysctls": {"net/ipv4/conf/all/route_localnet": 0, "net/ipv4/conf/eth0/route_localnet": 0},
        "sk_lookup": 0,
        "gaps": [],
    },
}
SERVICES = [{"name": "cache", "port": 6379, "allow": ["10.2.0.0/24"]}]
ROW = {"name": "cache", "port": 6379, "protocol": "tcp", "kind": "redis", "declared": True, "paths": []}


def test_a_plan_is_plain_data():
    plan = firewall_plan(FACT, SERVICES, tools=["nft"])
    assert json.loads(json.dumps(plan)) == plan
    assert plan["groups"] == [{"services": ["cache"], "ports": {"tcp": [6379]}, "ipv4": ["10.2.0.0/24"], "ipv6": []}]
    assert (plan["backend"], plan["why"], plan["problems"]) == ("nftables", "there are no rules", [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"firewall": {}}, "takes the fact loopguard_firewall"),
        ({"firewall": FACT, "services": [{"name": "a"}]}, "port None is not a port"),
        ({"firewall": FACT, "backend": "pf"}, "backend must be one of auto"),
        ({"firewall": FACT, "keep": ["office"]}, "not an IP network: 'office'"),
    ],
)
def test_a_plan_refuses_something_else(arguments, said):
    with pytest.raises(AnsibleFilterError, match=said):
        firewall_plan(**arguments)


def test_one_control_for_each_exposure():
    discovered = {**ROW, "name": "memcached", "port": 11211, "declared": False}
    controls = firewall_controls({"exposures": [ROW, discovered]}, FACT, SERVICES)
    assert [(control["service"], control["status"], control["declared"]) for control in controls] == [
        ("cache", "fail", True),
        ("memcached", "fail", False),
    ]
    assert json.loads(json.dumps(controls)) == controls


@pytest.mark.parametrize(
    ("result", "firewall", "services", "said"),
    [
        ({"failed": True}, FACT, [], "takes the result of exposure_info"),
        ({"exposures": []}, {}, [], "the fact of firewall_facts"),
        ({"exposures": [ROW]}, FACT, [], "takes the result"),
        ({"exposures": []}, FACT, [{"name": "a"}], "port None"),
    ],
)
def test_controls_refuse_something_else(result, firewall, services, said):
    with pytest.raises(AnsibleFilterError, match=said):
        firewall_controls(result, firewall, services)
