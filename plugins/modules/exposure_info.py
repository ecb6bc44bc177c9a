#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: exposure_info
short_description: Who, other than this machine itself, can reach a service, and by which path
version_added: 0.1.0
author: The loopguard.loopback authors (@loopguard)
description:
  - Gathers the listeners, the packet filter and the network of a host and judges every service in the same round trip.
  - A service is V(sealed) only when every path to it was evaluated, over IPv4 and over IPv6, and is closed.
    Whatever could not be read or evaluated makes it V(unknown), and is named.
  - Evaluates the bind address, the packet filter on the way in (iptables with nf_tables and legacy, nftables), C(route_localnet),
    rules that send packets on (DNAT, REDIRECT, NETMAP, published containers), and relays, by their command lines, their configurations
    and the connections that are open.
  - A host counts as Windows when its shell is C(powershell) or C(cmd), as it is with the connections C(winrm) and C(psrp). There the
    action runs M(ansible.windows.win_listen_ports_facts) and M(ansible.windows.win_powershell) and judges on the controller;
    of the options it takes O(services), O(discover) and O(evidence).
options:
  services:
    description:
      - The services that are meant for loopback. In playbooks this is the variable C(loopguard_services).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: A name for people; it must be unique.
        type: str
        required: true
      port:
        description: The port, 1 to 65535.
        type: int
        required: true
      protocol:
        description: The transport protocol.
        type: str
        choices: [tcp, udp, udplite, sctp, dccp]
        default: tcp
      kind:
        description: The kind of service, such as V(postgresql). Recognised from the process or the port when absent.
        type: str
      allow:
        description: Networks that may reach the service besides loopback, such as V(10.2.0.0/24).
        type: list
        elements: str
        default: []
      controls:
        description:
          - "Controls that are waived, such as C({tls: not_applicable}) or C({tls: {status: not_applicable, reason: ...}})."
        type: dict
        default: {}
  discover:
    description:
      - Judge undeclared listeners too, when they are of a kind that belongs on loopback.
    type: bool
    default: true
  forwards:
    description:
      - Port forwards that are known from elsewhere, each with C(protocol), C(internal_address), C(internal_port), C(external_port) and C(router).
    type: list
    elements: dict
    default: []
    suboptions:
      protocol:
        description: The transport protocol.
        type: str
        required: true
        choices: [tcp, udp]
      internal_address:
        description: The address that the router sends to.
        type: str
        required: true
      internal_port:
        description: The port that the router sends to.
        type: int
        required: true
      external_port:
        description: The port on the outside of the router.
        type: int
        required: true
      router:
        description: The router, as people call it.
        type: str
        required: true
  listeners:
    description:
      - The recorded facts of M(loopguard.loopback.bind_facts), to judge a host from its record in place of this one.
    type: dict
  firewall:
    description:
      - The recorded fact C(loopguard_firewall) of M(loopguard.loopback.firewall_facts).
    type: dict
  evidence:
    description:
      - V(brief) returns what people read, V(full) every key of every listener and every source.
    type: str
    choices: [brief, full]
    default: brief
extends_documentation_fragment:
  - loopguard.loopback.attributes
  - loopguard.loopback.attributes.info
attributes:
  platform:
    support: full
    platforms: linux, windows
seealso:
  - module: loopguard.loopback.bind_facts
  - module: loopguard.loopback.firewall_facts
  - plugin: loopguard.loopback.windows_exposure
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Judge what is declared, and every database, cache and debug port besides
  loopguard.loopback.exposure_info:
    services:
      - {name: orders-db, port: 5432}
      - {name: cache, port: 6379, allow: [10.2.0.0/24]}
  register: exposure

- name: Nothing is exposed
  ansible.builtin.assert:
    that: exposure.summary.exposed == 0

- name: Judge a host from its record
  loopguard.loopback.exposure_info:
    listeners: "{{ record.listeners }}"
    firewall: "{{ record.firewall }}"
  delegate_to: localhost
  vars:
    record: "{{ lookup('ansible.builtin.file', 'db1.json') | from_json }}"
