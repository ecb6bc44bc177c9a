# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge against the kernel: random rulesets in network namespaces, real packets, every answer compared.

Run as root in network, mount and process namespaces of its own (`tests/integration/run oracle`). What got in must not be
said to be dropped; what is said to get in must. A disagreement prints its seed and a test to keep.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter

from cases import KINDS, make
from compare import Round, a_test, disagreements, shrink, wrong_reason
from lab import Lab, run
from rulesets import IPSETS

LABS = 4
_IN_A_LAB = 'mount -t tmpfs tmpfs /run && mkdir /run/netns && exec "$@"'  # the lock of iptables and the names of namespaces


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60, help="how long to go on")
    options.add_argument("--seed", type=int, default=0, help="the first seed; each ruleset has its own")
    options.add_argument("--rounds", type=int, default=sys.maxsize)
    options.add_argument("--step", type=int, default=0, help="be one lab of so many, and print counts as JSON")
    options.add_argument("--kinds", nargs="*", default=KINDS, choices=KINDS, help="leave the other kinds out")
    chosen = options.parse_args()
    if chosen.step:
        print(json.dumps(one_lab(chosen)))
        return 0
    started = time.monotonic()
    labs = min(LABS, chosen.rounds)
    counts = Counter()
    arguments = ["--seconds", str(chosen.seconds), "--step", str(labs), "--kinds", *chosen.kinds]
    running = []
    for number in range(labs):
        seeds = ["--seed", str(chosen.seed + number), "--rounds", str((chosen.rounds - number + labs - 1) // labs)]
        running.append(
            subprocess.Popen(
                ["unshare", "--net", "--mount", "bash", "-c", _IN_A_LAB, "bash", sys.executable, __file__, *seeds, *arguments],
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for lab in running:
        text, _errors = lab.communicate()
        if lab.returncode:
            counts["labs that failed"] += 1
        else:
            counts.update(json.loads(text))
    return report(counts, chosen, time.monotonic() - started)


def one_lab(options) -> Counter:
    lab = Lab()
    run("ipset", "restore", stdin=IPSETS)
    end = time.monotonic() + options.seconds
    counts, seed = Counter(), options.seed
    while time.monotonic() < end and seed < options.seed + options.step * options.rounds:
        case = make(seed) if KINDS[seed % len(KINDS)] in options.kinds else None
        if case:
            seen, judge = disagreements(lab, case)
            count(counts, case, seen)
            if seen.wrong:
                tell(lab, case, seen)
            elif seed // len(KINDS) % 3 == 0 and (problem := wrong_reason(lab, case, judge)) is not None:
                counts["deciding rules"] += 1
                counts["deciding rules that differ"] += bool(problem)
                if problem:
                    print(f"seed {seed}, {case.kind}: {problem}", file=sys.stderr, flush=True)
        seed += options.step
    return counts


def count(counts: Counter, case, seen: Round) -> None:
    counts[f"rulesets of {case.kind}"] += len(case.rulesets)
    counts[f"probes of {case.kind}"] += len(case.probes)
    counts[f"disagreements of {case.kind}"] += bool(seen.wrong)
    for probe, ends in seen.said.items():
        said = max(ends.values(), key=["dropped", "maybe", "accepted"].index, default="dropped")
        counts[f"{said}, {'open' if probe in seen.heard else 'closed'}"] += 1


def tell(lab: Lab, case, seen: Round) -> None:
    for probe, (said, heard) in list(seen.wrong.items())[:3]:
        print(f"DISAGREEMENT, seed {case.seed}, {case.kind}: {probe}: said {said}, was {heard}", file=sys.stderr, flush=True)
    smaller = shrink(lab, case)
    print(a_test(smaller, disagreements(lab, smaller)[0]), file=sys.stderr, flush=True)


def report(counts: Counter, options, seconds: float) -> int:
    kinds = options.kinds
    print(f"{'':20} {'rulesets':>10} {'probes':>10} {'disagreements':>14}")
    sums = [0, 0, 0]
    for kind in kinds:
        row = [counts[f"{what} of {kind}"] for what in ("rulesets", "probes", "disagreements")]
        sums = [total + number for total, number in zip(sums, row)]
        print(f"{kind:20} {row[0]:>10,} {row[1]:>10,} {row[2]:>14,}")
    print(f"{'all':20} {sums[0]:>10,} {sums[1]:>10,} {sums[2]:>14,}   {sums[1] / seconds:.0f} probes a second")
    outcomes = [f"{said}, {did}" for said in ("accepted", "maybe", "dropped") for did in ("open", "closed")]
    for name in (*outcomes, "deciding rules", "deciding rules that differ"):
        print(f"{counts[name]:>10,} {name}")
    silent = []
    if options.rounds == sys.maxsize:
        silent = [kind for kind in kinds if not counts[f"probes of {kind}"]]
        silent += [name for name in ("accepted, open", "dropped, closed") if not counts[name]]
    failed = sums[2] + counts["deciding rules that differ"] + counts["labs that failed"]
    print(f"{failed} failed" + (f"; nothing was seen of: {', '.join(silent)}" if silent else ""))
    return 1 if failed or silent else 0


if __name__ == "__main__":
    sys.exit(main())
