# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time the collector against ss, in this process and namespace: prints JSON; see test_listeners.py."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from ansible_collections.loopguard.loopback.plugins.module_utils._collect import listeners
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.netlink import dump

runs = int(sys.argv[1])
ours, theirs = [], []
for _run in range(runs + 1):
    begun = time.perf_counter()
    found = listeners.collect(dump, lambda argv: None)
    ours.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    shown = subprocess.run(["ss", "-tulnpH"], stdout=subprocess.PIPE, check=True).stdout
    theirs.append(time.perf_counter() - begun)
assert len(found.rows) == shown.count(b"\n"), "both must see the same sockets"
assert all(row.pids for row in found.rows)
print(json.dumps({"sockets": len(found.rows), "ours": statistics.median(ours[1:]), "ss": statistics.median(theirs[1:])}))
