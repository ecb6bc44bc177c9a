# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that lock the controller out, over real SSH, and what else can go wrong between apply and confirmation.

Each trial has a host of its own: a network namespace with an sshd, some rules of others, and nothing in common with the
machine but its programs. Ansible comes in over a veth, half of the time over IPv6. Each trial must end with the rules of
before (every tool's dump compared), with a host that can be reached, and with a failed task that says so. The same trials
are made with community.general.iptables_state, for the table that is printed at the end; nothing is asserted of it.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path
from typing import NamedTuple

import pytest

SECONDS = 6
AT_ONCE = 10
KINDS = ("iptables-nft", "iptables-legacy", "nftables")
THEIRS = """
for family in "" 6; do
  ip${family}tables-nft -N f2b-sshd; ip${family}tables-nft -A f2b-sshd -j RETURN
  ip${family}tables-nft -A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
  ip${family}tables-legacy -A INPUT -p udp --dport 9999 -j ACCEPT
done
nft -f - <<'END'
table inet theirs { set seen { type ipv4_addr; elements = { 192.0.2.1 } }; chain in { type filter hook input priority 5; ip saddr @seen counter drop; }; }
END
"""
DUMPS = "iptables-nft-save; ip6tables-nft-save; iptables-legacy-save; ip6tables-legacy-save; nft -s list ruleset"


def iptables(rule, chain="INPUT", table="filter", head=""):
    return f"*{table}\n:LOOPGUARD - [0:0]\n{head}-A LOOPGUARD {rule}\n-I {chain} 1 -j LOOPGUARD\nCOMMIT\n"


def nft(rule, hook="input", priority="-10", policy="accept"):
    return f"table inet loopguard {{\n chain c {{\n  type filter hook {hook} priority {priority}; policy {policy};\n  {rule}\n }}\n}}\n"


# What the judge cannot evaluate, so that the ruleset gets past the check before the apply: it always holds, it never does.
ALWAYS, NEVER = "-m statistic --mode nth --every 1 --packet 0", "-m statistic --mode random --probability 0.0"
ALWAYS_NFT, NEVER_NFT = "numgen random mod 2 { 0, 1 }", "numgen random mod 2 != { 0, 1 }"
CUTS = {
    "new connections dropped": (
        iptables(f"-p tcp --dport 22 -m conntrack --ctstate NEW {ALWAYS} -j DROP"),
        nft(f"tcp dport 22 ct state new {ALWAYS_NFT} drop"),
    ),
    "everything dropped": (iptables(f"-i eth0 {ALWAYS} -j DROP"), nft(f"iifname eth0 {ALWAYS_NFT} drop")),
    "everything reset": (
        iptables(f"-p tcp {ALWAYS} -j REJECT --reject-with tcp-reset"),
        nft(f"tcp dport 22 {ALWAYS_NFT} reject with tcp reset"),
    ),
    "answers dropped": (iptables(f"-o eth0 {ALWAYS} -j DROP", "OUTPUT"), nft(f"oifname eth0 {ALWAYS_NFT} drop", "output")),
    "policy DROP": (iptables(f"{NEVER} -j ACCEPT", head=":INPUT DROP [0:0]\n"), nft(f"{NEVER_NFT} accept", policy="drop")),
    "dropped in raw": (
        iptables(f"-i eth0 -p tcp --dport 22 {ALWAYS} -j DROP", "PREROUTING", "raw"),
        nft(f"iifname eth0 tcp dport 22 {ALWAYS_NFT} drop", "prerouting", "-300"),
    ),
}
GOOD = (iptables("-p tcp --dport 6379 -j DROP"), nft("tcp dport 6379 drop"))
OTHER = (iptables("-p tcp --dport 5432 -j DROP"), nft("tcp dport 5432 drop"))
CERTAIN = (iptables("-p tcp --dport 22 -j DROP"), nft("tcp dport 22 drop"))


class Trial(NamedTuple):
    """hazard: what happens on the way, the name of a function here. says: what the message must hold."""

    name: str
    kind: str
    ruleset: str
    hazard: str
    says: str

    def __str__(self):
        return f"{self.name}, {self.kind}"


def trials():
    stand = r"The former rules stand again \(.*checked\)"
    for kind in KINDS:
        side = kind == "nftables"
        for name, rulesets in CUTS.items():
            yield Trial(
                name, kind, rulesets[side], "nothing", rf"(no new connection could be made|The connection was lost|too late).*{stand}"
            )
        yield Trial(
            "dropped for certain",
            kind,
            CERTAIN[side],
            "nothing",
            r"would have cut this connection \(.* -> .*:22, dropped by .*\)\. Nothing was applied",
        )
        yield Trial("controller killed", kind, GOOD[side], "controller_killed", "")
        yield Trial("session cut", kind, GOOD[side], "session_cut", rf"The connection was lost while the rules were applied.*{stand}")
        yield Trial("module killed", kind, GOOD[side], "module_killed", rf"The module failed .*{stand}")
        yield Trial("clock a day back", kind, CUTS["new connections dropped"][side], "clock_back", stand)
        yield Trial("disk full", kind, GOOD[side], "disk_full", "No space left on device. Nothing was applied")
        yield Trial("two at once", kind, GOOD[side], "two_at_once", r"another run \(\w+\) waits for its confirmation; waited 1 s for it")
        if kind == KINDS[0]:
            yield Trial("controller killed, locked out", kind, CUTS["everything dropped"][side], "controller_killed", "")
            yield Trial("clock a day on", kind, CUTS["everything dropped"][side], "clock_on", stand)
        if not side:
            yield Trial("second family fails", kind, GOOD[side], "second_family", rf"could not be applied: .*no such luck.*{stand}")


TRIALS = list(trials())


class Host:
    """A network namespace with an sshd as its first process."""

    def __init__(self, number, folder):
        self.name, self.folder = f"host{number}", folder / f"host{number}"
        self.folder.mkdir()
        self.become = number % 3 == 0
        self.address = f"10.78.{number}.2" if number % 2 else f"2001:db8:78:{number:x}::2"
        key = folder.parent / "key"
        config = self.folder / "sshd_config"
        config.write_text(
            f"HostKey {key}\nAuthorizedKeysFile {key}.pub\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\nUseDNS no\n"
            "Subsystem sftp internal-sftp\n"
        )
        link = f"v{number}"
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        for command in (
            f"address add 10.78.{number}.1/24 dev {link}",
            f"address add 2001:db8:78:{number:x}::1/64 dev {link} nodad",
            f"link set {link} up",
        ):
            run("ip", *command.split())
        for command in (
            "link set lo up",
            f"address add 10.78.{number}.2/24 dev eth0",
            f"address add 2001:db8:78:{number:x}::2/64 dev eth0 nodad",
            "link set eth0 up",
        ):
            run("ip", "-n", self.name, *command.split())
        daemon = f"exec {shutil.which('sshd')} -D -E {self.folder}/sshd.log -f {config}"
        boot = f"mount -t tmpfs tmpfs /root; mount -t tmpfs tmpfs /run; mkdir /run/sshd /run/loopguard; {daemon}"
        argv = ["ip", "netns", "exec", self.name, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", boot]
        self._outer = subprocess.Popen(argv)
        self.pid = until(lambda: children(self._outer.pid))[0]
        self.root = Path(f"/proc/{self.pid}/root")
        until(lambda: self.ssh("true").returncode == 0)
        self.inside("bash", "-euc", THEIRS)

    def close(self):
        self._outer.kill()
        self._outer.wait()

    def inside(self, *argv):
        return run("nsenter", f"--target={self.pid}", "--net", "--mount", "--pid", *argv)

    def dump(self):
        """Return what every tool shows, without counters. A table of legacy iptables cannot be removed: an empty one is none."""
        text = re.sub(r"^#.*\n| \[\d+:\d+\]$", "", self.inside("sh", "-c", DUMPS), flags=re.MULTILINE)
        return re.sub(r"^\*raw\n(:\w+ ACCEPT\n)*COMMIT\n", "", text, flags=re.MULTILINE)

    def ssh(self, command):
        options = ["-o", "ControlPath=none", "-o", "ConnectTimeout=5", *ssh_options(self.folder.parent.parent)]
        return subprocess.run(["ssh", *options, f"root@{self.address}", command], capture_output=True, check=False)

    def ansible(self, module, arguments, *options):
        inventory = self.folder / "inventory.json"
        variables = {
            "ansible_connection": "ssh",
            "ansible_host": self.address,
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": " ".join(ssh_options(self.folder.parent.parent)),
            "ansible_control_path_dir": "/mnt",
            "ansible_become": self.become,
            "ansible_become_method": "su",
        }
        inventory.write_text(json.dumps({"all": {"hosts": {self.name: variables}}}))
        argv = ["ansible", self.name, "-i", inventory, "-m", module, "-a", json.dumps(arguments), *options]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def replace(self, tools):
        """Put scripts before the programs of /usr/sbin, on this host alone."""
        for command in (
            "mkdir -p /run/layer",
            "mount -t tmpfs tmpfs /run/layer",
            "mkdir /run/layer/up /run/layer/work",
            "mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir=/run/layer/up,workdir=/run/layer/work /usr/sbin",
        ):
            self.inside(*command.split())
        for name, text in tools.items():
            script = self.folder / "script"
            script.write_text(f"#!/bin/sh\n{text}\n")
            script.chmod(0o755)
            self.inside("cp", "--remove-destination", str(script), f"/usr/sbin/{name}")

    def states(self):
        return {path.name for path in self.root.glob("run/loopguard/*/*")}

    def sessions(self):
        """Return the processes of every session: all below the first sshd but what has left them."""
        found = [pid for pid in children(self.pid) if Path(f"/proc/{pid}/comm").read_text().startswith("sshd")]
        return [pid for session in found for pid in (session, *below(session))]


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


def until(met, seconds=60):
    """Wait until something holds, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found = met()
            if found:
                return found
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {met}")


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def below(pid):
    return [found for child in children(pid) for found in (child, *below(child))]


def kill(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ssh_options(folder):
    return ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-i", str(folder / "key")]


# What happens on the way. Each returns the output of the task that has to fail.


def finish(task, peer):
    """Return what the task said; one that hangs says nothing. The peer should have put its rules back long before a minute."""
    try:
        return task.communicate(timeout=60 if peer else 180)[0]
    except subprocess.TimeoutExpired:
        kill([task.pid, *below(task.pid)])
        task.communicate()
        return ""


def nothing(_host, start, peer):
    return finish(start(), peer)


def under_way(host, start, peer):
    """Start the task and wait until the new rules stand and are not confirmed."""
    before = host.dump()
    task = start()
    until(lambda: task.poll() is not None or (host.dump() != before if peer else "applied" in host.states()))
    assert peer or task.poll() is None, task.communicate()[0]
    return task


def controller_killed(host, start, peer):
    task = under_way(host, start, peer)
    kill([task.pid, *below(task.pid)])  # Ansible's workers have sessions of their own
    return finish(task, peer)


def session_cut(host, start, peer):
    task = under_way(host, start, peer)
    kill(host.sessions())
    return finish(task, peer)


def module_killed(host, start, peer):
    task = under_way(host, start, peer)
    kill([pid for pid in host.sessions() if Path(f"/proc/{pid}/comm").read_text().startswith("python")])
    return finish(task, peer)


def clock_back(host, start, peer, days=-1):
    """The clock as whoever counts the seconds sees it; the machine's own stays as it is."""
    clock = host.folder / "clock"
    clock.write_text("+0\n")
    library = glob("/usr/lib/*/faketime/libfaketime.so.1")[0]
    fake = f"export LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE={clock} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1"
    host.replace({name: f'{fake}; exec /usr/bin/{name} "$@"' for name in ("sleep", "date")})
    task = under_way(host, start, peer)
    today = host.inside("date", "+%F")
    clock.write_text(f"{days * 86400:+}\n")
    assert host.inside("date", "+%F") != today
    return finish(task, peer)


def clock_on(host, start, peer):
    return clock_back(host, start, peer, 1)


def disk_full(host, start, peer):
    host.inside("mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", "/run/loopguard")
    host.inside("sh", "-c", "dd if=/dev/zero of=/run/loopguard/filler 2>/dev/null; [ -s /run/loopguard/filler ]")
    return finish(start(), peer)


def two_at_once(host, start, peer):
    """The first one's controller dies, so that it is never confirmed; its process is told to wait no longer at the end."""
    task = under_way(host, lambda: start(seconds=300), peer)
    kill([task.pid, *below(task.pid)])
    task.communicate()
    output = finish(start(seconds=1, other=True), peer)
    for run_of_first in host.root.glob("run/loopguard/*/armed"):
        run_of_first.with_name("waiting").unlink()
    return output


def second_family(host, start, peer):
    """ip6tables refuses on the host, though not in the namespace where the rules are tried, nor when it puts rules back."""
    namespace = os.readlink(f"/proc/{host.pid}/ns/net")
    refuse = (
        f'[ "$(readlink /proc/self/ns/net)" != "{namespace}" ] || case "$*" in *--counters*) ;; *) echo "no such luck" >&2; exit 1 ;; esac'
    )
    tools = {"ip6tables-nft-restore": "nft", "ip6tables-restore": "nft", "ip6tables-legacy-restore": "legacy"}
    host.replace({name: f'{refuse}\nexec /usr/sbin/xtables-{kind}-multi {name} "$@"' for name, kind in tools.items()})
    return finish(start(), peer)


class Outcome(NamedTuple):
    output: str
    restored: bool
    reachable: bool


def ours(trial, host):
    def start(seconds=SECONDS, other=False):
        ruleset = OTHER[trial.kind == "nftables"] if other else trial.ruleset
        arguments = {"backend": trial.kind, "ruleset": ruleset, "confirm_timeout": seconds}
        return host.ansible("loopguard.loopback.firewall_ruleset", arguments)

    return observe(trial, host, start, peer=False)


def theirs(trial, host):
    """The recipe of its documentation, with the rules of one IP version, for that is what it takes."""
    host.become = False

    def start(seconds=10, other=False):
        ruleset = OTHER[0] if other else trial.ruleset
        (host.root / "run/rules").write_text(ruleset)
        arguments = {"state": "restored", "path": "/run/rules", "noflush": True, "ip_version": "ipv6" if ":" in host.address else "ipv4"}
        return host.ansible("community.general.iptables_state", arguments, "-B", "10", "-P", "0")

    return observe(trial, host, start, peer=True)


def observe(trial, host, start, peer):
    before = host.dump()
    output = globals()[trial.hazard](host, start, peer)
    end = time.monotonic() + 30
    while time.monotonic() < end and (rules(host.dump()) != rules(before) or host.states() & {"armed", "undoing"}):
        time.sleep(0.2)
    after = host.dump()
    output += "\n".join(difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm=""))
    same = (rules(after) == rules(before)) if peer else after == before
    return Outcome(output, same, host.ssh("true").returncode == 0)


def rules(dump):
    """Return what filters: the peer may leave tables behind that do nothing."""
    return [line for line in dump.splitlines() if line.startswith("-A ") or line.endswith(" DROP")]


@pytest.fixture(scope="session")
def outcomes(request, tmp_path_factory):
    """Make all trials that were asked for, several at once; (trial, whose) -> Outcome."""
    folder = tmp_path_factory.mktemp("lockout")
    run("mount", "-t", "tmpfs", "tmpfs", "/mnt")  # for control sockets, whose paths must be short
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key"))
    (folder / "hosts").mkdir()
    asked = [item.callspec.params["trial"] for item in request.session.items if hasattr(item, "callspec")]
    # The peer knows iptables, one IP version at a time. It comes first, for it takes longest.
    work = [(trial, theirs) for trial in asked if trial.kind == KINDS[0] and trial.hazard not in ("disk_full", "second_family")]
    work += [(trial, ours) for trial in asked]

    def one(numbered):
        number, (trial, whose) = numbered
        host = Host(number, folder / "hosts")
        try:
            return (trial, whose), whose(trial, host)
        except AssertionError as error:
            return (trial, whose), Outcome(f"the trial itself failed: {error}", False, False)
        finally:
            host.close()

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = dict(pool.map(one, enumerate(work, 1)))
    print(f"\n{'trial':60}{'firewall_ruleset':40}iptables_state")
    for trial in asked:
        print(f"{trial!s:60}" + "".join(f"{word(found.get((trial, whose))):40}" for whose in (ours, theirs)))
    return found


def word(outcome):
    if outcome is None:
        return "-"
    rules = "old rules" if outcome.restored else "NEW RULES STAY"
    task = "failed" if "FAILED!" in outcome.output else "says success" if "CHANGED" in outcome.output else "says nothing"
    return f"{rules}, {'reachable' if outcome.reachable else 'LOCKED OUT'}, {task}"


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_nobody_is_locked_out(outcomes, trial):
    found = outcomes[trial, ours]
    print(found.output)  # pytest shows it when the trial fails
    assert found.restored
    assert found.reachable
    if trial.says:
        assert "FAILED!" in found.output
        assert re.search(trial.says, found.output, re.DOTALL)


def test_there_are_enough_trials():
    assert len(TRIALS) >= 30
