# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The zip file that Ansible sends: no file in it is compiled twice, and modules know where they are."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from ansible_collections.loopguard.loopback.plugins.module_utils._collect import zipped

PLUGINS = Path(__file__).parents[5] / "plugins"
ROOMS = "ansible_collections/loopguard/loopback/plugins/module_utils"
IMPORT = """
import collections, json, sys
sys.path.insert(0, sys.argv[1])
compiled = collections.Counter()
sys.addaudithook(lambda event, about: event == "compile" and compiled.update([str(about[1])]))
from ansible_collections.loopguard.loopback.plugins.module_utils._collect import zipped
zipped.hasten()
compiled.clear()
from ansible_collections.loopguard.loopback.plugins.module_utils._collect import evidence, fallback, listeners
from ansible_collections.loopguard.loopback.plugins.module_utils._judge import exposure, reach
import ansible_collections.loopguard.loopback.plugins.module_utils._judge as package
print(json.dumps([compiled, exposure.__file__, package.__file__, list(package.__path__)]))
"""


def test_each_file_is_compiled_once(tmp_path):
    payload = tmp_path / "payload.zip"
    with zipfile.ZipFile(payload, "w") as archive:
        parts = ROOMS.split("/")
        rooms = {path.parent.name for path in PLUGINS.glob("module_utils/*/*.py")}
        for package in [*("/".join(parts[:depth]) for depth in range(1, len(parts) + 1)), *(f"{ROOMS}/{room}" for room in rooms)]:
            archive.writestr(f"{package}/__init__.py", "")
        for path in PLUGINS.glob("module_utils/*/*.py"):
            archive.write(path, f"{ROOMS}/{path.parent.name}/{path.name}")
    shown = subprocess.run([sys.executable, "-I", "-c", IMPORT, str(payload)], stdout=subprocess.PIPE, check=True).stdout
    compiled, module, package, search = json.loads(shown)
    prefix = f"{payload}/{ROOMS}/"
    counts = {name[len(prefix) :]: count for name, count in compiled.items() if name.startswith(prefix)}
    assert {"_collect/listeners.py", "_parse/nfnetlink.py", "_judge/reach.py"} <= counts.keys()
    assert set(counts.values()) == {1}
    assert module == f"{prefix}_judge/exposure.py"
    assert (package, search) == (f"{prefix}_judge/__init__.py", [f"{prefix}_judge"])


def test_without_a_zip_file_nothing_changes():
    before = list(sys.meta_path)
    zipped.hasten()
    assert sys.meta_path == before
