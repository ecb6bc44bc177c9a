# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations on disk, hostile ones too; and connections as a real kernel tells them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._collect import relay_configuration, socket_units
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.command import Output
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.connections import collect_connections
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.listeners import Listeners, collect
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.netlink import dump
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.processes import Process
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.relay_configuration import Files, legs_of
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.relays import collect_relays
from ansible_collections.loopguard.loopback.plugins.module_utils._model.gap import Gap
from ansible_collections.loopguard.loopback.plugins.module_utils._model.relay import Leg, Relay

ME = os.getpid()


def no_tool(argv):
    return Gap(argv[0], "absent", f"{argv[0]} is not installed")


def legs(command, started=None, name="nginx"):
    return legs_of(Relay(ME, name, command), [], started, no_tool)


def doubts(ways):
    return " ".join(leg.doubt for leg in ways)


@pytest.fixture
def conf(tmp_path):
    path = tmp_path / "nginx.conf"
    path.write_text("stream { include more/*.conf; server { listen 1; proxy_pass 127.0.0.1:2; } }")
    (tmp_path / "more").mkdir()
    return path


def test_what_is_included_is_read_beside_the_main_file(conf):
    (conf.parent / "more/a.conf").write_text("server { listen 3; proxy_pass 127.0.0.1:4; }")
    (conf.parent / "more/.hidden.conf").write_text("}")
    assert [leg.target for leg in legs(f"nginx: master process nginx -c {conf}")] == ["127.0.0.1:4", "127.0.0.1:2"]
    assert [leg.target for leg in legs(f"nginx -p {conf.parent} -cnginx.conf")] == ["127.0.0.1:4", "127.0.0.1:2"]


def test_a_file_or_a_folder_that_changed_after_the_start(conf):
    command = f"nginx -c {conf}"
    for path in (conf, conf.parent / "more"):
        os.utime(path, (1000, 1000))
    assert doubts(legs(command, started=1001.0)) == ""
    os.utime(conf.parent / "more", (2000, 2000))
    assert "changed after it started" in doubts(legs(command, started=1001.0))


def test_what_is_no_file_or_has_no_end(conf, monkeypatch):
    extra = conf.parent / "more/a.conf"
    os.mkfifo(extra)
    begun = time.monotonic()
    assert "not a file" in doubts(legs(f"nginx -c {conf}"))
    assert time.monotonic() - begun < 60
    extra.unlink()
    extra.symlink_to("/dev/zero")
    assert "not a file" in doubts(legs(f"nginx -c {conf}"))
    extra.unlink()
    extra.write_text("#" * (relay_configuration._MOST_BYTES + 1))
    assert "bytes of configuration" in doubts(legs(f"nginx -c {conf}"))
    extra.unlink()
    monkeypatch.setattr(relay_configuration, "_MOST_FILES", 3)
    for number in range(4):
        (conf.parent / f"more/{number}.conf").write_text("")
    assert "more than 3 files" in doubts(legs(f"nginx -c {conf}"))


@pytest.mark.parametrize(
    ("name", "command", "said"),
    [
        ("nginx", "nginx -c /nowhere/x.conf", "/nowhere/x.conf: No such file"),
        ("nginx", "nginx -c x.conf", "which file it reads"),
        ("nginx", "nginx -c /dev/null -g stream { }", "piece of configuration"),
        ("haproxy", "haproxy", "no file is named"),
        ("haproxy", "haproxy -f /nowhere/x", "No such file"),
        ("stunnel4", "stunnel -fd 0", "its configuration"),
        ("rinetd", "rinetd -c /nowhere/x", "No such file"),
        ("xinetd", "xinetd -f /nowhere/x", "No such file"),
    ],
)
def test_what_cannot_be_read_is_a_doubt(name, command, said):
    assert said in doubts(legs(command, name=name))


def test_a_process_that_ended_is_a_doubt():
    assert "its files" in doubts(legs_of(Relay(2**22 - 1, "nginx", "nginx"), [], None, no_tool))


def test_haproxy_reads_a_folder_in_order(tmp_path):
    (tmp_path / "2.cfg").write_text("backend b\n server s 127.0.0.1:5")
    (tmp_path / "1.cfg").write_text("frontend f\n bind :4\n default_backend b")
    (tmp_path / "no").write_text("listen x\n bind :6\n server s 127.0.0.1:7")
    (way,) = legs(f"haproxy -Ws -f {tmp_path} -p /run/x", name="haproxy")
    assert (way.listens, way.target, way.place) == ((":4",), "127.0.0.1:5", f"{tmp_path}/2.cfg:2")


def test_links_of_another_root_stay_in_it(tmp_path):
    root = tmp_path / "7/root"
    (root / "etc/sites").mkdir(parents=True)
    (root / "etc/real").mkdir()
    (tmp_path / "7/ns").mkdir()
    (tmp_path / "7/ns/mnt").write_text("another")
    (root / "etc/real/a").write_text("inside")
    (root / "etc/sites/a").symlink_to("/etc/real/../real/a")
    (root / "etc/loop").symlink_to("/etc/loop")
    (root / "etc/up").symlink_to("../../../../etc/real/a")
    files = Files(7, proc=str(tmp_path))
    assert files.find("/etc/sites/*") == [("/etc/sites/a", "inside")]
    assert files.find("up", "/etc") == [("/etc/up", "inside")]
    with pytest.raises(OSError, match="symbolic links"):
        files.find("/etc/loop")


