# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which source answers when the better ones do not, and what is said when none does."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._collect import listeners
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.command import Output
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.netlink import dump as real_dump
from ansible_collections.loopguard.loopback.plugins.module_utils._model.gap import Gap

FIXTURES = Path(__file__).parents[1] / "fixtures"


def text(name):
    return (FIXTURES / name).read_text()


def no_netlink(protocol, kind, payload):
    raise OSError(errno.ENOENT, "No such file or directory")


def no_file(path):
    raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)


def proc(path):
    name = path.rpartition("/")[2]
    if name in ("tcp", "tcp6", "udp", "udp6"):
        return text(f"proc_net/6.18-debian12-{name}.txt")
    return no_file(path)


def tools(answers):
    """Return a runner with the answers of each argv; a tool that has none is not installed."""

    def run(argv):
        return answers.get(" ".join(argv), Gap(argv[0], "absent", f"{argv[0]} is not installed"))

    return run


def collect(dump, read, run, **options):
    return listeners.collect(dump, run, read, processes=False, **options)


def test_proc_answers_when_netlink_does_not():
    found = collect(no_netlink, proc, tools({}))
    assert found.source == "proc"
    assert found.gaps == []
    assert len(found.rows) == 22
    assert {row.scope for row in found.rows if row.port == 7011} == {"wildcard"}, "proc does not know the interface"
    assert all("interface" in row.unknowns for row in found.rows)


@pytest.mark.parametrize(
    ("argv", "fixture", "source"),
    [
        ("ss -tulnpe", "ss/6.1.0-debian12-every_address.txt", "ss"),
        ("netstat -tulnpW", "netstat/2.10-debian12-every_address.txt", "netstat"),
        ("lsof -i -P -n", "lsof/4.95-debian12-every_address.txt", "lsof"),
    ],
)
def test_a_tool_answers_when_the_kernel_cannot_be_asked(argv, fixture, source):
    found = collect(no_netlink, no_file, tools({argv: Output(0, text(fixture), "")}))
    assert found.source == source
    assert found.gaps == []
    assert len(found.rows) == 22
    assert {row.process for row in found.rows} == {"python3"}


def test_a_cut_address_is_never_taken_for_another():
    cut = Output(0, text("netstat/2.10-debian12-cut_addresses.txt"), "")
    found = collect(no_netlink, no_file, tools({"netstat -tulnp": cut}))
    assert found.rows == []
    assert "unparsable" in {gap.reason for gap in found.gaps}


def test_when_nothing_answers_it_is_said_for_each_protocol_and_tool():
    hung = Gap("ss -tulnpe", "timeout", "no answer within 10 seconds")
    found = collect(no_netlink, no_file, tools({"ss -tulnpe": hung, "netstat -tulnpW": Output(1, "", "netstat: Permission denied")}))
    assert found.rows == []
    said = {(gap.subject, gap.reason) for gap in found.gaps}
    assert {("tcp", "absent"), ("udp", "absent"), ("ss -tulnpe", "timeout"), ("netstat -tulnpW", "denied")} <= said


def test_a_protocol_that_the_kernel_does_not_have_has_no_sockets():
    found = collect(no_netlink, proc, tools({}), protocols=["sctp", "dccp", "udplite"])
    assert (found.rows, found.gaps) == ([], [])


def test_a_table_that_cannot_be_parsed_is_a_gap_and_the_tools_are_asked():
    found = collect(
        no_netlink, lambda path: "header\nnoise", tools({"ss -tulnpe": Output(0, text("ss/6.1.0-debian12-every_address.txt"), "")})
    )
    assert found.source == "ss"
    assert len(found.rows) == 22


def test_own_socket_with_its_process():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(1)
        found = listeners.collect(real_dump, tools({}))
        row = next(row for row in found.rows if row.port == sock.getsockname()[1])
    assert row.scope == "loopback"
    assert row.pids
    assert row.namespace == found.namespace
