#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall_ruleset
short_description: Apply a packet filter ruleset in one transaction, and put the former rules back when it locks the controller out
version_added: 0.1.0
author: The loopguard.loopback authors (@loopguard)
description:
  - Owns the chains O(name) and O(name)C(-*) of iptables, in every table, or the table C(inet <name>) of nftables, and replaces them as a whole.
    Nothing else is flushed, saved or reordered; the chains of Docker, fail2ban and others stay as they are.
  - Before anything is applied, the rules that stand now are loaded in a network namespace of their own, and the new ones are applied there, in the
    same transaction. So a ruleset that the tools or the kernel refuse never gets as far as the host, check mode shows the exact change, and
    a ruleset that changes nothing is not applied.
  - A ruleset that would certainly drop the SSH connection of this task is refused.
  - With O(confirm), a process of its own applies the rules and puts the former ones back after O(confirm_timeout), unless the controller got back in over a
    new connection. It survives the module, the SSH session and the controller, and does not depend on the time of day. IPv4 and IPv6 are put back together,
    and what was not there before is not there afterwards.
  - On any failure the former rules stand again, and the message says so. One run at a time changes a host; a second one waits for it, as long as its own
    O(confirm_timeout).
extends_documentation_fragment:
  - loopguard.loopback.attributes
  - loopguard.loopback.attributes.linux
options:
  ruleset:
    description:
      - The rules as text. Required for O(state=present).
      - For iptables, what C(iptables-restore) reads, with C(*table) and C(COMMIT), for both families. A rule with C(-4) or C(-6) is for that family alone.
        Declare each chain of yours (C(:LOOPGUARD - [0:0])) and say where it is called from (C(-I INPUT 1 -j LOOPGUARD)). The calls that are there already
        are taken out in the same transaction, so that each one stands once, in the place that the ruleset says.
      - For nftables, what C(nft -f) reads, usually one C(table inet loopguard { ... }). A table of that name is replaced.
      - Whatever else the text says is done as well, and is put back as well when it comes to that.
    type: str
  backend:
    description:
      - The packet filter to use. V(iptables) is the one that the commands of that name stand for on the host.
    type: str
    choices: [iptables, iptables-nft, iptables-legacy, nftables]
    required: true
  families:
    description:
      - The address families that iptables applies the ruleset to. The other one is left alone. For nftables the text decides.
    type: list
    elements: str
    choices: [ipv4, ipv6]
    default: [ipv4, ipv6]
  state:
    description:
      - V(absent) removes the chains and the calls to them, or the table, and the unit of O(persist).
      - iptables-legacy cannot remove a table; what it brought into being stays, empty and accepting, until the host is started again.
    type: str
    choices: [present, absent]
    default: present
  name:
    description:
      - What belongs to this ruleset is called so. The table of nftables has the name in lower case.
      - A letter, then up to 22 letters, digits, C(-) or C(_).
    type: str
    default: LOOPGUARD
  confirm:
    description:
      - Whether a new connection must come about before the rules are kept.
      - With V(false), nobody notices that the host can no longer be reached.
    type: bool
    default: true
  confirm_timeout:
    description:
      - How many seconds after the new rules the former ones are put back, unless they were confirmed.
    type: int
    default: 20
  persist:
    description:
      - Whether the rules stand after a reboot too. A unit of systemd restores them, and nothing else, before the network is up, and again when
        C(nftables.service) or another one that loads rules is restarted or reloaded.
      - The unit is written once the rules are confirmed. With V(false), one that an earlier run wrote is removed.
    type: bool
    default: false
  run:
    description: What the action plugin tells the module of the run that it belongs to. Not for playbooks.
    type: dict
    default: {}
    suboptions:
      step:
        description: What to do.
        type: str
        choices: [apply, confirm, outcome]
        default: apply
      id:
        description: The name of the run.
        type: str
        default: unnamed
      remote:
        description: Whether the confirmation has to come over another connection.
        type: bool
        default: false
attributes:
  check_mode:
    support: full
    details:
      - Tries the ruleset aside, returns what would change, and applies nothing.
  diff_mode:
    support: full
  platform:
    support: full
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
    details:
      - The action plugin makes the new connection. It works with every connection plugin, with C(become), and without C(async).
