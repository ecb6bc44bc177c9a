# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which tool is asked, what its failure means, and that nothing the kernel holds goes missing."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.command import Output
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.firewall import collect_ruleset
from ansible_collections.loopguard.loopback.plugins.module_utils._model.firewall import firewall_from_dict, firewall_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.gap import Gap
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import nfnetlink

FIXTURES = Path(__file__).parents[1] / "fixtures"
V4_SAVE, V6_SAVE = "iptables-nft-save", "ip6tables-nft-save"
V4_LEGACY, V6_LEGACY = "iptables-legacy-save", "ip6tables-legacy-save"
NFT, NFT_TEXT = "nft -j list ruleset", "nft -a list ruleset"
ALL_EMPTY = dict.fromkeys((V4_SAVE, V6_SAVE, "nft", V4_LEGACY, V6_LEGACY, "ipset"), "empty")
EPERM = PermissionError(errno.EPERM, "Operation not permitted")


def text(name):
    return (FIXTURES / name).read_text()


class Host:
    """A host in script: netlink answers, files and commands. Every command must be asked for, and no other."""

    def __init__(self, commands=None, kernel=None, files=None):
        self.commands = dict(commands or {})
        self.kernel = kernel or {}
        self.files = {"/proc/net/dev": "", **(files or {})}
        self.asked = []

    def run(self, argv):
        command = " ".join(argv)
        self.asked.append(command)
        answer = self.commands.get(command, Gap(argv[0], "absent", f"{argv[0]} is not installed"))
        return answer if isinstance(answer, (Gap, Output)) else Output(0, answer, "")

    def read(self, path):
        answer = self.files.get(path, FileNotFoundError(errno.ENOENT, "No such file or directory"))
        if isinstance(answer, OSError):
            raise answer
        return answer

    def dump(self, protocol, kind, payload):
        assert protocol == nfnetlink.NETLINK_NETFILTER
        family = "" if payload[0] == 0 else {2: "", 10: "6"}[payload[0]]
        names = {
            nfnetlink.NFT_MSG_GETTABLE: "tables",
            nfnetlink.NFT_MSG_GETCHAIN: f"chains{family}",
            nfnetlink.NFT_MSG_GETRULE: f"rules{family}",
            nfnetlink.IPSET_CMD_LIST: "ipsets",
        }
        answer = self.kernel.get(names[kind], [])
        if isinstance(answer, list):
            return answer
        if isinstance(answer, OSError):
            raise answer
        return [bytes.fromhex(line) for line in text(f"nfnetlink/6.18-debian12-{answer}.hex").split()]

    def collect(self):
        firewall = collect_ruleset(self.run, self.read, self.dump)
        unused = set(self.commands) - set(self.asked)
        assert not unused, f"never asked: {unused}"
        assert firewall_from_dict(json.loads(json.dumps(firewall_to_dict(firewall)))) == firewall
        return firewall


def kernel(name):
    return {kind: f"{name}-{kind}" for kind in ("tables", "chains", "rules")}


def test_nothing_is_run_where_the_kernel_holds_nothing():
    host = Host()
    firewall = host.collect()
    assert host.asked == []
    assert firewall == ((), {}, (), ALL_EMPTY)


@pytest.mark.parametrize("code", [errno.EPROTONOSUPPORT, errno.EINVAL])
def test_a_kernel_without_nf_tables_has_no_tables(code):
    assert Host(kernel={"tables": OSError(code, "no")}).collect() == ((), {}, (), ALL_EMPTY)


def test_without_privilege_every_source_is_denied_and_nothing_is_run():
    files = {"/proc/net/ip_tables_names": PermissionError(errno.EACCES, "Permission denied")}
    files["/proc/net/ip6_tables_names"] = files["/proc/net/ip_tables_names"]
    host = Host(kernel={"tables": EPERM, "ipsets": EPERM}, files={**files, "/sys/module/ip_set/parameters/max_sets": EPERM})
    firewall = host.collect()
    assert host.asked == []
    assert set(firewall.sources.values()) == {"denied"}
    assert {(gap.subject, gap.reason) for gap in firewall.gaps} == {
        ("nf_tables", "denied"),
        ("/proc/net/ip_tables_names", "denied"),
        ("/proc/net/ip6_tables_names", "denied"),
        ("ipset", "denied"),
    }


