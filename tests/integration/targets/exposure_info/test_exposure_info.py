# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""exposure_info on real sockets and rulesets; a neighbour in another namespace tries to get in, and both must agree."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
import unittest
from pathlib import Path

V4, V6 = "10.77.1.1", "2001:db8:77:1::1"
DROP = ["-i lo -j ACCEPT", "! -i lo -p tcp -m tcp --dport 6379 -j DROP"]


def run(*argv, stdin=None, must=True, **environment):
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json", **environment},
    )  # fmt: skip
    assert done.returncode == 0 or not must, (argv, done.stdout, done.stderr)
    return done.stdout


def module(name, become=None, check=True, path=None, **options):
    argv = ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", f"loopguard.loopback.{name}"]
    argv += ["-a", json.dumps(options)] if options else []
    interpreter = "/usr/bin/python3" if become else sys.executable
    argv += ["-e", f"ansible_python_interpreter={interpreter}"]
    argv += ["--become", "--become-method", "su", "--become-user", become] if become else []
    environment = {"ANSIBLE_BECOME_FLAGS": "-s /bin/sh"}
    if path:
        environment["PATH"] = f"{path}:{os.environ['PATH']}"
    output = run(*argv, must=check, **environment)
    return json.loads(output.partition("=> ")[2])


def exposure(port, **options):
    options.setdefault("services", [{"name": "it", "port": port}])
    result = module("exposure_info", discover=False, **options)
    return result["exposures"][0]


def gets_in(address, port):
    """Let the neighbour try: True when it reads the byte that every server here sends."""
    program = (
        "import socket,sys\n"
        "s=socket.create_connection((sys.argv[1],int(sys.argv[2])),timeout=1)\n"
        "s.settimeout(1); sys.exit(s.recv(1)!=b'!')"
    )
    argv = ["ip", "netns", "exec", "neighbour", sys.executable, "-c", program, address, str(port)]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


class Server:
    """A process of its own that listens and sends one byte to whoever comes."""

    PROGRAM = (
        "import socket,sys,threading\n"
        "def serve(s):\n"
        "    while True:\n"
        "        c,_=s.accept(); c.send(b'!'); c.close()\n"
        "for place in sys.argv[1:]:\n"
        "    address,_,port=place.rpartition('@')\n"
        "    s=socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET)\n"
        "    s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n"
        "    s.bind((address,int(port))); s.listen(); threading.Thread(target=serve,args=(s,)).start()\n"
        "print('ready',flush=True)\n"
    )

    def __init__(self, *places):
        self.process = subprocess.Popen([sys.executable, "-c", self.PROGRAM, *places], stdout=subprocess.PIPE)

    def __enter__(self):
        assert self.process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_exception):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def setUpModule():
    run("ip", "netns", "add", "neighbour")
    run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "lan", "netns", "neighbour")
    run("ip", "address", "add", f"{V4}/24", "dev", "lan")
    run("ip", "address", "add", f"{V6}/64", "dev", "lan", "nodad")
    run("ip", "link", "set", "lan", "up")
    run("ip", "-n", "neighbour", "address", "add", "10.77.1.2/24", "dev", "lan")
    run("ip", "-n", "neighbour", "address", "add", "2001:db8:77:1::2/64", "dev", "lan", "nodad")
    run("ip", "-n", "neighbour", "link", "set", "lan", "up")


class Case(unittest.TestCase):
    maxDiff = None

    def tearDown(self):
        for tool in ("iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"):
            for table in ("filter", "nat", "raw"):
                run(tool, "-t", table, "-F")
                run(tool, "-t", table, "-X")
        run("nft", "flush", "ruleset")
        Path("/proc/sys/net/ipv4/conf/lan/route_localnet").write_text("0")


