# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real rules of every backend, each test on a host of its own: network and mount namespaces, /run empty, /etc in layers.

What stands is told by the tools of the packet filter. Most tests run the module without Ansible around it, where nobody
confirms; those that are about the confirmation go through Ansible. Locking out over SSH is the target `lockout`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

HERE = "ansible_collections.loopguard.loopback.plugins"
MODULE = f"""
import json, sys
from ansible.module_utils import basic
from {HERE}.modules import firewall_ruleset
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = json.dumps({{"ANSIBLE_MODULE_ARGS": json.loads(sys.argv[1])}}).encode(), "legacy"
firewall_ruleset.main()
"""
KINDS = ("iptables-nft", "iptables-legacy", "nftables")
IPTABLES = KINDS[:2]
RULES = """\
*filter
:LOOPGUARD - [0:0]
:LOOPGUARD-LOG - [0:0]
-A LOOPGUARD -i lo -p udp --dport 6379 -j ACCEPT
-4 -A LOOPGUARD -p tcp --dport 6379 -s 192.0.2.0/24 -j ACCEPT
-6 -A LOOPGUARD -p tcp --dport 6379 -s 2001:db8::/32 -j ACCEPT
-A LOOPGUARD -p tcp --dport 6379 -j LOOPGUARD-LOG
-A LOOPGUARD-LOG -j DROP
-I INPUT 1 -j LOOPGUARD
COMMIT
"""
TABLE = """\
table inet loopguard {
  chain input {
    type filter hook input priority -10
    iifname lo udp dport 6379 counter accept
    tcp dport 6379 ip saddr != 192.0.2.0/24 drop
  }
}
"""
RULESETS = {"iptables-nft": RULES, "iptables-legacy": RULES, "nftables": TABLE}
OTHERS = {
    "iptables-nft": RULES.replace("6379", "5432"),
    "iptables-legacy": RULES.replace("6379", "5432"),
    "nftables": TABLE.replace("6379", "5432"),
}
THEIRS = r"""
for family in "" 6; do for kind in nft legacy; do
  ip${family}tables-$kind-restore <<'END'
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination :80
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:f2b-sshd - [0:0]
-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
-A INPUT -m comment --comment "not -j LOOPGUARD at all" -j ACCEPT
-A f2b-sshd -m recent --update --seconds 60 --name DEFAULT --rsource -j REJECT
-A f2b-sshd -j RETURN
COMMIT
END
done; done
nft -f - <<'END'
table inet theirs {
  set seen { type ipv4_addr; flags timeout; elements = { 192.0.2.1 timeout 1h }; }
  chain in { type filter hook input priority 5; ip saddr @seen counter drop; }
}
END
"""
DUMPS = (
    "iptables-nft-save; ip6tables-nft-save; cat /proc/net/ip_tables_names; iptables-legacy-save; ip6tables-legacy-save; nft -s list ruleset"
)


