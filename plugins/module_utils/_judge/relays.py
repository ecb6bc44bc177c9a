# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a process that hands on what it gets (candidates.py) lead to a local port?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from .._model.address import canonical, scope_of

if TYPE_CHECKING:
    from .._model.listener import Listener
    from .._model.relay import Connection
    from .._model.vocabulary import Shown
    from .candidates import Candidate

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
_SSH_LOCAL = re.compile(r"-[46AaCfGgKkMNnqsTtVvXxYy]*([DLw])(.*)")
_PARTS = re.compile(r"\[[^\]]*\]|[^:]+")
_LOGINS = ("sshd", "sshd-session")  # a connection of theirs is a forward that somebody asked for
_BY_COMMAND_LINE = ("socat", "ssh", "docker-proxy", "kubectl", "systemd-socket-")
_SSH_WAITS = re.compile(r"(?:^|\s)-[46AaCgKknqsTtVvXxYy]*[fNM]|\[mux\]")
_NAMED = re.compile(rf"(?i)(?<![\w.])({_LOCAL}):(\d{{1,5}})(?!\d)")


class Lead(NamedTuple):
    """How surely a candidate leads to a port, and what shows it. detail: the place or the connection, as people read it."""

    leads: Leads
    shown: Shown = "program"
    detail: str = ""


class Goal(NamedTuple):
    """A port to which a relay may lead, and the processes that listen on it."""

    protocol: str
    port: int
    pids: frozenset[int]


_NOWHERE = Lead("no")


def leading(
    waiting: Sequence[Candidate], goal: Goal, connections: Sequence[Connection], addresses: frozenset[str]
) -> list[tuple[Candidate, Lead]]:
    """Return the candidates that lead to a goal, or may, over other candidates too; `addresses` are the machine's own."""
    open_now: dict[tuple[str, int], list[Connection]] = {}
    for connection in connections:
        if _is_local(connection.peer, addresses):
            open_now.setdefault((connection.protocol, connection.peer_port), []).append(connection)
    goals: dict[tuple[str, int], tuple[Goal, Leads]] = {(goal.protocol, goal.port): (goal, "yes")}
    found: dict[int, Lead] = {}
    changed = True
    while changed:
        changed = False
        for place, candidate in enumerate(waiting):
            best = found.get(place, _NOWHERE)
            for key, (further, known) in goals.items():
                lead = _lead(candidate, further, open_now.get(key, ()), addresses)
                lead = lead._replace(leads=min(lead.leads, known, key=_ORDER.index))
                if _ORDER.index(lead.leads) > _ORDER.index(best.leads):
                    best = lead
            if best.leads == found.get(place, _NOWHERE).leads:
                continue
            found[place] = best
            changed = True
            row = candidate.row
            if row and row.port != goal.port:
                own = Goal(row.protocol, row.port, frozenset(row.pids))
                before = goals.get((own.protocol, own.port), (own, "no"))[1]
                goals[own.protocol, own.port] = own, max(best.leads, before, key=_ORDER.index)
    return [(waiting[place], lead) for place, lead in found.items()]


def _lead(candidate: Candidate, goal: Goal, connections: Sequence[Connection], addresses: frozenset[str]) -> Lead:
    row = candidate.row
    if row and row.port == goal.port:
        return _NOWHERE  # to itself, which is no way further
    dials = row is None and leads_to(candidate.process, candidate.command, goal.port, addresses) != "no"
    for connection in connections:
        if row.inode in connection.through if row else dials and candidate.pid in connection.pids:
            # An application that only works with what it gets holds connections, too.
            leads: Leads = "yes" if candidate.listed or candidate.process in _LOGINS else "maybe"
            detail = f"{_place(connection.address, connection.port)} → {_place(connection.peer, connection.peer_port)}"
            return Lead(leads, "connection", detail)
    if not candidate.listed:
        return _NOWHERE
    if candidate.legs is not None:
        return _by_configuration(candidate, goal, addresses)
    leads = leads_to(candidate.process, candidate.command, goal.port, addresses, listening=row is not None)
    if candidate.process == "portproxy":  # an entry for which nothing listens does so when its service starts again
        leads = leads if candidate.pid else min(leads, "maybe", key=_ORDER.index)
        return Lead(leads, "configuration", "netsh interface portproxy")
    told = leads == "yes" or candidate.process in _BY_COMMAND_LINE
    return Lead(leads, "command_line" if told else "program")


