# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of rinetd: one forward a line (rinetd(8))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._model.relay import Leg
from .relay_conf import at, bounded, doubt, found, lines

if TYPE_CHECKING:
    from .relay_conf import Find

_OTHERS = frozenset(("allow", "deny", "logfile", "pidlogfile", "logcommon"))


def legs(main: str, find: Find) -> tuple[Leg, ...]:
    """Return the ways through a rinetd whose configuration file is `main`; `find` reads it."""
    ways: list[Leg] = []
    for path, text in found(find, main, "", ways):
        for place, line in lines(path, text, "#"):
            words = line.split()
            if words[0] in _OTHERS:
                continue
            if len(words) < 4:
                ways.append(doubt(place, "not a forward: " + line))
                continue
            listens = at(words[0], words[1].partition("/")[0])
            ways.append(Leg((listens,), at(words[2], words[3].partition("/")[0]), place))
    return bounded(ways)
