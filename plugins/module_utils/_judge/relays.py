# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that listen wider, or reach out, and hand on what they get: does one lead to a local port?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from .._model.address import canonical, scope_of
from .._model.relay import AGENTS

if TYPE_CHECKING:
    from .._model.listener import Listener
    from .._model.relay import Relay

Leads = Literal["yes", "maybe", "no"]
_ORDER: tuple[Leads, ...] = ("no", "maybe", "yes")

_LOCAL = r"(?:localhost|127(?:\.\d{1,3}){3}|\[?::1\]?|\[?::ffff:127(?:\.\d{1,3}){3}\]?|0\.0\.0\.0)"
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}|\[?[0-9a-fA-F]*:[0-9a-fA-F:.]*\]?")
_SOCAT = re.compile(
    r"(?i)\b(?:tcp[46]?|tcp[46]?-connect|udp[46]?|udp[46]?-connect|udp[46]?-datagram|openssl|ssl|openssl-connect|sctp[46]?|sctp[46]?-connect)"
    r":(\[[^\]]*\]|[^:,\s]*):(\w+)"
)
_SOCAT_UNIX = re.compile(r"(?i)\bunix(?:-connect|-client)?:([^,\s]+)")
_SSH_REMOTE = re.compile(r"-[46AaCfGgKkMNnqsTtVvXxYy]*R(.*)")  # a cluster of ssh(1) options without argument, then R
_SSH_WAITS = re.compile(r"(?:^|\s)-[46AaCgKknqsTtVvXxYy]*[fNM]|\[mux\]")
_NAMED = re.compile(rf"(?i)(?<![\w.])({_LOCAL}):(\d{{1,5}})(?!\d)")


class Candidate(NamedTuple):
    """A program that may hand on. row: the socket that it listens on, None for one that dials out. pid: 0 when hidden."""

    process: str
    command: str
    pid: int
    row: Listener | None


def of_listener(row: Listener) -> Candidate:
    return Candidate(row.process or "", row.command or "", row.pids[0] if row.pids else 0, row)


def of_agent(relay: Relay) -> Candidate:
    return Candidate(relay.name, relay.command, relay.pid, None)


def leading(candidates: Iterable[Candidate], port: int, addresses: frozenset[str]) -> list[tuple[Candidate, Leads]]:
    """Return the candidates that lead to `port`, or may, over other candidates too; `addresses` are the machine's own."""
    waiting = [candidate for candidate in candidates if candidate.row or candidate.process in AGENTS]
    ports: dict[int, Leads] = {port: "yes"}
    found: dict[int, Leads] = {}
    changed = True
    while changed:
        changed = False
        for place, candidate in enumerate(waiting):
            reached = [_weaker(known, _leads(candidate, number, addresses)) for number, known in ports.items()]
            leads = max(reached, key=_ORDER.index)
            if leads == found.get(place, "no"):
                continue
            found[place] = leads
            changed = True
            if candidate.row and candidate.row.port != port:
                ports[candidate.row.port] = max(leads, ports.get(candidate.row.port, "no"), key=_ORDER.index)
    return [(waiting[place], leads) for place, leads in found.items()]


def _weaker(one: Leads, other: Leads) -> Leads:
    return min(one, other, key=_ORDER.index)


def _leads(candidate: Candidate, port: int, addresses: frozenset[str]) -> Leads:
    if candidate.row and candidate.row.port == port:
        return "no"  # to itself, which is no way further
    leads = leads_to(candidate.process, candidate.command, port, addresses)
    # A socket of ssh (-L, -D) leads to the other end, which may be this machine.
    if candidate.row and candidate.process == "ssh":
        return "maybe"
    # An entry of portproxy for which nothing listens now does so when its service starts again.
    return _weaker(leads, "maybe") if candidate.process == "portproxy" and not candidate.pid else leads


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
    if process == "portproxy":
        host, _space, number = command.rpartition(" ")
        return _target(host, number, port, addresses)
    if process == "kubectl":
        return "no"  # port-forward leads into the cluster
    if any(int(number) == port for _host, number in _NAMED.findall(command)):
        return "yes"
    return "maybe"


def _is_local(host: str, addresses: frozenset[str]) -> bool:
    try:
        _family, address = canonical(host.strip("[]"))
    except ValueError:
        return host.lower() == "localhost"
    # To connect to a wildcard is to connect to oneself.
    return scope_of(address) in ("loopback", "wildcard") or address in addresses


def _target(host: str, number: str, port: int, addresses: frozenset[str]) -> Leads:
    """Judge host:port of a command line. A name may be this machine, and a port by name, or octal, may be ours."""
    if not number.isdigit() or number.startswith("0"):
        return "maybe"
    if int(number) != port:
        return "no"
    if _is_local(host, addresses):
        return "yes"
    return "no" if _ADDRESS.fullmatch(host) else "maybe"


def _strongest(answers: Sequence[Leads]) -> Leads:
    return max(answers, key=_ORDER.index)


def _socat(command: str, port: int, addresses: frozenset[str]) -> Leads:
    answers = [_target(host, number, port, addresses) for host, number in _SOCAT.findall(command)]
    # The port of PostgreSQL stands in the name of its socket; any other Unix socket may be a way to the service.
    answers += ["yes" if path.endswith(f".{port}") else "maybe" for path in _SOCAT_UNIX.findall(command)]
    return _strongest(answers or ["maybe"])


def _ssh(command: str, port: int, addresses: frozenset[str]) -> Leads:
    """A remote forward leads here: -R [bind:]port:host:hostport. -R [bind:]port alone is a SOCKS proxy that leads anywhere."""
    words = command.split()
    answers: list[Leads] = []
    for place, word in enumerate(words):
        remote = _SSH_REMOTE.fullmatch(word)
        if remote:
            answers.append(_remote_forward(remote[1] or "".join(words[place + 1 : place + 2]), port, addresses))
        elif "remoteforward" in word.lower():
            named = [_target(host, number, port, addresses) for host, number in _NAMED.findall(" ".join(words[place : place + 3]))]
            answers.append(_strongest(named or ["maybe"]))
    if not answers:  # one that stays in the background may forward by its configuration
        return "maybe" if _SSH_WAITS.search(command) else "no"
    return _strongest(answers)


def _remote_forward(text: str, port: int, addresses: frozenset[str]) -> Leads:
    if "/" in text:
        return "yes" if text.endswith(f".{port}") else "maybe"
    parts = re.findall(r"\[[^\]]*\]|[^:]+", text)
    return _target(parts[-2], parts[-1], port, addresses) if len(parts) > 2 else "yes"