def _by_configuration(candidate: Candidate, goal: Goal, addresses: frozenset[str]) -> Lead:
    best = _NOWHERE
    for leg in candidate.legs or ():
        if candidate.row and leg.listens and not any(_is_at(place, candidate.row) for place in leg.listens):
            continue
        if leg.doubt:
            lead = Lead("maybe", "configuration", f"{leg.place} ({leg.doubt})")
        elif leg.target.startswith("unix:"):
            lead = Lead(_socket(leg.target, leg.holders, goal), "configuration", leg.place)
        else:
            host, _colon, number = leg.target.rpartition(":")
            lead = Lead(_target(host, number, goal.port, addresses), "configuration", leg.place)
        if _ORDER.index(lead.leads) > _ORDER.index(best.leads):
            best = lead
    return best


def _socket(path: str, holders: Sequence[int], goal: Goal) -> Leads:
    if not holders:
        return _unix(path, goal.port)
    return "yes" if goal.pids.intersection(holders) else "no"


def _is_at(place: str, row: Listener) -> bool:
    """Say whether a socket is the one that a configuration names: `address:port`, `*:80`, `name:8000-8010`."""
    host, _colon, number = place.rpartition(":")
    first, _dash, last = number.partition("-")
    if first.isdigit() and (last or first).isdigit() and not int(first) <= row.port <= int(last or first):
        return False
    if row.scope == "wildcard" or not _ADDRESS.fullmatch(host):
        return True
    try:
        return canonical(host.strip("[]"))[1] in (row.address, "0.0.0.0", "::")
    except ValueError:
        return True


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def leads_to(process: str, command: str, port: int, addresses: frozenset[str], listening: bool = False) -> Leads:
    """Say whether a relay's command line leads to `port` on this machine; `addresses` are the machine's own.

    "maybe" when the command line does not tell. listening: asked for a socket that it listens on, not for what it dials.
    """
    if process == "socat":
        return _socat(command, port, addresses)
    if process == "ssh":
        return _ssh_local(command, port) if listening else _ssh(command, port, addresses)
    if process == "docker-proxy":
        found = re.search(r"-container-ip\s+(\S+)\s+-container-port\s+(\d+)", command)
        if found:
            return "yes" if _is_local(found[1], addresses) and int(found[2]) == port else "no"
    if process == "systemd-socket-":
        found = re.search(r"systemd-socket-proxyd(?: -\S+)* ([^\s:]+|\[\S+\]):(\w+)", command)
        if found:
            return _target(found[1], found[2], port, addresses)
    if process == "portproxy":
        host, _space, number = command.rpartition(" ")
        return _target(host, number, port, addresses)
    if process == "tailscaled" and "userspace-networking" in command:
        return "yes"  # without an interface it hands every port to 127.0.0.1
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
    local = _is_local(host, addresses)
    if not local and _ADDRESS.fullmatch(host):
        return "no"
    if not number.isdigit() or number.startswith("0"):
        return "maybe"
    if int(number) != port:
        return "no"
    return "yes" if local else "maybe"


def _strongest(answers: Sequence[Leads]) -> Leads:
    return max(answers, key=_ORDER.index)


def _socat(command: str, port: int, addresses: frozenset[str]) -> Leads:
    answers = [_target(host, number, port, addresses) for host, number in _SOCAT.findall(command)]
    answers += [_unix(path, port) for path in _SOCAT_UNIX.findall(command)]
    return _strongest(answers or ["maybe"])


def _unix(path: str, port: int) -> Leads:
    """The port of PostgreSQL stands in the name of its socket; any other Unix socket may be a way to the service."""
    return "yes" if path.endswith(f".{port}") else "maybe"


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
    if not answers:  # one that stays in the background, for no reason that the command line tells, may forward by its configuration
        told = any(_SSH_LOCAL.fullmatch(word) for word in words)
        return "maybe" if _SSH_WAITS.search(command) and not told else "no"
    return _strongest(answers)


def _remote_forward(text: str, port: int, addresses: frozenset[str]) -> Leads:
    if "/" in text:
        return _unix(text, port)
    parts = _PARTS.findall(text)
    return _target(parts[-2], parts[-1], port, addresses) if len(parts) > 2 else "yes"


def _ssh_local(command: str, port: int) -> Leads:
    """A local forward leads to the other end, which may be this machine: -L [bind:]port:host:hostport."""
    words = command.split()
    answers: list[Leads] = []
    for place, word in enumerate(words):
        local = _SSH_LOCAL.fullmatch(word)
        if local and local[1] == "L":
            number = _PARTS.findall(local[2] or "".join(words[place + 1 : place + 2]))[-1:]
            answers.append("no" if number and number[0].isdigit() and int(number[0]) != port else "maybe")
        elif local or "forward" in word.lower():
            return "maybe"
    return _strongest(answers or ["maybe"])
