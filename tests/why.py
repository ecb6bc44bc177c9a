# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say in a few lines why each part of `make test` failed. Reads what `nox --parallel` printed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import yaml

LINES, WIDTH = 8, 240  # of one part
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
FRAMED = re.compile(r"^  [│┌└] ?", re.MULTILINE)  # as molecule shows what Ansible printed
PART = re.compile(r"^=+ (\S) (\S+): .* =+\n", re.MULTILINE)
TARGET = re.compile(r"^=== (\S+)\n(.*?)(?=^=== |\Z)", re.MULTILINE | re.DOTALL)
SUMMARY = re.compile(r"^(?:(?:FAILED|ERROR) \S+\.py\b|(?:FAIL|ERROR): (?:test|\S+:\d+)).*", re.MULTILINE)  # of pytest and unittest
IDEMPOTENCE = re.compile(r"^ERROR +Scenario '(\S+)' failed: (Idempotence .*\n(?:\*.*\n)+)", re.MULTILINE)
FRAME = re.compile(r"─ Failed: (.+) ─")
TASK = re.compile(r"TASK \[(.*)\]")
FAILURE = re.compile(r"(?:fatal|failed): \[([^\] ]+).*?=> ?(.*)")
RECAP = re.compile(r"(\S+) +: ok=.*(?:unreachable|failed)=[1-9]")


def parts(log: str) -> list[tuple[str, str]]:
    """Return the failed parts and what they printed."""
    blocks = PART.split(FRAMED.sub("", COLOUR.sub("", log)).partition("\nnox > Ran ")[0])
    return [(name, text) for sign, name, text in zip(blocks[1::3], blocks[2::3], blocks[3::3]) if sign in "✗x"]


def reasons(text: str) -> list[str]:
    """Return the tests of pytest, the tasks of Ansible or else the last lines."""
    if text.startswith("nox > Running session integration"):
        failed = text.rpartition("; failed: ")[2].partition("\n")[0].split()
        return [f"{target}: {line}" for target, said in TARGET.findall(text) if target in failed for line in reasons(said)]
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("nox > ", "Starting session "))]
    return SUMMARY.findall(text) or [": ".join(found) for found in IDEMPOTENCE.findall(text)] + tasks(text) or lines[-LINES:]


def tasks(text: str) -> list[str]:
    """Return the last failure of each host that the recap counts as failed: what was rescued or ignored came before."""
    found = []
    frame = task = ""
    last: dict[str, str] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if match := FRAME.search(line):
            frame = f"{match[1]}: "
        elif match := TASK.match(line):
            task = match[1]
        elif match := FAILURE.match(line):
            last[match[1]] = f"{frame}{task}: {match[1]}: {message(match[2], lines[number + 1 :])}"
        elif (match := RECAP.match(line)) and match[1] in last:
            found.append(last.pop(match[1]))
    return found


def message(result: str, after: list[str]) -> str:
    """Return what a result says, which is JSON in its own line or YAML in those that follow."""
    end = next((number for number, line in enumerate(after) if line.strip() and not line.startswith("    ")), len(after))
    text = "\n".join((result, *after[:end]))
    try:
        said = yaml.safe_load(text)
        return " ".join(str(said[key]) for key in ("msg", "stderr", "module_stderr") if said.get(key))
    except (yaml.YAMLError, AttributeError):
        return text


def main() -> None:
    for name, text in parts(Path(sys.argv[1]).read_text("utf-8", errors="replace")):
        found = [" ".join(line.split()) for line in dict.fromkeys(reasons(text))]
        print(f"\n{name} failed:")
        for line in found[:LINES]:
            print(f"  {line[:WIDTH]}{'...' * (len(line) > WIDTH)}")
        if len(found) > LINES:
            print(f"  and {len(found) - LINES} more")


if __name__ == "__main__":
    main()
