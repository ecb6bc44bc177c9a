# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge a Windows host on the controller, for it has no Python."""

from __future__ import annotations

DOCUMENTATION = r"""
name: windows_exposure
version_added: 0.1.0
author:
  - The loopguard.loopback authors (@loopguard)
short_description: Who can reach a service of a Windows host, and by which path
description:
  - Judges, on the controller, what was gathered on a Windows host. M(loopguard.loopback.exposure_info) gathers it there and uses
    this filter, so that most playbooks need only the module.
  - Evaluates the bind address, the rules of the Windows Firewall that are in force and the profile of each interface, and the
    entries of C(netsh interface portproxy) and command lines of known relays.
  - A rule that blocks beats one that allows. What ties a rule to a program, a service, a user, an interface or a keyword such as
    C(LocalSubnet) is not evaluated, so such a rule may decide and makes the verdict V(unknown), never V(sealed).
positional: _input
options:
  _input:
    description: The JSON text that C(plugins/plugin_utils/_windows/evidence.ps1) of this collection leaves as the result of
      M(ansible.windows.win_powershell).
    type: str
    required: true
  listeners:
    description: The facts of M(ansible.windows.win_listen_ports_facts), C(tcp_listen) and C(udp_listen).
    type: dict
    required: true
  services:
    description: The services that are meant for loopback, as for M(loopguard.loopback.exposure_info).
    type: list
    elements: dict
    default: []
  discover:
    description: Judge undeclared listeners too, when they are of a kind that belongs on loopback.
    type: bool
    default: true
  evidence:
    description: V(brief) returns what people read, V(full) every key of every listener and every source.
    type: str
    choices: [brief, full]
    default: brief
seealso:
  - module: loopguard.loopback.exposure_info
"""

EXAMPLES = r"""
- name: Judge a Windows host from what was recorded of it
  ansible.builtin.debug:
    msg: "{{ record.evidence | loopguard.loopback.windows_exposure(listeners=record.listeners, services=loopguard_services) }}"
  vars:
    record: "{{ lookup('ansible.builtin.file', 'web1.json') | from_json }}"
"""

RETURN = r"""
_value:
  description: What M(loopguard.loopback.exposure_info) returns, without the times in C(host).
  type: dict
  contains:
    exposures:
      description: One entry for each service, the worst first.
      type: list
      elements: dict
    summary:
      description: How many services have each verdict.
      type: dict
    unknowns:
      description: What could not be seen on this host.
      type: list
      elements: dict
    firewall:
      description:
        - The rules of the Windows Firewall in the shape of the fact C(loopguard_firewall) of M(loopguard.loopback.firewall_facts), for
          P(loopguard.loopback.firewall_controls#filter). Returned with O(evidence=full).
      type: dict
    host:
      description: C(hostname), C(privileged), C(system), C(own_rules) and an empty C(namespace).
      type: dict
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.discovery import discover as discovered
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.exposure import judge
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.record import result
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.windows import with_proxies
from ansible_collections.loopguard.loopback.plugins.module_utils._model.evidence import Evidence
from ansible_collections.loopguard.loopback.plugins.module_utils._model.firewall import firewall_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.host import host_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import DeclarationError, parse_services
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import windows
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.error import ParseError
from ansible_collections.loopguard.loopback.plugins.module_utils._services.catalogue import KIND_NAMES


def windows_exposure(
    text: str, listeners: Mapping[str, Any], services: Any = (), discover: bool = True, evidence: str = "brief"
) -> dict[str, Any]:
    """Return what exposure_info documents. Raises AnsibleFilterError that names what was not understood."""
    if not isinstance(text, str) or not isinstance(listeners, Mapping):
        raise AnsibleFilterError("windows_exposure: takes the JSON text of the evidence and the facts of win_listen_ports_facts")
    try:
        declared = parse_services(list(services), KIND_NAMES)
        host = windows.parse(text)
        rows, gaps = windows.parse_listeners(listeners, host.commands)
    except (DeclarationError, ParseError) as error:
        raise AnsibleFilterError(f"windows_exposure: {error}") from error
    rows = with_proxies(rows, host.proxies)
    if discover:
        declared += discovered(rows, declared, "")
    seen = Evidence(rows, [*gaps, *host.gaps], host.relays, "", host.firewall, host.network)
    about = {
        "hostname": host.hostname,
        "privileged": host.elevated,
        "recorded": False,
        "system": "windows",
        "namespace": "",
        "own_rules": list(host.own_rules),
    }
    judged = {**result(seen, judge(seen, declared), full=evidence == "full"), "host": about}
    return {**judged, "firewall": {**firewall_to_dict(host.firewall), "host": host_to_dict(host.network)}} if evidence == "full" else judged


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"windows_exposure": windows_exposure}
