# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.loopguard.loopback.plugins.plugin_utils._report import store

STAMP = "20261122T213000Z"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_report_is_private_and_latest_points_at_it(tmp_path: Path) -> None:
    final = store.write(tmp_path / "a" / "reports", STAMP, {"audit.json": "{}", "index.html": "é"})
    latest = tmp_path / "a" / "reports" / "latest"
    assert (mode(final), mode(final / "audit.json"), mode(latest.parent)) == (0o700, 0o600, 0o700)
    assert os.readlink(latest) == STAMP
    assert (latest / "index.html").read_text("utf-8") == "é"
    assert sorted(os.listdir(latest.parent)) == [STAMP, "latest"]


def test_a_second_report_of_the_same_second_keeps_the_first(tmp_path: Path) -> None:
    store.write(tmp_path, STAMP, {"audit.json": "1"})
    second = store.write(tmp_path, STAMP, {"audit.json": "2"})
    assert second.name == f"{STAMP}-2"
    assert (tmp_path / STAMP / "audit.json").read_text() == "1"
    assert (tmp_path / "latest" / "audit.json").read_text() == "2"


def test_without_symbolic_links_latest_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    store.write(tmp_path, STAMP, {"audit.json": "1"})
    store.write(tmp_path, STAMP, {"audit.json": "2"})
    assert not (tmp_path / "latest").is_symlink()
    assert (tmp_path / "latest" / "audit.json").read_text() == "2"
    assert sorted(os.listdir(tmp_path)) == [STAMP, f"{STAMP}-2", "latest"]
    monkeypatch.undo()
    store.write(tmp_path, STAMP, {"audit.json": "3"})
    assert (tmp_path / "latest" / "audit.json").read_text() == "3"


def test_what_somebody_else_put_into_latest_is_kept(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "notes.txt").write_text("mine")
    with pytest.raises(store.StoreError, match="holds files that no report has"):
        store.write(tmp_path, STAMP, {"audit.json": "1"})
    assert (tmp_path / "latest" / "notes.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(store.StoreError, match=r"cannot write the report: .*/file.*set exposure_report_directory"):
        store.write(tmp_path / "file" / "reports", STAMP, {"audit.json": "1"})


def test_links_are_short_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert store.links(tmp_path / "reports", ["html"]) == {"html": "reports/latest/index.html"}
    assert store.links(Path("/var/lib/reports"), ["json"]) == {"json": "/var/lib/reports/latest/audit.json"}
