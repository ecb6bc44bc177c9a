# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces, addresses, routes, sysctls and attached programs, from the kernel itself."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

from .._model.gap import Gap
from .._model.host import HostNetwork, Interface, Route
from .._parse import rtnetlink
from . import netlink
from .files import Read, read_text
from .netlink import Dump

_PER_INTERFACE = ("route_localnet", "rp_filter", "accept_local")
_SINGLE = (
    "net.ipv4.ip_forward",
    "net.ipv4.ip_nonlocal_bind",
    "net.ipv6.conf.all.forwarding",
    "net.ipv6.ip_nonlocal_bind",
    "net.ipv6.bindv6only",
)
_BRIDGED = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")
# bpf(2): the number of the call by machine, and linux/bpf.h.
_BPF_CALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351}
_BPF_PROG_QUERY, _BPF_SK_LOOKUP = 16, 36


def collect_host_network(dump: Dump = netlink.dump, read: Read = read_text, routes: bool = True) -> HostNetwork:
    """Return the network of the caller's namespace; main routes only on request, a router may have a million."""
    gaps: list[Gap] = []
    try:
        interfaces = _interfaces(dump)
    except OSError as error:
        gaps.append(Gap("interfaces", "failed", f"netlink: {error.strerror or error}"))
        interfaces = ()
    names = {entry.ifindex: entry.name for entry in interfaces}
    found: list[Route] = []
    rules: list[str] = []
    try:
        for table in (rtnetlink.TABLE_LOCAL, rtnetlink.TABLE_MAIN)[: 2 if routes else 1]:
            payloads = dump(rtnetlink.NETLINK_ROUTE, rtnetlink.GETROUTE, rtnetlink.request(rtnetlink.GETROUTE, table))
            found += [route for route in rtnetlink.routes(payloads, names) if route.table == table]
        rules = rtnetlink.rules(dump(rtnetlink.NETLINK_ROUTE, rtnetlink.GETRULE, rtnetlink.request(rtnetlink.GETRULE)))
    except OSError as error:
        gaps.append(Gap("routes", "failed", f"netlink: {error.strerror or error}"))
    sysctls = _sysctls(read, [entry.name for entry in interfaces], gaps)
    return HostNetwork(interfaces, tuple(found), tuple(rules), sysctls, _sk_lookup(gaps), tuple(gaps))


def _interfaces(dump: Dump) -> tuple[Interface, ...]:
    def ask(kind: int) -> list[bytes]:
        return dump(rtnetlink.NETLINK_ROUTE, kind, rtnetlink.request(kind))

    links = rtnetlink.links(ask(rtnetlink.GETLINK))
    addresses = rtnetlink.addresses(ask(rtnetlink.GETADDR))
    programmable = rtnetlink.programmable(ask(rtnetlink.GETQDISC))
    names = {link.ifindex: link.name for link in links}
    return tuple(
        Interface(
            link.name, link.ifindex, link.kind, link.up, link.loopback, names.get(link.master),
            tuple(address for index, address in addresses if index == link.ifindex), link.xdp, link.ifindex in programmable,
        )
        for link in links
    )  # fmt: skip


def _sysctls(read: Read, interfaces: list[str], gaps: list[Gap]) -> dict[str, int | None]:
    wanted = {name: f"/proc/sys/{name.replace('.', '/')}" for name in (*_SINGLE, *_BRIDGED)}
    for interface in ("all", "default", *interfaces):
        for name in _PER_INTERFACE:
            # The name of a VLAN holds a dot, so the path is not made from the name of the sysctl.
            wanted[f"net.ipv4.conf.{interface}.{name}"] = f"/proc/sys/net/ipv4/conf/{interface}/{name}"
    values: dict[str, int | None] = {}
    for name, path in wanted.items():
        try:
            values[name] = int(read(path))
        except FileNotFoundError:
            if name in _BRIDGED or name.startswith("net.ipv6."):
                continue  # no bridge filter loaded, or a kernel without IPv6
            values[name] = None
            gaps.append(Gap(name, "absent", f"{path} does not exist"))
        except (OSError, ValueError) as error:
            values[name] = None
            gaps.append(Gap(name, "denied" if isinstance(error, PermissionError) else "failed", str(error)))
    return values


def _sk_lookup(gaps: list[Gap]) -> bool:
    """Ask bpf(2) whether a program chooses the socket for packets that come in."""
    number = _BPF_CALL.get(platform.machine()) if sys.maxsize > 2**32 else None
    if number is None:
        gaps.append(Gap("sk_lookup", "unsupported", f"no number of bpf(2) is known for {platform.machine()}"))
        return False
    try:
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
    except OSError as error:
        gaps.append(Gap("sk_lookup", "failed", str(error)))
        return False
    try:
        query = ctypes.create_string_buffer(struct.pack("=IIIIQI", namespace, _BPF_SK_LOOKUP, 0, 0, 0, 0), 64)
        failed = ctypes.CDLL(None, use_errno=True).syscall(number, _BPF_PROG_QUERY, query, len(query))
        code = ctypes.get_errno()
    finally:
        os.close(namespace)
    if failed and code not in (errno.EINVAL, errno.ENOSYS):  # these two: a kernel that has no such programs
        gaps.append(Gap("sk_lookup", "denied" if code == errno.EPERM else "failed", f"bpf(2): {os.strerror(code)}"))
    return not failed and struct.unpack_from("=I", query, 24)[0] > 0
