# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whom TPROXY gives a packet to, and whether there is a socket for it: every answer that needs no kernel."""

from __future__ import annotations

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.condition import Packet, Stage, Taken
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.sockets import Sockets
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.walk import Given
from ansible_collections.loopguard.loopback.plugins.module_utils._model.address import scope_of
from ansible_collections.loopguard.loopback.plugins.module_utils._model.listener import Listener
from ansible_collections.loopguard.loopback.plugins.module_utils._model.ruleset import Match, Target

SYN = Packet("ipv4", "tcp", 0x0A000005, 99, "eth0")
NEW, LATER = Stage("new", "prerouting", -150, True), Stage("established", "prerouting", -150, True)


def taken(address, port, by="127.0.0.1:5432 0x1/0x1"):
    return SYN._replace(taken=Taken(address, port, by))


TO_LOOPBACK = Target("tproxy", "127.0.0.1:5432 0x1/0x1")
TO_INTERFACE = Target("tproxy", ":5432 0x0/0x0")
TAKEN = taken("127.0.0.1", 5432)


def row(address="127.0.0.1", port=5432, transparent=True, interface=None, protocol="tcp", unknowns=()):
    return Listener(
        protocol, "ipv6" if ":" in address else "ipv4", address, port, False, interface, scope_of(address, interface), 0, "root",
        port, (port,), "proxy", "proxy", None, None, None, "1", 0, transparent, None, "LISTEN", "", 0, unknowns,
    )  # fmt: skip


def sockets(*rows, complete=True, own=(0x0A000005,)):
    return Sockets(rows, complete, lambda _family, _interface: own)


@pytest.mark.parametrize(
    ("found", "target", "packet", "expected"),
    [
        (sockets(row()), TO_LOOPBACK, SYN, Given([TAKEN], True)),
        (sockets(row(transparent=False)), TO_LOOPBACK, SYN, Given([], True)),
        (sockets(row(transparent=None)), TO_LOOPBACK, SYN, Given([TAKEN], False)),
        (sockets(row(), complete=False), TO_LOOPBACK, SYN, Given([TAKEN], False)),
        (sockets(complete=False), TO_LOOPBACK, SYN, Given([], False)),
        (sockets(row(port=5433)), TO_LOOPBACK, SYN, Given([], True)),
        (sockets(row("127.0.0.2")), TO_LOOPBACK, SYN, Given([], True)),
        (sockets(row("::1")), TO_LOOPBACK, SYN, Given([], True)),
        (sockets(row("::ffff:127.0.0.1")), TO_LOOPBACK, SYN, Given([taken("::ffff:127.0.0.1", 5432)], True)),
        (sockets(row("::")), TO_LOOPBACK, SYN, Given([taken("::", 5432)], True)),
        (sockets(row("0.0.0.0"), row(transparent=False)), TO_LOOPBACK, SYN, Given([], True)),
        (sockets(row(), row()), TO_LOOPBACK, SYN, Given([TAKEN], True)),
        (sockets(row(), row(transparent=False)), TO_LOOPBACK, SYN, Given([TAKEN], False)),
        (sockets(row(interface="eth0")), TO_LOOPBACK, SYN, Given([TAKEN], True)),
        (sockets(row(interface="lo")), TO_LOOPBACK, SYN, Given([], True)),
        (sockets(row(interface="eth1")), TO_LOOPBACK, SYN, Given([TAKEN], False)),
        (sockets(row(unknowns=("interface",))), TO_LOOPBACK, SYN, Given([TAKEN], False)),
        (sockets(row("0.0.0.0")), TO_INTERFACE, SYN, Given([taken("0.0.0.0", 5432, TO_INTERFACE.argument)], True)),
        (sockets(row("10.0.0.5")), TO_INTERFACE, SYN, Given([taken("10.0.0.5", 5432, TO_INTERFACE.argument)], True)),
        (
            sockets(row("10.0.0.6"), own=(0x0A000005, 0x0A000006)),
            TO_INTERFACE,
            SYN,
            Given([taken("10.0.0.6", 5432, TO_INTERFACE.argument)], False),
        ),
        (sockets(row(port=99)), Target("tproxy", "127.0.0.1 0x0/0x0"), SYN, Given([taken("127.0.0.1", 99, "127.0.0.1 0x0/0x0")], True)),
        (sockets(row()), Target("tproxy", "[::1]:5432"), SYN, Given([], True)),
        (sockets(row()), Target("tproxy", "--newer 1"), SYN, None),
        (sockets(row()), TO_LOOPBACK, taken("::", 1, "other"), Given([TAKEN], True)),
        (sockets(), TO_LOOPBACK, TAKEN, Given([], True)),
        (sockets(row()), TO_LOOPBACK, SYN._replace(protocol="sctp"), Given([], True)),
        (sockets(row()), TO_LOOPBACK, SYN._replace(protocol="udp"), Given([], True)),
    ],
)
def test_whom_a_first_packet_is_given_to(found, target, packet, expected):
    assert found.given(target, packet, NEW) == expected