def test_one_that_locked_itself_up_read_outside(tmp_path):
    (tmp_path / "7/root/dev").mkdir(parents=True)
    (tmp_path / "7/ns").mkdir()
    (tmp_path / "7/ns/mnt").symlink_to("/proc/self/ns/mnt")
    (tmp_path / "conf").write_text("outside")
    assert Files(7, proc=str(tmp_path)).find(str(tmp_path / "conf")) == [(str(tmp_path / "conf"), "outside")]
    (tmp_path / "7/root/etc").mkdir()
    with pytest.raises(FileNotFoundError):
        Files(7, proc=str(tmp_path)).find(str(tmp_path / "conf"))


MASTER, WORKER = "nginx: master process nginx -c /nowhere", "nginx: worker process"


def relays(started, commands):
    """Judge an nginx with these processes, pid -> start and command line; its file changed at 1500."""
    row = listening(80, tuple(commands))._replace(process="nginx")
    known = {pid: Process(pid, "nginx", command, started[pid], "") for pid, command in commands.items()}
    return Listeners("1", [row], "netlink", [], known, [Relay(pid, "nginx", command) for pid, command in commands.items()])


@pytest.mark.parametrize(
    ("commands", "started", "expected"),
    [
        ({3: WORKER, 9: MASTER}, {3: 1200.0, 9: 1000.0}, (9, 1200.0)),
        ({3: WORKER, 4: WORKER, 9: MASTER}, {3: 1200.0, 4: 1600.0, 9: 1000.0}, (9, 1200.0)),
        ({3: f"{WORKER} is shutting down", 4: WORKER, 9: MASTER}, {3: 1200.0, 4: 1600.0, 9: 1000.0}, (9, 1600.0)),
        ({9: "nginx -g daemon off;"}, {9: 1000.0}, (9, 1000.0)),
        ({3: WORKER}, {3: 1000.0}, (3, 1000.0)),
    ],
)
def test_the_master_is_read_and_its_oldest_worker_tells_the_age(monkeypatch, commands, started, expected):
    asked = []
    monkeypatch.setattr(relay_configuration, "legs_of", lambda relay, _rows, begun, _run: asked.append((relay.pid, begun)) or ())
    collect_relays(lambda *_arguments: [], no_tool, relays(started, commands))
    assert asked == [expected]


SOCKETS = "Accept=no\nListen=0.0.0.0:15432 (Stream)\nId=r.socket\nTriggers=r.service\n"
SERVICE = "ExecStart={ path=/x ; argv[]=/lib/systemd/systemd-socket-proxyd 127.0.0.1:5432 ; ignore_errors=no }\nId=r.service\n"


def listening(port, pids=(1,)):
    with socket.create_server(("127.0.0.1", 0)):
        found = collect(dump, no_tool, protocols=["tcp"], processes=False).rows
    return found[0]._replace(address="0.0.0.0", port=port, pids=pids, process="systemd", namespace="1")


@pytest.mark.parametrize(
    ("rows", "answers", "expected"),
    [
        ([15432], [SOCKETS, SERVICE], ["127.0.0.1:5432"]),
        ([15432, 99], [SOCKETS, SERVICE], ["127.0.0.1:5432", "no socket unit names it"]),
        ([15432], [SOCKETS, "Id=r.service\n"], ["what it starts cannot be told"]),
        ([15432], ["nonsense"], ["systemctl show:1: not a property: 'nonsense'"]),
        ([15432], [None], ["no bus"]),
    ],
)
def test_sockets_that_systemd_holds(rows, answers, expected):
    left = list(answers)

    def run(argv):
        text = left.pop(0)
        return Output(1, "", "no bus") if text is None else Output(0, text, "")

    ways = socket_units.legs(1, [listening(port) for port in rows], run)
    assert [leg.target or leg.doubt for leg in ways] == expected
    assert left == []


def test_the_systemd_of_a_user_is_not_asked():
    assert socket_units.legs(77, [], no_tool) == (Leg((), "", "systemd", "the systemd of a user was not asked"),)


RELAY = """
import socket
door = socket.create_server(("0.0.0.0", 0))
there = socket.create_connection(("127.0.0.1", {port}))
print(door.getsockname()[1], flush=True)
input()
"""


def test_a_connection_of_a_program_that_listens_wider():
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        argv = [sys.executable, "-c", RELAY.format(port=port)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relay:
            door = int(relay.stdout.readline())
            rows = collect(dump, no_tool, protocols=["tcp"]).rows
            rows = [row for row in rows if row.port in (port, door)]
            (found,) = collect_connections(dump, rows, [])
            alone = collect_connections(dump, [row for row in rows if row.port == port], [])
            relay.communicate("\n")
    assert (found.peer, found.peer_port, found.pids) == ("127.0.0.1", port, (relay.pid,))
    assert found.through == tuple(row.inode for row in rows if row.port == door)
    assert alone == [], "without a door nothing is asked"


def test_a_kernel_that_does_not_answer_shows_nothing():
    def refuses(*_arguments):
        raise OSError("no")

    with socket.create_server(("0.0.0.0", 0)):
        rows = [row for row in collect(dump, no_tool, protocols=["tcp"]).rows if row.scope == "wildcard"]
        assert collect_connections(refuses, rows, []) == []
