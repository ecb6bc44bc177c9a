# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real rulesets of every backend, each in a network namespace of its own, against what the tools print."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

FIXTURES = Path(__file__).resolve().parents[3] / "unit/plugins/module_utils/fixtures"
HERE = "ansible_collections.loopguard.loopback.plugins"
MODULE = f"""
import json
from ansible.module_utils import basic
from {HERE}.modules import firewall_facts
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = json.dumps({{"ANSIBLE_MODULE_ARGS": {{}}}}).encode(), "legacy"
firewall_facts.main()
"""
PERSISTED = f"""
import json, sys
from {HERE}.module_utils._collect import command, files, firewall, netlink, persisted
run = command.runner()
rules = firewall.collect_ruleset(run, files.read_text, netlink.dump)
print(json.dumps(persisted.compare_persisted(rules, run, sys.argv[1]).to_dict()))
"""
SETS = "ipset create v4 hash:net; ipset create v6 hash:net family inet6; ipset add v4 192.0.2.0/24"


def in_namespace(setup, command, *options):
    """Run a shell script and then a command in a new network namespace; return the command's standard output."""
    script = f'set -eu; {{ {setup}; }} >&2; "$@"'
    found = subprocess.run(
        ["unshare", "--net", *options, "bash", "-c", script, "bash", *command], check=True, capture_output=True, text=True, timeout=120
    )
    return found.stdout


def facts(setup, *options, prefix=()):
    result = json.loads(in_namespace(setup, [*prefix, sys.executable, "-c", MODULE], *options))
    assert result["changed"] is False
    return result["ansible_facts"]["loopguard_firewall"]


def gaps(found):
    return {gap["subject"]: gap["reason"] for gap in found["gaps"]}


def texts(found, backend, family=None):
    """Return the rules as (table, text) in their order."""
    return sorted(
        (table["name"], chain["name"], rule["number"], rule["text"])
        for table in found["tables"]
        if table["backend"] == backend and table["family"] == (family or table["family"])
        for chain in table["chains"]
        for rule in chain["rules"]
    )


def saved(text):
    """Split what iptables-save prints without our parser."""
    rows, table, counts = [], "", {}
    for line in text.splitlines():
        if line.startswith("*"):
            table, counts = line[1:], {}
        elif line.startswith("-A "):
            chain = line.split()[1]
            counts[chain] = counts.get(chain, 0) + 1
            rows.append((table, chain, counts[chain], line))
    return sorted(rows)


def test_nothing_is_there_and_nothing_is_made():
    found = facts(":")
    assert found["complete"]
    assert found["tables"] == []
    assert set(found["sources"].values()) == {"empty"}
    assert found["managers"][0]["name"] == "none"
    assert found["host"]["interfaces"][0]["name"] == "lo"
    after = in_namespace(":", ["bash", "-c", f"'{sys.executable}' -c '{MODULE}' >&2; cat /proc/net/ip_tables_names; nft list tables"])
    assert after == ""


@pytest.mark.parametrize("kind", ["nft", "legacy"])
@pytest.mark.parametrize(("suffix", "tool", "family"), [("v4", "iptables", "ip"), ("v6", "ip6tables", "ip6")])
def test_iptables_is_read_back_rule_by_rule(kind, suffix, tool, family):
    file = FIXTURES / "iptables" / f"1.8.9-debian12-{kind}.{suffix}"
    setup = f"{SETS}; {tool}-{kind}-restore < {file}"
    found = facts(setup)
    assert found["complete"], found["gaps"]
    expected = saved(in_namespace(setup, [f"{tool}-{kind}-save"]))
    assert len(expected) > 40
    assert texts(found, f"iptables-{kind}", family) == expected
    assert found["sources"][f"{tool}-{kind}-save"] == "read"
    assert [entry["entries"] for entry in found["ipsets"] if entry["name"] == "v4"] == [["192.0.2.0/24"]]


def test_native_nftables_is_read_back_rule_by_rule():
    file = FIXTURES / "nft" / "1.0.6-debian12-everything.txt"
    found = facts(f"nft -f {file}")
    assert found["complete"], found["gaps"]
    printed = re.findall(r"^\t\t(.*) # handle \d+$", in_namespace(f"nft -f {file}", ["nft", "-a", "list", "ruleset"]), re.MULTILINE)
    rules = {(table["family"], table["name"], chain["name"], rule["number"]): rule["text"]
             for table in found["tables"] for chain in table["chains"] for rule in chain["rules"]}  # fmt: skip
    assert sorted(rules.values()) == sorted(printed)
    assert found["managers"][0]["name"] == "plain"


def test_everything_at_once():
    v4, v6 = (FIXTURES / "iptables" / f"1.8.9-debian12-nft.{suffix}" for suffix in ("v4", "v6"))
    setup = (
        f"{SETS}; iptables-nft-restore < {v4}; ip6tables-nft-restore < {v6}; iptables-legacy-restore < {v4}; "
        "nft add table inet mine; nft 'add chain inet mine in { type filter hook input priority 5; }'; nft add rule inet mine in tcp dport 22 drop"
    )
    found = facts(setup)
    assert found["complete"], found["gaps"]
    assert [(table["backend"], table["family"]) for table in found["tables"]].count(("iptables-legacy", "ip")) == 5
    assert texts(found, "nftables") == [("mine", "in", 1, "tcp dport 22 drop")]
    assert texts(found, "iptables-legacy", "ip") == saved(in_namespace(setup, ["iptables-legacy-save"]))