"""

RETURN = r"""
exposures:
  description: One entry for each service, the worst first.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name as declared, or the kind of a discovered service.
      type: str
      returned: always
      sample: redis
    port:
      description: The port.
      type: int
      returned: always
      sample: 6379
    protocol:
      description: The transport protocol.
      type: str
      returned: always
      choices: [tcp, udp, udplite, sctp, dccp]
    kind:
      description: The kind of service; V(null) when it is not recognised.
      type: str
      returned: always
      sample: redis
    declared:
      description: Whether the service was declared, V(false) when it was discovered.
      type: bool
      returned: always
    verdict:
      description: V(absent) is a service that was declared and does not listen.
      type: str
      returned: always
      choices: [exposed, unknown, sealed, absent]
    scope:
      description: The widest scope that the service is bound to; V(null) when it does not listen.
      type: str
      returned: always
      choices: [loopback, link_local, private, public, wildcard]
    listeners:
      description: Its sockets; the keys are those of M(loopguard.loopback.bind_facts), fewer of them with O(evidence=brief).
      type: list
      elements: dict
      returned: always
    paths:
      description: The ways in that are open, or not shown to be closed.
      type: list
      elements: dict
      returned: always
      contains:
        family:
          description: The address family.
          type: str
          returned: always
          choices: [ipv4, ipv6]
        interface:
          description: The interface on which the packets arrive; V(any) when it holds for every one but loopback.
          type: str
          returned: always
          sample: eth0
        via:
          description: What opens the path.
          type: str
          returned: always
          choices: [bind, route_localnet, redirect, relay, router]
        reach:
          description: V(maybe) when something that could not be evaluated decides.
          type: str
          returned: always
          choices: [accepted, maybe]
        sources:
          description: Who gets in, at most 64 networks with O(evidence=brief).
          type: list
          elements: str
          returned: always
          sample: [0.0.0.0/0]
        sources_omitted:
          description: How many more networks there are.
          type: int
          returned: always
        destinations:
          description: The addresses of this host that lead to the service.
          type: list
          elements: str
          returned: always
        decided_by:
          description:
            - The rules that might decide, then the one that does; rule V(0) is the policy of a chain, C(handle) the number of nftables.
            - Empty without a packet filter.
          type: list
          elements: dict
          returned: always
          sample: [{backend: iptables-nft, family: ip, table: filter, chain: INPUT, rule: 0, text: policy ACCEPT, handle: 0}]
        text:
          description: The path as a sentence.
          type: str
          returned: always
          sample: "anyone on eth0 (IPv4): no rule in INPUT decides, policy ACCEPT"
        shown:
          description:
            - What shows that a relay leads to the service; V(null) for a path that is none.
            - V(program) is a program that hands on what it gets, while nothing tells where to.
          type: str
          returned: always
          choices: [connection, configuration, command_line, program]
    reasons:
      description: Why the verdict is what it is, the most important first.
      type: list
      elements: str
      returned: always
    unknowns:
      description: What kept a path from being decided; C(subject), C(reason) and C(text).
      type: list
      elements: dict
      returned: always
    checked:
      description: The kinds of path that were evaluated.
      type: list
      elements: str
      returned: always
    controls:
      description: The controls that the declaration waives, with the reason given.
      type: dict
      returned: always
firewall:
  description: The rules of a Windows host in the shape of the fact C(loopguard_firewall) of M(loopguard.loopback.firewall_facts).
  returned: on Windows with O(evidence=full)
  type: dict
summary:
  description: How many services have each verdict.
  returned: success
  type: dict
  contains:
    exposed: {description: Services with an open path., type: int, returned: always}
    unknown: {description: Services that could not be judged., type: int, returned: always}
    sealed: {description: Services that only this machine reaches., type: int, returned: always}
    absent: {description: Declared services that do not listen., type: int, returned: always}
unknowns:
  description: What could not be seen on this host; C(subject), C(reason) and C(text).
  returned: success
  type: list
  elements: dict
host:
  description: Where and how the evidence was gathered.
  returned: success
  type: dict
  contains:
    hostname:
      description: The name of the host.
      type: str
      returned: always
    privileged:
      description: Whether the module ran as root.
      type: bool
      returned: always
    recorded:
      description: Whether recorded facts were judged.
      type: bool
      returned: always
    seconds:
      description: How long gathering and judging took.
      type: float
      returned: always
    system:
      description: V(linux) or V(windows). The other keys of a Windows host are the same; it has no C(namespace).
      type: str
      returned: always
      sample: linux
    own_rules:
      description: The names of the rules in the group C(loopguard.loopback) of the Windows Firewall.
      type: list
      elements: str
      returned: on Windows
    collected:
      description: When, in UTC.
      type: str
      returned: always
    namespace:
      description: The inode of the network namespace.
      type: str
      returned: always
