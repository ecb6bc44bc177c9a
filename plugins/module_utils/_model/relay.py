# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that hand on what they get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

# Names as in /proc/<pid>/comm, at most 15 characters. These listen, and connect somewhere for whoever comes.
FORWARDERS = frozenset(
    (
        "socat", "ssh", "nc", "ncat", "redir", "rinetd", "simpleproxy", "gost", "sshuttle", "kubectl",
        "systemd", "systemd-socket-", "xinetd", "inetd",
        "docker-proxy", "rootlessport", "rootlesskit", "slirp4netns", "pasta", "pasta.avx2",
        "nginx", "apache2", "httpd", "haproxy", "envoy", "traefik", "caddy", "squid", "varnishd", "hitch", "stunnel", "stunnel4",
        "tinyproxy", "3proxy", "microsocks", "danted", "sockd", "privoxy",
        "proxysql", "mysqlrouter", "nutcracker",
        "portproxy",
    )
)  # fmt: skip
# These need no listener: they dial out and let the other end come in.
AGENTS = frozenset(
    ["ssh", "autossh", "cloudflared", "ngrok", "frpc", "tailscaled", "chisel", "bore", "inletsctl", "zrok", "localtunnel", "lt"]
)


class Leg(NamedTuple):
    """A way through a relay, as its configuration tells it.

    listens: the places that lead into it, `address:port`; none when it may be any of the relay's.
    target:  where it ends: `host:port` (without a port: any), `unix:path`, or "" when that cannot be told.
    place:   the file and line, or the unit, that tells it.
    doubt:   why the target cannot be told.
    holders: the processes that listen on a Unix socket.
    """

    listens: tuple[str, ...]
    target: str
    place: str
    doubt: str = ""
    holders: tuple[int, ...] = ()


class Relay(NamedTuple):
    """A running process of one of these programs. command: its command line, at most 4096 bytes.

    legs: what its configuration says; None when that is not read.
    """

    pid: int
    name: str
    command: str
    legs: tuple[Leg, ...] | None = None


class Connection(NamedTuple):
    """An open connection from this machine to itself.

    pids: who holds the end that asked. through: the inodes of the sockets that the same program listens on.
    """

    protocol: str
    address: str
    port: int
    peer: str
    peer_port: int
    pids: tuple[int, ...]
    through: tuple[int, ...]


def relay_to_dict(relay: Relay) -> dict[str, Any]:
    """Return it as JSON data; the inverse is relay_from_dict."""
    legs = (
        None
        if relay.legs is None
        else [{**leg._asdict(), "listens": list(leg.listens), "holders": list(leg.holders)} for leg in relay.legs]
    )
    return {**relay._asdict(), "legs": legs}


def relay_from_dict(data: Mapping[str, Any]) -> Relay:
    """Read back what relay_to_dict wrote. Raises KeyError or TypeError when it is something else."""
    legs = data["legs"]
    if legs is not None:
        legs = tuple(Leg(**{**leg, "listens": tuple(leg["listens"]), "holders": tuple(leg["holders"])}) for leg in legs)
    return Relay(**{**data, "legs": legs})


def connection_to_dict(connection: Connection) -> dict[str, Any]:
    return {**connection._asdict(), "pids": list(connection.pids), "through": list(connection.through)}


def connection_from_dict(data: Mapping[str, Any]) -> Connection:
    """Read back what connection_to_dict wrote. Raises KeyError or TypeError when it is something else."""
    return Connection(**{**data, "pids": tuple(data["pids"]), "through": tuple(data["through"])})


class PortProxy(NamedTuple):
    """An entry of `netsh interface portproxy`: Windows listens there (a wildcard for *) and connects to host, port target."""

    address: str
    port: int
    host: str
    target: int
