# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bind_facts: the collector against ss, the module against its peer and against an empty module."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
PLUGINS = HERE.parents[1] / "plugins"
ROUNDS = 40


def play(folder, name, options=""):
    """Return the command that runs one module once; the default callback does not print what it returns."""
    path = folder / f"{name}.yml"
    path.write_text(f"- hosts: localhost\n  gather_facts: false\n  tasks:\n    - {name}: {{{options}}}\n")
    interpreter = f"ansible_python_interpreter={sys.executable}"
    return ["ansible-playbook", "-i", "localhost,", "-c", "local", "-e", interpreter, str(path)]


def test_collecting_15000_listeners_against_ss(holding):
    shown = subprocess.run(holding(15000, sys.executable, str(HERE / "collect.py"), "7"), capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    result = json.loads(shown.stdout)
    ratio = result["ours"] / result["ss"]
    print(
        f"\n{result['sockets']:,} listeners with processes: {result['ours']:.3f} s in process, ss -tulnpH {result['ss']:.3f} s, ratio {ratio:.2f}"
    )
    assert ratio <= 1.5


def test_memory_for_15000_listeners(table, in_turn, holding):
    room = "ansible_collections.loopguard.loopback.plugins.module_utils._collect"
    ours = f"from {room} import listeners, netlink; listeners.collect(netlink.dump, None)"
    costs = in_turn(
        {
            "an empty Python": holding(15000, sys.executable, "-c", "pass"),
            "collect, 15,000 listeners": holding(15000, sys.executable, "-c", ours),
            "ss -tulnpH": holding(15000, "ss", "-tulnpH"),
        },
        runs=3,
    )
    for name, cost in costs.items():
        table(name, cost)


@pytest.mark.parametrize("count", [100, 1000])
def test_the_module_against_its_peer(tmp_path, table, in_turn, holding, count):
    commands = {
        f"ansible.builtin.ping, {count} listeners": holding(count, *play(tmp_path, "ansible.builtin.ping")),
        f"bind_facts, {count} listeners": holding(count, *play(tmp_path, "loopguard.loopback.bind_facts")),
    }
    costs = in_turn(commands)
    peer = holding(count, *play(tmp_path, "community.general.listen_ports_facts", "command: ss"))
    costs |= in_turn({f"listen_ports_facts, {count} listeners": peer}, runs=1 if count > 100 else 3)
    empty, ours, theirs = costs.values()
    for name, cost in costs.items():
        table(name, cost, empty)
    assert ours.wall < theirs.wall


def test_one_listener_against_an_empty_module(tmp_path, holding, once):
    """A cost is measurable when the interval of its median leaves that of ping against itself.

    Each round runs ping, bind_facts, bind_facts without what it does, and ping. Against the third, which is sent and imported all
    the same, stands what looking for one listener costs; against ping, what sending and compiling the module costs besides.
    """
    module = (PLUGINS / "modules/bind_facts.py").read_text()
    call = 'if __name__ == "__main__":\n    main()'
    assert module.count(call) == 1
    (tmp_path / "action_plugins").mkdir()
    shutil.copy(PLUGINS / "action/bind_facts.py", tmp_path / "action_plugins/hollow.py")
    (tmp_path / "library").mkdir()
    (tmp_path / "library/hollow.py").write_text(module.replace(call, "AnsibleModule(argument_spec={}).exit_json()"))
    names = ("ansible.builtin.ping", "loopguard.loopback.bind_facts", "hollow")
    ping, ours, hollow = (holding(1, *play(tmp_path, name)) for name in names)
    for argv in (ping, ours, hollow):  # warm up
        once(argv)
    rounds = [(once(ping), once(ours), once(hollow), once(ping)) for _round in range(ROUNDS)]
    print()
    for place, what in enumerate(("wall", "cpu")):
        before, listed, empty_of_ours, after = zip(*([cost[place] for cost in costs] for costs in rounds))
        empty = statistics.median((*before, *after))
        itself = interval([second - first for first, second in zip(before, after)])
        extra = interval([cost - (first + second) / 2 for first, cost, second in zip(before, listed, after)])
        looking = interval([cost - other for cost, other in zip(listed, empty_of_ours)])
        print(f"{what}, {ROUNDS} rounds: ping {empty:.3f} s, against itself {itself}")
        for than, more in (("ping", extra), ("the same module that does nothing", looking)):
            word = "measurable" if more.low > itself.high else "not measurable"
            print(f"  bind_facts with one listener takes more than {than} by {more}: {word}")
        assert extra.median <= 0.25 * empty
        assert looking.low <= itself.high


class Interval(NamedTuple):
    """The median, and the bounds between which that of all runs lies with a certainty of 95 %."""

    low: float
    median: float
    high: float

    def __str__(self):
        return f"{self.median:+.3f} s ({self.low:+.3f} to {self.high:+.3f})"


def interval(values):
    """The bounds are order statistics (the sign test), which ask nothing of how the values are spread."""
    ordered = sorted(values)
    # the normal approximation of the binomial distribution, good from about 20 values on
    rank = max(0, int((len(ordered) - 1.96 * len(ordered) ** 0.5) / 2))
    return Interval(ordered[rank], statistics.median(ordered), ordered[-1 - rank])