class Firewall(Case):
    def check(self, port, verdict, v4, v6, **options):
        found = exposure(port, **options)
        self.assertEqual(found["verdict"], verdict, found)
        self.assertEqual((gets_in(V4, port), gets_in(V6, port)), (v4, v6), found)
        return found

    def test_no_rules(self):
        with Server("::@6379"):
            found = self.check(6379, "exposed", True, True)
        self.assertEqual({path["family"] for path in found["paths"]}, {"ipv4", "ipv6"})
        self.assertEqual({tuple(path["sources"]) for path in found["paths"]}, {("0.0.0.0/0",), ("::/0",)})
        self.assertEqual(found["listeners"][0]["pids"], [found["listeners"][0]["pids"][0]])
        self.assertIn("python", found["listeners"][0]["process"])

    def test_the_rules_of_the_guide_seal_both_families(self):
        for backend in ("nft", "legacy"):
            with self.subTest(backend), Server("::@6379"):
                for tool in ("iptables", "ip6tables"):
                    for rule in DROP:
                        run(f"{tool}-{backend}", "-A", "INPUT", *rule.split())
                self.check(6379, "sealed", False, False)
                self.tearDown()

    def test_ipv4_alone_is_half_an_answer(self):
        with Server("::@6379"):
            run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "6379", "-j", "DROP")
            found = self.check(6379, "exposed", False, True)
        self.assertEqual([path["family"] for path in found["paths"]], ["ipv6"])

    def test_a_drop_behind_an_accept_does_nothing_and_the_accept_is_named(self):
        with Server("0.0.0.0@6379"):
            run("iptables-nft", "-A", "INPUT", "-s", "10.77.0.0/16", "-j", "ACCEPT")
            run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "6379", "-j", "DROP")
            found = self.check(6379, "exposed", True, False)
        (path,) = found["paths"]
        self.assertEqual((path["sources"], path["interface"]), (["10.77.0.0/16"], "lan"))
        self.assertEqual(
            path["decided_by"],
            [{"backend": "iptables-nft", "family": "ip", "table": "filter", "chain": "INPUT", "rule": 1,
              "text": "-A INPUT -s 10.77.0.0/16 -j ACCEPT", "handle": 0}],
        )  # fmt: skip

    def test_legacy_drops_beside_nft_that_accepts(self):
        with Server("0.0.0.0@6379"):
            run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "6379", "-j", "ACCEPT")
            run("iptables-legacy", "-A", "INPUT", "-p", "tcp", "--dport", "6379", "-j", "DROP")
            self.check(6379, "sealed", False, False)

    def test_allowed_sources_are_not_strangers(self):
        with Server("0.0.0.0@6379"):
            run("iptables-nft", "-A", "INPUT", "-s", "10.77.1.0/24", "-j", "ACCEPT")
            run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "6379", "-j", "DROP")
            self.check(6379, "sealed", True, False, services=[{"name": "it", "port": 6379, "allow": ["10.77.1.0/24"]}])

    def test_a_match_that_cannot_be_evaluated_is_unknown_and_named(self):
        with Server("0.0.0.0@6379"):
            rule = "-p tcp --dport 6379 -m recent --rcheck --name knock --rsource -j ACCEPT"
            run("iptables-nft", "-A", "INPUT", *rule.split())
            run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "6379", "-j", "DROP")
            found = self.check(6379, "unknown", False, False)
        self.assertIn("--name knock", found["paths"][0]["decided_by"][0]["text"])

    def test_native_nftables(self):
        with Server("::@6379"):
            run(
                "nft",
                "-f",
                "-",
                stdin='table inet t { chain in { type filter hook input priority 0; iifname != "lo" tcp dport 6379 drop; }; }',
            )
            self.check(6379, "sealed", False, False)


class Bind(Case):
    def test_loopback_is_sealed(self):
        with Server("127.0.0.1@5432", "::1@5432"):
            found = exposure(5432)
            self.assertEqual((found["verdict"], found["scope"]), ("sealed", "loopback"), found)
            self.assertFalse(gets_in(V4, 5432) or gets_in(V6, 5432))

    def test_one_wide_socket_among_two_is_found(self):
        with Server("127.0.0.1@5432"), Server(f"{V6}@5432"):
            found = exposure(5432)
            self.assertEqual((found["verdict"], found["scope"]), ("exposed", "public"), found)
            self.assertTrue(gets_in(V6, 5432))

    def test_absent(self):
        self.assertEqual(exposure(5432)["verdict"], "absent")

    def test_route_localnet_lets_a_neighbour_reach_127(self):
        Path("/proc/sys/net/ipv4/conf/lan/route_localnet").write_text("1")
        run("ip", "netns", "exec", "neighbour", "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
        run("ip", "-n", "neighbour", "route", "add", "127.0.0.9/32", "via", V4, "dev", "lan", "src", "10.77.1.2", must=False)
        with Server("127.0.0.9@5432"):
            found = exposure(5432)
        self.assertEqual(found["verdict"], "exposed", found)
        self.assertEqual([path["via"] for path in found["paths"]], ["route_localnet"])

    def test_undeclared_databases_are_discovered_and_ssh_is_not(self):
        with Server("0.0.0.0@6379", "0.0.0.0@22", "127.0.0.1@5432"):
            found = module("exposure_info")["exposures"]
        self.assertEqual(
            [(entry["name"], entry["verdict"], entry["declared"]) for entry in found],
            [("redis", "exposed", False), ("postgresql", "sealed", False)],
        )


class OtherWays(Case):
    def test_dnat_to_loopback_is_never_sealed(self):
        with Server("127.0.0.1@5432"):
            run(
                "iptables-nft",
                "-t",
                "nat",
                "-A",
                "PREROUTING",
                "-p",
                "tcp",
                "--dport",
                "15432",
                "-j",
                "DNAT",
                "--to-destination",
                "127.0.0.1:5432",
            )
            self.assertEqual(exposure(5432)["verdict"], "sealed", "dead without route_localnet")
            self.assertFalse(gets_in(V4, 15432))
            Path("/proc/sys/net/ipv4/conf/lan/route_localnet").write_text("1")
            found = exposure(5432)
            self.assertTrue(gets_in(V4, 15432))
        self.assertNotEqual(found["verdict"], "sealed")
        self.assertIn("redirect", {path["via"] for path in found["paths"]})

    def test_a_redirect_to_a_closed_port_is_never_sealed(self):
        with Server("0.0.0.0@6379"):
            run("iptables-nft", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "16379", "-j", "REDIRECT", "--to-ports", "6379")
            run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "6379", "-s", "192.0.2.0/24", "-j", "DROP")
            found = exposure(6379)
            self.assertTrue(gets_in(V4, 16379))
        self.assertNotEqual(found["verdict"], "sealed")

    def test_socat_leads_in(self):
        with Server("127.0.0.1@5432"):
            socat = subprocess.Popen(["socat", "TCP-LISTEN:15432,fork,reuseaddr", "TCP:127.0.0.1:5432"])
            try:
                time.sleep(0.5)
                found = exposure(5432)
                self.assertTrue(gets_in(V4, 15432))
            finally:
                socat.kill()
                socat.wait()
        self.assertEqual(found["verdict"], "exposed", found)
        self.assertIn(f"via socat (pid {socat.pid}) listening on 0.0.0.0:15432", found["paths"][0]["text"])

    def test_socat_to_another_port_does_not(self):
        with Server("127.0.0.1@5432"):
            socat = subprocess.Popen(["socat", "TCP-LISTEN:15432,fork,reuseaddr", "TCP:127.0.0.1:80"])
            try:
                time.sleep(0.5)
                self.assertEqual(exposure(5432)["verdict"], "sealed")
            finally:
                socat.kill()
                socat.wait()


