# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error of every parser."""

from __future__ import annotations


class ParseError(ValueError):
    """What was read is not what it should be. `line` is 1-based, 0 where lines mean nothing."""

    def __init__(self, source: str, line: int, reason: str, text: str = "") -> None:
        self.source, self.line, self.reason, self.text = source, line, reason, text[:200]
        place = f"{source}:{line}" if line else source
        super().__init__(f"{place}: {reason}" + (f": {self.text!r}" if text else ""))
