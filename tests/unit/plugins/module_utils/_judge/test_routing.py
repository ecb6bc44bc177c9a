# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which route a packet takes, and when that is not known."""

from __future__ import annotations

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.condition import Packet
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.routing import Routing, Ways
from ansible_collections.loopguard.loopback.plugins.module_utils._model.gap import Gap
from ansible_collections.loopguard.loopback.plugins.module_utils._model.host import HostNetwork, Route, RoutingRule

NET, DEFAULT = (
    Route("ipv4", "198.51.100.0/24", None, "eth1", "main", "unicast"),
    Route("ipv4", "0.0.0.0/0", "10.0.0.1", "eth0", "main", "unicast"),
)
HERE = Route("ipv4", "0.0.0.0/0", None, "lo", "100", "local")
ANYIP = Route("ipv4", "198.51.0.0/16", None, "lo", "local", "local")
RULE = RoutingRule("ipv4", 50, None, None, None, None, None, "100", "lookup", False, False)
BY_MARK = RULE._replace(mark="0x1/0xff")


def ways(routes=(), rules=(), gaps=(), mark=0):
    host = HostNetwork((), tuple(routes), tuple(rules), {}, 0, tuple(gaps))
    packet = Packet("ipv4", "tcp", 0xC6336409, 80, "eth0", "FOREIGN", mark=mark)
    return Routing(host).look_up(packet, packet.destination)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Ways([], True)),
        ({"routes": [DEFAULT, NET]}, Ways([NET], True)),
        ({"routes": [NET, DEFAULT]}, Ways([NET], True)),
        ({"routes": [DEFAULT]}, Ways([DEFAULT], True)),
        ({"routes": [DEFAULT, NET._replace(type="blackhole")]}, Ways([], True)),
        ({"routes": [DEFAULT, DEFAULT._replace(interface="eth2")]}, Ways([DEFAULT, DEFAULT._replace(interface="eth2")], False)),
        ({"routes": [DEFAULT], "gaps": [Gap("routes", "failed", "")]}, Ways([None], False)),
        ({"routes": [DEFAULT], "gaps": [Gap("routing rules", "failed", "")]}, Ways([None], False)),
        ({"routes": [DEFAULT, HERE], "rules": [BY_MARK]}, Ways([DEFAULT], True)),
        ({"routes": [DEFAULT, HERE], "rules": [BY_MARK], "mark": 0x101}, Ways([HERE], True)),
        ({"routes": [DEFAULT, HERE], "rules": [BY_MARK], "mark": None}, Ways([HERE, DEFAULT], False)),
        ({"routes": [DEFAULT, HERE], "rules": [BY_MARK._replace(inverted=True)]}, Ways([HERE], True)),
        ({"routes": [DEFAULT, HERE], "rules": [BY_MARK._replace(priority=40000)], "mark": 1}, Ways([DEFAULT], True)),
        ({"routes": [HERE], "rules": [BY_MARK._replace(priority=40000)], "mark": 1}, Ways([HERE], True)),
        ({"routes": [DEFAULT], "rules": [BY_MARK], "mark": 1}, Ways([DEFAULT], True)),
        ({"routes": [DEFAULT, HERE._replace(type="throw")], "rules": [BY_MARK], "mark": 1}, Ways([DEFAULT], True)),
        ({"routes": [DEFAULT, HERE], "rules": [RULE._replace(more=True)]}, Ways([HERE, DEFAULT], False)),
        ({"routes": [DEFAULT, HERE], "rules": [RULE._replace(source="10.0.0.0/8")]}, Ways([HERE, DEFAULT], False)),
        ({"routes": [HERE], "rules": [RULE._replace(source="10.0.0.0/8")]}, Ways([HERE], False)),
        ({"routes": [DEFAULT, HERE], "rules": [RULE._replace(in_interface="eth1", source="10.0.0.0/8")]}, Ways([DEFAULT], True)),
        ({"routes": [DEFAULT, HERE], "rules": [RULE._replace(in_interface="eth0", destination="198.51.100.0/24")]}, Ways([HERE], True)),
        ({"routes": [DEFAULT, HERE], "rules": [RULE._replace(out_interface="eth0")]}, Ways([DEFAULT], True)),
        ({"routes": [DEFAULT, HERE], "rules": [RULE._replace(family="ipv6")]}, Ways([DEFAULT], True)),
        ({"routes": [DEFAULT], "rules": [RULE._replace(action="prohibit")]}, Ways([], True)),
        ({"routes": [DEFAULT], "rules": [RULE._replace(action="prohibit", more=True)]}, Ways([DEFAULT], False)),
        ({"routes": [DEFAULT], "rules": [RULE._replace(action="nop")]}, Ways([DEFAULT], True)),
        ({"routes": [DEFAULT], "rules": [RULE._replace(action="goto")]}, Ways([None, DEFAULT], False)),
        ({"routes": [DEFAULT], "rules": [RULE._replace(table="l3mdev")]}, Ways([None, DEFAULT], False)),
        ({"routes": [ANYIP]}, Ways([ANYIP], True)),
        ({"routes": [ANYIP, NET]}, Ways([ANYIP, NET], False)),
        ({"routes": [ANYIP, NET], "rules": [BY_MARK]}, Ways([ANYIP], True)),
        ({"routes": [DEFAULT, NET._replace(type="blackhole", more=True)]}, Ways([DEFAULT], False)),
        ({"routes": [NET._replace(more=True)]}, Ways([NET._replace(more=True)], False)),
    ],
)
def test_the_way_of_a_packet(fields, expected):
    assert ways(**fields) == expected
