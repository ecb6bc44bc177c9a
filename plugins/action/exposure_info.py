# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module on a host with Python; two modules of ansible.windows, judged here, on one whose shell is that of Windows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleFilterError
from ansible_collections.loopguard.loopback.plugins.plugin_utils.uncollected import UncollectedAction

_LISTENERS = "ansible.windows.win_listen_ports_facts"
_SCRIPT = "ansible.windows.win_powershell"


class ActionModule(UncollectedAction):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        if not getattr(self._connection._shell, "_IS_WINDOWS", False):
            result: dict[str, Any] = super().run(tmp, task_vars)
            return result
        begun = time.monotonic()
        options = self._options()
        listeners = self._ask(_LISTENERS, {}, task_vars)
        # Only here: a host with Python needs none of it.
        from ansible_collections.loopguard.loopback.plugins.filter.windows_exposure import windows_exposure
        from ansible_collections.loopguard.loopback.plugins.module_utils._model.relay import AGENTS, FORWARDERS

        script = Path(__file__).parents[1] / "plugin_utils/_windows/evidence.ps1"
        arguments = {"script": script.read_text("utf-8"), "parameters": {"Relays": sorted(AGENTS | FORWARDERS)}}
        said = self._ask(_SCRIPT, arguments, task_vars)
        try:
            judged = windows_exposure(said.get("result", ""), listeners.get("ansible_facts", {}), **options)
        except AnsibleFilterError as error:
            raise AnsibleActionFail(f"The answer of this Windows host was not understood: {error}") from error
        judged["host"].update(collected=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), seconds=round(time.monotonic() - begun, 3))
        return {"changed": False, **judged}

    def _options(self) -> dict[str, Any]:
        known = {"services": "list", "discover": "bool", "evidence": "str"}
        refused = sorted(self._task.args.keys() - known.keys()) + ["async"] * bool(self._task.async_val)
        if refused:
            raise AnsibleActionFail(f"On a Windows host exposure_info does not take {', '.join(refused)}.")
        spec: dict[str, Any] = {name: {"type": kind} for name, kind in known.items()}
        spec["evidence"]["choices"] = ["brief", "full"]
        _validation, options = self.validate_argument_spec(argument_spec=spec)
        return {name: value for name, value in options.items() if value is not None}

    def _ask(self, module: str, arguments: dict[str, Any], variables: dict[str, Any] | None) -> dict[str, Any]:
        if not self._shared_loader_obj.module_loader.find_plugin(module, ".ps1"):
            hint = "ansible-galaxy collection install ansible.windows"
            raise AnsibleActionFail(f"The module {module} is missing on the controller, and Windows hosts need it: {hint}")
        result: dict[str, Any] = self._execute_module(module_name=module, module_args=arguments, task_vars=variables)
        if result.get("failed"):
            said = str(result.get("msg") or result.get("module_stderr") or result.get("error") or "no message")[:500]
            raise AnsibleActionFail(f"{module} failed: {said}")
        return result
