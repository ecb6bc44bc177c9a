# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that listen wider, or reach out, and hand on what they get: does one lead to a local port?"""

from __future__ import annotations

import re
from typing import Literal

Leads = Literal["yes", "maybe", "no"]

_LOCAL = r"(?:localhost|127(?:\.\d{1,3}){3}|\[?::1\]?|\[?::ffff:127(?:\.\d{1,3}){3}\]?|0\.0\.0\.0)"
_SOCAT = re.compile(r"(?i)\b(?:tcp[46]?|tcp[46]?-connect|udp[46]?|udp[46]?-connect|openssl|ssl|openssl-connect|sctp[46]?)"
                    r":(\[[^\]]*\]|[^:,\s]*):(\w+)")  # fmt: skip
_SOCAT_UNIX = re.compile(r"(?i)\bunix(?:-connect|-client)?:([^,\s]+)")
_REMOTE = re.compile(r"(?:^|\s)-R\s*(\S+)")
_NAMED = re.compile(rf"(?i)(?<![\w.])({_LOCAL}):(\d{{1,5}})(?!\d)")


def leads_to(process: str, command: str, port: int, addresses: frozenset[str]) -> Leads:
    """Say whether a relay's command line leads to `port` on this machine; `addresses` are the machine's own.

    "maybe" when the command line does not tell: its configuration does, and that is not read yet.
    """
    if process == "socat":
        return _socat(command, port, addresses)
    if process == "ssh":
        return _ssh(command, port, addresses)
    if process == "docker-proxy":
        found = re.search(r"-container-ip\s+(\S+)\s+-container-port\s+(\d+)", command)
        if found:
            return "yes" if _is_local(found[1], addresses) and int(found[2]) == port else "no"
    if process == "kubectl":
        return "no"  # port-forward leads into the cluster
    if any(int(number) == port for _host, number in _NAMED.findall(command)):
        return "yes"
    return "maybe"


def _is_local(host: str, addresses: frozenset[str]) -> bool:
    return bool(re.fullmatch(_LOCAL, host, re.IGNORECASE)) or host.strip("[]") in addresses


def _socat(command: str, port: int, addresses: frozenset[str]) -> Leads:
    targets = list(_SOCAT.findall(command))
    if any(_is_local(host, addresses) and number == str(port) for host, number in targets):
        return "yes"
    if any(path.endswith(f".{port}") for path in _SOCAT_UNIX.findall(command)):
        return "yes"
    plain = targets and all(number.isdigit() for _host, number in targets)
    # A port by name, a host by name or a Unix socket may be ours.
    elsewhere = plain and all(number != str(port) for _host, number in targets) and not _SOCAT_UNIX.search(command)
    return "no" if elsewhere else "maybe"


def _ssh(command: str, port: int, addresses: frozenset[str]) -> Leads:
    """A remote forward (-R [bind:]port:host:hostport) leads here; -R port alone is a SOCKS proxy that leads anywhere."""
    for forward in _REMOTE.findall(command):
        parts = re.findall(r"\[[^\]]*\]|[^:]+", forward)
        if len(parts) < 3:
            return "yes"
        if parts[-1] == str(port) and _is_local(parts[-2], addresses):
            return "yes"
    return "no"
