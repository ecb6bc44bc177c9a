# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for a Windows host: knows the modules that Ansible sends by the manifest of its PowerShell wrapper, and answers.

Every call is written down. What was not recorded is refused, and the play fails.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = r"""
name: replay
short_description: A recorded Windows host
description: For tests.
author: The loopguard.loopback authors
options:
  folder:
    description: Holds C(evidence.json), C(listen_ports.json), and after a run C(calls.jsonl) and C(rules.json).
    type: path
    required: true
    vars: [{name: replay_folder}]
  script:
    description: The one script that win_powershell may be told to run.
    type: path
    required: true
    vars: [{name: replay_script}]
"""

_MANIFEST = b"\n\0\0\0\0\n"
_RULE_OPTIONS = {
    "name", "group", "direction", "action", "enabled", "state", "description", "localip", "remoteip", "localport", "remoteport",
    "program", "service", "protocol", "profiles",
}  # fmt: skip
_PROFILES = {"domain": 1, "private": 2, "public": 4}


class Connection(ConnectionBase):
    transport = "replay"
    module_implementation_preferences = (".ps1", ".exe", "")
    allow_executable = False
    has_pipelining = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.always_pipeline_modules = True
        self.has_native_async = True
        self._shell_type = "powershell"
        super().__init__(*args, **kwargs)

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def put_file(self, in_path: str, out_path: str) -> None:
        raise AnsibleConnectionFailure(f"replay: nothing is copied to the host, and {in_path} was to be")

    def fetch_file(self, in_path: str, out_path: str) -> None:
        raise AnsibleConnectionFailure(f"replay: nothing is fetched from the host, and {in_path} was to be")

    def close(self) -> None:
        self._connected = False

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if not in_data or _MANIFEST not in in_data:
            raise AnsibleConnectionFailure(f"replay: not a PowerShell module: {cmd[:200]}")
        params = json.loads(in_data.split(_MANIFEST)[1])["actions"][-1]["params"]
        (arguments,) = [entry["Value"] for entry in params["Variables"] if entry["Name"] == "complex_args"]
        # ansible_collections.ansible.windows.plugins.modules.win_powershell.ps1
        module = params["Script"].removesuffix(".ps1").removeprefix("ansible_collections.").replace(".plugins.modules.", ".")
        options = {key: value for key, value in arguments.items() if not key.startswith("_ansible")}
        check, diff = arguments["_ansible_check_mode"], arguments["_ansible_diff"]
        self._folder = Path(self.get_option("folder"))
        with (self._folder / "calls.jsonl").open("a") as calls:
            calls.write(json.dumps({"module": module, "check": check, "options": options}) + "\n")
        answers = {
            "ansible.windows.win_listen_ports_facts": self._listen_ports,
            "ansible.windows.win_powershell": self._powershell,
            "community.windows.win_firewall_rule": self._firewall_rule,
        }
        if module not in answers:
            raise AnsibleConnectionFailure(f"replay: no answer of {module} was recorded")
        return 0, json.dumps(answers[module](options, check, diff)).encode(), b""

    def _read(self, name: str) -> Any:
        path = self._folder / name
        return json.loads(path.read_text()) if path.exists() else {}

    def _listen_ports(self, options: dict[str, Any], check: bool, diff: bool) -> dict[str, Any]:
        return {"changed": False, "ansible_facts": self._read("listen_ports.json")}

    def _powershell(self, options: dict[str, Any], check: bool, diff: bool) -> dict[str, Any]:
        if options["script"] != Path(self.get_option("script")).read_text():
            raise AnsibleConnectionFailure(f"replay: no answer of this script was recorded: {options['script'][:200]}")
        empty = {"host_out": "", "host_err": "", "output": [], "error": [], "warning": [], "verbose": [], "debug": [], "information": []}
        if (self._folder / "failure.json").exists():
            return {**empty, "changed": False, "result": {}, **self._read("failure.json")}
        evidence = self._read("evidence.json")
        evidence["rules"] += [_as_told(rule) for rule in self._read("rules.json").values()]
        return {**empty, "changed": False, "result": json.dumps(evidence)}

    def _firewall_rule(self, options: dict[str, Any], check: bool, diff: bool) -> dict[str, Any]:
        """What win_firewall_rule 3.1.0 does for one rule with a name that no rule of the system has."""
        unknown = options.keys() - _RULE_OPTIONS
        if unknown or "name" not in options:
            raise AnsibleConnectionFailure(f"replay: win_firewall_rule was given {sorted(options)}")
        rules, name = self._read("rules.json"), options["name"]
        wanted = {key: str(value) for key, value in options.items() if key != "state"}
        before = rules.get(name)
        if options.get("state", "present") == "absent":
            after, message = None, f"Firewall rule(s) '{name}' removed." if before else f"Firewall rule '{name}' does not exist."
        else:
            after, message = {**(before or {}), **wanted}, f"Firewall rule '{name}' created."
        if not check and before != after:
            rules.pop(name, None)
            rules.update({name: after} if after else {})
            (self._folder / "rules.json").write_text(json.dumps(rules))
        result = {"changed": before != after, "msg": message}
        if diff:
            lines = [f"{sign}[{name}]\n" for sign, rule in (("-", before), ("+", after)) if rule] if before != after else []
            result["diff"] = {"prepared": "".join(lines)}
        return result


def _as_told(rule: dict[str, str]) -> dict[str, Any]:
    """Return a rule that was made as the evidence tells it."""
    profiles = [word for word in _PROFILES if word in rule.get("profiles", "domain private public")]
    return {
        "name": rule["name"],
        "group": rule.get("group", ""),
        "direction": {"in": 1, "out": 2}[rule.get("direction", "in")],
        "action": {"allow": 2, "block": 4}[rule.get("action", "allow")],
        "profiles": 0 if len(profiles) == 3 else sum(_PROFILES[word] for word in profiles),
        "enforcement": [1, 5],
        "owner": "",
        "platforms": [],
        "extras": [],
        "protocol": rule.get("protocol", "any").upper().replace("ANY", "Any"),
        "local_ports": rule.get("localport", "any").replace("any", "Any").split(","),
        "remote_ports": ["Any"],
        "dynamic_target": "Any",
        "local_addresses": ["Any"],
        "remote_addresses": rule.get("remoteip", "any").replace("any", "Any").split(","),
        **dict.fromkeys(("program", "service", "interface_type", "local_user", "remote_user", "remote_machine"), "Any"),
        "package": "",
        "interfaces": ["Any"],
        "authentication": "NotRequired",
        "encryption": "NotRequired",
        "override_block": "False",
    }
