# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.command import Output
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.persisted import compare_persisted, managers
from ansible_collections.loopguard.loopback.plugins.module_utils._model.firewall import Firewall
from ansible_collections.loopguard.loopback.plugins.module_utils._model.gap import Gap
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import iptables_save, nft_json

FIXTURES = Path(__file__).parents[1] / "fixtures"
V4, V6 = "iptables/1.8.9-debian12-nft.v4", "iptables/1.8.9-debian12-nft.v6"
NFT = "nft/1.0.6-debian12-everything.json"


def text(name):
    return (FIXTURES / name).read_text()


def running(*names, gaps=()):
    tables = []
    for name in names:
        content = text(name)
        if name.endswith(".json"):
            tables += nft_json.parse(content, name)[0]
        else:
            tables += iptables_save.parse(content, name, "iptables-nft", "ip6" if name.endswith("6") else "ip")[0]
    return Firewall(tuple(tables), {}, tuple(gaps), {})


@pytest.fixture
def host(tmp_path):
    """A root folder: host(path, text) writes a file, host.enable(unit) enables a unit."""

    def write(path, content):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)

    def enable(unit):
        wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True, exist_ok=True)
        (wants / unit).symlink_to(f"/lib/systemd/system/{unit}")

    write.enable, write.root = enable, str(tmp_path)
    return write


def refused(argv):
    return Gap(argv[0], "absent", f"{argv[0]} is not installed")


def compared(host, firewall, run=refused):
    found = compare_persisted(firewall, run, host.root)
    json.dumps(found.to_dict())
    return found


def test_saved_rules_that_are_the_running_ones(host):
    host.enable("netfilter-persistent.service")
    host("etc/iptables/rules.v4", text(V4.replace("nft.v4", "nft-counters.v4")))
    host("etc/iptables/rules.v6", text(V6))
    found = compared(host, running(V4, V6))
    assert (found.state, found.differences) == ("same", ())
    assert [(source.path, source.state) for source in found.sources] == [
        ("/etc/iptables/rules.v4", "same"),
        ("/etc/iptables/rules.v6", "same"),
    ]


def test_a_rule_more_a_rule_less_another_policy_and_another_order(host):
    host.enable("netfilter-persistent.service")
    saved = text(V4).replace("-A INPUT -p gre -j ACCEPT\n", "").replace("-A tail -j DROP", "-A tail -j ACCEPT")
    first, second = "-A INPUT -p sctp -m sctp --dport 9 -j ACCEPT\n", "-A INPUT -p dccp -m dccp --dport 9 -j ACCEPT\n"
    saved = saved.replace(":INPUT DROP", ":INPUT ACCEPT")
    host("etc/iptables/rules.v4", saved)
    found = compared(host, running(V4))
    assert found.state == "different"
    assert {(one.where, one.chain, one.text) for one in found.differences} == {
        ("runtime", "INPUT", "policy DROP"),
        ("runtime", "INPUT", "-A INPUT -p gre -j ACCEPT"),
        ("runtime", "tail", "-A tail -j DROP"),
        ("saved", "tail", "-A tail -j ACCEPT"),
    }
    host("etc/iptables/rules.v4", text(V4).replace(first + second, second + first))
    assert [(one.where, one.text) for one in compared(host, running(V4)).differences] == [("order", first.strip())]


def test_tables_that_no_file_speaks_of_are_gone_after_a_reboot(host):
    host.enable("netfilter-persistent.service")
    host("etc/iptables/rules.v4", text(V4))
    found = compared(host, running(V4, V6))
    assert found.state == "different"
    assert {one.family for one in found.differences} == {"ip6"}


def test_a_file_that_nothing_loads_is_no_persistence(host):
    host("etc/iptables/rules.v4", text(V4))
    found = compared(host, running(V4))
    assert found.state == "nothing"
    assert [(source.enabled, source.state) for source in found.sources] == [(False, "unknown")]


def test_a_masked_unit_loads_nothing(host, tmp_path):
    host.enable("netfilter-persistent.service")
    (tmp_path / "etc/systemd/system/netfilter-persistent.service").symlink_to("/dev/null")
    host("etc/iptables/rules.v4", text(V4))
    assert compared(host, running(V4)).state == "nothing"


@pytest.mark.parametrize("content", ["<html>", "", "*filter\n:INPUT DROP\n-A INPUT --frob\nCOMMIT\n"])
def test_a_file_that_cannot_be_read_is_unknown(host, content):
    host.enable("netfilter-persistent.service")
    host("etc/iptables/rules.v4", content)
    found = compared(host, running())
    assert found.state == "unknown"
    assert "/etc/iptables/rules.v4" in found.sources[0].reason


def test_rules_that_could_not_be_read_are_not_the_same_as_anything(host):
    host.enable("netfilter-persistent.service")
    host("etc/iptables/rules.v4", text(V4))
    assert compared(host, running(V4, gaps=[Gap("nft", "denied", "no")])).state == "unknown"


