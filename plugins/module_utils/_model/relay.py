# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that hand on what they get."""

from __future__ import annotations

from typing import NamedTuple

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


class Relay(NamedTuple):
    """A running process of one of these programs. command: its command line, at most 4096 bytes."""

    pid: int
    name: str
    command: str


class PortProxy(NamedTuple):
    """An entry of `netsh interface portproxy`: Windows listens there (a wildcard for *) and connects to host, port target."""

    address: str
    port: int
    host: str
    target: int
