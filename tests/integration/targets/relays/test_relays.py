# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real relays before a service on loopback: a neighbour gets in, or does not, and the verdict says so and says why."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import unittest
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "exposure_info"))
from test_exposure_info import V4, Server, module, run
from test_exposure_info import gets_in as answers
from test_exposure_info import setUpModule as neighbourhood

FOLDER = Path(os.environ["OUTPUT_DIR"]) / "relays"
MODULES = os.environ["NGINX_MODULES"]
NEIGHBOUR = ("ip", "netns", "exec", "neighbour")


def setUpModule():
    neighbourhood()
    run("ip", "-n", "neighbour", "link", "set", "lo", "up")
    FOLDER.mkdir()
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", FOLDER / "pem", "-out", FOLDER / "crt")
    (FOLDER / "pem").write_text((FOLDER / "pem").read_text() + (FOLDER / "crt").read_text())
    (FOLDER / "pem").chmod(0o600)
    for name in ("host", "user"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", FOLDER / name)


@contextmanager
def started(*argv, port=15432, where=(), listens=None):
    """A program that runs until the block ends; when it begins, somebody listens on `port`, here or at `listens`."""
    with subprocess.Popen([*where, *argv], stdin=subprocess.DEVNULL) as process:
        try:
            until(lambda: run(*(where if listens is None else listens), "ss", "-Hltn", "sport", "=", f":{port}"), process)
            yield process
        finally:
            process.terminate()


def exposure(port):
    """Judge without Ansible around the module, which takes most of the time."""
    arguments = {"services": [{"name": "it", "port": port}], "discover": False}
    program = "ansible_collections.loopguard.loopback.plugins.modules.exposure_info"
    return json.loads(run(sys.executable, "-m", program, stdin=json.dumps({"ANSIBLE_MODULE_ARGS": arguments})))["exposures"][0]


def until(true, process=None):
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline and (process is None or process.poll() is None), "it did not start"
        time.sleep(0.05)


def written(name, text):
    """Write a configuration, and let it be older than the process that reads it."""
    path = FOLDER / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() - 60,) * 2)
    os.utime(path.parent, (time.time() - 60,) * 2)
    return path


def nginx(body, **more):
    for name, text in more.items():
        written(f"conf.d/{name}.conf", text)
    path = written("nginx.conf", f"""
load_module {MODULES}/ngx_stream_module.so;
daemon off; user root; worker_processes 2; pid {FOLDER}/nginx.pid; error_log stderr; events {{}}
{body}
""")  # fmt: skip
    return started("nginx", "-p", FOLDER, "-c", path)


