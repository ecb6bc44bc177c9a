# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts as data, and evidence from recorded facts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .._model.evidence import Evidence
from .._model.facts import listener_from_dict, listener_to_dict
from .._model.firewall import firewall_from_dict
from .._model.gap import Gap
from .._model.host import host_from_dict
from .._model.network import network_range
from .._model.relay import connection_from_dict, relay_from_dict
from .._model.service import SERVICE_PROTOCOLS
from .._model.vocabulary import VERDICTS
from .exposure import Exposure, widest_scope
from .path import MOST_SOURCES

_BRIEF = (
    "protocol", "family", "address", "port", "interface", "scope", "v6only", "pids", "process", "user", "unit", "container",
)  # fmt: skip


class RecordError(ValueError):
    """Recorded facts that are not what bind_facts and firewall_facts return."""


def evidence_from_facts(listeners: Mapping[str, Any], firewall: Mapping[str, Any]) -> Evidence:
    """Read the facts of bind_facts and loopguard_firewall. Raises RecordError that names the option and the key."""
    try:
        rows = [listener_from_dict(row) for row in listeners["loopguard_listeners"]]
        gaps = [Gap(**gap) for gap in listeners["loopguard_listeners_gaps"]]
        relays = [relay_from_dict(relay) for relay in listeners["loopguard_relays"]]
        connections = [connection_from_dict(connection) for connection in listeners["loopguard_connections"]]
        namespace = listeners["loopguard_listeners_namespace"]
        asked = listeners["loopguard_listeners_asked"]
        gaps += [
            Gap(protocol, "not_evaluated", "bind_facts was not asked for it")
            for protocol in SERVICE_PROTOCOLS
            if protocol not in asked["protocols"]
        ]
        if not asked["processes"]:
            gaps.append(Gap("processes", "not_evaluated", "bind_facts was told to leave them out"))
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"listeners: not the facts of bind_facts: {error}") from error
    try:
        read = firewall_from_dict(firewall)
        host = host_from_dict(firewall["host"])
        for table in read.tables:
            for chain in table.chains.values():
                for rule in chain.rules:
                    for match in rule.matches:
                        if match.field in ("source", "destination"):
                            for value in match.values:
                                network_range(value)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RecordError(f"firewall: not the fact loopguard_firewall of firewall_facts: {error}") from error
    return Evidence(rows, gaps, relays, namespace, read, host, connections)


def result(evidence: Evidence, exposures: Sequence[Exposure], full: bool) -> dict[str, Any]:
    """Return what exposure_info documents: exposures, summary and unknowns."""
    gaps = [*evidence.listener_gaps, *evidence.firewall.gaps, *evidence.host.gaps]
    return {
        "exposures": [exposure_to_dict(exposure, full) for exposure in exposures],
        "summary": {verdict: sum(exposure.verdict == verdict for exposure in exposures) for verdict in VERDICTS},
        "unknowns": [gap.to_dict() for gap in dict.fromkeys(gaps)],
    }


def exposure_to_dict(exposure: Exposure, full: bool) -> dict[str, Any]:
    service = exposure.service
    rows = [listener_to_dict(row) for row in exposure.listeners]
    return {
        "name": service.name,
        "port": service.port,
        "protocol": service.protocol,
        "kind": exposure.kind,
        "declared": service.declared,
        "verdict": exposure.verdict,
        "scope": widest_scope(exposure.listeners),
        "listeners": rows if full else [{key: row[key] for key in _BRIEF} for row in rows],
        "paths": [path.to_dict(sys.maxsize if full else MOST_SOURCES) for path in exposure.paths],
        "reasons": list(exposure.reasons),
        "unknowns": [gap.to_dict() for gap in exposure.unknowns],
        "checked": list(exposure.checked),
        "controls": dict(service.controls),
    }
