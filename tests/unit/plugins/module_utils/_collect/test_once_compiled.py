# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The zip file that Ansible sends: no file of ours in it is compiled twice."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

PLUGINS = Path(__file__).parents[5] / "plugins"
ROOMS = "ansible_collections/loopguard/loopback/plugins/module_utils"
IMPORT = """
import collections, json, sys
sys.path.insert(0, sys.argv[1])
compiled = collections.Counter()
sys.addaudithook(lambda event, about: event == "compile" and compiled.update([str(about[1])]))
from ansible_collections.loopguard.loopback.plugins.module_utils._collect import evidence, fallback, listeners
from ansible_collections.loopguard.loopback.plugins.module_utils._judge import exposure
print(json.dumps(compiled))
"""


def test_each_file_is_compiled_once(tmp_path):
    payload = tmp_path / "payload.zip"
    with zipfile.ZipFile(payload, "w") as archive:
        parts = ROOMS.split("/")
        rooms = {path.parent.name for path in PLUGINS.glob("module_utils/*/*.py")}
        for package in [*("/".join(parts[:depth]) for depth in range(1, len(parts) + 1)), *(f"{ROOMS}/{room}" for room in rooms)]:
            if package != f"{ROOMS}/_collect":
                archive.writestr(f"{package}/__init__.py", "")
        for path in PLUGINS.glob("module_utils/*/*.py"):
            archive.write(path, f"{ROOMS}/{path.parent.name}/{path.name}")
    shown = subprocess.run([sys.executable, "-I", "-c", IMPORT, str(payload)], stdout=subprocess.PIPE, check=True).stdout
    prefix = f"{payload}/{ROOMS}/"
    compiled = {name[len(prefix) :]: count for name, count in json.loads(shown).items() if name.startswith(prefix)}
    for door in ("__init__.py", "_collect/__init__.py"):  # before the finder is there
        del compiled[door]
    assert {"_collect/listeners.py", "_parse/nfnetlink.py", "_judge/reach.py"} <= compiled.keys()
    assert set(compiled.values()) == {1}
