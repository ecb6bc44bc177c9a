# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse a bad declaration before a host is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
name: declaration_errors
version_added: 0.1.0
author:
  - The loopguard.loopback authors (@loopguard)
short_description: Say what is wrong with the services that hosts declare
description:
  - Reads the declarations of many hosts at once, so that one task on the controller checks them all before a host is touched.
  - A defect that several hosts share, because it stands in a group's variables, is told once.
positional: _input
options:
  _input:
    description: The variables of each host by its name, usually C(hostvars).
    type: dict
    required: true
  hosts:
    description: The hosts whose declarations are read; all of O(_input) by default.
    type: list
    elements: str
  variables:
    description: The names of the variables that may hold a declaration. The first one that a host has is read, a host without
      any declares nothing.
    type: list
    elements: str
    default: [loopguard_services]
  known:
    description: Variables of some hosts that C(hostvars) does not show, such as those of the play or a role; they replace what
      O(_input) has for these hosts.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Refuse a bad declaration
  ansible.builtin.assert:
    that: problems | length == 0
    fail_msg: "{{ problems | join(' ') }}"
  vars:
    problems: "{{ hostvars | loopguard.loopback.declaration_errors(hosts=ansible_play_hosts_all) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: One sentence for each defect, naming the hosts and the item; empty when there is none.
  type: list
  elements: str
  sample:
    - "db1: loopguard_services[2] 'cache': port 63790000 is not a port (1 to 65535)."
"""

from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import DeclarationError, parse_services
from ansible_collections.loopguard.loopback.plugins.module_utils._services.catalogue import KIND_NAMES

_MOST_HOSTS = 3


def declaration_errors(
    hostvars: Mapping[str, Any],
    hosts: Sequence[str] | None = None,
    variables: Sequence[str] = ("loopguard_services",),
    known: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return one sentence for each defect of the hosts' declarations."""
    if not isinstance(hostvars, Mapping):
        raise AnsibleFilterError(f"declaration_errors takes the variables of hosts by name, not a {type(hostvars).__name__}")
    named: dict[str, list[str]] = {}
    for host in hostvars if hosts is None else hosts:
        own = known[host] if known and host in known else hostvars[host]
        for variable in variables:
            if variable in own:
                for problem in _problems(own[variable], variable):
                    named.setdefault(problem, []).append(str(host))
                break
    return [f"{_list(names)}: {problem}" for problem, names in named.items()]


def _problems(declaration: Any, variable: str) -> list[str]:
    try:
        parse_services(declaration, KIND_NAMES, variable)
    except DeclarationError as error:
        return error.problems
    return []


def _list(hosts: list[str]) -> str:
    more = len(hosts) - _MOST_HOSTS
    return ", ".join(hosts[:_MOST_HOSTS]) + (f" and {more} more" if more > 0 else "")


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"declaration_errors": declaration_errors}
