# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that was read of a host's packet filter, as one value that travels as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from .gap import Gap
from .ruleset import SetElements, Table, set_from_dict, set_to_dict, table_from_dict, table_to_dict

# empty: there is proof that it holds nothing; absent: no such tool; the others are the reasons of a Gap.
SourceStatus = Literal["read", "empty", "absent", "denied", "failed", "timeout", "unparsable"]
SOURCE_STATUSES: tuple[SourceStatus, ...] = ("read", "empty", "absent", "denied", "failed", "timeout", "unparsable")


class Firewall(NamedTuple):
    """tables: as the kernel holds them now. ipsets: by name. sources: what was asked -> how it went.

    When `gaps` is not empty something may filter, or let in, that `tables` does not show.
    """

    tables: tuple[Table, ...]
    ipsets: dict[str, SetElements]
    gaps: tuple[Gap, ...]
    sources: dict[str, SourceStatus]


def firewall_to_dict(firewall: Firewall) -> dict[str, Any]:
    """Return it as JSON data; the inverse is firewall_from_dict."""
    return {
        "tables": [table_to_dict(table) for table in firewall.tables],
        "ipsets": [set_to_dict(elements) for elements in firewall.ipsets.values()],
        "gaps": [gap.to_dict() for gap in firewall.gaps],
        "sources": dict(firewall.sources),
    }


def firewall_from_dict(data: Mapping[str, Any]) -> Firewall:
    """Read back what firewall_to_dict wrote. Raises KeyError or TypeError when it is something else."""
    ipsets = [set_from_dict(elements) for elements in data["ipsets"]]
    return Firewall(
        tuple(table_from_dict(table) for table in data["tables"]),
        {elements.name: elements for elements in ipsets},
        tuple(Gap(**gap) for gap in data["gaps"]),
        dict(data["sources"]),
    )