_TEMPORARY = " ".join(f"{name}_temp_path {FOLDER}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
HTTP = f"http {{{{ access_log off; {_TEMPORARY} {{}} }}}}"


class Relayed(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.stack.enter_context(Server("127.0.0.1@5432"))

    def check(self, relay, verdict, shown=None, said="", through=15432):
        with relay:
            found = exposure(5432)
            self.assertEqual(found["verdict"], verdict, found)
            self.assertEqual(answers(V4, through), verdict == "exposed", found)
        if shown:
            self.assertIn(shown, {path["shown"] for path in found["paths"]}, found)
            self.assertIn(said, " ".join(path["text"] for path in found["paths"]))
        return found


class Configured(Relayed):
    def test_nginx_leads_in(self):
        relay = nginx(
            f"stream {{ include {FOLDER}/conf.d/*.conf; }}",
            db="upstream db { server 127.0.0.1:5432; }\nserver { listen 15432; proxy_pass db; }",
        )
        self.check(relay, "exposed", "configuration", f"by its configuration {FOLDER}/conf.d/db.conf:1")

    def test_nginx_leads_elsewhere(self):
        self.check(nginx("stream { server { listen 15432; proxy_pass 127.0.0.1:81; } }"), "sealed")

    def test_nginx_leads_in_by_a_door_that_is_closed(self):
        servers = "server { listen 127.0.0.1:15433; proxy_pass 127.0.0.1:5432; } server { listen 15432; proxy_pass 127.0.0.1:81; }"
        self.check(nginx(f"stream {{ {servers} }}"), "sealed")

    def test_two_nginx_blocks_one_after_the_other(self):
        servers = "server { listen 127.0.0.1:15433; proxy_pass 127.0.0.1:5432; } server { listen 15432; proxy_pass 127.0.0.1:15433; }"
        self.check(nginx(f"stream {{ {servers} }}"), "exposed", "configuration")

    def test_the_web_is_proxied(self):
        web = started("python3", "-m", "http.server", "--bind", "127.0.0.1", "8081", port=8081)
        with web, nginx(HTTP.format("server { listen 15432; location /app { proxy_pass http://localhost:8081/; } }")):
            found = exposure(8081)
            fetch = f"import urllib.request; urllib.request.urlopen('http://{V4}:15432/app')"
            run(*NEIGHBOUR, sys.executable, "-c", fetch)
        self.assertEqual(found["verdict"], "exposed", found)
        self.assertEqual({path["shown"] for path in found["paths"]}, {"configuration"})

    def test_a_variable_cannot_be_told(self):
        found = self.check(
            nginx(HTTP.format("server { listen 15432; location / { proxy_pass http://$arg_to; } }")), "unknown", "configuration"
        )
        self.assertIn(f"{FOLDER}/nginx.conf:4 (proxy_pass http://$arg_to), which may lead here", found["paths"][0]["text"])

    def test_a_file_that_changed_since_cannot_be_told(self):
        relay = nginx("stream { server { listen 15432; proxy_pass 127.0.0.1:81; } }")
        with relay:
            os.utime(FOLDER / "nginx.conf", (time.time() + 60,) * 2)
            found = exposure(5432)
        self.assertEqual(found["verdict"], "unknown", found)
        self.assertIn("changed after it started", found["paths"][0]["text"])

    def test_haproxy(self):
        text = (
            "defaults\n  timeout connect 1s\n  timeout client 1m\n  timeout server 1m\n"
            "frontend f\n  bind :15432\n  default_backend b\n"
            "backend other\n  server s 127.0.0.1:5432\nbackend b\n  server s 127.0.0.1:{}\n"
        )
        for port, verdict, shown in ((5432, "exposed", "configuration"), (81, "sealed", None)):
            with self.subTest(verdict):
                path = written("haproxy.cfg", text.format(port))
                self.check(started("haproxy", "-f", path), verdict, shown, f"{path}:11" if shown else "")

    def test_rinetd(self):
        for port, verdict in ((5432, "exposed"), (81, "sealed")):
            with self.subTest(verdict):
                path = written("rinetd.conf", f"# a comment\n0.0.0.0 15432 127.0.0.1 {port}\n")
                self.check(started("rinetd", "-f", "-c", path), verdict, *(("configuration", f"{path}:2") if port == 5432 else ()))

    def test_xinetd(self):
        service = (
            "service db\n{{\n type = UNLISTED\n port = 15432\n socket_type = stream\n protocol = tcp\n"
            " wait = no\n user = root\n redirect = 127.0.0.1 {}\n}}\n"
        )
        written("xinetd.d/none", "")
        for port, verdict in ((5432, "exposed"), (81, "sealed")):
            with self.subTest(verdict):
                written("xinetd.d/db", service.format(port))
                path = written("xinetd.conf", f"defaults\n{{\n}}\nincludedir {FOLDER}/xinetd.d\n")
                relay = started("xinetd", "-dontfork", "-f", path, "-pidfile", FOLDER / "xinetd.pid")
                self.check(relay, verdict, *(("configuration", f"{FOLDER}/xinetd.d/db:9") if port == 5432 else ()))

    def test_stunnel(self):
        path = written("stunnel.conf", f"foreground = yes\npid =\n[db]\naccept = 15432\ncert = {FOLDER}/pem\nconnect = 5432\n")
        fetch = (
            "import socket, ssl\nc = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE\n"
            "assert c.wrap_socket(socket.create_connection(('10.77.1.1', 15432), 5)).recv(1) == b'!'"
        )
        with started("stunnel4", path):
            found = exposure(5432)
            run(*NEIGHBOUR, sys.executable, "-c", fetch)
        self.assertEqual(found["verdict"], "exposed", found)
        self.assertIn(f"by its configuration {path}:6", found["paths"][0]["text"])

    def test_systemd_socket_proxyd(self):
        for port, verdict, *shown in ((5432, "exposed", "command_line"), (81, "sealed")):
            with self.subTest(verdict):
                proxyd = ("/lib/systemd/systemd-socket-proxyd", f"127.0.0.1:{port}")
                self.check(started("systemd-socket-activate", "-l", "15432", *proxyd), verdict, *shown)


RELAY = """
import socket, sys, threading
door = socket.create_server(("0.0.0.0", 15432))
def serve(guest):
    there = socket.create_connection(("127.0.0.1", 5433))
    guest.sendall(there.recv(1))
    guest.recv(1)
while True:
    threading.Thread(target=serve, args=(door.accept()[0],)).start()
"""
PATIENT = """
import socket
door = socket.create_server(("127.0.0.1", 5433))
kept = []
while True:
    kept.append(door.accept()[0])
    kept[-1].sendall(b"!")
"""
STAY = "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[2]))); assert s.recv(1) == b'!'; print('in', flush=True); input()"


SSHD = f"""
HostKey {FOLDER}/host
AuthorizedKeysFile {FOLDER}/user.pub
StrictModes no
PermitRootLogin yes
UsePAM no
GatewayPorts yes
"""
_SETTINGS = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
SSH = ("ssh", "-F", "none", "-i", FOLDER / "user", *(f"-o{setting}" for setting in _SETTINGS), "-p", "2222", "-N")


@contextmanager
def guest(address, port, *where):
    """Somebody who comes and stays until the block ends."""
    argv = [*where, sys.executable, "-c", STAY, address, str(port)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in\n"
        yield
        process.communicate("\n")


class Connected(unittest.TestCase):
    def setUp(self):
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.service = self.stack.enter_context(started(sys.executable, "-c", PATIENT, port=5433))

    def found(self):
        return exposure(5433)

    def test_an_unknown_program_with_an_open_connection(self):
        with started(sys.executable, "-c", RELAY) as relay:
            self.assertEqual(self.found()["verdict"], "sealed", "nothing shows it yet")
            with guest(V4, 15432, *NEIGHBOUR):
                found = self.found()
                recorded = module("bind_facts")["ansible_facts"]
        self.assertEqual((found["verdict"], found["paths"][0]["shown"]), ("unknown", "connection"), found)
        self.assertRegex(
            found["paths"][0]["text"],
            rf"via \S+ \(pid {relay.pid}\) listening on 0.0.0.0:15432, by an open connection 127.0.0.1:\d+ → 127.0.0.1:5433",
        )
        (connection,) = recorded["loopguard_connections"]
        self.assertEqual((connection["peer_port"], connection["pids"]), (5433, [relay.pid]))

    def test_a_client_that_nobody_talks_to_is_no_relay(self):
        with guest("127.0.0.1", 5433):
            self.assertEqual(self.found()["verdict"], "sealed")

    def test_socat_that_forks(self):
        with started("socat", "TCP-LISTEN:15432,fork,reuseaddr", "TCP:127.0.0.1:5433"), guest(V4, 15432, *NEIGHBOUR):
            found = self.found()
        self.assertEqual((found["verdict"], found["paths"][0]["shown"]), ("exposed", "connection"), found)

    def sshd(self, where=()):
        path = written("sshd_config", SSHD)
        return started(shutil.which("sshd"), "-D", "-f", path, "-p", "2222", port=2222, where=where)

    def test_a_login_with_a_local_forward_goes_through_sshd(self):
        with self.sshd():
            self.assertEqual(self.found()["verdict"], "sealed", "nobody logs in")
            forward = started(*SSH, "-L", "127.0.0.1:7000:127.0.0.1:5433", V4, port=7000, where=NEIGHBOUR)
            with forward, guest("127.0.0.1", 7000, *NEIGHBOUR):
                found = self.found()
        self.assertEqual((found["verdict"], found["paths"][0]["shown"]), ("exposed", "connection"), found)
        self.assertRegex(found["paths"][0]["text"], r"via sshd \(pid \d+\) listening on 0.0.0.0:2222, by an open connection")

    def test_a_remote_forward_of_a_client_leads_to_the_client(self):
        with self.sshd(), started(*SSH, "-R", "15432:127.0.0.1:5433", V4, where=NEIGHBOUR, listens=()):
            self.assertFalse(answers(V4, 15432))
            found = self.found()
        self.assertEqual(found["verdict"], "sealed", found)

    def test_a_remote_forward_to_another_machine_leads_here(self):
        with self.sshd(NEIGHBOUR), started(*SSH, "-R", "15432:127.0.0.1:5433", "10.77.1.2", listens=NEIGHBOUR):
            found = self.found()
        self.assertEqual((found["verdict"], found["paths"][0]["shown"]), ("exposed", "command_line"), found)

    def test_a_wide_local_forward_to_another_port_does_not_lead_here(self):
        with self.sshd():
            for port, verdict in ((80, "sealed"), (5433, "unknown")):
                with self.subTest(port), started(*SSH, "-g", "-L", f"15432:127.0.0.1:{port}", "127.0.0.1"):
                    self.assertEqual(self.found()["verdict"], verdict)


class Record(Relayed):
    def test_a_recorded_host_gets_the_same_verdict_elsewhere(self):
        with nginx("stream { server { listen 15432; proxy_pass 127.0.0.1:5432; } }"):
            services = [{"name": "it", "port": 5432}]
            live = module("exposure_info", services=services)["exposures"]
            listeners = module("bind_facts")["ansible_facts"]
            firewall = module("firewall_facts")["ansible_facts"]["loopguard_firewall"]
        recorded = {key: value for key, value in listeners.items() if key.startswith("loopguard_")}
        elsewhere = module("exposure_info", services=services, listeners=recorded, firewall=firewall)
        self.assertEqual(elsewhere["exposures"], live)
        self.assertEqual([(entry["verdict"], entry["paths"][0]["shown"]) for entry in live], [("exposed", "configuration")])


if __name__ == "__main__":
    unittest.main()
