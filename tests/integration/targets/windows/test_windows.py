# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles through ansible-playbook against a recorded Windows host; connection_plugins/replay.py answers for it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
FIXTURES = ROOT / "tests/unit/plugins/module_utils/fixtures/windows"
SCRIPT = ROOT / "plugins/plugin_utils/_windows/evidence.ps1"
DB = {"name": "orders-db", "port": 5432}
EVIDENCE, LISTENERS = "ansible.windows.win_powershell", "ansible.windows.win_listen_ports_facts"


class Host:
    """The recorded host web1, and a local Linux host beside it for the table of both."""

    def __init__(self, folder):
        self.folder = folder
        self.evidence = json.loads((FIXTURES / "evidence-documented.json").read_text())
        self.listeners = json.loads((FIXTURES / "listen_ports-documented.json").read_text())

    def play(self, roles, *options, services=(DB,), **variables):
        (self.folder / "evidence.json").write_text(json.dumps(self.evidence))
        (self.folder / "listen_ports.json").write_text(json.dumps(self.listeners))
        (self.folder / "calls.jsonl").write_text("")
        hosts = {"web1": {"ansible_connection": "replay", "replay_folder": str(self.folder), "replay_script": str(SCRIPT)}}
        (self.folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        tasks = [{"name": role, "ansible.builtin.import_role": {"name": f"loopguard.loopback.{role}"}} for role in roles]
        play = {"name": "Test", "hosts": "web1", "gather_facts": False, "tasks": tasks}
        play["vars"] = {"loopguard_services": list(services), "exposure_report_formats": [], **variables}
        (self.folder / "play.json").write_text(json.dumps([play]))
        command = ["ansible-playbook", "-i", self.folder / "hosts.json", self.folder / "play.json", *options]
        self.run = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
        self.said = self.run.stdout + self.run.stderr
        self.calls = [json.loads(line) for line in (self.folder / "calls.jsonl").read_text().splitlines()]
        return self

    def passed(self):
        assert self.run.returncode == 0, self.said
        return self

    def failed(self):
        assert self.run.returncode == 2, self.said
        return self

    def rules_called(self):
        return [call for call in self.calls if call["module"] == "community.windows.win_firewall_rule"]


@pytest.fixture
def web1(tmp_path):
    return Host(tmp_path)


def test_verify_bind_asserts_what_a_windows_host_listens_on(web1):
    web1.play(["verify_bind"]).failed()
    assert "orders-db (tcp port 5432): listens on [::]:5432 (postgres, pid 5332)" in web1.said
    assert "way in: anyone on Ethernet (IPv4)" in web1.said
    assert [call["module"] for call in web1.calls] == [LISTENERS, EVIDENCE]
    web1.listeners["tcp_listen"][4]["address"] = "::1"
    web1.play(["verify_bind"]).passed()


def test_verify_bind_never_changes_a_windows_host(web1):
    web1.play(["verify_bind"], verify_bind_enforce=True).failed()
    assert "verify_bind_enforce is not for Windows hosts: nothing was changed on this one." in web1.said
    assert [call["module"] for call in web1.calls] == [LISTENERS, EVIDENCE]
    web1.play(["verify_bind"], "--check", verify_bind_enforce=True).failed()


def test_the_report_shows_a_windows_host_in_the_same_table(web1):
    web1.play(["verify_bind", "exposure_report"], verify_bind_fail_on="never").passed()
    assert "orders-db" in web1.said
    assert "EXPOSED" in web1.said


def test_hostile_names_are_shown_escaped(web1):
    web1.evidence["rules"][0]["name"] = "\x1b[31mred\u202edrow\nnew line"
    web1.play(["verify_bind", "exposure_report"], verify_bind_fail_on="never").passed()
    assert "Allow '\\x1b[31mred\\u202edrow\\nnew line'" in web1.said
    assert "\x1b[31mred" not in web1.said
    assert "\u202e" not in web1.said


def test_a_host_that_sends_nonsense_fails_and_is_no_pass(web1):
    web1.evidence["profiles"] = "none"
    web1.play(["verify_bind"], verify_bind_fail_on="never").failed()
    assert "The answer of this Windows host was not understood" in web1.said
    assert "profiles is not a list" in web1.said


def test_a_script_that_failed_is_told(web1):
    (web1.folder / "failure.json").write_text('{"failed": true, "msg": "Access is denied"}')
    web1.play(["verify_bind"], verify_bind_fail_on="never").failed()
    assert "ansible.windows.win_powershell failed: Access is denied" in web1.said


def test_check_mode_looks_as_well(web1):
    web1.play(["verify_bind"], "--check", verify_bind_fail_on="never").passed()
    assert all(call["check"] for call in web1.calls)
    assert len(web1.calls) == 2
