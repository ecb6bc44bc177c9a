# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control `firewall` of every service in a result of exposure_info."""

from __future__ import annotations

DOCUMENTATION = r"""
name: firewall_controls
version_added: 0.1.0
author:
  - The loopguard.loopback authors (@loopguard)
short_description: Judge whether the packet filter closes services to everyone but this machine
description:
  - The verdict of M(loopguard.loopback.exposure_info) says who can reach a service by any path, so a service that is bound to
    loopback is sealed without a rule. This control asks what the packet filter would do if the service listened on every address.
  - A packet filter that could not be read, or a rule that sends packets for the port elsewhere, makes V(unknown).
positional: _input
options:
  _input:
    description: The result of M(loopguard.loopback.exposure_info).
    type: dict
    required: true
  firewall:
    description: The fact C(loopguard_firewall) of M(loopguard.loopback.firewall_facts).
    type: dict
    required: true
  services:
    description: The declaration that the result was made with.
    type: list
    elements: dict
    default: []
  keep:
    description: Networks that may reach every service.
    type: list
    elements: str
    default: []
seealso:
  - module: loopguard.loopback.exposure_info
  - module: loopguard.loopback.firewall_facts
"""

EXAMPLES = r"""
- name: See the packet filter
  loopguard.loopback.firewall_facts:

- name: Judge the services of this host
  loopguard.loopback.exposure_info:
    services: "{{ loopguard_services }}"
  register: result

- name: The packet filter closes every one
  ansible.builtin.assert:
    that: controls | rejectattr('status', 'in', ['pass', 'not_applicable']) | length == 0
  vars:
    controls: >-
      {{ result | loopguard.loopback.firewall_controls(firewall=ansible_facts.loopguard_firewall, services=loopguard_services) }}
"""

RETURN = r"""
_value:
  description: One control for each exposure, in the same order.
  type: list
  elements: dict
  contains:
    service:
      description: The name of the service.
      type: str
      returned: always
    control:
      description: Always V(firewall).
      type: str
      returned: always
    status:
      description: V(not_applicable) when the user waived the control.
      type: str
      returned: always
      choices: [pass, fail, unknown, not_applicable, not_checked]
    port:
      description: The port.
      type: int
      returned: always
    protocol:
      description: The protocol.
      type: str
      returned: always
    kind:
      description: The kind of service, V(null) when it was not recognised.
      type: str
      returned: always
    declared:
      description: Whether the user declared the service.
      type: bool
      returned: always
    evidence:
      description: What the status rests on, the most important first.
      type: list
      elements: str
      returned: always
    text:
      description: The service, the evidence and the next step in one line.
      type: str
      returned: always
"""

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.firewall_control import FirewallJudge
from ansible_collections.loopguard.loopback.plugins.module_utils._model.firewall import firewall_from_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.host import host_from_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import DeclarationError, Service, parse_services
from ansible_collections.loopguard.loopback.plugins.module_utils._services.catalogue import KIND_NAMES


def firewall_controls(
    result: Mapping[str, Any], firewall: Mapping[str, Any], services: Any = (), keep: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return the control of each exposure in a result of exposure_info."""
    try:
        declared = {service.name: service for service in parse_services(list(services), KIND_NAMES)}
        judge = FirewallJudge(firewall_from_dict(firewall), host_from_dict(firewall["host"]), keep)
        rows = [(_service(row, declared), row) for row in result["exposures"]]
    except (DeclarationError, ValueError) as error:
        raise AnsibleFilterError(f"firewall_controls: {error}") from error
    except (KeyError, TypeError) as error:
        raise AnsibleFilterError("firewall_controls takes the result of exposure_info and the fact of firewall_facts") from error
    controls = [judge.control(service, row) for service, row in rows]
    return [{**control._asdict(), "evidence": list(control.evidence)} for control in controls]


def _service(row: Mapping[str, Any], declared: Mapping[str, Service]) -> Service:
    if row["declared"]:
        return declared[row["name"]]
    return Service(row["name"], row["port"], row["protocol"], row["kind"], declared=False)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"firewall_controls": firewall_controls}
