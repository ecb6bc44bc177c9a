# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What touches the host. Every module that does imports this room first, so the way to import the rest begins here.

Ansible sends a module and what it imports as source in a zip file, and zipimport compiles each file twice: to learn its
name (zipimporter.get_filename), and to run it. A spec made without that question saves the first, a third of the time that
our modules take on the host. Anything that is not ours, or not in a zip file, is left to the usual finders.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pkgutil import get_importer
from typing import TYPE_CHECKING
from zipimport import zipimporter

if TYPE_CHECKING:
    from collections.abc import Sequence

_OURS = __name__.rpartition(".")[0] + "."


class OnceCompiled:
    """A finder for sys.meta_path (importlib.abc.MetaPathFinder)."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        loader = get_importer(path[0]) if path and name.startswith(_OURS) else None
        if not path or not isinstance(loader, zipimporter):
            return None
        try:
            package = loader.is_package(name)
        except ImportError:
            return None
        spec = ModuleSpec(name, loader, is_package=package)
        if package:
            spec.submodule_search_locations = [f"{path[0]}/{name.rpartition('.')[2]}"]
        return spec


sys.meta_path.insert(0, OnceCompiled)
