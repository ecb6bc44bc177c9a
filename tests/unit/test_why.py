# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What `make test` says at its end, after a run of nox in which pytest, integration targets, a linter and three scenarios failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
LOG = TESTS / "unit/fixtures/make-test/nox-2026.10-molecule-26.10-failing.log"


def why(log):
    done = subprocess.run([sys.executable, TESTS / "why.py", log], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(part.split(" failed:\n") for part in done.stdout.strip().split("\n\n"))


def test_each_failed_part_is_told_and_no_other():
    assert list(why(LOG)) == ["unit", "integration", "lint(ruff)", "molecule"]


def test_pytest_names_its_tests():
    assert why(LOG)["unit"].splitlines() == [
        "  ERROR tests/unit/test_a.py::test_with_fixture - RuntimeError: no fixture",
        "  FAILED tests/unit/test_a.py::test_of_a_verdict[1] - AssertionError: assert {'...",
        "  FAILED tests/unit/test_a.py::test_of_an_error - FileNotFoundError: [Errno 2] ...",
    ]


def test_a_target_names_its_tests_or_its_task():
    assert why(LOG)["integration"].splitlines()[:2] == [
        "  lockout: The rules of before are back: testhost: non-zero return code ls: cannot access '/does/not/exist': "
        "No such file or directory",
        "  relays: FAILED test_relays.py::test_of_a_verdict[1] - AssertionError: assert {'sealed...",
    ]


def test_a_scenario_names_task_host_and_message_but_not_what_was_rescued():
    idempotence, shell, unreachable, verify = why(LOG)["molecule"].splitlines()
    assert idempotence.startswith("  verify_bind: Idempotence test failed because of the following tasks: * => Write something each time")
    assert shell.startswith("  exposure_report > prepare: Read with a broken shell: bookworm_open: non-zero return code line two: long")
    assert unreachable.startswith("  exposure_report > prepare: Reach it: gone: Task failed: Failed to connect to the host via ssh: ")
    assert verify.startswith("  restrict_firewall > verify: The neighbour does not get in: trixie_open: trixie_open let the neighbour in: ")
    assert len(verify) == 245
    assert verify.endswith("...")


def test_any_other_part_shows_its_last_lines():
    assert why(LOG)["lint(ruff)"].splitlines()[-2:] == ["  Found 2 errors.", "  [*] 2 fixable with `--fix`."]


def test_many_reasons_are_counted(tmp_path):
    log = tmp_path / "test.log"
    lines = [f"FAILED tests/unit/test_{number}.py::test_x - assert 0" for number in range(30)]
    log.write_text("\n".join(["========== ✗ unit: failed ==========", *lines, "nox > Ran 1 session:", "nox > * unit: failed", ""]), "utf-8")
    found = why(log)["unit"].splitlines()
    assert (len(found), found[-1]) == (9, "  and 22 more")
