# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of modules that are many files: Ansible packs them in half the time when nobody looks for garbage meanwhile."""

from __future__ import annotations

import gc
from typing import Any

from ansible.plugins.action.normal import ActionModule as NormalAction


class UncollectedAction(NormalAction):
    """Packing parses every file. Each search for garbage among that also visits all that the worker got from Ansible, which is
    copied by that, page for page. The worker ends with its task, so that nothing has to be given back.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        gc.disable()
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result
