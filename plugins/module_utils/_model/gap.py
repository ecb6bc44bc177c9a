# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What could not be seen, and why: the value that stands where evidence is missing."""

from __future__ import annotations

from typing import Literal, NamedTuple

GapReason = Literal["absent", "denied", "failed", "timeout", "unparsable", "unsupported", "not_evaluated"]
GAP_REASONS: tuple[GapReason, ...] = (
    "absent",
    "denied",
    "failed",
    "timeout",
    "unparsable",
    "unsupported",
    "not_evaluated",
)


class Gap(NamedTuple):
    """One piece of missing evidence.

    subject: what was asked: a command, a file, a protocol, a rule.
    reason:  why there is no answer.
    text:    what the tool, the kernel or the parser said; one line, at most 500 characters.
    """

    subject: str
    reason: GapReason
    text: str

    def to_dict(self) -> dict[str, str]:
        return {"subject": self.subject, "reason": self.reason, "text": self.text}