def test_chains_that_live_by_themselves_are_not_compared(host):
    host.enable("netfilter-persistent.service")
    host("etc/iptables/rules.v4", text("iptables/1.8.9-debian12-nft-legacy-warning.v4") + "*filter\n:FORWARD ACCEPT\nCOMMIT\n")
    found = compared(host, running("iptables/1.8.9-debian12-nft-netavark.v4"))
    assert found.state == "same"
    assert any("NETAVARK" in line for line in found.ignored)


def test_nftables_conf_is_loaded_aside_and_compared(host):
    host.enable("nftables.service")
    host("etc/nftables.conf", "flush ruleset\n")
    asked = []

    def run(argv):
        asked.append(argv)
        return Output(0, text(NFT), "")

    assert compared(host, running(NFT), run).state == "same"
    assert asked[0][:2] == ["unshare", "-n"]
    assert asked[0][-1] == f"{host.root}/etc/nftables.conf"
    assert compared(host, running(NFT, V4), run).state == "different"
    found = compared(host, running(NFT), lambda argv: Output(1, "", "Error: Interface does not exist"))
    assert found.state == "unknown"
    assert "Interface does not exist" in found.sources[0].reason


def test_firewalld_is_asked_for_both(host):
    host.enable("firewalld.service")
    zone = "public (active)\n  target: default\n  interfaces: eth0\n  services: ssh\n"

    def run(argv):
        return Output(0, zone.replace("eth0", "").replace(" (active)", "") if "--permanent" in argv else zone, "")

    assert compared(host, running(), run).state == "same"

    def changed(argv):
        return Output(0, zone.replace("ssh", "ssh http") if "--permanent" in argv else zone, "")

    assert {(one.where, one.text) for one in compared(host, running(), changed).differences} == {
        ("runtime", "services: ssh"),
        ("saved", "services: ssh http"),
    }
    assert compared(host, running()).state == "unknown"


UFW = ("iptables/1.8.9-debian12-nft-ufw.v4", "iptables/1.8.9-debian12-nft-ufw.v6")


def test_the_rules_of_ufw_are_compared_with_what_the_kernel_makes_of_its_files(host):
    host.enable("ufw.service")
    host("etc/ufw/ufw.conf", text("ufw/0.36.2-debian12-ufw.conf"))
    host("etc/ufw/user.rules", text("ufw/0.36.2-debian12-user.rules"))
    host("etc/ufw/user6.rules", text("ufw/0.36.2-debian12-user6.rules"))
    made = {"user.rules": text("ufw/0.36.2-debian12-user-aside.v4"), "user6.rules": text("ufw/0.36.2-debian12-user-aside.v6")}

    def run(argv):
        assert argv[:2] == ["unshare", "-n"]
        return Output(0, made[Path(argv[-1]).name], "")

    found = compared(host, running(*UFW), run)
    assert (found.state, found.differences) == ("same", ())
    assert any("ufw" in line for line in found.ignored)
    assert [manager.name for manager in managers(running(*UFW), host.root)] == ["ufw"]
    made["user.rules"] = made["user.rules"].replace("-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT\n", "")
    found = compared(host, running(*UFW), run)
    assert [(one.where, one.chain) for one in found.differences] == [("runtime", "ufw-user-input")]
    assert compared(host, running(*UFW)).state == "unknown"


def test_a_file_that_a_person_wrote_is_compared_as_the_kernel_spells_it(host):
    host.enable("iptables.service")
    host("etc/sysconfig/iptables", text("ufw/0.36.2-debian12-user.rules"))
    now = running("ufw/0.36.2-debian12-user-aside.v4")
    found = compared(host, now, lambda argv: Output(0, text("ufw/0.36.2-debian12-user-aside.v4"), ""))
    assert found.state == "same"
    found = compared(host, now)
    assert found.state == "unknown"
    assert "unshare is not installed" in found.sources[0].reason


def test_nothing_is_saved_and_nothing_runs(host):
    assert compared(host, running()) == ("nothing", (), (), ())


def test_managers(host):
    assert [manager.name for manager in managers(running(), host.root)] == ["none"]
    assert managers(running(gaps=[Gap("nft", "denied", "no")]), host.root) == []
    found = managers(running(V4), host.root)
    assert [(manager.name, manager.active) for manager in found] == [("plain", True)]
    found = managers(running("iptables/1.8.9-debian12-nft-netavark.v4"), host.root)
    assert [manager.name for manager in found] == ["podman"]
    assert found[0].evidence[0].startswith("chain NETAVARK")


def test_a_manager_that_is_enabled_and_has_no_rules(host):
    host.enable("ufw.service")
    assert [manager.name for manager in managers(running(), host.root)] == ["none"]
    host("etc/ufw/ufw.conf", "# comment\nENABLED=yes\nLOGLEVEL=low\n")
    found = managers(running(), host.root)
    assert [(manager.name, manager.active, manager.enabled) for manager in found] == [("ufw", False, True)]
