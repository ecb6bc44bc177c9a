# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest

pytest.importorskip("ansible.errors")  # a filter runs on the controller

from ansible.errors import AnsibleFilterError
from ansible_collections.loopguard.loopback.plugins.filter.firewall_reach import firewall_reach


def saved(*rules, policy="ACCEPT"):
    return "\n".join(["*filter", f":INPUT {policy} [0:0]", ":FORWARD DROP [0:0]", ":OFFICE - [0:0]", *rules, "COMMIT", ""])


OFFICE = saved("-A INPUT -i lo -j ACCEPT", "-A INPUT -p tcp --dport 5432 -j OFFICE", "-A OFFICE -s 192.0.2.0/24 -j ACCEPT", policy="DROP")


def test_every_source_is_in_one_list():
    found = firewall_reach(OFFICE, port=5432)
    assert found["accepted"] == ["192.0.2.0/24"]
    assert found["maybe"] == found["unknowns"] == []
    assert "0.0.0.0/1" in found["dropped"] and "192.0.2.0/24" not in found["dropped"]
    rules = {part["reach"]: [(rule["chain"], rule["rule"]) for rule in part["rules"]] for part in found["decided_by"]}
    assert rules == {"accepted": [("OFFICE", 1)], "dropped": [("INPUT", 0)]}


def test_loopback_is_asked_for_by_name():
    assert firewall_reach(OFFICE, port=22)["accepted"] == []
    assert firewall_reach(OFFICE, port=22, interface="lo")["accepted"] == ["0.0.0.0/0"]


def test_without_an_interface_a_rule_for_one_decides_nothing():
    found = firewall_reach(saved("-A INPUT -i eth0 -j DROP"), port=22)
    assert found["maybe"] == ["0.0.0.0/0"]
    assert found["unknowns"] == ["-A INPUT -i eth0 -j DROP"]
    assert firewall_reach(saved("-A INPUT -i eth0 -j DROP"), port=22, interface="eth0")["dropped"] == ["0.0.0.0/0"]


def test_hooks_chains_states_and_destinations():
    assert firewall_reach(OFFICE, port=5432, chain="FORWARD")["dropped"] == ["0.0.0.0/0"]
    office = firewall_reach(OFFICE, port=5432, chain="OFFICE")
    assert office["accepted"] == ["192.0.2.0/24"] and office["dropped"] == []
    new = saved("-A INPUT -m state --state NEW -j DROP")
    assert firewall_reach(new, port=1)["dropped"] == firewall_reach(new, port=1, state="ESTABLISHED")["accepted"] == ["0.0.0.0/0"]
    one = saved("-A INPUT -d 192.0.2.1 -j DROP")
    assert firewall_reach(one, port=1)["maybe"] == ["0.0.0.0/0"]
    assert firewall_reach(one, port=1, destination="192.0.2.2")["accepted"] == ["0.0.0.0/0"]
    assert firewall_reach(saved("-A INPUT -s fd00::/8 -j DROP"), port=1, family="ipv6")["dropped"] == ["fd00::/8"]


def test_a_set_that_is_not_in_the_dump_decides_nothing():
    found = firewall_reach(saved("-A INPUT -m set --match-set office src -j ACCEPT", policy="DROP"), port=1)
    assert found["maybe"] == ["0.0.0.0/0"]


def test_a_line_that_cannot_be_read_leaves_everything_open():
    found = firewall_reach(saved("-A INPUT -j DROP", "nonsense"), port=1)
    assert found["dropped"] == [] and found["maybe"] == ["0.0.0.0/0"]
    assert any("nonsense" in text for text in found["unknowns"])


def test_nftables():
    chain = {"family": "inet", "table": "t", "name": "in", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}
    match = {"op": "==", "left": {"payload": {"protocol": "ip6", "field": "saddr"}}, "right": {"prefix": {"addr": "fd00::", "len": 8}}}
    rule = {"family": "inet", "table": "t", "chain": "in", "handle": 7, "expr": [{"match": match}, {"accept": None}]}
    items = [{"metainfo": {"json_schema_version": 1}}, {"table": {"family": "inet", "name": "t"}}, {"chain": chain}, {"rule": rule}]
    dump = json.dumps({"nftables": items})
    assert firewall_reach(dump, port=1, family="ipv6")["accepted"] == ["fd00::/8"]
    assert firewall_reach(dump, port=1, family="ipv6")["decided_by"][1]["rules"][0]["handle"] == 7
    assert firewall_reach(dump, port=1)["dropped"] == ["0.0.0.0/0"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dump": "nothing of the kind"}, ":1: "),
        ({"dump": 7}, "must be text"),
        ({"port": 0}, "port must be"),
        ({"protocol": "icmp"}, "protocol must be"),
        ({"family": "ip"}, "family must be"),
        ({"state": "new"}, "state must be"),
        ({"chain": "NONE"}, "no chain 'NONE'"),
        ({"destination": "192.0.2.0/24"}, "destination must be one ipv4 address"),
    ],
)
def test_bad_input_is_named(options, said):
    with pytest.raises(AnsibleFilterError, match=said):
        firewall_reach(**{"dump": OFFICE, "port": 5432, **options})
