# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab: this network namespace is the server, with a neighbour on each of two links and a machine behind it.

    eth0 (namespace) --- eth0 server back0 --- back (namespace)
    eth1 (namespace) --- eth1

Every probe is a real connection or datagram. What listens tells who it is and where the packet arrived.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

PATIENCE = 1.5  # for an answer that is expected; a lost SYN comes again after a second
QUIET = 0.06  # nothing more comes after this
CLONE_NEWNET = 0x40000000
TRACED = 7  # the mark of sockets of which only the first packet leaves

CLIENTS = ("eth0", "eth1")
HOSTS = (2, 3, 130, 200)  # of a neighbour
LINKS = {"eth0": 1, "eth1": 2, "back0": 9}
OWN = {"eth0": (1, 9), "eth1": (1, 9), "back0": (1,)}  # of the server
BEHIND = (2, 9)  # of the machine behind it
# Transparent sockets of the server; of IPv6 the second is on its loopback address.
PROXIES = (("::", 3129), ("127.0.0.1", 3130))
LISTENERS = {
    "server": {"tcp": (5432, 6379, 11211, 8080), "udp": (5353, 11211, 8053)},
    "back": {"tcp": (80, 5432, 8080), "udp": (53, 8053)},
    "proxy": {protocol: tuple(port for _address, port in PROXIES) for protocol in ("tcp", "udp")},
}
STRANGE = {"ipv4": "203.0.113.9", "ipv6": "2001:db8:9::9"}  # of no machine here
_diverted: set[str] = set()  # tables that are in use
IP_TRANSPARENT, IP_PKTINFO, IPV6_TRANSPARENT = 19, 8, 75  # linux/in.h, linux/in6.h


def address(family: str, link: str, host: int) -> str:
    return f"10.77.{LINKS[link]}.{host}" if family == "ipv4" else f"2001:db8:77:{LINKS[link]}::{host:x}"


class Probe(NamedTuple):
    family: str
    client: str  # a namespace, and the interface on which its packets come in
    source: str
    protocol: str
    destination: str
    port: int


class End(NamedTuple):
    """What answered: on which machine, and the address and port at which the packet arrived there; of a proxy its own port."""

    place: str
    address: str
    port: int


def listens(end: End, protocol: str) -> bool:
    return end.place in LISTENERS and end.port in LISTENERS[end.place][protocol]


def run(*argv, stdin=None):
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()[:2000]}\n{stdin or ''}")
    return done.stdout


