# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rooms import in one direction, and only doors touch the host."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
ROOMS = PLUGINS / "module_utils"
HOME = "ansible_collections.loopguard.loopback.plugins.module_utils."
# room -> the rooms that it may import besides itself
ALLOWED = {
    "_model": set(),
    "_parse": {"_model"},
    "_services": {"_model"},
    "_judge": {"_model", "_services"},
    "_collect": {"_model", "_parse"},
    "_apply": {"_model", "_parse", "_judge", "_collect"},
}
FORBIDDEN_CALLS = {"exit_json", "fail_json"}


def imports(tree):
    """Yield (level, module, names) of every import, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [name.name for name in node.names]
        elif isinstance(node, ast.Import):
            for name in node.names:
                yield 0, name.name, []


def files():
    found = sorted(ROOMS.rglob("*.py"))
    assert found
    return [pytest.param(path, id=str(path.relative_to(ROOMS))) for path in found]


@pytest.mark.parametrize("path", files())
def test_a_room_imports_only_what_lies_before_it(path):
    room = path.relative_to(ROOMS).parts[0]
    assert room in ALLOWED, f"{path}: no such room in the house"
    for level, module, names in imports(ast.parse(path.read_text())):
        if level == 0:
            top = module.partition(".")[0]
            assert top in sys.stdlib_module_names, f"{path.name} imports {module}: targets have the standard library only"
            continue
        reached = {room} if level == 1 else {module.partition(".")[0]} if module else set(names)
        assert reached <= {room, *ALLOWED[room]}, f"{room}/{path.name} imports {reached}"


@pytest.mark.parametrize("path", files())
def test_no_room_ends_a_module(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute):
            assert node.attr not in FORBIDDEN_CALLS, f"{path.name}:{node.lineno}"


def test_only_modules_touch_the_host():
    for path in PLUGINS.rglob("*.py"):
        inside = path.relative_to(PLUGINS).parts
        if inside[0] == "modules" or inside[:2] == ("module_utils", "_apply"):
            continue
        forbidden = {"_apply"} if inside[:2] == ("module_utils", "_collect") else {"_apply", "_collect"}
        for _level, module, names in imports(ast.parse(path.read_text())):
            touched = [module, *names]
            assert not any(forbidden & set(name.split(".")) for name in touched), f"{path} imports {touched}"


def test_the_rules_can_fail():
    """A guard on the guard: what it must refuse is seen by it."""
    seen = list(imports(ast.parse("def f():\n    from .._collect.command import run\nimport os.path")))
    assert seen == [(0, "os.path", []), (2, "_collect.command", ["run"])] or seen == [
        (2, "_collect.command", ["run"]),
        (0, "os.path", []),
    ]
