# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control `firewall`: does the packet filter close a port to everyone but this machine and the allowed sources?

The question is asked as if the service listened on every address: a rule that is missing counts even while the bind is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .._model.evidence import Evidence
from .._model.firewall import Firewall
from .._model.host import HostNetwork
from .._model.listener import Listener
from .._model.network import network_range, subtract
from .._model.service import Service
from .._model.vocabulary import ControlStatus
from .approach import Approach, allowed
from .path import merged


class FirewallControl(NamedTuple):
    """The control of one service; `text` is one line for a person. evidence: sentences, the most important first."""

    service: str
    control: str
    status: ControlStatus
    port: int
    protocol: str
    kind: str | None
    declared: bool
    evidence: tuple[str, ...]
    text: str


class FirewallJudge:
    """The packet filter of one host. keep: sources that may reach every service."""

    def __init__(self, firewall: Firewall, host: HostNetwork, keep: Sequence[str] = ()) -> None:
        self._gaps = tuple(dict.fromkeys((*firewall.gaps, *host.gaps)))
        self._approach = Approach(Evidence((), (), (), "", firewall, host))
        self._keep = tuple(keep)

    def control(self, service: Service, exposure: Mapping[str, Any] | None = None) -> FirewallControl:
        """Judge one service. exposure: its row of exposure_info, which knows of redirects. Raises KeyError when it is none."""
        status, evidence = self._judge(service, exposure)
        named = f"{service.name} ({service.protocol} port {service.port})"
        text = ". ".join([f"{named}: {'; '.join(evidence)}", *_next_step(status, service.declared)])
        kind = exposure["kind"] if exposure else service.kind
        return FirewallControl(
            service.name, "firewall", status, service.port, service.protocol, kind, service.declared, evidence, text + "."
        )

    def _judge(self, service: Service, exposure: Mapping[str, Any] | None) -> tuple[ControlStatus, tuple[str, ...]]:
        if "firewall" in service.controls:
            return "not_applicable", (f"waived: {service.controls['firewall'] or 'no reason was given'}",)
        allow = (*service.allow, *self._keep)
        paths = merged(self._approach.paths(_everywhere(service), allow), len(self._approach.interfaces))
        ways = [(str(path.reach), path.text) for path in paths]
        ways += [(str(path["reach"]), str(path["text"])) for path in exposure["paths"] if self._redirects(path)] if exposure else []
        open_ways = list(dict.fromkeys(text for reach, text in ways if reach == "accepted"))
        doubts = list(dict.fromkeys(text for reach, text in ways if reach != "accepted"))
        doubts += [f"{gap.subject}: {gap.text}" for gap in self._gaps]
        if open_ways:
            return "fail", ("the firewall lets in " + ", and ".join(open_ways), *doubts)
        if doubts:
            return "unknown", tuple(doubts)
        but = ", ".join(["this machine", *allow])
        return "pass", (f"the firewall closes it to everyone but {but}, over IPv4 and IPv6",)

    def _redirects(self, path: Mapping[str, Any]) -> bool:
        """Say whether a path is a redirect for more than the sources that every service keeps."""
        if path["via"] != "redirect":
            return False
        if path["sources_omitted"]:
            return True
        sources = sorted(network_range(source)[1:3] for source in path["sources"])
        return bool(subtract(sources, allowed(self._keep, path["family"])))


def _everywhere(service: Service) -> Listener:
    """Return the widest socket that the service could have."""
    socket: dict[str, Any] = dict.fromkeys(Listener._fields)
    socket.update(
        protocol=service.protocol, family="ipv6", address="::", port=service.port, v6only=False, scope="wildcard", unknowns=(), pids=()
    )
    return Listener(**socket)


def _next_step(status: ControlStatus, declared: bool) -> list[str]:
    if status == "unknown":
        return ["Next: run as root, and look at what is named above"]
    if status != "fail":
        return []
    if not declared:
        return ["Next: declare it (name, port), so that it can be closed"]
    return ["Next: run again with restrict_firewall_enforce=true and --check --diff to see the change, then without --check"]
