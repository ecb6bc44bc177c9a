# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit over 20 hosts against a ping over the same hosts, with the same forks and pipelining."""

from __future__ import annotations

import sys

import pytest

HOSTS = 20
EQUIVALENT = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.setup:
    - community.general.listen_ports_facts:
    - ansible.builtin.command: iptables-save
      changed_when: false
      become: false
    - ansible.builtin.command: ip6tables-save
      changed_when: false
    - ansible.builtin.command: sysctl -a
      changed_when: false
      register: sysctls
    - ansible.builtin.assert:
        that: sysctls.stdout is search('route_localnet')
        quiet: true
"""


RULES = "iptables-nft -A INPUT -i lo -j ACCEPT; iptables-nft -A INPUT -p tcp --dport 6379 -j DROP; ip6tables-nft -A INPUT -i lo -j ACCEPT;"


@pytest.mark.parametrize(("services", "rules"), [(0, ""), (1, RULES)], ids=["nothing to judge", "a service and rules"])
def test_the_audit_costs_little_more_than_a_ping(tmp_path, table, in_turn, holding, services, rules):
    inventory = tmp_path / "inventory.yml"
    hosts = "".join(f"    host{number:02}:\n" for number in range(HOSTS))
    variables = f"  vars: {{ansible_connection: local, ansible_python_interpreter: {sys.executable}}}\n"
    inventory.write_text(f"all:\n  hosts:\n{hosts}{variables}")
    (tmp_path / "ping.yml").write_text("- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n")
    (tmp_path / "equivalent.yml").write_text(EQUIVALENT)

    def play(*argv):
        return holding(services, "ansible-playbook", "-i", str(inventory), *argv, first=6379, rules=rules)

    environment = {"ANSIBLE_FORKS": str(HOSTS), "ANSIBLE_PIPELINING": "1"}
    report = f"exposure_report_directory={tmp_path}/reports"
    commands = {
        "ping": play(str(tmp_path / "ping.yml")),
        "audit": play("loopguard.loopback.audit", "-e", '{"exposure_report_formats": []}'),
        "audit, report written": play("loopguard.loopback.audit", "-e", report),
    }
    costs = in_turn(commands, **environment)
    costs |= in_turn({"setup, listen_ports_facts, iptables-save, ...": play(str(tmp_path / "equivalent.yml"))}, runs=1, **environment)
    for name, cost in costs.items():
        table(f"{HOSTS} hosts: {name}", cost, costs["ping"])
    assert costs["audit"].wall <= 1.5 * costs["ping"].wall
    assert costs["audit, report written"].wall <= 2.0 * costs["ping"].wall
