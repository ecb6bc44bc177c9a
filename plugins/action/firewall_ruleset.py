# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of firewall_ruleset: get back in over a new connection, and only then keep the new rules."""

from __future__ import annotations

import secrets
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase

# How long to look for the host again once the former rules must stand: TCP tries again after up to two minutes.
_PATIENCE = 120.0


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._vars = task_vars
        self._run = {"id": secrets.token_hex(8), "remote": self._connection.transport != "local"}
        self._low_level_execute_command(":")  # an unreachable host is one, and not a host that locked us out
        try:
            result = self._step("apply")
        except AnsibleConnectionFailure as error:
            return self._taken_back(f"The connection was lost while the rules were applied ({error}).")
        seconds = result.pop("pending", None)
        if seconds is None:
            return self._checked(result)
        answer, why = self._confirm(seconds)
        if answer is None:
            return self._taken_back(f"Rules applied, but no new connection could be made within {seconds} s ({why}).")
        if answer.get("state") == "confirmed":  # but not persisted
            return {**result, **answer}
        if answer.get("failed"):
            return self._taken_back(f"Rules applied, but not confirmed within {seconds} s: {answer['msg']}.")
        return {**result, **answer, "changed": True}

    def _checked(self, result: dict[str, Any]) -> dict[str, Any]:
        """Return a result after which nothing waits. A module that was killed may have left something that does."""
        if not result.get("failed") or "state" in result:
            return result
        answer = self._step("outcome")
        if answer.get("state", "gone") == "gone":
            return result
        return {**answer, "failed": True, "msg": f"The module failed ({result.get('msg', '')}). {answer['msg']}"}

    def _confirm(self, seconds: int) -> tuple[dict[str, Any] | None, str]:
        """Return what the target said to the confirmation, or None and why it could not be asked."""
        until = time.monotonic() + seconds
        while True:
            try:
                self._reset()
                answer = self._step("confirm")
            except AnsibleError as error:
                why = str(error)
            else:
                why = str(answer.get("msg", ""))
                if not answer.get("failed") or "state" in answer:
                    return answer, why
            if time.monotonic() >= until:
                return None, why
            time.sleep(1)

    def _taken_back(self, why: str) -> dict[str, Any]:
        """Learn what became of the rules."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self._reset()
                answer = self._step("outcome")
            except AnsibleError as error:
                answer = {"msg": str(error)}
            if "state" in answer:
                return {**answer, "failed": True, "msg": f"{why} {answer['msg']}"}
            if time.monotonic() >= until:
                message = f"{why} The former rules should stand again, but the host could not be asked: {answer.get('msg', '')}. See docs/lockout.md."
                return {"failed": True, "changed": True, "msg": message}
            time.sleep(1)

    def _step(self, step: str) -> dict[str, Any]:
        arguments = {**self._task.args, "run": {**self._run, "step": step}}
        result: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=self._vars)
        return result

    def _reset(self) -> None:
        if type(self._connection).reset is not ConnectionBase.reset:  # which only warns
            self._connection.reset()
