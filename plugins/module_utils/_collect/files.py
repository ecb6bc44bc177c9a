# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a text file of the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

    # A reader takes a path and returns the file's text. Raises OSError.
    Read = Callable[[str], str]


def read_text(path: str) -> str:
    with open(path, "rb", buffering=0) as file:  # a text file asks whether it is a terminal, and looks for its place
        return file.read().decode("utf-8", "replace").replace("\r\n", "\n")
