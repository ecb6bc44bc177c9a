# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of the Windows Firewall that close services to everyone but loopback and the allowed sources."""

from __future__ import annotations

DOCUMENTATION = r"""
name: windows_block_rules
version_added: 0.1.0
author:
  - The loopguard.loopback authors (@loopguard)
short_description: The rules of the Windows Firewall that close declared services
description:
  - Returns one inbound rule for each service that is closed to anyone and whose control C(firewall) is not waived, for
    M(community.windows.win_firewall_rule). It blocks, in every profile.
  - On Windows a rule that blocks beats every rule that allows. So a service with C(allow) is blocked for every address but the
    allowed ones, as ranges. The rule lets nobody in; that is left to the rules that allow, and to the default of the profile.
  - There is no exception for loopback, because the Windows Firewall does not see it; a rule with loopback addresses has no effect.
positional: _input
options:
  _input:
    description: The services, as for M(loopguard.loopback.exposure_info).
    type: list
    elements: dict
    required: true
  keep:
    description: Networks that no rule blocks.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Close the services
  community.windows.win_firewall_rule:
    name: "{{ item.name }}"
    group: loopguard.loopback
    direction: in
    action: block
    enabled: true
    profiles: [domain, private, public]
    protocol: "{{ item.protocol }}"
    localport: "{{ item.localport }}"
    remoteip: "{{ item.remoteip }}"
  loop: "{{ loopguard_services | loopguard.loopback.windows_block_rules }}"
"""

RETURN = r"""
_value:
  description: One rule for each service, none for a service that everyone may reach.
  type: list
  elements: dict
  contains:
    name:
      description: The name of the rule.
      type: str
      sample: loopguard.loopback tcp 5432
    protocol:
      description: V(tcp) or V(udp).
      type: str
    localport:
      description: The port.
      type: str
    remoteip:
      description: V(any), or the ranges of addresses that are not allowed.
      type: str
      sample: 0.0.0.0-10.1.255.255,10.3.0.0-255.255.255.255,::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
"""

from collections.abc import Sequence
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.loopguard.loopback.plugins.module_utils._model.network import network_range
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import DeclarationError, Service, parse_services
from ansible_collections.loopguard.loopback.plugins.module_utils._services.catalogue import KIND_NAMES

try:
    from netaddr import IPRange, IPSet
except ImportError as error:
    _missing: ImportError | None = error
else:
    _missing = None

_EVERYONE = ("0.0.0.0/0", "::/0")


def windows_block_rules(services: Any, keep: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return the rules. Raises AnsibleFilterError that names the service that cannot be closed by one."""
    if _missing:
        raise AnsibleFilterError(f"windows_block_rules: the Python library netaddr is missing on the controller: {_missing}")
    try:
        declared = parse_services(list(services), KIND_NAMES)
        kept = [network_range(str(text)).text for text in keep]
    except (DeclarationError, ValueError) as error:
        raise AnsibleFilterError(f"windows_block_rules: {error}") from error
    return [rule for service in declared if "firewall" not in service.controls for rule in _rule(service, (*service.allow, *kept))]


def _rule(service: Service, allow: Sequence[str]) -> list[dict[str, str]]:
    if service.protocol not in ("tcp", "udp"):
        raise AnsibleFilterError(f"windows_block_rules: {service.name}: Windows has no rules for ports of {service.protocol}")
    others = IPSet(_EVERYONE) - IPSet(network for text in allow for network in _cidrs(text))
    ranges = [f"{span[0]}-{span[-1]}" for span in others.iter_ipranges()]
    name, addresses = f"loopguard.loopback {service.protocol} {service.port}", ",".join(ranges) if allow else "any"
    rule = {"name": name, "protocol": service.protocol, "localport": str(service.port), "remoteip": addresses}
    return [rule] if ranges else []


def _cidrs(text: str) -> list[Any]:
    first, dash, last = text.partition("-")
    return list(IPRange(first, last).cidrs()) if dash else [text]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"windows_block_rules": windows_block_rules}
