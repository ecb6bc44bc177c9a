# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd starts for those who come to the sockets that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._model.gap import Gap
from .._parse import systemctl_show
from .._parse.error import ParseError
from .._parse.relay_conf import at, doubt
from .command import succeeded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._model.listener import Listener
    from .._model.relay import Leg
    from .command import Runner


def legs(pid: int, rows: Sequence[Listener], run: Runner) -> tuple[Leg, ...]:
    """Return the ways through the sockets that the systemd of the system holds alone; a user's own systemd is not asked."""
    alone = [row for row in rows if row.pids == (pid,)]
    if pid != 1:
        return (doubt("systemd", "the systemd of a user was not asked"),)
    try:
        sockets = _show(run, ["*.socket"], "Id,Listen,Triggers,Accept")
        ways: list[Leg] = []
        told: set[str] = set()
        for unit in sockets:
            places = systemctl_show.listens(unit)
            told.update(place.rpartition(":")[2] for place in places)
            if not any(place.endswith(f":{row.port}") for place in places for row in alone):
                continue
            name = systemctl_show.first(unit, "Id")
            service = systemctl_show.first(unit, "Triggers").partition(" ")[0]
            if systemctl_show.first(unit, "Accept") == "yes":  # one for each connection, named after it
                service = name.rpartition(".")[0] + "@0.service"
            for started in _show(run, [service], "Id,ExecStart"):
                ways += systemctl_show.started(started, service, places)
    except ParseError as error:
        return (doubt("systemctl", str(error)),)
    except _NoAnswerError as error:
        return (doubt("systemctl", str(error)),)
    others = [row for row in alone if str(row.port) not in told]
    return (*ways, *(doubt("systemd", "no socket unit names it", (at(row.address, str(row.port)),)) for row in others))


class _NoAnswerError(Exception):
    pass


def _show(run: Runner, units: list[str], names: str) -> list[dict[str, list[str]]]:
    argv = ["systemctl", "show", "--no-pager", "--property", names, "--", *units]
    answer = succeeded(run, argv)
    if isinstance(answer, Gap):
        raise _NoAnswerError(answer.text)
    return systemctl_show.properties(answer, "systemctl show")