def test_netlink_that_a_sandbox_forbids_is_no_proof_of_an_empty_filter():
    firewall = Host(kernel={"tables": OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")}).collect()
    assert [(gap.subject, gap.reason) for gap in firewall.gaps] == [("nf_tables", "failed")]


def test_no_proc_is_no_proof_of_an_empty_filter():
    host = Host(files={"/proc/net/dev": FileNotFoundError(errno.ENOENT, "No such file or directory")})
    assert {(gap.subject, gap.reason) for gap in host.collect().gaps} == {("/proc/net", "failed")}


def iptables_host(**commands):
    saves = {V4_SAVE: text("iptables/1.8.9-debian12-nft.v4"), V6_SAVE: text("iptables/1.8.9-debian12-nft.v6")}
    sets = {"ipset save": text("ipset/7.17-debian12-every-kind.txt")}
    answers = {**saves, **sets, **commands}
    facts = {**kernel("iptables"), "chains6": "iptables-chains6", "rules6": "iptables-rules6", "ipsets": "ipsets"}
    return Host({key: value for key, value in answers.items() if value is not None}, facts)


def test_iptables_alone_needs_no_nft():
    host = iptables_host()
    firewall = host.collect()
    assert host.asked == [V4_SAVE, V6_SAVE, "ipset save"]
    assert not firewall.gaps
    assert firewall.sources == {**ALL_EMPTY, V4_SAVE: "read", V6_SAVE: "read", "ipset": "read"}
    assert {table.backend for table in firewall.tables} == {"iptables-nft"}
    assert len(firewall.ipsets) == 10


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Gap(V4_SAVE, "timeout", "no answer within 10 seconds"), "timeout"),
        (Output(1, "", "iptables-nft-save: Permission denied"), "denied"),
        (Output(3, "", "something broke"), "failed"),
        ("<html>", "unparsable"),
        ("# nothing\n*filter\n:INPUT ACCEPT\n", "unparsable"),
        ("", "empty"),
    ],
)
def test_a_save_that_fails_is_named_and_its_tables_are_taken_from_nft(answer, status):
    commands = {V4_SAVE: answer, NFT: text("nft/1.0.6-debian12-of-iptables.json"), NFT_TEXT: text("nft/1.0.6-debian12-of-iptables.txt")}
    firewall = iptables_host(**commands).collect()
    assert firewall.sources[V4_SAVE] == status
    assert any(V4_SAVE in gap.text for gap in firewall.gaps)
    tables = {(table.family, table.name): table for table in firewall.tables}
    assert tables["ip", "filter"].backend == "nftables"
    assert tables["ip6", "filter"].backend == "iptables-nft"
    assert "opaque" in {rule.target.kind for rule in tables["ip", "filter"].chains["INPUT"].rules}


def test_neither_tool_leaves_a_gap_for_each():
    host = iptables_host(**{V4_SAVE: None, V6_SAVE: None, "ipset save": None})
    host.files["/sys/module/ip_set/parameters/max_sets"] = "256"
    firewall = host.collect()
    assert firewall.tables == ()
    assert {gap.subject for gap in firewall.gaps} >= {"nft", "ipset"}
    assert {firewall.sources[source] for source in (V4_SAVE, V6_SAVE, "nft", "ipset")} == {"absent"}


def test_the_plain_name_serves_where_it_is_the_same_backend():
    plain = text("iptables/1.8.9-debian12-nft.v4")
    host = iptables_host(**{V4_SAVE: None, "iptables-save": plain})
    assert not host.collect().gaps


def test_the_plain_name_of_the_other_backend_does_not_serve():
    legacy = text("iptables/1.8.9-debian12-legacy.v4")
    host = iptables_host(**{V4_SAVE: None, "iptables-save": legacy, NFT: text("nft/1.0.6-debian12-of-iptables.json")})
    assert any(V4_SAVE in gap.text for gap in host.collect().gaps)


def foreign_host(name, **commands):
    saves = {V4_SAVE: text(f"iptables/1.8.9-debian12-nft-{name}.v4"), NFT: text(f"nft/1.0.6-debian12-{name}.json")}
    answers = {**saves, **commands}
    return Host({key: value for key, value in answers.items() if value is not None}, kernel(name))


def test_rules_that_iptables_nft_save_prints_wrongly_are_taken_from_nft():
    firewall = foreign_host("foreign").collect()
    assert not firewall.gaps
    rules = firewall.tables[0].chains["INPUT"].rules
    assert [[match.field for match in rule.matches] for rule in rules] == [
        ["protocol", "destination_port"],
        ["source"],
        ["protocol", "unknown"],
        ["protocol", "destination_port"],
    ]
    assert rules[0].matches[1].values == ("22", "80")
    assert rules[1].matches[0].values == ("10.0.0.1-10.0.0.9",)


