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
    """The recorded host web1, and beside it in the inventory this machine, linux1."""

    def __init__(self, folder):
        self.folder = folder
        self.evidence = json.loads((FIXTURES / "evidence-documented.json").read_text())
        self.listeners = json.loads((FIXTURES / "listen_ports-documented.json").read_text())

    def play(self, roles, *options, services=(DB,), tasks=(), playbook=None, **variables):
        (self.folder / "evidence.json").write_text(json.dumps(self.evidence))
        (self.folder / "listen_ports.json").write_text(json.dumps(self.listeners))
        (self.folder / "calls.jsonl").write_text("")
        hosts = {
            "web1": {
                "ansible_connection": "replay",
                "ansible_shell_type": "powershell",
                "replay_folder": str(self.folder),
                "replay_script": str(SCRIPT),
            }
        }
        hosts["linux1"] = {"ansible_connection": "local"}
        (self.folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
        tasks = [*tasks, *({"name": role, "ansible.builtin.import_role": {"name": f"loopguard.loopback.{role}"}} for role in roles)]
        play = {"name": "Test", "hosts": "web1", "gather_facts": False, "tasks": tasks}
        play["vars"] = {"loopguard_services": list(services), "exposure_report_formats": [], **variables}
        (self.folder / "play.json").write_text(json.dumps([play]))
        command = ["ansible-playbook", "-i", self.folder / "hosts.json", playbook or self.folder / "play.json", *options]
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


def test_an_audit_of_windows_and_linux_is_one_table(web1):
    options = {"loopguard_services": [DB], "exposure_report_formats": []}
    web1.play([], "-e", json.dumps(options), playbook="loopguard.loopback.audit").passed()
    rows = [line.split() for line in web1.said.splitlines() if line.split()[1:2] == ["orders-db"]]
    assert [(row[0], *{"EXPOSED", "ABSENT"}.intersection(row)) for row in rows] == [("web1", "EXPOSED"), ("linux1", "ABSENT")]


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


RULE = {
    "name": "loopguard.loopback tcp 5432",
    "group": "loopguard.loopback",
    "direction": "in",
    "action": "block",
    "enabled": True,
    "profiles": ["domain", "private", "public"],
    "protocol": "tcp",
    "localport": "5432",
    "remoteip": "any",
}


def test_restrict_firewall_asserts_first(web1):
    web1.play(["restrict_firewall"]).failed()
    assert "the firewall lets in anyone on Ethernet (IPv4): Windows Firewall Public rule 1 `Allow 'PostgreSQL'`" in web1.said
    assert not web1.rules_called()


def test_restrict_firewall_closes_the_port_once_and_proves_it(web1):
    web1.play(["restrict_firewall"], restrict_firewall_enforce=True).passed()
    (call,) = web1.rules_called()
    assert {key: call["options"][key] for key in RULE} == RULE
    assert call["options"].get("state", "present") == "present"
    assert [entry["module"] for entry in web1.calls].count(EVIDENCE) == 2
    assert "the firewall closes it to everyone but this machine, over IPv4 and IPv6" in web1.said
    assert "changed=1" in web1.said
    web1.play(["restrict_firewall"], restrict_firewall_enforce=True).passed()
    assert "changed=0" in web1.said
    web1.play(["restrict_firewall", "verify_bind", "exposure_report"], verify_bind_fail_on="never").passed()
    assert "2 sealed, of 2 services on 1 host" in web1.said


def test_check_mode_shows_the_change_and_makes_none(web1):
    web1.play(["restrict_firewall"], "--check", "--diff", restrict_firewall_enforce=True).passed()
    assert "+[loopguard.loopback tcp 5432]" in web1.said
    assert "changed=1" in web1.said
    assert all(call["check"] for call in web1.calls)
    assert not (web1.folder / "rules.json").exists()


def test_absent_removes_the_rules_and_a_service_that_is_gone_loses_its_own(web1):
    other = {"name": "cache", "port": 6379}
    web1.play(["restrict_firewall"], services=[DB, other], restrict_firewall_enforce=True).passed()
    web1.play(["restrict_firewall"], services=[other], restrict_firewall_enforce=True).passed()
    assert list(json.loads((web1.folder / "rules.json").read_text())) == ["loopguard.loopback tcp 6379"]
    web1.play(["restrict_firewall"], services=[other], restrict_firewall_enforce=True, restrict_firewall_state="absent").passed()
    assert json.loads((web1.folder / "rules.json").read_text()) == {}
    web1.play(["restrict_firewall"], services=[other], restrict_firewall_enforce=True, restrict_firewall_state="absent").passed()
    assert "changed=0" in web1.said


def test_allowed_sources_are_left_out_of_the_block(web1):
    allowed = {**DB, "allow": ["10.2.0.0/16", "2001:db8::/32"]}
    web1.play(["restrict_firewall"], services=[allowed], restrict_firewall_enforce=True, restrict_firewall_keep=["10.7.0.1"]).passed()
    (call,) = web1.rules_called()
    assert call["options"]["remoteip"] == (
        "0.0.0.0-10.1.255.255,10.3.0.0-10.7.0.0,10.7.0.2-255.255.255.255,"
        "::-2001:db7:ffff:ffff:ffff:ffff:ffff:ffff,2001:db9::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    )
    assert "the firewall closes it to everyone but this machine, 10.2.0.0/16, 2001:db8::/32, 10.7.0.1" in web1.said


def test_a_firewall_that_is_off_is_not_closed_by_a_rule(web1):
    for profile in web1.evidence["profiles"]:
        profile["enabled"] = "False"
    web1.play(["restrict_firewall"], restrict_firewall_enforce=True).failed()
    assert "no rule in Public decides, the firewall is off" in web1.said
    assert len(web1.rules_called()) == 1


def test_a_portproxy_that_still_leads_in_fails_with_the_path(web1):
    web1.evidence["portproxy"] = [(FIXTURES / "portproxy-published.txt").read_text().replace("\n", "\r\n")]
    web1.evidence["rules"].append({**web1.evidence["rules"][0], "name": "proxy", "local_ports": ["15432"]})
    web1.listeners["tcp_listen"].append({**web1.listeners["tcp_listen"][0], "address": "0.0.0.0", "port": 15432, "pid": 1372})
    web1.play(["restrict_firewall"], restrict_firewall_enforce=True).failed()
    assert "anyone on Ethernet via portproxy (pid 1372) listening on 0.0.0.0:15432" in web1.said


def test_ansible_does_not_lock_itself_out(web1):
    services = [{"name": "winrm", "port": 22}]
    web1.play(["restrict_firewall"], services=services, restrict_firewall_enforce=True).failed()
    assert "tcp port 22 is the one that Ansible comes in by" in web1.said
    assert not web1.rules_called()


def test_a_rule_of_another_name_in_our_group_stays(web1):
    web1.evidence["rules"][3]["group"] = "loopguard.loopback"
    web1.play(["restrict_firewall"], restrict_firewall_enforce=True, restrict_firewall_state="absent").passed()
    assert [call["options"]["name"] for call in web1.rules_called()] == ["loopguard.loopback tcp 5432"]
    assert "changed=0" in web1.said


def test_options_that_a_windows_host_does_not_take_are_refused(web1):
    task = {"name": "Look", "loopguard.loopback.exposure_info": {"forwards": []}}
    web1.play([], tasks=[task]).failed()
    assert "On a Windows host exposure_info does not take forwards." in web1.said