class Blind(Case):
    """What cannot be seen is unknown, named, and told in bounded time."""

    def test_an_ordinary_user(self):
        with Server("0.0.0.0@6379", "127.0.0.1@5432"):
            for port in (6379, 5432):
                found = exposure(port, become="nobody")
                self.assertEqual(found["verdict"], "unknown", found)
                self.assertIn("denied", {gap["reason"] for gap in found["unknowns"]})

    def broken(self, body):
        """Put a tool of this name before the real one."""
        folder = Path(os.environ["OUTPUT_DIR"]) / "broken"
        folder.mkdir(exist_ok=True)
        tool = folder / "iptables-nft-save"
        tool.write_text(f"#!/bin/sh\n{body}\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        return str(folder)

    def test_a_tool_that_fails_or_hangs_or_lies(self):
        with Server("0.0.0.0@6379"):
            run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "ACCEPT")
            for body, reason in (("echo no >&2; exit 1", "failed"), ("sleep 1000", "timeout"), ("echo '<html>'", "unparsable")):
                with self.subTest(reason):
                    found = exposure(6379, path=self.broken(body))
                    self.assertEqual(found["verdict"], "unknown", found)
                    self.assertIn(reason, {gap["reason"] for gap in found["unknowns"]})


class Recorded(Case):
    def test_a_recorded_host_gets_the_same_verdict_elsewhere(self):
        with Server("::@6379", "127.0.0.1@5432"):
            run("iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "6379", "-j", "DROP")
            live = module("exposure_info")
            listeners = module("bind_facts")["ansible_facts"]
            firewall = module("firewall_facts")["ansible_facts"]["loopguard_firewall"]
        recorded = {key: value for key, value in listeners.items() if key.startswith("loopguard_")}
        elsewhere = module("exposure_info", listeners=recorded, firewall=firewall)
        self.assertEqual(elsewhere["exposures"], live["exposures"])
        self.assertTrue(elsewhere["host"]["recorded"])

    def test_what_is_no_record_is_refused(self):
        result = module("exposure_info", check=False, listeners={"x": 1}, firewall={})
        self.assertIn("listeners: not the facts of bind_facts: 'loopguard_listeners'", result["msg"])


class BadInput(Case):
    def test_every_problem_is_named(self):
        services = [
            {"name": "cache", "port": 63790000},
            {"name": "db", "port": 5432, "kind": "postgrs"},
            {"name": "db", "port": 5433, "allow": ["10.0.0.0/33"]},
        ]
        message = module("exposure_info", check=False, services=services)["msg"]
        for part in ("services[0] 'cache': port 63790000", "services[1] 'db': kind 'postgrs'", "services[2] 'db': allow"):
            self.assertIn(part, message)


if __name__ == "__main__":
    unittest.main()