def test_a_table_that_both_tools_wrote_is_read_rule_by_rule_from_the_one_that_tells():
    firewall = foreign_host("mixed", **{NFT_TEXT: text("nft/1.0.6-debian12-mixed.txt")}).collect()
    assert not firewall.gaps
    assert [rule.text for rule in firewall.tables[0].chains["INPUT"].rules][:2] == [
        "tcp dport { 22, 80 } drop",
        "ip saddr 10.0.0.1-10.0.0.9 drop",
    ]
    assert firewall.tables[0].chains["INPUT"].rules[-1].text == "-A INPUT -m conntrack --ctstate NEW -j ACCEPT"
    assert firewall.tables[0].chains["INPUT"].rules[-1].matches[0].field == "ct_state"


def test_a_base_chain_that_iptables_nft_save_leaves_out_is_not_lost():
    firewall = foreign_host("incompatible").collect()
    assert not firewall.gaps
    assert firewall.tables[0].chains["input"].policy == "drop"


@pytest.mark.parametrize("answer", [None, Gap("nft -j", "timeout", "no answer within 10 seconds"), Output(1, "", "broken"), "<html>"])
def test_without_nft_a_misprinted_table_is_a_gap(answer):
    firewall = foreign_host("foreign", **{NFT: answer}).collect()
    assert "table ip filter" in {gap.subject for gap in firewall.gaps}


def native_host(**commands):
    answers = {NFT: text("nft/1.0.6-debian12-everything.json"), NFT_TEXT: text("nft/1.0.6-debian12-everything.txt"), **commands}
    return Host({key: value for key, value in answers.items() if value is not None}, {"tables": "native-tables"})


def test_native_tables():
    host = native_host()
    firewall = host.collect()
    assert host.asked == [NFT, NFT_TEXT]
    assert not firewall.gaps
    assert firewall.sources == {**ALL_EMPTY, "nft": "read"}
    assert [(table.family, table.name) for table in firewall.tables] == [("inet", "t"), ("netdev", "nd"), ("inet", "dorm"), ("bridge", "b")]
    assert all(chain.hook is None for chain in firewall.tables[2].chains.values())


def test_a_table_that_the_kernel_holds_and_nft_does_not_show_is_a_gap():
    firewall = native_host(**{NFT: text("nft/1.0.6-debian12-foreign.json"), NFT_TEXT: None}).collect()
    assert {gap.subject for gap in firewall.gaps} == {"table inet t", "table netdev nd", "table inet dorm", "table bridge b"}


def test_rules_that_never_stand_still_are_a_gap():
    host = native_host()
    before = host.dump(nfnetlink.NETLINK_NETFILTER, nfnetlink.NFT_MSG_GETTABLE, nfnetlink.get_tables())
    changing = iter(range(1, 100))
    plain = host.dump

    def dump(protocol, kind, payload):
        if kind == nfnetlink.NFT_MSG_GETTABLE:
            return [message[:2] + next(changing).to_bytes(2, "big") + message[4:] for message in before]
        return plain(protocol, kind, payload)

    host.dump = dump
    assert ("nf_tables", "failed") in [(gap.subject, gap.reason) for gap in host.collect().gaps]
    assert host.asked == [NFT, NFT_TEXT] * 2


LEGACY_NAMES = {"/proc/net/ip_tables_names": "nat\nfilter\nmangle\nraw\nsecurity\n", "/proc/net/ip6_tables_names": ""}


def test_legacy_is_asked_where_the_kernel_has_its_tables():
    host = Host({V4_LEGACY: text("iptables/1.8.9-debian12-legacy.v4")}, files=LEGACY_NAMES)
    firewall = host.collect()
    assert host.asked == [V4_LEGACY]
    assert {table.backend for table in firewall.tables} == {"iptables-legacy"}
    assert firewall.sources == {**ALL_EMPTY, V4_LEGACY: "read"}
    assert not firewall.gaps


def test_legacy_tables_without_their_tool_or_not_shown_are_gaps():
    firewall = Host(files=LEGACY_NAMES).collect()
    assert [(gap.subject, gap.reason) for gap in firewall.gaps] == [(V4_LEGACY, "absent")]
    firewall = Host({V4_LEGACY: text("iptables/1.8.9-debian12-legacy-miniupnpd.v4")}, files=LEGACY_NAMES).collect()
    assert [gap.text for gap in firewall.gaps] == ["the kernel holds raw security, which it does not show"]


def test_a_set_that_rules_fill_is_not_complete():
    sets = text("ipset/7.17-debian12-every-kind.txt").replace(" nets ", " v4 ")
    firewall = iptables_host(**{"ipset save": sets}).collect()
    assert not firewall.ipsets["v4"].complete
    assert "the kernel holds nets" in firewall.gaps[-1].text
