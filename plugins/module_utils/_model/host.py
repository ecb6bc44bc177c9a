# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of a host: interfaces, routes, the sysctls on the boundary of loopback, programs that see packets first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .gap import Gap

if TYPE_CHECKING:
    from .vocabulary import Family


class Interface(NamedTuple):
    """kind: bridge, veth, vlan, wireguard, ...; empty for hardware. master: the bridge, bond or VRF it belongs to.

    addresses: CIDR with the address of the host itself. xdp, tc: a BPF program or filter sees its packets before the
    firewall does. When programs could not be listed a Gap named bpf says so.
    """

    name: str
    index: int  # type: ignore[assignment]  # a field of this name hides tuple.index
    kind: str
    up: bool
    loopback: bool
    master: str | None
    addresses: tuple[str, ...] = ()
    xdp: bool = False
    tc: bool = False


class Route(NamedTuple):
    """One next hop. type: unicast, local, blackhole, ...; table: main, local, default or a number as text.

    more: it is for one type of service, or for some sources alone.
    """

    family: Family
    destination: str
    gateway: str | None
    interface: str | None
    table: str
    type: str
    more: bool = False


class RoutingRule(NamedTuple):
    """A rule of policy routing; the kernel's own three (local, main, default) are left out. mark: value/mask.

    more: it asks for something that is not told here.
    """

    family: Family
    priority: int
    source: str | None
    destination: str | None
    in_interface: str | None
    out_interface: str | None
    mark: str | None
    table: str
    action: str
    inverted: bool
    more: bool = True


class HostNetwork(NamedTuple):
    """sysctls: path below /proc/sys -> value, None when it could not be read; what the kernel does not have is left out.

    sk_lookup: programs that choose the socket of a packet in this network namespace, None when that could not be asked.
    """

    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...]
    rules: tuple[RoutingRule, ...]
    sysctls: dict[str, int | None]
    sk_lookup: int | None
    gaps: tuple[Gap, ...]


def host_to_dict(host: HostNetwork) -> dict[str, Any]:
    """Return it as JSON data; the inverse is host_from_dict."""
    return {
        "interfaces": [{**entry._asdict(), "addresses": list(entry.addresses)} for entry in host.interfaces],
        "routes": [route._asdict() for route in host.routes],
        "rules": [rule._asdict() for rule in host.rules],
        "sysctls": dict(host.sysctls),
        "sk_lookup": host.sk_lookup,
        "gaps": [gap.to_dict() for gap in host.gaps],
    }


def host_from_dict(data: Mapping[str, Any]) -> HostNetwork:
    """Read back what host_to_dict wrote. Raises KeyError or TypeError when it is something else."""
    return HostNetwork(
        tuple(Interface(**{**entry, "addresses": tuple(entry["addresses"])}) for entry in data["interfaces"]),
        tuple(Route(**route) for route in data["routes"]),
        tuple(RoutingRule(**rule) for rule in data["rules"]),
        dict(data["sysctls"]),
        data["sk_lookup"],
        tuple(Gap(**gap) for gap in data["gaps"]),
    )
