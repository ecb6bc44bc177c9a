# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who decides about a run: one rename, once."""

from __future__ import annotations

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._apply import deadman
from ansible_collections.loopguard.loopback.plugins.module_utils._apply.deadman import Run


@pytest.fixture
def this(tmp_path):
    return Run("t", str(tmp_path))


def test_a_run_that_has_not_begun_is_called_off_once(this, tmp_path):
    (tmp_path / "ready").touch()
    assert not this.confirm()
    assert this.call_off()
    assert this.state == "restored"
    assert not this.call_off()
    assert not this.confirm()


def test_a_run_that_has_begun_is_confirmed_once_and_not_called_off(this, tmp_path):
    (tmp_path / "armed").touch()
    assert not this.call_off()
    assert this.confirm()
    assert this.state == "confirmed"
    assert not this.confirm()


@pytest.mark.parametrize("state", ["undoing", "restored", "failed"])
def test_a_confirmation_that_comes_too_late_changes_nothing(this, tmp_path, state):
    (tmp_path / state).touch()
    assert not this.confirm()
    assert this.state == state


def test_what_is_closed_keeps_its_state_alone(this, tmp_path):
    for name in ("confirmed", "undo", "log", "ipv4.new"):
        (tmp_path / name).touch()
    this.close()
    assert [path.name for path in tmp_path.iterdir()] == ["confirmed"]
    this.remove()
    assert this.state == "gone"


def test_a_run_without_the_number_of_its_process_is_not_taken_for_one_that_never_began(monkeypatch, tmp_path):
    monkeypatch.setattr(deadman, "ROOT", str(tmp_path))
    folder = tmp_path / "first"
    folder.mkdir()
    for name in ("armed", "pid", "applying"):
        (folder / name).touch()
    with pytest.raises(deadman.Busy, match="first was never confirmed"), deadman.locked(0):
        pass
    assert (folder / "armed").exists()


def test_the_folder_of_a_process_that_is_still_applying_stays(monkeypatch, tmp_path):
    monkeypatch.setattr(deadman, "ROOT", str(tmp_path))
    monkeypatch.setattr(Run, "alive", lambda _run: True)
    folder = tmp_path / "first"
    folder.mkdir()
    for name in ("restored", "applying"):
        (folder / name).touch()
    with pytest.raises(deadman.Busy, match=r"another run \(first\) is at work"), deadman.locked(0):
        pass
    (folder / "applying").rename(folder / "refused")
    with deadman.locked(0):
        assert not folder.exists()
