# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Large rulesets: parsed and judged, against iptables-legacy-restore --test and nft -j list ruleset in the same run.

parse and prepare are done once for a host, then each port is one question.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = str(Path(__file__).parent / "rulesets.py")


def measured(shape, rules, ports=5):
    argv = ["unshare", "--net", sys.executable, SCRIPT, shape, str(rules), str(ports)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    listed = f", nft -j list ruleset {found['listed']:.3f} s" if found["listed"] else ""
    print(
        f"\n{shape}, {rules:,} rules: parse {found['parse']:.3f} s, prepare {found['prepared']:.3f} s, first question {found['first']:.3f} s, "
        f"the next {found['next'] * 1000:.1f} ms, {ports} ports {found['all']:.2f} s, peak {found['memory']:.0f} MiB; "
        f"iptables-legacy-restore --test {found['restore']:.3f} s{listed}"
    )
    return found


@pytest.mark.parametrize("shape, times", [("blocklist", 10), ("alternating", 10), ("chains", 3), ("offices", 1)])
def test_the_cost_grows_with_the_rules_and_no_faster(shape, times):
    costs = {rules: measured(shape, rules) for rules in (1_000, 10_000, 100_000)}
    for name in ("parse", "prepared", "first"):
        assert costs[100_000][name] <= 25 * max(costs[10_000][name], 0.01), name
    assert costs[100_000]["first"] <= times * costs[100_000]["restore"]
    assert costs[100_000]["next"] <= costs[100_000]["first"] / 2
    assert costs[100_000]["memory"] <= 150


def test_a_real_size():
    found = measured("offices", 5_500)
    assert found["parse"] <= 8 * found["restore"]


def test_200_ports_of_10000_rules():
    found = measured("chains", 10_000, ports=200)
    assert found["all"] <= 40 * found["restore"]
