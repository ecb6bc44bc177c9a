#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall_facts
short_description: What the packet filter of this host holds now and after a reboot, and who manages it
version_added: 0.1.0
author: The loopguard.loopback authors (@loopguard)
description:
  - Reads every packet filter of the host's network namespace into one form, that is native nftables, iptables on nftables,
    legacy iptables, each for IPv4 and IPv6, and ipsets.
  - Asks the kernel first which tables it holds. What is proven empty is not asked again, and what a tool does not show, or shows
    wrongly, is found out; C(iptables-nft-save) prints rules that C(nft) made without the parts that it does not understand.
  - Tells who manages the rules, and compares them with those that would be loaded at boot.
  - Reads interfaces, addresses, routes, the sysctls on the boundary of loopback, and whether programs (XDP, tc, sk_lookup) see packets first.
  - Changes nothing. In particular C(iptables-legacy-save) is not run where it would create the tables that it looks for.
  - Reading the rules takes root. Without it, or without a tool, the result says what is missing.
extends_documentation_fragment:
  - loopguard.loopback.attributes
  - loopguard.loopback.attributes.facts
  - loopguard.loopback.attributes.linux
seealso:
  - module: loopguard.loopback.exposure_info
"""

EXAMPLES = r"""
- name: Read the packet filter
  loopguard.loopback.firewall_facts:

- name: What is filtered now is filtered after a reboot
  ansible.builtin.assert:
    that:
      - ansible_facts.loopguard_firewall.complete
      - ansible_facts.loopguard_firewall.persisted.state == 'same'
    fail_msg: "{{ ansible_facts.loopguard_firewall.persisted.differences }}"
