# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ipsets of the caller's network namespace."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from .._model.gap import Gap
from .._parse import ipset_save, nfnetlink
from .._parse.error import ParseError
from .asked import refused, status_of
from .command import succeeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._model.firewall import SourceStatus
    from .._model.ruleset import SetElements
    from .command import Runner
    from .netlink import Dump

_SAVE = ["ipset", "save"]
_CHANGING_SET = re.compile(r"--(?:add|del|map)-set (\S+)")


def read(run: Runner, dump: Dump, texts: Sequence[str]) -> tuple[dict[str, SetElements], list[Gap], SourceStatus]:
    """Return the sets, what is missing, and how it went. texts: the rules that use a set."""
    try:
        names = nfnetlink.ipsets(dump(nfnetlink.NETLINK_NETFILTER, nfnetlink.IPSET_CMD_LIST, nfnetlink.get_ipsets()))
    except OSError as error:
        if error.errno in (errno.EPROTONOSUPPORT, errno.EINVAL):
            return {}, [], "empty"
        gap = refused("ipset", error)
        return {}, [gap], status_of(gap)
    if not names:
        return {}, [], "empty"
    text = succeeded(run, _SAVE)
    if isinstance(text, Gap):
        return {}, [text], status_of(text)
    try:
        sets, gaps = ipset_save.parse(text, " ".join(_SAVE))
    except ParseError as error:
        return {}, [Gap(" ".join(_SAVE), "unparsable", str(error)[:500])], "unparsable"
    missing = [name for name in names if name not in sets]
    if missing:
        gaps.append(Gap("ipset save", "failed", f"the kernel holds {' '.join(missing)}, which it does not show"[:500]))
    for name in {name for text in texts for name in _CHANGING_SET.findall(text)} & sets.keys():
        sets[name] = sets[name]._replace(complete=False)
    return sets, gaps, "read"
