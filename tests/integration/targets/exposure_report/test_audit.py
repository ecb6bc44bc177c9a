# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook as people run it: several hosts, of which some do not answer."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).parents[4]
SCHEMA = json.loads((ROOT / "roles/exposure_report/files/audit-1.schema.json").read_text("utf-8"))


@pytest.fixture(scope="module", autouse=True)
def listeners() -> Iterator[None]:
    """Something on Redis' port for everybody, and on Memcached's for this machine."""
    with socket.socket() as wide, socket.socket() as narrow:
        wide.bind(("0.0.0.0", 6379))
        narrow.bind(("127.0.0.1", 11211))
        wide.listen()
        narrow.listen()
        yield


class Audit:
    """One run of the audit, and what it left."""

    def __init__(self, folder: Path, *arguments: str, variables: dict[str, Any] | None = None, **environment: str) -> None:
        self.reports = folder / "reports"
        interpreter = os.environ["ANSIBLE_PYTHON_INTERPRETER"]
        ssh = folder / "ssh"
        ssh.write_text("#!/bin/sh\necho 'connect: No route to host' >&2\nexit 255\n")
        ssh.chmod(0o755)
        here = {"ansible_connection": "local", "ansible_python_interpreter": interpreter}
        hosts: dict[str, Any] = {f"web{number}": here for number in (1, 2, 10)}
        hosts["broken"] = {**here, "ansible_python_interpreter": "/nonexistent/python"}
        hosts["dark"] = {"ansible_connection": "ssh", "ansible_ssh_executable": str(ssh), "ansible_ssh_retries": 0}
        inventory = folder / "hosts.json"
        inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
        command = ["ansible-playbook", "loopguard.loopback.audit", "-i", str(inventory), *arguments, "-e", json.dumps(variables or {})]
        run = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "COLUMNS": "120", **environment},
            text=True,
            capture_output=True,
            timeout=300,
            check=False,
        )
        self.code, self.out, self.errors = run.returncode, run.stdout, run.stderr

    @property
    def record(self) -> dict[str, Any]:
        made: dict[str, Any] = json.loads((self.reports / "latest" / "audit.json").read_text("utf-8"))
        jsonschema.validate(made, SCHEMA)
        return made

    def states(self) -> dict[str, str]:
        return {host["name"]: host["state"] for host in self.record["hosts"]}


def test_every_host_is_reported_and_none_that_is_silent_as_a_pass(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    assert audit.code == 4, audit.out
    states = {"web1": "exposed", "web2": "exposed", "web10": "exposed", "dark": "unreachable", "broken": "failed"}
    assert audit.states() == states
    assert list(audit.states()) == list(states)
    assert "FLEET  5 hosts: 3 exposed · 1 unreachable · 1 failed" in audit.out.splitlines()
    assert re.search(r"^web1 +redis +0\.0\.0\.0:6379 +EXPOSED +anyone on ", audit.out, re.M)
    assert re.search(r"^dark +- +- +UNREACHABLE +\S", audit.out, re.M)
    assert "Report   reports/latest/index.html" in audit.out.splitlines()
    assert '{"' not in audit.out.partition("FLEET")[2].partition("\nNext")[0]
    assert not re.search(r"changed=[1-9]", audit.out)
    for path in audit.reports.rglob("*"):
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    verdicts = {row["name"]: row["verdict"] for row in audit.record["hosts"][0]["services"]}
    assert verdicts["redis"] == "exposed"
    assert "<title>3 exposed" in (audit.reports / "latest" / "index.html").read_text("utf-8")


def test_the_report_costs_no_task_per_host(tmp_path: Path) -> None:
    audit = Audit(tmp_path, "--limit", "web*")
    assert audit.code == 0, audit.out
    assert re.findall(r"^(web\d+) +: ok=(\d+)", audit.out, re.M)[1:] == [("web10", "1"), ("web2", "1")]


def test_limit(tmp_path: Path) -> None:
    audit = Audit(tmp_path, "--limit", "web2")
    assert (audit.code, audit.states()) == (0, {"web2": "exposed"})
    assert "auditing web2 (as root; nothing is changed)" in audit.out
    assert "HOST" not in audit.out


def test_check_mode_shows_the_table_and_writes_nothing(tmp_path: Path) -> None:
    audit = Audit(tmp_path, "--limit", "web1", "--check", "--diff")
    assert audit.code == 0, audit.out
    assert "EXPOSED" in audit.out
    assert "Check mode: reports/latest/index.html and reports/latest/audit.json would be written." in audit.out
    assert not audit.reports.exists()


def test_no_formats_writes_nothing(tmp_path: Path) -> None:
    audit = Audit(tmp_path, "--limit", "web1", variables={"exposure_report_formats": []})
    assert audit.code == 0, audit.out
    assert "EXPOSED" in audit.out
    assert "reports/" not in audit.out
    assert not audit.reports.exists()


@pytest.mark.parametrize("limit", ["broken", "broken:dark"])
def test_when_every_host_fails_there_is_a_report(tmp_path: Path, limit: str) -> None:
    audit = Audit(tmp_path, "--limit", limit)
    assert audit.code == (4 if "dark" in limit else 2), audit.out
    assert set(audit.states().values()) <= {"failed", "unreachable"}
    assert "FAILED" in audit.out


def test_when_no_host_is_reachable_the_exit_code_says_so(tmp_path: Path) -> None:
    assert Audit(tmp_path, "--limit", "dark").code == 4


def test_serial_makes_one_report_of_all_hosts(tmp_path: Path) -> None:
    audit = Audit(tmp_path, "--limit", "web*", variables={"loopguard_serial": 1})
    assert (audit.code, set(audit.states())) == (0, {"web1", "web2", "web10"})
    assert len(list(audit.reports.iterdir())) == 2


@pytest.mark.parametrize(("fail_on", "code"), [("never", 0), ("exposed", 2), ("unknown", 2)])
def test_fail_on_fails_after_the_report_is_written(tmp_path: Path, fail_on: str, code: int) -> None:
    audit = Audit(tmp_path, "--limit", "web1", variables={"exposure_report_fail_on": fail_on})
    assert (audit.code, audit.states()) == (code, {"web1": "exposed"})
    assert ("1 service exposed" in audit.out + audit.errors) == (code == 2)


@pytest.mark.parametrize(
    "variables", [{"exposure_report_fail_on": "sometimes"}, {"exposure_report_formats": ["pdf"]}, {"exposure_report_directory": "/proc/x"}]
)
def test_what_cannot_be_is_refused_without_a_traceback(tmp_path: Path, variables: dict[str, Any]) -> None:
    audit = Audit(tmp_path, "--limit", "web1", variables=variables)
    assert audit.code == 2
    assert next(iter(variables)) in audit.out + audit.errors
    assert "Traceback" not in audit.out + audit.errors


def test_a_second_run_is_a_second_record_and_no_change(tmp_path: Path) -> None:
    Audit(tmp_path, "--limit", "web1")
    second = Audit(tmp_path, "--limit", "web1")
    assert "changed=0" in second.out
    assert len([path for path in second.reports.iterdir() if not path.is_symlink()]) == 2


def test_output_that_is_data_stays_data(tmp_path: Path) -> None:
    audit = Audit(tmp_path, "--limit", "web1", ANSIBLE_STDOUT_CALLBACK="ansible.posix.json")
    assert audit.code == 0, audit.errors
    assert json.loads(audit.out)["stats"]["web1"]["changed"] == 0
    assert "EXPOSED" in audit.errors
