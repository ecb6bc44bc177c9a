# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The control `bind` of every service in a result of exposure_info."""

from __future__ import annotations

DOCUMENTATION = r"""
name: bind_controls
version_added: 0.1.0
author:
  - The loopguard.loopback authors (@loopguard)
short_description: Judge whether services listen wider than declared
description:
  - The verdict of M(loopguard.loopback.exposure_info) says who can reach a service by any path. This control says whether
    the service itself listens no wider than loopback; a firewall does not turn V(fail) into V(pass).
  - A service with V(allow) may listen wider. Then the control fails only when others than the allowed sources get in by its
    own sockets.
positional: _input
options:
  _input:
    description: The result of M(loopguard.loopback.exposure_info).
    type: dict
    required: true
  services:
    description: The declaration that the result was made with.
    type: list
    elements: dict
    default: []
  fixable:
    description: The kinds whose bind setting the caller can rewrite.
    type: list
    elements: str
    default: []
seealso:
  - module: loopguard.loopback.exposure_info
"""

EXAMPLES = r"""
- name: Judge the services of this host
  loopguard.loopback.exposure_info:
    services: "{{ loopguard_services }}"
  register: result

- name: Nothing listens wider than declared
  ansible.builtin.assert:
    that: controls | selectattr('status', 'eq', 'fail') | length == 0
  vars:
    controls: "{{ result | loopguard.loopback.bind_controls(services=loopguard_services) }}"
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
      description: Always V(bind).
      type: str
      returned: always
    status:
      description: V(not_applicable) when nothing listens or the user waived the control.
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
    fixable:
      description: Whether the bind setting can be rewritten and nothing speaks against it.
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
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.bind_control import judge
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import DeclarationError, parse_services
from ansible_collections.loopguard.loopback.plugins.module_utils._services.catalogue import KIND_NAMES


def bind_controls(result: Mapping[str, Any], services: Any = (), fixable: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Return the control of each exposure in a result of exposure_info."""
    try:
        declared = {service.name: service for service in parse_services(list(services), KIND_NAMES)}
    except DeclarationError as error:
        raise AnsibleFilterError(str(error)) from error
    try:
        exposures = result["exposures"]
    except (KeyError, TypeError) as error:
        raise AnsibleFilterError("bind_controls takes the result of exposure_info, which has exposures") from error
    controls = [judge(row, declared.get(row["name"]) if row["declared"] else None, fixable) for row in exposures]
    return [{**control._asdict(), "evidence": list(control.evidence)} for control in controls]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"bind_controls": bind_controls}
