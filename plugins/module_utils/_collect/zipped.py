# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports from the zip file that Ansible sends, at half the price.

zipimport compiles each file twice: to learn its name (zipimporter.get_filename), and to run it. That is most of the time that
a module takes on a host. A spec that is made without that question saves the first.
"""

from __future__ import annotations

import gc
import sys
from importlib.machinery import ModuleSpec
from pkgutil import get_importer
from typing import TYPE_CHECKING
from zipimport import zipimporter

if TYPE_CHECKING:
    from collections.abc import Sequence


class OnceCompiled:
    """A finder for sys.meta_path (importlib.abc.MetaPathFinder) that looks into one zip file."""

    def __init__(self, archive: str) -> None:
        self._archive = archive

    def find_spec(self, name: str, path: Sequence[str] | None = None, _target: object = None) -> ModuleSpec | None:
        loader = get_importer(path[0]) if path and path[0].startswith(self._archive) else None
        if not path or not isinstance(loader, zipimporter):
            return None
        try:
            package = loader.is_package(name)
        except ImportError:
            return None
        place = f"{path[0]}/{name.rpartition('.')[2]}"
        spec = ModuleSpec(name, loader, origin=f"{place}/__init__.py" if package else f"{place}.py", is_package=package)
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [place]
        return spec


def hasten() -> None:
    """Let what is imported from now on be compiled once. Where no zip file was sent, nothing changes."""
    loader = sys.modules[__name__].__spec__.loader  # type: ignore[union-attr]  # a module that was imported has a spec
    if isinstance(loader, zipimporter):
        gc.disable()  # what is compiled is no garbage, and the process soon ends
        sys.meta_path.insert(0, OnceCompiled(loader.archive))