class Lab:
    """The namespaces, with everything listening."""

    def __init__(self):
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        self._namespaces = {"server": here, "proxy": here}
        run("ip", "link", "set", "lo", "up")
        for link, number in LINKS.items():
            self._connect(link, "back" if link == "back0" else link, BEHIND if link == "back0" else HOSTS, number)
        for client in CLIENTS:  # a traced connection sends its first packet only
            run("ip", "netns", "exec", client, "nft", "-f", "-", stdin=f"""table inet first {{ chain out {{
                type filter hook output priority 0; meta mark {TRACED} tcp flags & (syn | ack) != syn drop; }}; }}""")  # fmt: skip
        self._servers = {}
        for place, protocols in LISTENERS.items():
            self.enter(place)
            for name, value in (("ipv4/tcp_synack_retries", 0), ("ipv4/conf/all/rp_filter", 0)):  # nothing comes late
                set_sysctl(name, value)
            for protocol, ports in protocols.items():
                for port in ports:
                    for where in addresses(place, port):
                        sock = _listener(protocol, where, port, place == "proxy")
                        self._servers[sock.fileno()] = place, sock
        self.enter("server")
        self._rounds = 0

    def _connect(self, link, name, hosts, number):
        """Join a namespace to the server. Neighbours are told to each other: no rule can keep them from being found."""
        macs = {"server": f"02:00:00:00:{number:02x}:01", name: f"02:00:00:00:{number:02x}:02"}
        run("ip", "netns", "add", name)
        run("ip", "link", "add", link, "address", macs["server"], "type", "veth",
            "peer", "name", "lan", "address", macs[name], "netns", name)  # fmt: skip
        for prefix, device, own, others, mac in (
            (["ip"], link, OWN[link], hosts, macs[name]),
            (["ip", "-n", name], "lan", hosts, OWN[link], macs["server"]),
        ):
            for family, length in (("ipv4", 24), ("ipv6", 64)):
                for host in own:
                    run(*prefix, "address", "add", f"{address(family, link, host)}/{length}", "dev", device,
                        *(["nodad"] if family == "ipv6" else []))  # fmt: skip
            run(*prefix, "link", "set", device, "up")
            for family in ("ipv4", "ipv6"):
                for host in others:
                    run(*prefix, "neigh", "replace", address(family, link, host), "lladdr", mac, "dev", device, "nud", "permanent")
        for family in ("ipv4", "ipv6"):
            run("ip", "-n", name, f"-{family[3]}", "route", "add", "default", "via", address(family, link, 1))
        self._namespaces[name] = os.open(f"/run/netns/{name}", os.O_RDONLY)

    def enter(self, name):
        if ctypes.CDLL(None, use_errno=True).setns(self._namespaces[name], CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")

    def probe(self, probes: Iterable[Probe], wanted: Collection[Probe], patience: float = PATIENCE) -> dict[Probe, End]:
        """Try all of them at once; return who answered. Those that are wanted are waited for."""
        self._rounds += 1
        self._drain()
        poll = select.epoll()
        for descriptor in self._servers:
            poll.register(descriptor, select.EPOLLIN)
        numbered = dict(enumerate(probes, self._rounds << 16))
        sockets = {}
        for client in CLIENTS:
            self.enter(client)
            for number, probe in numbered.items():
                if probe.client == client:
                    sock = knock(probe, number)
                    sockets[sock.fileno()] = probe, sock
                    poll.register(sock, select.EPOLLIN)
        self.enter("server")
        answers, accepted = {}, []
        missing = set(wanted)
        end = time.monotonic() + patience
        while events := poll.poll(max(QUIET, end - time.monotonic()) if missing else QUIET):
            for descriptor, _event in events:
                if descriptor in self._servers:
                    number, heard = self._serve(*self._servers[descriptor], accepted)
                    if number in numbered:  # a datagram needs no answer
                        answers[numbered[number]] = heard
                        missing.discard(numbered[number])
                    continue
                probe, sock = sockets[descriptor]
                with contextlib.suppress(OSError):
                    place, arrived, port = sock.recv(100).decode().split()
                    answers[probe] = End(place, arrived, int(port))
                    missing.discard(probe)
                poll.unregister(sock)
        for sock in [sock for _probe, sock in sockets.values()] + accepted:
            if sock.type == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()
        poll.close()
        return answers

    def first_packet(self, probe: Probe) -> None:
        """Send the first packet of a connection, or a datagram, and nothing else."""
        self.enter(probe.client)
        with knock(probe, 0, TRACED):
            self.enter("server")
            time.sleep(QUIET)

    def _drain(self):
        """Forget what came late in the last round."""
        for _place, sock in self._servers.values():
            with contextlib.suppress(OSError):
                while True:
                    sock.recv(16) if sock.type == socket.SOCK_DGRAM else sock.accept()[0].close()

    @staticmethod
    def _serve(place, sock, accepted):
        """Answer a connection, or read a datagram; return the number of the datagram and where it arrived."""
        try:
            if sock.type == socket.SOCK_STREAM:
                connection, _peer = sock.accept()
                accepted.append(connection)
                arrived, port = connection.getsockname()[:2]
                port = sock.getsockname()[1] if place == "proxy" else port
                connection.send(f"{place} {_plain(arrived)} {port}".encode())
                return None, None
            data, ancillary, _flags, _peer = sock.recvmsg(16, 64)
            told = ancillary[0][2]  # struct in_pktinfo or in6_pktinfo
            arrived = socket.inet_ntop(socket.AF_INET, told[8:]) if len(told) == 12 else socket.inet_ntop(socket.AF_INET6, told[:16])
            return struct.unpack("!Q", data)[0], End(place, _plain(arrived), sock.getsockname()[1])
        except OSError:
            return None, None


def addresses(place, port):
    named = {port: address for address, port in PROXIES}.get(port, "::") if place == "proxy" else "::"
    return ("::",) if named == "::" else (named, "::1")


def _listener(protocol, where, port, transparent):
    family = socket.AF_INET6 if ":" in where else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    level, option, told = (
        (socket.IPPROTO_IPV6, IPV6_TRANSPARENT, socket.IPV6_RECVPKTINFO)
        if family == socket.AF_INET6
        else (socket.IPPROTO_IP, IP_TRANSPARENT, IP_PKTINFO)
    )
    if where == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if transparent:
        sock.setsockopt(level, option, 1)
    if protocol == "udp":
        sock.setsockopt(level, told, 1)
    sock.bind((where, port))
    if protocol == "tcp":
        sock.listen(512)
    sock.setblocking(False)
    return sock


def knock(probe: Probe, number: int, mark: int = 0) -> socket.socket:
    """Start a connection, or send a datagram that holds a number, from the namespace that we are in."""
    kind = socket.SOCK_STREAM if probe.protocol == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET if probe.family == "ipv4" else socket.AF_INET6, kind)
    sock.setblocking(False)
    if mark:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    sock.bind((probe.source, 0))
    code = sock.connect_ex((probe.destination, probe.port))
    if code not in (0, errno.EINPROGRESS, errno.ECONNREFUSED):
        raise OSError(code, f"{os.strerror(code)}: {probe}")
    if probe.protocol == "udp":
        with contextlib.suppress(OSError):
            sock.send(struct.pack("!Q", number))
    return sock


def _plain(text: str) -> str:
    found = ipaddress.ip_address(text)
    return str(getattr(found, "ipv4_mapped", None) or found)


def set_sysctl(name: str, value: int) -> None:
    with open(f"/proc/sys/net/{name}", "w") as file:
        file.write(str(value))


def divert(wanted: bool) -> None:
    """Make every address local for packets with mark 1, or no longer."""
    if wanted != bool(_diverted):
        verb = "add" if wanted else "del"
        for family in ("-4", "-6"):
            run("ip", family, "rule", verb, "fwmark", "1", "lookup", "100")
            run("ip", family, "route", verb, "local", "default", "dev", "lo", "table", "100")
        _diverted.symmetric_difference_update(("100",))