"""

RETURN = r"""
ansible_facts:
  description: The packet filter of the host.
  returned: always
  type: dict
  contains:
    loopguard_firewall:
      description: The packet filter of the host; O(loopguard.loopback.exposure_info#module:firewall) takes it.
      returned: always
      type: dict
      contains:
        complete:
          description: Whether everything could be read. When V(false), RV(ansible_facts.loopguard_firewall.gaps) says what is missing.
          type: bool
          returned: always
        gaps:
          description: What could not be read or understood, and why.
          type: list
          elements: dict
          returned: always
          contains: &gap
            subject:
              description: What was asked, a command, a table, or a rule as source and line.
              type: str
              returned: always
            reason:
              description: Why there is no answer.
              type: str
              returned: always
              choices: [absent, denied, failed, timeout, unparsable, unsupported, not_evaluated]
            text:
              description: What the tool, the kernel or the parser said.
              type: str
              returned: always
        sources:
          description:
            - What was asked and how it went, V(read), V(empty) (there is proof that it holds nothing), V(absent) (no such tool),
              V(denied), V(failed), V(timeout) or V(unparsable).
          type: dict
          returned: always
          sample: {iptables-nft-save: read, ip6tables-nft-save: read, nft: empty, iptables-legacy-save: empty, ip6tables-legacy-save: empty, ipset: empty}
        tables:
          description: The tables that the kernel holds.
          type: list
          elements: dict
          returned: always
          contains:
            family:
              description: The family.
              type: str
              returned: always
              choices: [ip, ip6, inet, arp, bridge, netdev]
            name:
              description: The name.
              type: str
              returned: always
              sample: filter
            backend:
              description: What made the table.
              type: str
              returned: always
              choices: [iptables-nft, iptables-legacy, nftables]
            source:
              description: The command that showed it.
              type: str
              returned: always
              sample: iptables-nft-save
            chains:
              description: The chains. A chain with a hook is a base chain, where packets enter.
              type: list
              elements: dict
              returned: always
              contains:
                name:
                  description: The name.
                  type: str
                  returned: always
                  sample: INPUT
                type:
                  description: The type of a base chain, V(filter), V(nat) or V(route).
                  type: str
                  returned: always
                hook:
                  description: Where packets enter a base chain.
                  type: str
                  returned: always
                  choices: [ingress, prerouting, input, forward, output, postrouting, egress]
                priority:
                  description: The order among base chains of one hook, lower first.
                  type: int
                  returned: always
                policy:
                  description: What happens at the end of a base chain.
                  type: str
                  returned: always
                  choices: [accept, drop]
                devices:
                  description: The interfaces of an ingress or egress chain.
                  type: list
                  elements: str
                  returned: always
                rules:
                  description: The rules in their order.
                  type: list
                  elements: dict
                  returned: always
                  contains:
                    number:
                      description: The place in the chain, from 1. A rule with a verdict map comes once for each of its verdicts.
                      type: int
                      returned: always
                    matches:
                      description:
                        - The conditions, all of which must hold. Each has RV(ignore:field), RV(ignore:values) of which one must hold,
                          RV(ignore:negated), and RV(ignore:text) as written.
                        - A condition that has no exact form has the field V(unknown).
                      type: list
                      elements: dict
                      returned: always
                      sample: [{field: destination_port, values: ["22"], negated: false, text: --dport 22}]
                    target:
                      description: What the rule does, as RV(ignore:kind) and RV(ignore:argument).
                      type: dict
                      returned: always
                      sample: {kind: accept, argument: ""}
                    text:
                      description: The rule as the tool prints it, without counters.
                      type: str
                      returned: always
                      sample: -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
                    line:
                      description: The line in what the tool printed; V(0) where that has no lines.
                      type: int
                      returned: always
                    handle:
                      description: The handle of nftables; V(0) without one.
                      type: int
                      returned: always
            sets:
              description: The named sets and maps of nftables, in the form of RV(ansible_facts.loopguard_firewall.ipsets).
              type: list
              elements: dict
              returned: always
        ipsets:
          description: The ipsets.
          type: list
          elements: dict
          returned: always
          contains:
            name:
              description: The name.
              type: str
              returned: always
            type:
              description: The type.
              type: str
              returned: always
              sample: hash:net
            entries:
              description: The members.
              type: list
              elements: str
              returned: always
            excluded:
              description: Members that are exceptions (C(nomatch)).
              type: list
              elements: str
              returned: always
            complete:
              description: V(false) when members come and go by themselves, or one was not understood.
              type: bool
              returned: always
        managers:
          description: Who manages the rules.
          type: list
          elements: dict
          returned: always
          contains:
            name:
              description: The program; V(plain) for rules that none of them made, V(none) for no rules.
              type: str
              returned: always
              choices: [ufw, firewalld, docker, podman, fail2ban, kube-proxy, libvirt, plain, none]
            active:
              description: Whether it has rules in the kernel.
              type: bool
              returned: always
            enabled:
              description: Whether it starts at boot; V(null) when that is not a matter of a unit.
              type: bool
              returned: always
            evidence:
              description: What tells so.
              type: list
              elements: str
              returned: always
              sample: [chain ufw-user-input in iptables-nft ip filter, ufw is enabled]
        persisted:
          description: The rules that would stand after a reboot, compared with those that stand now.
          type: dict
          returned: always
          contains:
            state:
              description:
                - V(same), V(different), V(nothing) (nothing loads rules at boot), or V(unknown).
              type: str
              returned: always
              choices: [same, different, nothing, unknown]
            sources:
              description: The files and services that hold rules for the next boot, each with its own RV(ignore:state) and RV(ignore:reason).
              type: list
              elements: dict
              returned: always
              sample: [{path: /etc/iptables/rules.v4, kind: iptables, enabled: true, state: same, reason: ""}]
            differences:
              description: Rules that only one side has (V(runtime) or V(saved)), or that both have in another V(order); at most 200.
              type: list
              elements: dict
              returned: always
              sample: [{where: runtime, family: ip, table: filter, chain: INPUT, text: -A INPUT -p tcp -m tcp --dport 8080 -j ACCEPT}]
            ignored:
              description: What was not compared, and why.
              type: list
              elements: str
              returned: always
        host:
          description: The network of the host.
          type: dict
          returned: always
          contains:
            interfaces:
              description: The interfaces, with addresses and whether XDP or tc programs see their packets first.
              type: list
              elements: dict
              returned: always
              sample: [{name: eth0, index: 2, kind: "", up: true, loopback: false, master: null, addresses: [192.0.2.2/24], xdp: false, tc: false}]
            routes:
              description: The routes of every table.
              type: list
              elements: dict
              returned: always
              sample: [{family: ipv4, destination: 0.0.0.0/0, gateway: 192.0.2.1, interface: eth0, table: main, type: unicast}]
            rules:
              description: The rules of policy routing, without the kernel's own three.
              type: list
              elements: dict
              returned: always
            sysctls:
              description: The sysctls on the boundary of loopback, by their path; V(null) when one could not be read.
              type: dict
              returned: always
              sample: {net/ipv4/ip_forward: 0, net/ipv4/conf/all/route_localnet: 0}
            sk_lookup:
              description: How many BPF programs choose sockets in this network namespace; V(null) when that could not be asked.
              type: int
              returned: always
            gaps:
              description: What could not be read of the network. It is in RV(ansible_facts.loopguard_firewall.gaps) too.
              type: list
              elements: dict
              returned: always
              contains: *gap
"""

from ansible_collections.loopguard.loopback.plugins.module_utils._collect.zipped import hasten

hasten()  # before anything else is imported

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.command import runner
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.files import read_text
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.firewall import collect_ruleset
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.host_network import collect_network
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.netlink import dump
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.persisted import compare_persisted, managers
from ansible_collections.loopguard.loopback.plugins.module_utils._model.firewall import firewall_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.host import host_to_dict


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    run = runner()
    firewall = collect_ruleset(run, read_text, dump)
    host = collect_network(read_text, dump)
    facts = {
        **firewall_to_dict(firewall._replace(gaps=(*firewall.gaps, *host.gaps))),
        "complete": not firewall.gaps and not host.gaps,
        "managers": [manager._asdict() for manager in managers(firewall)],
        "persisted": compare_persisted(firewall, run).to_dict(),
        "host": host_to_dict(host),
    }
    module.exit_json(changed=False, ansible_facts={"loopguard_firewall": facts})


if __name__ == "__main__":
    main()
