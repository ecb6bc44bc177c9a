# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
from pathlib import Path

from ansible_collections.loopguard.loopback.plugins.module_utils._model.host import Interface, Route, RoutingRule
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import rtnetlink
from hypothesis import given, settings
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[1] / "fixtures" / "rtnetlink"
KINDS = ("links", "addresses", "routes", "routing-rules", "qdiscs")


def payloads(name):
    return [bytes.fromhex(line) for line in (FIXTURES / f"6.18-debian12-{name}.hex").read_text().split()]


def test_links():
    assert sorted(rtnetlink.links(payloads("links"))) == [
        Interface("br0", 2, "bridge", True, False, None),
        Interface("lo", 1, "", True, True, None),
        Interface("v0", 4, "veth", True, False, "br0"),
        Interface("v1", 3, "veth", True, False, None),
    ]


def test_the_address_of_a_point_to_point_link_is_our_own():
    addresses = rtnetlink.addresses(payloads("addresses"))
    assert "10.9.0.1/32" in addresses[3]
    assert addresses[2][0] == "192.0.2.1/24"
    assert "2001:db8::1/64" in addresses[2]


def test_routes():
    names = {link.index: link.name for link in rtnetlink.links(payloads("links"))}
    routes = rtnetlink.routes(payloads("routes"), names)
    for expected in (
        Route("ipv4", "0.0.0.0/0", "192.0.2.254", "br0", "main", "unicast"),
        Route("ipv4", "10.8.0.0/16", "192.0.2.2", "br0", "main", "unicast"),
        Route("ipv4", "10.8.0.0/16", "192.0.2.3", "br0", "main", "unicast"),
        Route("ipv4", "10.7.0.0/16", None, "lo", "local", "local"),
        Route("ipv4", "198.51.100.0/24", None, None, "main", "blackhole"),
        Route("ipv4", "10.6.0.0/24", "2001:db8::2", "br0", "main", "unicast"),
        Route("ipv4", "10.5.0.0/16", None, "br0", "100", "unicast"),
        Route("ipv6", "2001:db8::/64", None, "br0", "main", "unicast"),
    ):
        assert routes.count(expected) == 1, expected
    assert not [route for route in routes if route.type in ("broadcast", "multicast", "anycast")]


def test_routing_rules_that_somebody_added():
    assert rtnetlink.rules(payloads("routing-rules")) == [
        RoutingRule("ipv4", 50, "10.0.0.0/8", None, None, None, "0x1/0xff", "100", "lookup", False, False),
        RoutingRule("ipv6", 60, None, None, "v1", None, None, "0", "unreachable", True, False),
    ]


def test_interfaces_with_tc_filters():
    assert rtnetlink.classified(payloads("qdiscs")) == {3}


@settings(max_examples=200)
@given(
    st.lists(st.binary(max_size=80) | st.sampled_from([one for kind in KINDS for one in payloads(kind)]), max_size=4), st.integers(0, 200)
)
def test_any_bytes_are_read_or_an_oserror(messages, cut):
    messages = [message[:cut] for message in messages]
    for read in (rtnetlink.links, rtnetlink.addresses, lambda found: rtnetlink.routes(found, {}), rtnetlink.rules, rtnetlink.classified):
        with contextlib.suppress(OSError):
            read(messages)


def test_own_rules_that_were_moved():
    found = payloads("routing-rules")
    assert rtnetlink.displaced(found) == []
    assert rtnetlink.displaced(found[1:]) == ["ipv4"], "the first is that for the table local"
    assert rtnetlink.displaced([]) == []