@pytest.mark.parametrize(
    ("found", "packet", "stage", "expected"),
    [
        (sockets(row()), TAKEN, LATER, Given([TAKEN], True)),
        (sockets(row(port=99, transparent=False, address="0.0.0.0")), SYN, LATER, Given([], True)),
        (sockets(row(port=99, address="0.0.0.0")), SYN, LATER, Given([taken("10.0.0.5", 99)], True)),
        (sockets(), SYN, LATER, None),
        (sockets(row()), SYN._replace(origin=(1, 2, "LOCAL")), LATER, None),
        (sockets(row()), TAKEN, LATER._replace(forwarded=True), None),
        (sockets(row()), TAKEN, LATER._replace(phase="reply"), None),
    ],
)
def test_a_packet_of_a_connection_goes_to_its_own_socket(found, packet, stage, expected):
    assert found.given(TO_LOOPBACK, packet, stage) == expected


WIDE, NAMED = row("0.0.0.0", 99), row("10.0.0.5", 99)


@pytest.mark.parametrize(
    ("found", "asked", "packet", "stage", "expected"),
    [
        (sockets(), "plain", SYN, NEW, False),
        (sockets(complete=False), "plain", SYN, NEW, None),
        (sockets(NAMED), "plain", SYN, NEW, True),
        (sockets(NAMED._replace(transparent=False)), "transparent", SYN, NEW, False),
        (sockets(NAMED._replace(transparent=None)), "transparent", SYN, NEW, None),
        (sockets(WIDE), "plain", SYN, NEW, False),
        (sockets(WIDE), "nowildcard", SYN, NEW, True),
        (sockets(WIDE), "plain", SYN, LATER, True),
        (sockets(), "plain", SYN, LATER, None),
        (sockets(), "plain", SYN, LATER._replace(forwarded=True), False),
        (sockets(NAMED), "plain", SYN, LATER._replace(forwarded=True), True),
        (sockets(WIDE), "nowildcard", SYN, LATER._replace(forwarded=True), True),
        (sockets(NAMED), "plain", SYN, LATER._replace(phase="reply"), None),
        (sockets(NAMED), "plain", SYN._replace(destination=None), NEW, None),
        (sockets(NAMED), "plain", SYN._replace(origin=(1, 2, "LOCAL")), LATER, None),
        (sockets(NAMED), "plain", SYN._replace(protocol="icmp"), NEW, False),
        (sockets(), "transparent", TAKEN, NEW, True),
        (sockets(), "plain", taken("0.0.0.0", 1), NEW, False),
        (sockets(), "nowildcard", taken("::", 1), NEW, True),
        (sockets(), "plain", taken("0.0.0.0", 1), LATER, True),
    ],
)
def test_whether_there_is_a_socket(found, asked, packet, stage, expected):
    assert found.exists(Match("socket", (asked,), False, ""), packet, stage) is expected
