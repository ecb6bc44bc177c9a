# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends a run."""

from __future__ import annotations

from typing import Any


class ApplyError(Exception):
    """The message is for the user: what is wrong, where, and what stands now. result: what else the module returns."""

    def __init__(self, message: str, **result: Any) -> None:
        super().__init__(message)
        self.result = result


class Busy(ApplyError):
    """Another run changes the packet filter."""
