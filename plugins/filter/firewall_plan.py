# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be loaded on a host, and by which program, so that its declared services are closed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: firewall_plan
version_added: 0.1.0
author:
  - The loopguard.loopback authors (@loopguard)
short_description: Plan the rules that close declared services
description:
  - Groups the services that have the same sources, chooses the program that loads the rules, and says what speaks against it.
  - Services whose control C(firewall) is waived are left out.
positional: _input
options:
  _input:
    description: The fact C(loopguard_firewall) of M(loopguard.loopback.firewall_facts).
    type: dict
    required: true
  services:
    description: The declared services.
    type: list
    elements: dict
    default: []
  backend:
    description: Who loads the rules; V(auto) follows who manages the host.
    type: str
    choices: [auto, iptables, nftables, ufw, firewalld]
    default: auto
  keep:
    description: Networks that may reach every service.
    type: list
    elements: str
    default: []
  tools:
    description: Names of the programs that the host has, of which C(nft) counts.
    type: list
    elements: str
    default: []
  connection:
    description: C(SSH_CONNECTION) of the login, to recognise a service that it came in by.
    type: str
    default: ""
  log:
    description: How dropped packets are to be logged.
    type: str
    choices: [none, log, nflog]
    default: none
"""

EXAMPLES = r"""
- name: Tell what would be loaded
  ansible.builtin.debug:
    msg: "{{ ansible_facts.loopguard_firewall | loopguard.loopback.firewall_plan(services=loopguard_services, tools=['nft']) }}"
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    backend:
      description: Who loads the rules.
      type: str
      returned: always
      choices: [nftables, iptables, iptables-nft, iptables-legacy, ufw, firewalld]
    why:
      description: What that rests on.
      type: str
      returned: always
    groups:
      description: Services with the same sources, with C(services), C(ports) by protocol, and the sources C(ipv4) and C(ipv6).
      type: list
      elements: dict
      returned: always
    forwards:
      description: Whether packets for ports of the host may go on to a container or another host.
      type: bool
      returned: always
    localnet:
      description: Sysctls that let the network in to 127.0.0.0/8, as paths below C(/proc/sys).
      type: list
      elements: str
      returned: always
    needed_by:
      description: Programs of the host that set these sysctls because they need them.
      type: list
      elements: str
      returned: always
    former:
      description: Backends that hold rules of an earlier run.
      type: list
      elements: str
      returned: always
    problems:
      description: Sentences that say why nothing may be changed.
      type: list
      elements: str
      returned: always
"""

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.firewall_plan import BACKENDS, Wishes, plan
from ansible_collections.loopguard.loopback.plugins.module_utils._model.firewall import firewall_from_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.network import network_range
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import DeclarationError, parse_services
from ansible_collections.loopguard.loopback.plugins.module_utils._services.catalogue import KIND_NAMES


def firewall_plan(
    firewall: Mapping[str, Any],
    services: Any = (),
    backend: str = "auto",
    keep: Sequence[str] = (),
    tools: Sequence[str] = (),
    connection: str = "",
    log: str = "none",
) -> dict[str, Any]:
    """Return the plan for one host as plain data."""
    if backend not in BACKENDS:
        raise AnsibleFilterError(f"firewall_plan: backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    try:
        wishes = Wishes(backend, tuple(network_range(source).text for source in keep), connection, log)
        declared = parse_services(list(services), KIND_NAMES)
        found = plan(firewall, firewall_from_dict(firewall).tables, tools, declared, wishes)
    except (DeclarationError, ValueError) as error:
        raise AnsibleFilterError(f"firewall_plan: {error}") from error
    except (KeyError, TypeError) as error:
        raise AnsibleFilterError("firewall_plan takes the fact loopguard_firewall of firewall_facts") from error
    groups = [
        {
            "services": list(group.services),
            "ports": {protocol: list(ports) for protocol, ports in group.ports.items()},
            "ipv4": list(group.ipv4),
            "ipv6": list(group.ipv6),
        }
        for group in found.groups
    ]
    lists = {key: list(getattr(found, key)) for key in ("localnet", "needed_by", "former", "problems")}
    return {**found._asdict(), **lists, "groups": groups}


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"firewall_plan": firewall_plan}
