# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules of 500 services, applied with a dead-man, against iptables-restore alone and one module call."""

from __future__ import annotations

import json
import sys

SERVICES = 500


def test_500_services_are_one_transaction(tmp_path, table, in_turn, holding):
    rules = [
        "*filter",
        ":LOOPGUARD - [0:0]",
        "-A LOOPGUARD -i lo -j RETURN",
        "-A LOOPGUARD -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j RETURN",
    ]
    for port in range(20000, 20000 + SERVICES):
        rules += [f"-4 -A LOOPGUARD -p tcp --dport {port} -s 10.2.0.0/24 -j RETURN", f"-A LOOPGUARD -p tcp --dport {port} -j DROP"]
    text = "\n".join([*rules, "-I INPUT 1 -j LOOPGUARD", "COMMIT", ""])
    (tmp_path / "rules").write_text(text)
    task = json.dumps({"ruleset": text, "backend": "iptables-nft"})
    (tmp_path / "inventory").write_text(f"localhost ansible_connection=local ansible_python_interpreter={sys.executable}\n")

    def module(name, *arguments):
        ansible = ["ansible", "localhost", "-i", str(tmp_path / "inventory"), "-m", name, *arguments]
        return holding(0, "unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "-", *ansible)

    restore = f"iptables-nft-restore --noflush {tmp_path}/rules && ip6tables-nft-restore --noflush {tmp_path}/rules"
    costs = in_turn(
        {
            "iptables-restore, both families": holding(0, "sh", "-c", restore),
            "one module call (ping)": module("ansible.builtin.ping"),
            f"firewall_ruleset, {SERVICES} services": module("loopguard.loopback.firewall_ruleset", "-a", task),
        },
        ANSIBLE_PIPELINING="1",
    )
    alone, call, ours = costs.values()
    peer = alone._replace(wall=alone.wall + call.wall)
    for name, cost in costs.items():
        table(name, cost, peer)
    assert ours.wall <= 3 * peer.wall
