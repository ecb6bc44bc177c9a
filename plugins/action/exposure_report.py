# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One report from what every host of the play registered; runs once, on the controller (docs: modules/exposure_report.py)."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import yaml
from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.color import stringc
from ansible_collections.loopguard.loopback.plugins.plugin_utils._report import store
from ansible_collections.loopguard.loopback.plugins.plugin_utils._report.page import render_page
from ansible_collections.loopguard.loopback.plugins.plugin_utils._report.record import FAILS_ON, build_record, fails, started_at
from ansible_collections.loopguard.loopback.plugins.plugin_utils._report.table import render_table

_COLOURS = {"exposed": C.COLOR_ERROR, "unknown": C.COLOR_WARN, "sealed": C.COLOR_OK, "absent": C.COLOR_SKIP}
# Callbacks whose standard output is data for a program.
_DATA_CALLBACKS = {"json", "jsonl"}


class ActionModule(ActionBase):
    BYPASS_HOST_LOOP = True
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _validation, options = self.validate_argument_spec(
            argument_spec={
                "directory": {"type": "path", "default": "reports"},
                "formats": {"type": "list", "elements": "str", "choices": sorted(store.FILES), "default": ["json", "html"]},
                "fail_on": {"type": "str", "choices": sorted(FAILS_ON), "default": "never"},
            }
        )
        finished = datetime.now(timezone.utc)
        findings = _findings(variables)
        started = started_at(findings, _process_started(finished), finished)
        record = build_record(findings, _version(), started, finished)
        directory = Path(options["directory"]).absolute()
        formats = [kind for kind in ("html", "json") if kind in options["formats"]]
        links = store.links(directory, formats)

        command = [_ansible(), *_inventory(variables.get("ansible_inventory_sources") or [])]
        self._show(*(render_table(record, self._width(), links, command, paint) for paint in (_paint, _plain)))
        result.update(changed=False, summary=record["summary"], paths=links, directory=None)
        if formats and self._task.check_mode:
            result["msg"] = f"Check mode: {' and '.join(links.values())} would be written."
            self._display.display(result["msg"])
        elif formats:
            renderers: dict[str, Callable[[dict[str, Any]], str]] = {"json": _json, "html": render_page}
            contents = {store.FILES[kind]: renderers[kind](record) for kind in formats}
            try:
                final = store.write(directory, finished.strftime("%Y%m%dT%H%M%SZ"), contents)
            except store.StoreError as error:
                raise AnsibleActionFail(str(error)) from error
            result["directory"] = str(final)
        found = fails(record, options["fail_on"])
        if found:
            # The word decides, not the report: everything above has been shown and written.
            result.update(failed=True, msg=f"{', '.join(found)} (exposure_report_fail_on: {options['fail_on']}).")
        return result

    def _width(self) -> int:
        columns = os.environ.get("COLUMNS", "")
        return max(40, int(columns) if columns.isdecimal() and int(columns) else (self._display.columns or 79) + 1)

    def _show(self, painted: list[str], plain: list[str]) -> None:
        to_stderr = C.DEFAULT_STDOUT_CALLBACK.rpartition(".")[2] in _DATA_CALLBACKS
        self._display.display("\n".join(["", *painted, ""]), stderr=to_stderr, screen_only=True)
        self._display.display("\n".join(plain), log_only=True)


def _findings(variables: dict[str, Any]) -> dict[str, Any]:
    """Read the one variable of every host of the play; raw, because templating all of hostvars costs seconds in a fleet."""
    hostvars = variables["hostvars"]
    return {str(host): hostvars.raw_get(host).get("verify_bind_findings") for host in variables["ansible_play_hosts_all"]}


def _json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1, sort_keys=False, ensure_ascii=True, allow_nan=False) + "\n"


def _paint(text: str, state: str) -> str:
    return str(stringc(text, _COLOURS.get(state, C.COLOR_WARN)))


def _plain(text: str, _state: str) -> str:
    return text


def _ansible() -> str:
    """Return how this user calls `ansible`: by name, or by its path when it stands in no folder of PATH."""
    sibling = Path(sys.argv[0]).absolute().with_name("ansible")
    if not sibling.is_file() or shutil.which("ansible") == str(sibling):
        return "ansible"
    return _short(sibling)


def _inventory(sources: list[str]) -> list[str]:
    """Return the options that name this inventory; `localhost,` needs none, Ansible knows that host anyway."""
    shown = [source if "," in source else _short(Path(source)) for source in map(str, sources) if source != "localhost,"]
    return [word for source in shown for word in ("-i", source)]


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _version() -> str:
    root = Path(__file__).parents[2]
    if (root / "MANIFEST.json").is_file():
        return str(json.loads((root / "MANIFEST.json").read_text("utf-8"))["collection_info"]["version"])
    if (root / "galaxy.yml").is_file():
        return str(yaml.safe_load((root / "galaxy.yml").read_text("utf-8"))["version"])
    return "unknown"


def _process_started(now: datetime) -> datetime | None:
    """Return when ansible-playbook, the parent of this worker, was started; None without Linux's /proc (proc(5), field 22)."""
    stat = Path(f"/proc/{os.getppid()}/stat")
    if not stat.is_file():
        return None
    ticks = int(stat.read_text("utf-8").rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return now - timedelta(seconds=max(0.0, age))
