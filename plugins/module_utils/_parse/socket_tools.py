# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ss, netstat, lsof and sockstat print, for targets where the kernel cannot be asked directly."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .._model.address import canonical
from .._model.listener import Socket
from .error import ParseError

if TYPE_CHECKING:
    from .._model.vocabulary import Protocol

_SS_PROTOCOLS: dict[str, Protocol] = {"tcp": "tcp", "udp": "udp", "sctp": "sctp", "dccp": "dccp"}
_SOCKSTAT_PROTOCOLS: dict[str, Protocol] = {"tcp": "tcp", "udp": "udp", "sctp": "sctp", "udpl": "udplite"}
_SS_STATES = {"ESTAB": "ESTABLISHED", "SYN-SENT": "SYN_SENT", "SYN-RECV": "SYN_RECV", "TIME-WAIT": "TIME_WAIT"}
_SS_STATES.update({"FIN-WAIT-1": "FIN_WAIT1", "FIN-WAIT-2": "FIN_WAIT2", "CLOSE-WAIT": "CLOSE_WAIT", "LAST-ACK": "LAST_ACK"})
_SS_USER = re.compile(r'\("((?:[^"\\]|\\.)*)",pid=([0-9]{1,10}),fd=[0-9]+\)')
_SS_DETAIL = re.compile(r"\b(uid|ino|v6only):([0-9]{1,20})\b")
_NETSTAT = re.compile(r"(tcp6?|udp6?)\s+\d+\s+\d+\s+(\S+)\s+(\S+)\s*(.*)")
_CUT = 22  # the widest endpoint that net-tools prints without -W; a longer one loses its end and may look like another address
_PID = re.compile(r"[0-9]{1,10}")
_LSOF = re.compile(r"(\S+)\s+([0-9]{1,10})\s+(\S+)\s+\S+\s+(IPv[46])\s+\S+\s+\S+\s+(TCP|UDP)\s+(\S+)(?:\s+\((\w+)\))?$")


def parse_ss(text: str, source: str = "ss") -> list[Socket]:
    """Return the sockets of `ss -Htulnpe` (or -a in place of -l), with or without the header line."""
    sockets = []
    for number, line in _lines(text):
        fields = line.split(None, 6)
        if fields[0] == "Netid":
            continue
        protocol = _SS_PROTOCOLS.get(fields[0])
        if protocol is None or len(fields) < 6:
            raise ParseError(source, number, "not a socket of ss", line)
        rest = fields[6] if len(fields) > 6 else ""
        users = _SS_USER.findall(rest)
        details = {key: int(value) for key, value in _SS_DETAIL.findall(rest)}
        extended = "ino" in details
        mapped = "ipv4" if "." in fields[4] and "[" not in fields[4] else "ipv6"
        family, address, port, zone = _endpoint(fields[4], source, number, line, starred=mapped)
        _family, peer, peer_port, _zone = _endpoint(fields[5], source, number, line, starred=family)
        v6only: bool | None = False
        if family == "ipv6" and not fields[4].startswith("*"):  # ss prints a dual-stack :: as *
            v6only = bool(details["v6only"]) if "v6only" in details else (True if address == "::" else None)
        unknowns = ("transparent", "mark") + (() if extended else ("uid", "inode"))
        sockets.append(
            Socket(
                protocol, family, address, port, _SS_STATES.get(fields[1], fields[1]), peer, peer_port, v6only, zone,
                uid=details.get("uid", 0) if extended else None, inode=details.get("ino", 0),
                pids=tuple(sorted({int(pid) for _name, pid in users})),
                process=users[0][0] if users else None,
                unknowns=unknowns + (("v6only",) if v6only is None else ()),
            )
        )  # fmt: skip
    return sockets


def parse_netstat(text: str, source: str = "netstat", wide: bool = True) -> list[Socket]:
    """Return the sockets of Linux `netstat -tulnp` (net-tools or busybox), with or without `-a`.

    netstat loses the interface a socket is tied to and V6ONLY, and cuts long addresses unless `wide` (-W) was asked
    for: one that may be cut is a ParseError.
    """
    sockets = []
    for number, line in _lines(text):
        found = _NETSTAT.match(line)
        if not found:
            if line.split()[0].rstrip("6") in ("tcp", "udp"):
                raise ParseError(source, number, "not a socket of netstat", line)
            continue
        name, local, remote, rest = found.groups()
        protocol: Protocol = "tcp" if name.startswith("tcp") else "udp"
        family = "ipv6" if name.endswith("6") else "ipv4"
        if not wide and len(local) >= _CUT:
            raise ParseError(source, number, "the address may be cut", line)
        _f, address, port, _zone = _endpoint(local, source, number, line, starred=family)
        _f, peer, peer_port, _zone = _endpoint(remote, source, number, line, starred=family)
        words = rest.split(None, 1)
        state = "UNCONN" if protocol == "udp" else ""
        if words and re.fullmatch(r"[A-Z_]+[12]?", words[0]):
            state, words = words[0], words[1:] and words[1].split(None, 1)
        pid, slash, process = " ".join(words).partition("/")
        known = bool(slash) and _PID.fullmatch(pid) is not None
        sockets.append(
            Socket(
                protocol, family, address, port, state or "LISTEN", peer, peer_port,
                v6only=False if family == "ipv4" else None,
                pids=(int(pid),) if known else (), process=process.split(":")[0].strip() if known else None,
                unknowns=("interface", "transparent", "mark", "uid", "inode") + (("v6only",) if family == "ipv6" else ()),
            )
        )  # fmt: skip
    return sockets