"""

from ansible_collections.loopguard.loopback.plugins.module_utils._collect.zipped import hasten

hasten()  # before anything else is imported

import os
import platform
import time
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.command import runner
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.listeners import collect
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.netlink import dump
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.discovery import discover
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import DeclarationError, parse_services
from ansible_collections.loopguard.loopback.plugins.module_utils._model.vocabulary import VERDICTS
from ansible_collections.loopguard.loopback.plugins.module_utils._services.catalogue import KIND_NAMES

if TYPE_CHECKING:
    from ansible_collections.loopguard.loopback.plugins.module_utils._model.evidence import Evidence
    from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import Service


def main() -> None:
    forward = {name: {"type": "str", "required": True} for name in ("internal_address", "router")}
    forward["protocol"] = {"type": "str", "required": True, "choices": ["tcp", "udp"]}
    forward.update({name: {"type": "int", "required": True} for name in ("internal_port", "external_port")})
    module = AnsibleModule(
        argument_spec={
            "services": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "port": {"type": "int", "required": True},
                    "protocol": {"type": "str", "choices": ["tcp", "udp", "udplite", "sctp", "dccp"], "default": "tcp"},
                    "kind": {"type": "str"},
                    "allow": {"type": "list", "elements": "str", "default": []},
                    "controls": {"type": "dict", "default": {}},
                },
            },
            "discover": {"type": "bool", "default": True},
            "forwards": {"type": "list", "elements": "dict", "default": [], "options": forward},
            "listeners": {"type": "dict"},
            "firewall": {"type": "dict"},
            "evidence": {"type": "str", "choices": ["brief", "full"], "default": "brief"},
        },
        required_together=[("listeners", "firewall")],
        supports_check_mode=True,
    )
    options = module.params
    begun = time.monotonic()
    recorded = options["listeners"] is not None
    try:
        services = parse_services(options["services"], KIND_NAMES)
    except DeclarationError as error:
        module.fail_json(msg=str(error))
    judged, namespace = _recorded(module, services) if recorded else _live(module, services)
    host = {
        "hostname": platform.node(),
        "privileged": os.geteuid() == 0,
        "recorded": recorded,
        "system": platform.system().lower(),
        "collected": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "namespace": namespace,
        "seconds": round(time.monotonic() - begun, 3),
    }
    module.exit_json(changed=False, host=host, **judged)


def _live(module: AnsibleModule, services: tuple[Service, ...]) -> tuple[dict[str, Any], str]:
    """Judge this host. Where root finds nothing that belongs on loopback, no rule needs to be read."""
    run = runner()
    found = collect(dump, run)
    if module.params["discover"]:
        services += discover(found.rows, services, found.namespace)
    if not services and os.geteuid() == 0:
        unknowns = [gap.to_dict() for gap in found.gaps]
        return {"exposures": [], "summary": dict.fromkeys(VERDICTS, 0), "unknowns": unknowns}, found.namespace
    from ansible_collections.loopguard.loopback.plugins.module_utils._collect.evidence import gather

    return _verdicts(module, gather(run, found), services), found.namespace


def _recorded(module: AnsibleModule, services: tuple[Service, ...]) -> tuple[dict[str, Any], str]:
    from ansible_collections.loopguard.loopback.plugins.module_utils._judge.record import RecordError, evidence_from_facts

    try:
        evidence = evidence_from_facts(module.params["listeners"], module.params["firewall"])
    except RecordError as error:
        module.fail_json(msg=str(error))
    if module.params["discover"]:
        services += discover(evidence.listeners, services, evidence.namespace)
    return _verdicts(module, evidence, services), evidence.namespace


def _verdicts(module: AnsibleModule, evidence: Evidence, services: tuple[Service, ...]) -> dict[str, Any]:
    from ansible_collections.loopguard.loopback.plugins.module_utils._judge.exposure import judge
    from ansible_collections.loopguard.loopback.plugins.module_utils._judge.record import result

    exposures = judge(evidence, services, module.params["forwards"])
    return result(evidence, exposures, full=module.params["evidence"] == "full")


if __name__ == "__main__":
    main()
