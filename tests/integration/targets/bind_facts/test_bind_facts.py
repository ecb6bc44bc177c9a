# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bind_facts on real sockets, compared with what `ss -tulnep` and /proc tell. Run by runme.sh, alone in its namespaces."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

GLOBAL_V6 = "2001:db8:1234:5678:9abc:def0:1234:5678"


def run(*argv, **environment):
    done = subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", **environment}
    )
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


def bind_facts(become=None, **options):
    """Run the module as Ansible does and return its facts."""
    argv = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", "loopguard.loopback.bind_facts"]
    argv += ["-a", json.dumps(options)] if options else []
    interpreter = "/usr/bin/python3" if become else sys.executable  # root's own one may not be readable
    argv += ["-e", f"ansible_python_interpreter={interpreter}"]
    if become:
        argv += ["--become", "--become-method", "su", "--become-user", become]
    output = run(*argv, ANSIBLE_BECOME_FLAGS="-s /bin/sh")
    result = json.loads(output.partition("=> ")[2])
    assert result["changed"] is False
    return result["ansible_facts"]


def by_place(row):
    return row["port"], row["pid"]


def listen(kind, family, address, port, v6only=None, device=None, scope=0):
    sock = socket.socket(family, kind)
    if v6only is not None:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    if device:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    sock.bind((address, port) if family == socket.AF_INET else (address, port, 0, scope))
    if kind == socket.SOCK_STREAM:
        sock.listen(5)
    return sock


