# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every source of sockets against the same captured sockets: the netlink capture is the yardstick."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import proc_net, sock_diag, socket_tools
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.error import ParseError
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.netlink import NetlinkError
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[1] / "fixtures"
COMPARED = ("v6only", "interface", "uid", "inode", "mark", "transparent")


def text(name):
    return (FIXTURES / name).read_text()


def netlink_rows():
    capture = json.loads(text("sock_diag/6.18-x86_64-every_address.json"))
    rows = []
    for protocol in ("tcp", "udp"):
        payloads = [bytes.fromhex(payload) for payload in capture[protocol]]
        for row in sock_diag.parse(payloads, protocol):
            rows.append(row._replace(interface=capture["interfaces"].get(str(row.ifindex))))
    return rows


def identity(row):
    return (row.protocol, row.family, row.address, row.port, row.state)


def proc_rows():
    rows = []
    for protocol in ("tcp", "udp"):
        for suffix, family in (("", "ipv4"), ("6", "ipv6")):
            name = f"proc_net/6.18-debian12-{protocol}{suffix}.txt"
            rows += proc_net.parse_inet(text(name), name, protocol, family)
    return rows


def test_netlink_tells_every_socket_of_the_capture():
    rows = {identity(row): row for row in netlink_rows()}
    assert len(rows) == 22
    for protocol, state in (("tcp", "LISTEN"), ("udp", "UNCONN")):
        dual = rows[protocol, "ipv6", "::", 7002, state]
        only = rows[protocol, "ipv6", "::", 7003, state]
        assert (dual.v6only, only.v6only) == (False, True)
        assert rows[protocol, "ipv4", "127.0.0.53", 7005, state].interface == "lo"
        assert rows[protocol, "ipv4", "0.0.0.0", 7011, state].interface == "lo"
        assert rows[protocol, "ipv4", "0.0.0.0", 7001, state].interface is None
        assert rows[protocol, "ipv6", "::ffff:127.0.0.1", 7010, state].v6only is False
        assert [row.interface for key, row in rows.items() if key[3] == 7007 and key[0] == protocol] == ["veth0"]
        assert all(row.transparent is False and row.mark == 0 and row.inode for row in rows.values())


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        ("proc", proc_rows),
        ("ss", lambda: socket_tools.parse_ss(text("ss/6.1.0-debian12-every_address.txt"))),
        ("netstat", lambda: socket_tools.parse_netstat(text("netstat/2.10-debian12-every_address.txt"))),
        ("lsof", lambda: socket_tools.parse_lsof(text("lsof/4.95-debian12-every_address.txt"))),
    ],
)
def test_each_source_tells_the_same_as_netlink_as_far_as_it_knows(source, rows):
    expected = {identity(row): row for row in netlink_rows()}
    found = {identity(row): row for row in rows()}
    assert found.keys() == expected.keys()
    for key, row in found.items():
        for field in COMPARED:
            if field not in row.unknowns:
                assert getattr(row, field) == getattr(expected[key], field), (source, key, field)
        if source != "proc":
            assert row.process == "python3"
            assert len(row.pids) == 1


def test_a_source_names_what_it_cannot_know():
    netstat = socket_tools.parse_netstat(text("netstat/2.10-debian12-every_address.txt"))
    assert all("interface" in row.unknowns for row in netstat)
    assert all(("v6only" in row.unknowns) == (row.family == "ipv6") for row in netstat)


def test_an_address_that_netstat_may_have_cut_is_refused():
    with pytest.raises(ParseError, match=r"netstat:\d+: the address may be cut"):
        socket_tools.parse_netstat(text("netstat/2.10-debian12-cut_addresses.txt"), wide=False)


@pytest.mark.parametrize(
    "parse",
    [
        socket_tools.parse_ss,
        socket_tools.parse_netstat,
        socket_tools.parse_lsof,
        socket_tools.parse_sockstat,
        lambda noise: proc_net.parse_inet(noise, "tcp", "tcp", "ipv4"),
        lambda noise: proc_net.parse_inet(noise, "tcp6", "tcp", "ipv6"),
        lambda noise: proc_net.parse_unix(noise, "unix", False),
        lambda noise: proc_net.parse_packet(noise, "packet"),
        lambda noise: proc_net.parse_sctp(noise, "eps"),
    ],
)
@given(
    noise=st.one_of(
        st.text(),
        st.lists(st.sampled_from(["tcp", "LISTEN", "0", "5", "*:1", ":::7", "0A", "[::1]:x", "%", "->", "\n", "\n"])).map(" ".join),
    )
)
def test_noise_is_rows_or_a_parse_error(parse, noise):
    try:
        rows = parse(noise)
    except ParseError as error:
        assert error.line > 0
    else:
        assert all(row.port >= 0 for row in rows)


@given(payload=st.binary(max_size=200))
def test_noise_from_netlink_is_rows_or_a_netlink_error(payload):
    with contextlib.suppress(NetlinkError):
        assert len(sock_diag.parse([payload], "tcp")) == 1


def test_a_unix_socket_is_listed_when_it_listens():
    rows = proc_net.parse_unix(text("proc_net/6.18-debian12-unix.txt"), "unix", False)
    named = proc_net.parse_unix(text("proc_net/6.18-debian12-unix.txt"), "unix", True)
    assert all(row.state == "LISTEN" and row.address for row in rows)
    assert len(named) >= len(rows)


def test_sockstat_as_its_manual_describes_it():
    """No FreeBSD was at hand: the columns are those of sockstat(1), the rows are written after them."""
    rows = socket_tools.parse_sockstat(
        "USER     COMMAND    PID   FD  PROTO  LOCAL ADDRESS         FOREIGN ADDRESS\n"
        "root     sshd       871   3   tcp6   *:22                  *:*\n"
        "root     sshd       871   4   tcp4   *:22                  *:*\n"
        "www      nginx      900   6   tcp46  *:80                  *:*\n"
        "redis    redis      905   7   tcp4   127.0.0.1:6379        *:*\n"
        "root     ntpd       910   22  udp6   fe80::1%lo0:123       *:*\n"
        "?        ?          ?     ?   udp4   *:997                 *:*\n"
    )
    assert [(row.protocol, row.address, row.port, row.v6only, row.interface, row.pids, row.process) for row in rows] == [
        ("tcp", "::", 22, True, None, (871,), "sshd"),
        ("tcp", "0.0.0.0", 22, False, None, (871,), "sshd"),
        ("tcp", "::", 80, False, None, (900,), "nginx"),
        ("tcp", "127.0.0.1", 6379, False, None, (905,), "redis"),
        ("udp", "fe80::1", 123, True, "lo0", (910,), "ntpd"),
        ("udp", "0.0.0.0", 997, False, None, (), None),
    ]
