# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the sources of a ruleset answered, until it is a Firewall."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from .._model.gap import Gap

if TYPE_CHECKING:
    from .._model.firewall import SourceStatus
    from .._model.ruleset import Table

SAVES = {"ip": "iptables-nft-save", "ip6": "ip6tables-nft-save"}


class Asked(NamedTuple):
    """Tables by (family, name), what is missing, and how each source answered."""

    tables: dict[tuple[str, str], Table]
    gaps: list[Gap]
    sources: dict[str, SourceStatus]


def refused(subject: str, error: OSError) -> Gap:
    denied = error.errno in (errno.EPERM, errno.EACCES)
    return Gap(subject, "denied" if denied else "failed", f"the kernel says: {error.strerror or error}")


def status_of(gap: Gap) -> SourceStatus:
    reason = gap.reason
    return "failed" if reason in ("unsupported", "not_evaluated") else reason  # type: ignore[return-value]  # the rest of the reasons
