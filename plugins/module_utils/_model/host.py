# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of a host as far as it decides who gets in."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from .gap import Gap
from .vocabulary import Family


class Interface(NamedTuple):
    """kind: veth, bridge, vlan, ... ("" for a physical one). addresses: address/prefix length.

    xdp: a program is attached to the driver or the generic hook. tc: a qdisc is there that programs hang on (clsact, ingress).
    """

    name: str
    ifindex: int
    kind: str
    up: bool
    loopback: bool
    master: str | None
    addresses: tuple[str, ...]
    xdp: bool
    tc: bool


class Route(NamedTuple):
    """destination: CIDR. type: unicast, local, blackhole, ... table: 254 is main, 255 local."""

    family: Family
    destination: str
    gateway: str | None
    interface: str | None
    table: int
    type: str


class HostNetwork(NamedTuple):
    """routes: main and local. rules: policy routing beyond the three rules that every host has, as text.

    sysctls: name -> value, None when it could not be read. sk_lookup: a BPF program that picks the socket is attached.
    """

    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...]
    rules: tuple[str, ...]
    sysctls: dict[str, int | None]
    sk_lookup: bool
    gaps: tuple[Gap, ...]


def host_to_dict(host: HostNetwork) -> dict[str, Any]:
    """Return it as JSON data; the inverse is host_from_dict."""
    return {
        **host._asdict(),
        "interfaces": [{**entry._asdict(), "addresses": list(entry.addresses)} for entry in host.interfaces],
        "routes": [route._asdict() for route in host.routes],
        "rules": list(host.rules),
        "gaps": [gap.to_dict() for gap in host.gaps],
    }


def host_from_dict(data: Mapping[str, Any]) -> HostNetwork:
    """Read back what host_to_dict wrote. Raises KeyError or TypeError when it is something else."""
    return HostNetwork(
        tuple(Interface(**{**entry, "addresses": tuple(entry["addresses"])}) for entry in data["interfaces"]),
        tuple(Route(**route) for route in data["routes"]),
        tuple(data["rules"]),
        dict(data["sysctls"]),
        data["sk_lookup"],
        tuple(Gap(**gap) for gap in data["gaps"]),
    )