def parse_lsof(text: str, source: str = "lsof") -> list[Socket]:
    """Return the sockets of `lsof -i -P -n` (macOS, FreeBSD, Linux); one process a row, its name cut to nine."""
    merged: dict[tuple[str, ...], Socket] = {}
    for number, line in _lines(text):
        if line.startswith("COMMAND"):
            continue
        found = _LSOF.match(line.rstrip())
        if not found:
            raise ParseError(source, number, "not a socket of lsof", line)
        process, pid, _user, kind, node, name, state = found.groups()
        protocol: Protocol = "tcp" if node == "TCP" else "udp"
        family = "ipv6" if kind == "IPv6" else "ipv4"
        local, arrow, remote = name.partition("->")
        _f, address, port, zone = _endpoint(local, source, number, line, starred=family)
        peer, peer_port = "", 0
        if arrow:
            _f, peer, peer_port, _zone = _endpoint(remote, source, number, line, starred=family)
        state = state or ("ESTABLISHED" if arrow else "UNCONN")
        key = (protocol, family, address, str(port), state, peer, str(peer_port), process)
        before = merged.get(key)
        pids = {int(pid)} | set(before.pids if before else ())
        merged[key] = _of_bsd(protocol, family, address, port, state, zone, tuple(sorted(pids)), process, peer, peer_port)
    return list(merged.values())


def parse_sockstat(text: str, source: str = "sockstat") -> list[Socket]:
    """Return the sockets of FreeBSD `sockstat -46l`; `tcp46` is one dual-stack socket."""
    sockets = []
    for number, line in _lines(text):
        fields = line.split()
        if fields[:2] == ["USER", "COMMAND"]:
            continue
        if len(fields) < 6 or not re.fullmatch(r"(tcp|udp|sctp|udpl)(4|6|46)", fields[4]):
            raise ParseError(source, number, "not a socket of sockstat", line)
        protocol = _SOCKSTAT_PROTOCOLS[fields[4].rstrip("46")]
        family = "ipv4" if fields[4].endswith("4") and not fields[4].endswith("46") else "ipv6"
        _f, address, port, zone = _endpoint(fields[5], source, number, line, starred=family)
        state = "LISTEN" if protocol in ("tcp", "sctp") else "UNCONN"
        pids = (int(fields[2]),) if _PID.fullmatch(fields[2]) else ()
        row = _of_bsd(protocol, family, address, port, state, zone, pids, fields[1] if pids else None, "", 0)
        if family == "ipv6":
            dual = fields[4].endswith("46")
            row = row._replace(v6only=not dual, unknowns=tuple(name for name in row.unknowns if name != "v6only"))
        sockets.append(row)
    return sockets


def _of_bsd(
    protocol: Protocol, family: str, address: str, port: int, state: str, zone: str | None,
    pids: tuple[int, ...], process: str | None, peer: str, peer_port: int,
) -> Socket:  # fmt: skip
    unknowns = ("interface", "transparent", "mark", "uid", "inode") + (("v6only",) if family == "ipv6" else ())
    v6only = False if family == "ipv4" else None
    return Socket(
        protocol, family, address, port, state, peer, peer_port, v6only, zone,
        pids=pids, process=process, unknowns=unknowns,
    )  # fmt: skip


def _lines(text: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def _endpoint(field: str, source: str, number: int, line: str, starred: str) -> tuple[str, str, int, str | None]:
    """Read address[%zone]:port; `*` as the address is the wildcard of the family `starred`."""
    address, _colon, port = field.rpartition(":")
    address, _percent, zone = address.strip("[]").replace("]%", "%").partition("%")
    zone = zone.rstrip("]")
    if address in ("*", ""):
        address = "::" if starred == "ipv6" else "0.0.0.0"
    if starred == "ipv6" and "." in address and ":" not in address:
        address = f"::ffff:{address}"  # netstat and lsof print an IPv4-mapped address as IPv4
    try:
        family, text = canonical(address)
        number_of_port = 0 if port == "*" else int(port)
        if not 0 <= number_of_port <= 65535:
            raise ValueError(port)
    except ValueError:
        raise ParseError(source, number, "not an address and port", line) from None
    return family, text, number_of_port, zone or None
