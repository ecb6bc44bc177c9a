# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listeners as facts: our own rows, and the rows that community.general.listen_ports_facts documents."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from .listener import Listener


def listener_to_dict(row: Listener) -> dict[str, Any]:
    """Return a row as JSON data; the inverse is listener_from_dict."""
    return {**row._asdict(), "pids": list(row.pids), "unknowns": list(row.unknowns)}


def listener_from_dict(data: Mapping[str, Any]) -> Listener:
    """Read a recorded row. Raises KeyError or TypeError when a key is missing or unknown."""
    return Listener(**{**data, "pids": tuple(data["pids"]), "unknowns": tuple(data["unknowns"])})


def listen_ports_rows(rows: Iterable[Listener], protocol: str, started: Mapping[int, float | None], foreign: bool) -> list[dict[str, Any]]:
    """Return one row for each socket and process, with the keys and empty values of listen_ports_facts.

    started: pid -> seconds since the epoch. foreign: add state and foreign_address.
    """
    result = []
    for row in rows:
        if row.protocol != protocol:
            continue
        for pid in row.pids or (0,):
            seconds = started.get(pid)
            entry = {
                "address": row.address,
                "port": row.port,
                "protocol": protocol,
                "name": row.process or "",
                "pid": pid,
                "stime": "" if seconds is None else time.ctime(seconds),
                "user": row.user or "",
            }
            if foreign:
                entry["state"] = row.state
                entry["foreign_address"] = row.peer
            result.append(entry)
    return result