def setUpModule():
    run("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    run("ip", "address", "add", "10.9.8.7/24", "dev", "veth0")
    run("ip", "address", "add", f"{GLOBAL_V6}/64", "dev", "veth0", "nodad")
    for name in ("veth0", "veth1"):
        run("ip", "link", "set", name, "up")
    global LINK_LOCAL, SOCKETS
    LINK_LOCAL = ""
    for _attempt in range(50):
        shown = json.loads(run("ip", "-j", "-6", "address", "show", "dev", "veth0", "scope", "link"))
        ready = [entry for link in shown for entry in link.get("addr_info", ()) if "local" in entry and not entry.get("tentative")]
        if ready:
            LINK_LOCAL = ready[0]["local"]
            break
        time.sleep(0.1)
    index = socket.if_nametoindex("veth0")
    SOCKETS = []
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        SOCKETS += [
            listen(kind, socket.AF_INET, "0.0.0.0", 7001),
            listen(kind, socket.AF_INET6, "::", 7002, v6only=0),
            listen(kind, socket.AF_INET6, "::", 7003, v6only=1),
            listen(kind, socket.AF_INET, "127.0.0.1", 7004),
            listen(kind, socket.AF_INET, "127.0.0.53", 7005, device="lo"),
            listen(kind, socket.AF_INET6, "::1", 7006),
            listen(kind, socket.AF_INET6, LINK_LOCAL, 7007, scope=index),
            listen(kind, socket.AF_INET, "10.9.8.7", 7008),
            listen(kind, socket.AF_INET6, GLOBAL_V6, 7009),
            listen(kind, socket.AF_INET, "0.0.0.0", 7011, device="lo"),
        ]


# port: (family, address, v6only, interface, scope)
EXPECTED = {
    7001: ("ipv4", "0.0.0.0", False, None, "wildcard"),
    7002: ("ipv6", "::", False, None, "wildcard"),
    7003: ("ipv6", "::", True, None, "wildcard"),
    7004: ("ipv4", "127.0.0.1", False, None, "loopback"),
    7005: ("ipv4", "127.0.0.53", False, "lo", "loopback"),
    7006: ("ipv6", "::1", True, None, "loopback"),
    7007: ("ipv6", "LINK_LOCAL", True, "veth0", "link_local"),
    7008: ("ipv4", "10.9.8.7", False, None, "private"),
    7009: ("ipv6", GLOBAL_V6, True, None, "public"),
    7011: ("ipv4", "0.0.0.0", False, "lo", "loopback"),
}


class BindFacts(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.facts = bind_facts()
        cls.rows = {(row["protocol"], row["port"]): row for row in cls.facts["loopguard_listeners"]}

    def test_every_socket_is_right(self):
        self.assertEqual(len(self.facts["loopguard_listeners"]), 20)
        for protocol in ("tcp", "udp"):
            for port, expected in EXPECTED.items():
                row = self.rows[protocol, port]
                found = tuple(row[key] for key in ("family", "address", "v6only", "interface", "scope"))
                self.assertEqual(found, tuple(LINK_LOCAL if value == "LINK_LOCAL" else value for value in expected), port)
                self.assertEqual(row["unknowns"], [])

    def test_ss_says_the_same(self):
        seen = {}
        for line in run("ss", "-H", "-tulnep").splitlines():
            fields = line.split()
            place, _colon, port = fields[4].rpartition(":")
            address, _percent, zone = place.replace("[", "").replace("]", "").partition("%")
            pids = sorted({int(pid) for pid in re.findall(r"pid=(\d+)", line)})
            v6only = re.search(r"v6only:(\d)", line)
            seen[fields[0], int(port)] = (
                "::" if address == "*" else address,
                zone or None,
                bool(int(v6only[1])) if v6only else False,
                int(re.search(r"ino:(\d+)", line)[1]),
                int((re.search(r"uid:(\d+)", line) or (0, 0))[1]),
                pids,
            )
        ours = {
            key: (row["address"], row["interface"], row["v6only"], row["inode"], row["uid"], row["pids"]) for key, row in self.rows.items()
        }
        self.assertEqual(ours, seen)

    def test_owner(self):
        row = self.rows["tcp", 7001]
        self.assertEqual(row["pids"], [os.getpid()])
        self.assertEqual(row["user"], "root")
        self.assertEqual(row["process"], Path("/proc/self/comm").read_text().strip())
        self.assertIn("test_bind_facts.py", row["command"])
        self.assertEqual(row["namespace"], str(os.stat("/proc/self/ns/net").st_ino))
        self.assertTrue(self.facts["loopguard_listeners_complete"])
        self.assertEqual(self.facts["loopguard_listeners_source"], "netlink")
        started = time.mktime(time.strptime(row["started"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
        self.assertLess(abs(time.time() - started), 600)

    def test_drop_in_for_listen_ports_facts(self):
        """The same keys, types and rows as the peer, less what the peer gets wrong: `%lo` left in the address."""
        argv = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", "community.general.listen_ports_facts"]
        argv += ["-a", "command=ss", "-e", f"ansible_python_interpreter={sys.executable}"]
        peer = json.loads(run(*argv).partition("=> ")[2])["ansible_facts"]
        for name in ("tcp_listen", "udp_listen"):
            theirs = [{**row, "address": row["address"].partition("%")[0].strip("[]")} for row in peer[name]]
            for row in theirs:
                row["address"] = "::" if row["address"] == "*" else row["address"]
            ours = sorted(self.facts[name], key=by_place)
            self.assertEqual([sorted(row) for row in ours], [sorted(row) for row in sorted(theirs, key=by_place)])
            for mine, row in zip(ours, sorted(theirs, key=by_place)):
                self.assertEqual({**mine, "stime": ""}, {**row, "stime": ""})
                # ps rounds the start time to another side of the second now and then.
                gap = time.mktime(time.strptime(mine["stime"])) - time.mktime(time.strptime(row["stime"]))
                self.assertLessEqual(abs(gap), 1)

    def test_connected_sockets_on_request(self):
        with socket.create_connection(("127.0.0.1", 7004)) as client:
            facts = bind_facts(include_non_listening=True)
            local = client.getsockname()[1]
            states = {(row["port"], row["peer_port"]): row["state"] for row in facts["loopguard_listeners"]}
            self.assertEqual(states[local, 7004], "ESTABLISHED")
            self.assertIn("foreign_address", facts["tcp_listen"][0])
        self.assertNotIn((local, 7004), {(row["port"], row["peer_port"]) for row in self.facts["loopguard_listeners"]})

    def test_unix_raw_and_packet_sockets_on_request(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as unix:
            path = f"{folder}/s"
            unix.bind(path)
            unix.listen(1)
            os.chmod(path, 0o660)
            raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 89)
            packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
            rows = bind_facts(protocols=["unix", "raw", "packet"])["loopguard_listeners"]
            raw.close()
            packet.close()
        found = {row["protocol"]: row for row in rows if row["pids"] == [os.getpid()]}
        self.assertEqual((found["unix"]["address"], found["unix"]["mode"], found["unix"]["user"]), (path, "0660", "root"))
        self.assertEqual(found["raw"]["port"], 89)
        self.assertEqual(found["packet"]["port"], 3)

    def test_every_namespace_on_request(self):
        other = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c",
             "import socket,sys; s=socket.socket(); s.bind(('0.0.0.0',7999)); s.listen(1); print(1,flush=True); sys.stdin.read()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        other.stdout.readline()
        try:
            inode = str(os.stat(f"/proc/{other.pid}/ns/net").st_ino)
            rows = bind_facts(namespaces="all")["loopguard_listeners"]
            own = bind_facts()["loopguard_listeners"]
        finally:
            other.communicate(b"")
        self.assertEqual([row["namespace"] for row in rows if row["port"] == 7999], [inode])
        self.assertEqual(len([row for row in rows if row["port"] == 7001]), 2)
        self.assertEqual([row for row in own if row["port"] == 7999], [])

    def test_an_ordinary_user_sees_every_socket_but_not_every_owner(self):
        facts = bind_facts(become="nobody")
        self.assertEqual(len(facts["loopguard_listeners"]), 20)
        self.assertFalse(facts["loopguard_listeners_complete"])
        self.assertEqual([gap["subject"] for gap in facts["loopguard_listeners_gaps"]], ["processes"])
        self.assertTrue(all(row["process"] is None and "process" in row["unknowns"] for row in facts["loopguard_listeners"]))

    def test_nothing_listens_is_an_answer(self):
        facts = json.loads(
            run("unshare", "--net", "ansible", "localhost", "-i", "localhost,", "-c", "local", "-m",
                "loopguard.loopback.bind_facts", "-e", f"ansible_python_interpreter={sys.executable}").partition("=> ")[2]
        )["ansible_facts"]  # fmt: skip
        self.assertEqual((facts["loopguard_listeners"], facts["loopguard_listeners_complete"]), ([], True))


if __name__ == "__main__":
    assert shutil.which("ss"), "ss judges bind_facts: install iproute2"
    unittest.main()
