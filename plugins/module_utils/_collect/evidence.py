# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All the evidence for a verdict on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._model.evidence import Evidence
from .._model.gap import Gap
from .files import read_text
from .firewall import collect_ruleset
from .host_network import collect_network
from .netlink import dump
from .relays import collect_relays

if TYPE_CHECKING:
    from .command import Runner
    from .listeners import Listeners


def gather(run: Runner, found: Listeners) -> Evidence:
    """Return the evidence for the listeners that were found: packet filter and network of the same host."""
    firewall = collect_ruleset(run, read_text, dump)
    if _virtual_services():
        gap = Gap("ipvs", "not_evaluated", "virtual services (IPVS) send packets to other ports and machines")
        firewall = firewall._replace(gaps=(*firewall.gaps, gap))
    host = collect_network(read_text, dump)
    relays, connections = collect_relays(dump, run, found)
    return Evidence(found.rows, found.gaps, relays, found.namespace, firewall, host, connections)


def _virtual_services() -> bool:
    """Say whether /proc/net/ip_vs lists any service below its three lines of heading."""
    try:
        return len(read_text("/proc/self/net/ip_vs").splitlines()) > 3
    except OSError:  # not loaded
        return False