def test_a_rule_that_nft_adds_to_a_table_of_iptables_keeps_its_meaning():
    setup = "iptables-nft -A INPUT -m conntrack --ctstate NEW -j LOG; nft 'add rule ip filter INPUT tcp dport { 22, 80 } drop'"
    assert "-A INPUT -p tcp -j DROP" in in_namespace(setup, ["iptables-nft-save"])  # what iptables 1.8.9 makes of it
    found = facts(setup)
    assert found["complete"], found["gaps"]
    rules = next(chain["rules"] for chain in found["tables"][0]["chains"] if chain["name"] == "INPUT")
    assert [match["values"] for rule in rules for match in rule["matches"]] == [["NEW"], ["tcp"], ["22", "80"]]


def hidden(*tools):
    """Let the tools vanish in a mount namespace of their own; the folders of root are searched whatever PATH says."""
    return "; ".join(f"mount --bind /dev/null $(readlink -f $(command -v {tool}))" for tool in tools)


def test_missing_tools_are_named():
    setup = f"{SETS}; iptables-nft -A INPUT -m conntrack --ctstate NEW -j DROP; iptables-legacy -A INPUT -j DROP; nft add table inet mine; "
    found = facts(setup + hidden("iptables-nft-save", "iptables-legacy-save", "nft", "ipset"), "--mount")
    assert not found["complete"]
    assert gaps(found) == {"nft": "absent", "iptables-legacy-save": "absent", "ipset": "absent"}
    assert {found["sources"][name] for name in ("nft", "iptables-nft-save", "iptables-legacy-save", "ipset")} == {"absent"}
    assert found["tables"] == []


def test_without_iptables_its_rules_are_read_from_nft_as_far_as_it_tells():
    setup = "iptables-nft -A INPUT -m recent --name x --rcheck -j DROP; iptables-nft -A INPUT -p tcp --dport 22 -j ACCEPT; "
    found = facts(setup + hidden("iptables-nft-save"), "--mount")
    assert gaps(found) == {"table ip filter": "absent"}
    assert "iptables-nft-save" in found["gaps"][0]["text"]
    rules = found["tables"][0]["chains"][0]["rules"]
    assert [match["field"] for match in rules[0]["matches"]] == ["unknown"]
    assert [match["field"] for match in rules[1]["matches"]] == ["protocol", "destination_port"]


def test_native_rules_in_a_table_with_a_name_of_iptables_need_no_iptables():
    setup = "nft add table ip filter; nft 'add chain ip filter in { type filter hook input priority 0; policy drop; }'; "
    found = facts(setup + hidden("iptables-nft-save"), "--mount")
    assert found["complete"], found["gaps"]
    assert found["tables"][0]["chains"][0]["policy"] == "drop"


def test_a_tool_that_hangs_costs_bounded_time(tmp_path):
    fake = tmp_path / "fake"
    fake.write_text("#!/bin/sh\nexec sleep 1000\n")
    fake.chmod(0o755)
    setup = f"iptables-nft -A INPUT -m conntrack --ctstate NEW -j DROP; mount --bind {fake} $(readlink -f $(command -v iptables-nft-save))"
    start = time.monotonic()
    found = facts(setup, "--mount")
    assert time.monotonic() - start < 25
    assert gaps(found)["iptables-nft-save"] == "timeout"
    assert found["sources"]["iptables-nft-save"] == "timeout"


def test_without_privilege_everything_is_denied_at_once():
    prefix = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    found = facts("iptables-nft -A INPUT -j DROP", prefix=prefix)
    assert not found["complete"]
    assert gaps(found)["nf_tables"] == "denied"
    assert found["sources"]["nft"] == "denied"
    assert found["managers"] == []
    assert found["persisted"]["state"] in ("nothing", "unknown")


def test_saved_rules_of_nftables_are_compared_without_touching_the_running_ones(tmp_path):
    conf = "flush ruleset\ntable inet mine {\n chain in {\n  type filter hook input priority 0; policy drop;\n  tcp dport { 22, 80 } counter accept\n }\n}\n"
    wants = tmp_path / "etc/systemd/system/sysinit.target.wants"
    wants.mkdir(parents=True)
    (wants / "nftables.service").symlink_to("/lib/systemd/system/nftables.service")
    (tmp_path / "etc/nftables.conf").write_text(conf)
    command = [sys.executable, "-c", PERSISTED, str(tmp_path)]
    setup = f"nft -f {tmp_path}/etc/nftables.conf"
    assert json.loads(in_namespace(setup, command))["state"] == "same"
    found = json.loads(in_namespace(f"{setup}; nft add rule inet mine in udp dport 53 accept", command))
    assert found["state"] == "different"
    assert [(one["where"], one["text"]) for one in found["differences"]] == [("runtime", "udp dport 53 accept")]


def test_the_module_through_ansible_in_check_mode():
    output = subprocess.run(
        ["ansible", "testhost", "--check", "-m", "loopguard.loopback.firewall_facts"], check=True, capture_output=True, text=True
    ).stdout
    assert output.startswith("testhost | SUCCESS")
    assert '"loopguard_firewall"' in output
