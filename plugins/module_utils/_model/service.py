# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The declaration that users write, checked and typed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from .network import network_range

# A service is reached by TCP, UDP, UDP-Lite, SCTP or DCCP; raw, packet and Unix sockets have no port.
SERVICE_PROTOCOLS = ("tcp", "udp", "udplite", "sctp", "dccp")
CONTROLS = ("bind", "auth", "firewall", "forwards", "updates", "logging", "tls")
WAIVERS = ("not_applicable",)
_KEYS = {"name", "port", "protocol", "kind", "allow", "controls"}


class Service(NamedTuple):
    """One service as declared, or as discovered (`declared` False).

    allow: canonical CIDRs that may reach it besides loopback.
    controls: control -> reason, for the controls that the user waived.
    """

    name: str
    port: int
    protocol: str = "tcp"
    kind: str | None = None
    allow: tuple[str, ...] = ()
    controls: Mapping[str, str] = MappingProxyType({})
    declared: bool = True


class DeclarationError(ValueError):
    """The declaration cannot be used; `problems` has one sentence per defect, each naming its item."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(" ".join(problems))


def parse_services(data: Any, kinds: frozenset[str], variable: str = "services") -> tuple[Service, ...]:
    """Check a declaration and return its services. Raises DeclarationError with every problem that was found."""
    if not isinstance(data, list):
        raise DeclarationError([f"{variable} is a {_type(data)}, not a list of services."])
    problems: list[str] = []
    services: list[Service] = []
    names: dict[str, int] = {}
    places: dict[tuple[int, str], int] = {}
    for index, item in enumerate(data):
        if not isinstance(item, dict):
            problems.append(f"{variable}[{index}] is a {_type(item)}, not a mapping with name and port.")
            continue
        where = f"{variable}[{index}] {str(item.get('name', '(no name)'))!r}"
        service, found = _service(item, where, kinds)
        problems += found
        if service is None:
            continue
        if service.name in names:
            problems.append(f"{where}: the name is already used by {variable}[{names[service.name]}].")
        elif (service.port, service.protocol) in places:
            other = places[service.port, service.protocol]
            problems.append(f"{where}: {service.protocol} port {service.port} is already declared by {variable}[{other}].")
        names.setdefault(service.name, index)
        places.setdefault((service.port, service.protocol), index)
        services.append(service)
    if problems:
        raise DeclarationError(problems)
    return tuple(services)


def _type(value: Any) -> str:
    """Return the name of the plain type, where Ansible hands over subclasses of its own."""
    return next((kind.__name__ for kind in (dict, list, str, bool, int, float) if isinstance(value, kind)), type(value).__name__)


def _service(item: dict[Any, Any], where: str, kinds: frozenset[str]) -> tuple[Service | None, list[str]]:
    problems = [f"{where}: unknown key {str(key)!r}." for key in item if key not in _KEYS]
    name, port, protocol = item.get("name"), item.get("port"), item.get("protocol") or "tcp"
    kind, allow, controls = item.get("kind"), item.get("allow") or [], item.get("controls") or {}
    if not isinstance(name, str) or not name.strip():
        problems.append(f"{where}: name must be a text that is not empty.")
    if isinstance(port, str) and port.isascii() and port.isdigit():
        port = int(port)
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        problems.append(f"{where}: port {port} is not a port (1 to 65535).")
    if protocol not in SERVICE_PROTOCOLS:
        problems.append(f"{where}: protocol {protocol!r} is not one of {', '.join(SERVICE_PROTOCOLS)}.")
    if kind is not None and kind not in kinds:
        problems.append(f"{where}: kind {kind!r} is not one of {', '.join(sorted(kinds))}.")
    networks = []
    if isinstance(allow, list):
        for source in allow:
            try:
                networks.append(network_range(str(source)).text)
            except ValueError as error:
                problems.append(f"{where}: allow: {error}.")
    else:
        problems.append(f"{where}: allow must be a list of networks such as 10.2.0.0/24.")
    waived, found = _waivers(controls, where)
    problems += found
    if problems or not isinstance(port, int):
        return None, problems
    return Service(str(name), port, protocol, kind, tuple(networks), waived), []


def _waivers(controls: Any, where: str) -> tuple[dict[str, str], list[str]]:
    """Read `{tls: not_applicable}` or `{tls: {status: not_applicable, reason: ...}}`."""
    if not isinstance(controls, dict):
        return {}, [f"{where}: controls must be a mapping such as {{tls: not_applicable}}."]
    waived, problems = {}, []
    for control, value in controls.items():
        status, reason = (value.get("status"), value.get("reason", "")) if isinstance(value, dict) else (value, "")
        if control not in CONTROLS:
            problems.append(f"{where}: control {control!r} is not one of {', '.join(CONTROLS)}.")
        elif status not in WAIVERS:
            problems.append(f"{where}: control {control} can only be waived as {WAIVERS[0]}, not as {status!r}.")
        else:
            waived[str(control)] = str(reason)
    return waived, problems