class Host:
    def __init__(self):
        hold = """
mount -t tmpfs tmpfs /run; mkdir /run/up /run/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/up,workdir=/run/work /etc
mkdir -p /etc/systemd/system; ip link set lo up; echo ready; exec sleep infinity
"""
        self._holder = subprocess.Popen(["unshare", "--net", "--mount", "sh", "-euc", hold], stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout.readline() == "ready\n"
        self._enter = ["nsenter", f"--target={self._holder.pid}", "--net", "--mount"]

    def close(self):
        self._holder.kill()
        self._holder.communicate()

    def sh(self, script):
        done = subprocess.run([*self._enter, "bash", "-euc", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (script, done.stdout, done.stderr)
        return done.stdout

    def start(self, *prefix, **options):
        run = {"id": options.pop("run", "t"), "step": options.pop("step", "apply")}
        arguments = {"_ansible_check_mode": options.pop("check", False), "run": run, "confirm": False, **options}
        command = [*self._enter, *prefix, sys.executable, "-c", MODULE, json.dumps(arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def module(self, *prefix, **options):
        stdout, stderr = self.start(*prefix, **options).communicate()
        assert stdout, stderr
        return json.loads(stdout)

    def ansible(self, arguments, *options):
        command = [*self._enter, "ansible", "testhost", "-m", "loopguard.loopback.firewall_ruleset", "-a", json.dumps(arguments), *options]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def wrap(self, tool, script):
        """Put a script around a tool. In it, `real` is the tool."""
        self.sh(
            f"""
path=$(readlink -f "$(command -v {tool})"); cp "$path" /run/real-{tool}
cat >/run/wrapped-{tool} <<'END'
#!/bin/bash
real() {{ (exec -a "${{0##*/}}" /run/real-{tool} "$@"); }}
{script}
END
chmod +x /run/wrapped-{tool}; mount --bind /run/wrapped-{tool} "$path"
"""
        )

    def when_applying(self, kind, before=":", after=":"):
        """Have something happen before or after the process applies the new rules, of IPv4 where there are two."""
        tool = "nft" if kind == "nftables" else f"{kind}-restore"
        mine = '"-f nftables.new"' if kind == "nftables" else f'"--wait 30 --noflush {tool}"'
        words = '"$*"' if kind == "nftables" else '"$* ${0##*/}"'
        self.wrap(tool, f'[ {words} = {mine} ] || {{ real "$@"; exit; }}\n{before}\nreal "$@"; status=$?\n{after}\nexit $status')

    def dump(self):
        """Return what every tool shows, without counters and times."""
        text = re.sub(r"^#.*\n| \[\d+:\d+\]$", "", self.sh(DUMPS), flags=re.MULTILINE)
        return re.sub(r" expires \w+", "", text)

    def etc(self):
        return self.sh("find /etc -printf '%p %l\\n' | sort")

    def wait_for(self, dump):
        end = time.monotonic() + 60
        while self.dump() != dump and time.monotonic() < end:
            time.sleep(0.1)
        assert self.dump() == dump


@pytest.fixture
def host():
    made = Host()
    yield made
    made.close()


@pytest.fixture
def full(host):
    host.sh(THEIRS)
    return host


def refused(host, text, **options):
    """Say that a run is refused with this text, and that nothing has changed by it."""
    before = host.dump()
    result = host.module(**options)
    assert result.get("failed"), result
    assert re.search(text, result["msg"], re.DOTALL), result["msg"]
    assert "Nothing was applied." in result["msg"]
    assert host.dump() == before


def without_ours(dump):
    return "".join(
        line for line in dump.splitlines(keepends=True) if not re.search(r"^(:|-A )LOOPGUARD|-j LOOPGUARD$|counter jump LOOPGUARD$", line)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_check_mode_tells_exactly_what_the_run_does(full, kind):
    before = full.dump()
    foretold = full.module(backend=kind, ruleset=RULESETS[kind], check=True)
    assert foretold["changed"]
    assert full.dump() == before
    assert "loopguard" not in full.sh("ls /run")
    done = full.module(backend=kind, ruleset=RULESETS[kind])
    assert (done["changed"], done["diff"], done["backend"]) == (True, foretold["diff"], kind)
    assert "6379" in done["diff"]["after"]
    assert "6379" not in done["diff"]["before"]
    assert full.dump() != before


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_applies_nothing(full, kind):
    full.module(backend=kind, ruleset=RULESETS[kind])
    counted = {
        "iptables-nft": "iptables-nft-save -c",
        "iptables-legacy": "iptables-legacy-save -c",
        "nftables": "nft list table inet loopguard",
    }[kind]
    full.sh("nft delete table inet theirs; echo x >/dev/udp/127.0.0.1/6379")
    hit = re.compile(r"\[1:\d+\] -A LOOPGUARD -i lo|packets 1 bytes")
    assert hit.search(full.sh(counted))
    again = full.module(backend=kind, ruleset=RULESETS[kind])
    assert (again["changed"], again["diff"]) == (False, {"before": "", "after": ""})
    assert hit.search(full.sh(counted)), "applied anew: the counters are gone"


@pytest.mark.parametrize("kind", IPTABLES)
def test_both_families_get_theirs_and_nobody_else_is_touched(full, kind):
    before = full.dump()
    full.module(backend=kind, ruleset=RULES)
    assert without_ours(full.dump()) == before if kind == "iptables-legacy" else "LOOPGUARD" in full.dump()
    four, six = (full.sh(f"{tool}-save") for tool in (kind, kind.replace("ip", "ip6", 1)))
    for text, mine, other in ((four, "192.0.2.0/24", "2001:db8"), (six, "2001:db8::/32", "192.0.2.0")):
        assert mine in text
        assert other not in text
        assert re.search(r"^-A INPUT -j LOOPGUARD\n-A INPUT -p tcp -m multiport", text, re.MULTILINE)
        assert "not -j LOOPGUARD at all" in text


@pytest.mark.parametrize("kind", IPTABLES)
def test_the_jump_stands_once_and_in_its_place(full, kind):
    full.module(backend=kind, ruleset=RULES)
    wanted = full.dump()
    full.sh(
        f"{kind} -I INPUT 1 -p tcp --dport 6379 -j ACCEPT; {kind} -D INPUT -j LOOPGUARD; {kind} -A INPUT -j LOOPGUARD; {kind} -A FORWARD -g LOOPGUARD"
    )
    result = full.module(backend=kind, ruleset=RULES)
    assert result["changed"]
    full.sh(f"{kind} -D INPUT -p tcp --dport 6379 -j ACCEPT")
    assert full.dump() == wanted
    assert not full.module(backend=kind, ruleset=RULES)["changed"]


@pytest.mark.parametrize("kind", IPTABLES)
def test_our_chains_that_are_not_named_any_more_go(full, kind):
    full.module(backend=kind, ruleset=RULES)
    with_one = (
        RULES.replace(":LOOPGUARD-LOG - [0:0]\n", "").replace("-A LOOPGUARD-LOG -j DROP\n", "").replace("-j LOOPGUARD-LOG", "-j DROP")
    )
    full.module(backend=kind, ruleset=with_one)
    assert "LOOPGUARD-LOG" not in full.dump()
    raw = "*raw\n:LOOPGUARD - [0:0]\n-A LOOPGUARD ! -i lo -d 127.0.0.0/8 -j DROP\n-I PREROUTING 1 -j LOOPGUARD\nCOMMIT\n"
    full.module(backend=kind, ruleset=raw, families=["ipv4"])
    assert ":LOOPGUARD" not in full.sh(f"{kind}-save -t filter")
    assert "LOOPGUARD" in full.sh(f"{kind.replace('ip', 'ip6', 1)}-save -t filter")


@pytest.mark.parametrize("others", [True, False], ids=["beside others", "alone"])
@pytest.mark.parametrize("kind", KINDS)
def test_absent_leaves_no_trace(host, kind, others):
    if others:
        host.sh(THEIRS)
    first, etc = host.dump(), host.etc()
    assert not host.module(backend=kind, state="absent")["changed"]
    host.module(backend=kind, ruleset=RULESETS[kind], persist=True)
    assert host.dump() != first
    assert host.etc() != etc
    result = host.module(backend=kind, state="absent")
    assert result["changed"]
    assert "6379" in result["diff"]["before"]
    assert host.etc() == etc
    if kind == "iptables-legacy" and not others:  # a table of legacy iptables cannot be removed
        assert not re.search("^-A|LOOPGUARD", host.dump(), re.MULTILINE)
    else:
        assert host.dump() == first
    assert not host.module(backend=kind, state="absent")["changed"]


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_reboot_the_same_rules_stand(full, kind):
    full.module(backend=kind, ruleset=RULESETS[kind], persist=True)
    wanted = full.dump()
    unit = full.sh("cat /etc/systemd/system/multi-user.target.wants/loopguard-firewall.service")
    start = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)[1]
    flush = "; ".join(f"printf '*filter\\nCOMMIT\\n*nat\\nCOMMIT\\n' | {tool}-restore" for tool in ("iptables-legacy", "ip6tables-legacy"))
    full.sh(f"nft flush ruleset; {flush}; {THEIRS}\n{start}")
    assert full.dump() == wanted
    full.sh(start)  # systemctl restart
    assert full.dump() == wanted
    assert not full.module(backend=kind, ruleset=RULESETS[kind], persist=True)["changed"]
    other = full.module(backend=kind, ruleset=OTHERS[kind], persist=True, check=True)
    assert "# loopguard-firewall.service: another ruleset\n" in other["diff"]["before"]
    gone = full.module(backend=kind, ruleset=RULESETS[kind])
    assert gone["changed"]
    assert gone["diff"]["before"] == "# loopguard-firewall.service: another ruleset\n"
    assert "loopguard" not in full.etc()
    assert full.dump() == wanted


def test_systemd_takes_the_unit(full):
    full.module(backend="nftables", ruleset=TABLE, persist=True)
    unit = full.sh("cat /etc/systemd/system/loopguard-firewall.service")
    again = re.findall("^(PartOf|ReloadPropagatedFrom)=.* nftables.service ", unit, re.MULTILINE)
    assert again == ["PartOf", "ReloadPropagatedFrom"]
    assert re.search(r"^ExecStart=(.*)\nExecReload=\1$", unit, re.MULTILINE)
    said = full.sh("systemd-analyze verify /etc/systemd/system/loopguard-firewall.service 2>&1 || :")
    assert "loopguard" not in said


@pytest.mark.parametrize("others", [True, False], ids=["beside others", "alone"])
@pytest.mark.parametrize("kind", KINDS)
def test_without_a_confirmation_everything_is_as_it_was(host, kind, others):
    if others:
        host.sh(THEIRS)
        host.module(backend=kind, ruleset=OTHERS[kind])
    before = host.dump()
    ruleset = RULESETS[kind].replace(":LOOPGUARD -", ":FORWARD ACCEPT [0:0]\n:OUTPUT DROP [0:0]\n:LOOPGUARD -", 1)
    result = host.module(backend=kind, ruleset=ruleset, confirm=True, confirm_timeout=1)
    assert (result["changed"], result["pending"], result["confirmed"]) == (True, 1, False)
    if kind == "iptables-legacy" and not others:
        host.wait_for(host.sh("true") + "filter\n" + before + "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n" * 2)
    else:
        host.wait_for(before)


def drops(kind, address, place=1):
    return f"{kind} -I INPUT {place} -s {address} -j DROP"


@pytest.mark.parametrize("kind", IPTABLES)
def test_what_others_add_meanwhile_stays_when_the_former_rules_come_back(full, kind):
    added = f"{kind} -N f2b; {kind} -I INPUT 1 -j f2b; {drops(kind, '192.0.2.8')}; {kind} -A INPUT -s 192.0.2.9 -j DROP"
    full.sh(added)
    wanted = full.dump()
    full.sh(f"{kind} -D INPUT 1; {kind} -D INPUT 1; {kind} -D INPUT -s 192.0.2.9 -j DROP; {kind} -X f2b")
    full.module(backend=kind, ruleset=RULESETS[kind], confirm=True, confirm_timeout=600)
    full.sh(added)
    result = full.module(backend=kind, ruleset=RULESETS[kind], step="outcome")
    assert (result["state"], result["changed"]) == ("restored", False)
    assert (
        "The former rules stand again (IPv4 and IPv6, checked). Others have added meanwhile: IPv4 -A INPUT -s 192.0.2.8/32" in result["msg"]
    )
    assert full.dump() == wanted


@pytest.mark.parametrize("kind", IPTABLES)
def test_a_rule_that_was_taken_out_comes_back_to_its_place_beside_those_of_others(full, kind):
    full.module(backend=kind, ruleset=RULES)
    full.sh(f"{drops(kind, '192.0.2.7', 2)}; {drops(kind, '192.0.2.9', 3)}")
    before = full.dump()
    ruleset = RULES.replace("-I INPUT 1 -j", "-D INPUT -s 192.0.2.7 -j DROP\n-A INPUT -j")
    full.module(backend=kind, ruleset=ruleset, families=["ipv4"], confirm=True, confirm_timeout=600)
    assert full.dump() != before
    added = f"{kind} -A INPUT -s 192.0.2.8 -j DROP"
    full.sh(added)
    assert full.module(backend=kind, ruleset=ruleset, families=["ipv4"], step="outcome")["state"] == "restored"
    full.sh(added.replace("-A", "-D"))
    assert full.dump() == before


@pytest.mark.parametrize("kind", IPTABLES)
def test_the_order_of_the_former_rules_goes_before_what_others_have_added(full, kind):
    full.sh(drops(kind, "192.0.2.7", 2))
    before = full.dump()
    ruleset = RULES.replace("-I INPUT 1 -j", "-D INPUT -s 192.0.2.7 -j DROP\n-A INPUT -j")
    full.module(backend=kind, ruleset=ruleset, families=["ipv4"], confirm=True, confirm_timeout=600)
    full.sh(drops(kind, "192.0.2.8"))
    assert full.module(backend=kind, ruleset=ruleset, families=["ipv4"], step="outcome")["state"] == "restored"
    assert full.dump() == before


@pytest.mark.parametrize("kind", IPTABLES)
def test_what_others_add_before_the_new_rules_are_checked_is_no_surprise(full, kind):
    full.when_applying(kind, after=drops(kind, "192.0.2.8"))
    assert full.module(backend=kind, ruleset=RULESETS[kind], confirm=True, confirm_timeout=600)["pending"] == 600
    assert "192.0.2.8" in full.dump()


@pytest.mark.parametrize("kind", IPTABLES)
def test_what_others_take_out_before_the_new_rules_are_checked_is_a_surprise(full, kind):
    before = full.dump()
    full.when_applying(kind, after=f"{kind} -D INPUT -j LOOPGUARD")
    result = full.module(backend=kind, ruleset=RULESETS[kind], confirm=True, confirm_timeout=600)
    assert "is not what was foreseen (IPv4): something else changes rules as well. The former rules stand again" in result["msg"]
    assert full.dump() == before


@pytest.mark.parametrize("kind", KINDS)
def test_one_run_at_a_time(full, kind):
    before = full.dump()
    assert "pending" in full.module(backend=kind, ruleset=RULESETS[kind], confirm=True, confirm_timeout=4, run="first")
    standing = full.dump()
    second = full.module(backend=kind, ruleset=OTHERS[kind], confirm_timeout=0, run="second")
    assert "another run (first) waits for its confirmation" in second["msg"]
    assert full.dump() == standing
    third = full.module(backend=kind, ruleset=OTHERS[kind], confirm_timeout=60, run="third")
    assert third["changed"], "it has waited"
    assert "6379" not in full.dump()
    assert full.module(backend=kind, ruleset=RULESETS[kind], step="confirm", run="first")["msg"] == "it came too late"
    full.module(backend=kind, state="absent")
    assert full.dump() == before


@pytest.mark.parametrize("kind", KINDS)
def test_when_somebody_ends_the_process_there_is_still_a_way_back(full, kind):
    before = full.dump()
    full.module(backend=kind, ruleset=RULESETS[kind], confirm=True, confirm_timeout=600, run="first")
    full.sh("kill -9 $(cat /run/loopguard/first/pid)")
    second = full.module(backend=kind, ruleset=OTHERS[kind], confirm_timeout=0, run="second")
    assert "the run first was never confirmed, and its process is gone" in second["msg"]
    assert "Nothing was applied." in second["msg"]
    full.sh("sh /run/loopguard/first/undo")
    assert full.dump() == before
    assert full.module(backend=kind, ruleset=OTHERS[kind], confirm_timeout=0, run="third")["changed"]


@pytest.mark.parametrize("kind", KINDS)
def test_rules_that_come_after_the_rollback_are_taken_back(full, kind):
    before = full.dump()
    full.when_applying(kind, "touch /run/arrived; until [ -e /run/go ]; do sleep 0.1; done")
    run = full.start(backend=kind, ruleset=RULESETS[kind], confirm=True, confirm_timeout=600)
    full.sh("until [ -e /run/arrived ]; do sleep 0.1; done; sh /run/loopguard/t/undo; [ -e /run/loopguard/t/restored ]; touch /run/go")
    result = json.loads(run.communicate()[0])
    assert "The new rules could not be applied: " in result["msg"]
    assert "The former rules stand again" in result["msg"]
    assert full.dump() == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_fills_up_while_rules_are_applied_is_not_in_the_way(full, kind):
    before = full.dump()
    full.sh("mkdir /run/loopguard; mount -t tmpfs -o nr_inodes=100 tmpfs /run/loopguard")
    filler = "number=0; while true 2>/dev/null >/run/loopguard/filler.$number; do number=$((number + 1)); done"
    full.when_applying(kind, filler)
    assert "pending" in full.module(backend=kind, ruleset=RULESETS[kind], confirm=True, confirm_timeout=2)
    assert "100%" in full.sh("df -i /run/loopguard")
    full.wait_for(before)


def test_a_process_that_nobody_could_find_applies_nothing(full):
    full.sh("mkdir /run/loopguard; mount -t tmpfs -o size=256k tmpfs /run/loopguard")
    full.wrap("setsid", 'dd if=/dev/zero of=/run/loopguard/filler 2>/dev/null; real "$@"')
    refused(full, "the process could not begin", backend="nftables", ruleset=TABLE)


@pytest.mark.parametrize("kind", KINDS)
def test_rules_that_cannot_be_put_back_are_told_and_nobody_changes_more(full, kind):
    full.module(backend=kind, ruleset=RULESETS[kind], confirm=True, confirm_timeout=600, run="first")
    full.sh("cd /run/loopguard/first; for file in *.inverse *.undo *.full; do echo nonsense >$file; done")
    result = full.module(backend=kind, ruleset=RULESETS[kind], step="outcome", run="first")
    assert "NOT restored: " in result["msg"]
    assert result["state"] == "failed"
    assert result["changed"]
    second = full.module(backend=kind, ruleset=OTHERS[kind], confirm_timeout=0, run="second")
    assert "the run first could not put the former rules back. See /run/loopguard/first/log" in second["msg"]


@pytest.mark.parametrize("kind", KINDS)
def test_two_that_begin_at_the_same_time_do_not_mix(full, kind):
    both = [full.start(backend=kind, ruleset=rules[kind], confirm_timeout=60, run=name) for name, rules in (("a", RULESETS), ("b", OTHERS))]
    results = [json.loads(one.communicate()[0]) for one in both]
    assert [result["changed"] for result in results] == [True, True]
    assert ("6379" in full.dump()) != ("5432" in full.dump())


@pytest.mark.parametrize("kind", KINDS)
def test_a_confirmation_whose_answer_was_lost_can_be_repeated(full, kind):
    full.module(backend=kind, ruleset=RULESETS[kind], confirm=True, confirm_timeout=60)
    standing = full.dump()
    for _attempt in range(2):
        assert full.module(backend=kind, ruleset=RULESETS[kind], confirm=True, step="confirm")["confirmed"]
    assert full.dump() == standing
    assert full.module(backend=kind, ruleset=RULESETS[kind], step="outcome")["msg"] == "The new rules stand."


def test_rules_that_could_not_be_persisted_stand_and_the_task_says_so(full):
    full.sh("touch /etc/loopguard")
    result = full.module(backend="iptables", ruleset=RULES, persist=True)
    assert result["msg"] == "The rules stand, but not after a reboot: /etc/loopguard: File exists."
    assert result["changed"]
    assert "LOOPGUARD" in full.sh("iptables-save")


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_noticed_before_anything_is_applied(full, kind):
    full.sh(
        "mkdir /run/loopguard; mount -t tmpfs -o size=16k tmpfs /run/loopguard; dd if=/dev/zero of=/run/loopguard/filler 2>/dev/null || :"
    )
    refused(full, "could not be saved in /run/loopguard/t: No space left on device", backend=kind, ruleset=RULESETS[kind])


SECTION = "*filter\n:LOOPGUARD - [0:0]\n# a comment\n-A LOOPGUARD {}\nCOMMIT\n"
WRONG = (
    (
        "a port",
        "-p tcp --dport redhs -j DROP",
        r"line 4 of the ruleset \(-A LOOPGUARD -p tcp --dport redhs -j DROP\): .*invalid port/service `redhs'",
    ),
    ("a chain", "-j NOWHERE", r"line 4 of the ruleset .*NOWHERE"),
    ("a match", "-m nonsense -j DROP", r"line 4 of the ruleset .*nonsense"),
    ("an option", "--nonsense", r"line 4 of the ruleset .*nonsense"),
)


@pytest.mark.parametrize("kind", IPTABLES)
@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong[0])
def test_what_iptables_refuses_is_named_with_its_line(full, kind, wrong):
    _name, rule, text = wrong
    refused(full, text, backend=kind, ruleset=SECTION.format(rule))


def test_what_is_no_ruleset_is_named_with_its_line(full):
    for ruleset, text in (
        ("-A INPUT -j DROP\n", "line 1 of the ruleset stands in no table .*: -A INPUT -j DROP"),
        ("*filter\n-A INPUT -j DROP\n", "ends before the COMMIT of the table filter"),
        ("*filter\nCOMMIT\n*filter\nCOMMIT\n", "line 3 of the ruleset: the table filter comes twice"),
        ("*filter\n*nat\nCOMMIT\n", r"line 2 of the ruleset: the table filter has no COMMIT before \*nat"),
        ("*nonsense\nCOMMIT\n", "nonsense"),
        ("*filter ;touch /run/pwned;\nCOMMIT\n", "line 1 of the ruleset names no table"),
    ):
        refused(full, text, backend="iptables", ruleset=ruleset)
    refused(full, "line 5 of the ruleset: .*redhs", backend="nftables", ruleset=TABLE.replace("6379 ip", "redhs ip"))
    refused(full, "line 1 of the ruleset: ", backend="nftables", ruleset="table inet x { chain c { jump nowhere; }; }")


@pytest.mark.parametrize("kind", KINDS)
def test_without_privilege_it_is_refused(full, kind):
    result = full.module("setpriv", "--reuid=65534", "--clear-groups", backend=kind, ruleset=RULESETS[kind])
    assert result["msg"] == "Only root can change the packet filter: use `become: true`. Nothing was applied."


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_can_be_tried_aside_it_is_refused(full, kind):
    before = full.dump()
    result = full.module("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", backend=kind, ruleset=RULESETS[kind])
    assert "there is no network namespace to try the new rules in: " in result["msg"]
    assert full.dump() == before


def test_a_missing_tool_is_named(full):
    full.sh("mount --bind /dev/null $(readlink -f $(command -v nft))")
    assert full.module(backend="nftables", ruleset=TABLE)["msg"] == "nft is not installed. Nothing was applied."
    full.sh("mount --bind /dev/null $(readlink -f $(command -v iptables-legacy))")
    assert full.module(backend="iptables-legacy", ruleset=RULES)["msg"] == "iptables-legacy is not installed. Nothing was applied."


def test_one_family_alone(full):
    result = full.module(backend="iptables", ruleset=RULES, families=["ipv6"])
    assert (result["backend"], result["families"]) == ("iptables-nft", ["ipv6"])
    assert "LOOPGUARD" not in full.sh("iptables-save | grep -v comment")
    assert "LOOPGUARD" in full.sh("ip6tables-save")


def test_another_name(full):
    refused(full, "`name` must be a letter", backend="nftables", ruleset=TABLE, name="a b")
    full.module(backend="nftables", ruleset=TABLE)
    full.module(backend="nftables", ruleset=TABLE.replace("loopguard", "mine-too"), name="MINE-too")
    assert full.sh("nft list tables inet") == "table inet theirs\ntable inet loopguard\ntable inet mine-too\n"
    full.module(backend="nftables", state="absent", name="MINE-too")
    assert full.sh("nft list tables inet") == "table inet theirs\ntable inet loopguard\n"


def test_sets_that_rules_name_exist_aside_too(full):
    full.sh(
        "ipset create blocked hash:net; ipset create blocked6 hash:net family inet6; iptables -A INPUT -m set --match-set blocked src -j DROP"
    )
    ruleset = RULES.replace("-A LOOPGUARD-LOG", "-4 -A LOOPGUARD-LOG -m set --match-set blocked src -j DROP\n-A LOOPGUARD-LOG")
    assert full.module(backend="iptables", ruleset=ruleset)["changed"]
    assert not full.module(backend="iptables", ruleset=ruleset)["changed"]


def test_a_rule_of_nft_in_a_table_of_iptables_is_not_lost(full):
    full.sh("nft add rule ip filter INPUT tcp dport { 22, 80 } accept")
    refused(full, "the table filter holds rules that nft made", backend="iptables", ruleset=RULES)
    refused(full, "the ruleset changes the table ip filter, which nft cannot restore", backend="nftables", ruleset="flush ruleset\n")


def test_a_ruleset_that_flushes_all_is_taken_back(host):
    host.sh(
        "nft add table inet theirs; nft 'add chain inet theirs in { type filter hook input priority 0; }'; nft add rule inet theirs in counter drop"
    )
    before = host.dump()
    assert "pending" in host.module(backend="nftables", ruleset="flush ruleset\n" + TABLE, confirm=True, confirm_timeout=1)
    host.wait_for(before)


def test_a_set_that_changes_by_itself_is_no_change(full):
    ruleset = TABLE.replace("  chain", "  set met { type ipv4_addr; flags dynamic, timeout; timeout 1h; }\n  chain").replace(
        "accept", "add @met { ip saddr } accept"
    )
    full.module(backend="nftables", ruleset=ruleset)
    full.sh("nft delete table inet theirs; echo x >/dev/udp/127.0.0.1/6379")
    assert "127.0.0.1" in full.sh("nft list table inet loopguard")
    assert not full.module(backend="nftables", ruleset=ruleset)["changed"]


def test_an_interface_that_a_rule_needs_exists_aside_too(full):
    full.sh("ip link add eth0 type veth peer name peer")
    ruleset = TABLE.replace("iifname lo", "iif eth0")
    assert full.module(backend="nftables", ruleset=ruleset)["changed"]
    assert not full.module(backend="nftables", ruleset=ruleset)["changed"]


@pytest.mark.parametrize("kind", KINDS)
def test_through_ansible_over_a_connection_without_a_reset(full, kind):
    before = full.dump()
    arguments = {"backend": kind, "ruleset": RULESETS[kind]}
    shown = full.ansible(arguments, "--check", "--diff")
    assert "CHANGED" in shown
    assert "+" in shown
    assert full.dump() == before
    done = full.ansible(arguments)
    assert '"confirmed": true' in done
    assert "pending" not in done
    assert full.sh("find /run/loopguard -mindepth 2 -printf '%f\\n'") == "confirmed\n"
    assert '"changed": false' in full.ansible(arguments)


def test_a_mistake_through_ansible_is_one_sentence(full):
    said = full.ansible({"backend": "iptables", "ruleset": "*filter\n"})
    assert '"msg": "the ruleset ends before the COMMIT of the table filter. Nothing was applied."' in said