notes:
  - Takes root on the target. Beside the tools of the backend it uses C(unshare), and C(systemd-run) or C(setsid).
  - What is needed to go back lies in C(/run/loopguard) until the next run; C(sh undo) in its folder puts the former rules back by hand.
seealso:
  - module: loopguard.loopback.firewall_facts
  - module: community.general.iptables_state
"""

EXAMPLES = r"""
- name: Port 6379 for this machine alone, over IPv4 and IPv6
  loopguard.loopback.firewall_ruleset:
    backend: iptables
    persist: true
    ruleset: |
      *filter
      :LOOPGUARD - [0:0]
      -A LOOPGUARD -i lo -j RETURN
      -4 -A LOOPGUARD -p tcp --dport 6379 -s 10.2.0.0/24 -j RETURN
      -A LOOPGUARD -p tcp --dport 6379 -j DROP
      -I INPUT 1 -j LOOPGUARD
      COMMIT

- name: The same with nftables
  loopguard.loopback.firewall_ruleset:
    backend: nftables
    ruleset: |
      table inet loopguard {
        chain input {
          type filter hook input priority filter - 10
          iifname != "lo" tcp dport 6379 ip saddr != 10.2.0.0/24 drop
          iifname != "lo" tcp dport 6379 meta nfproto ipv6 drop
        }
      }

- name: Gone again
  loopguard.loopback.firewall_ruleset:
    backend: iptables
    state: absent
"""

RETURN = r"""
backend:
  description: The packet filter that was used.
  returned: success
  type: str
  choices: [iptables-nft, iptables-legacy, nftables]
families:
  description: The address families that the ruleset is for.
  returned: success
  type: list
  elements: str
  choices: [ipv4, ipv6]
confirmed:
  description: Whether the rules were applied and a new connection came about after that. V(false) as well when there was nothing to apply.
  returned: success, and when applied rules were taken back
  type: bool
diff:
  description: The chains or tables that the ruleset changes, and the unit that restores them at boot, without counters.
  returned: success
  type: dict
  contains:
    before:
      description: As they are.
      type: str
      returned: always
    after:
      description: As they become.
      type: str
      returned: always
restored:
  description: What was put back as it had been, and was compared with what stood before.
  returned: when applied rules were taken back
  type: list
  elements: str
  choices: [ipv4, ipv6, nftables]
  sample: [ipv4, ipv6]
state:
  description:
    - What became of the run. V(gone) when nothing was applied; V(failed) or V(undoing) when the former rules could not be put back, and
      RV(ignore:msg) says where they are.
  returned: failure
  type: str
  choices: [armed, confirmed, undoing, restored, failed, gone]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.loopguard.loopback.plugins.module_utils._apply.error import ApplyError
from ansible_collections.loopguard.loopback.plugins.module_utils._apply.steps import STEPS, Asked
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.command import runner

SECONDS = 120


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ruleset": {"type": "str"},
            "backend": {"type": "str", "required": True, "choices": ["iptables", "iptables-nft", "iptables-legacy", "nftables"]},
            "families": {"type": "list", "elements": "str", "choices": ["ipv4", "ipv6"], "default": ["ipv4", "ipv6"]},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str", "default": "LOOPGUARD"},
            "confirm": {"type": "bool", "default": True},
            "confirm_timeout": {"type": "int", "default": 20},
            "persist": {"type": "bool", "default": False},
            "run": {
                "type": "dict",
                "default": {},
                "apply_defaults": True,
                "options": {
                    "step": {"type": "str", "choices": ["apply", "confirm", "outcome"], "default": "apply"},
                    "id": {"type": "str", "default": "unnamed"},
                    "remote": {"type": "bool", "default": False},
                },
            },
        },
        required_if=[("state", "present", ["ruleset"])],
        supports_check_mode=True,
    )
    options = module.params
    asked = Asked(
        options["ruleset"] or "",
        options["backend"],
        options["families"],
        options["state"] == "present",
        options["name"],
        options["confirm"],
        options["confirm_timeout"],
        options["persist"],
        module.check_mode,
        options["run"]["id"],
        options["run"]["remote"],
        module.tmpdir,
    )
    try:
        result = STEPS[options["run"]["step"]](runner(SECONDS), asked)
    except ApplyError as error:
        module.fail_json(msg=str(error), **{"state": "gone", **error.result})
    module.exit_json(**result)


if __name__ == "__main__":
    main()
