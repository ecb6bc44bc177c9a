# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect the network of the host in the caller's network namespace: rtnetlink, sysctls, BPF programs. Forks nothing."""

from __future__ import annotations

import errno
import os
import platform
import struct
from typing import TYPE_CHECKING, NamedTuple

from .._model.gap import Gap
from .._model.host import HostNetwork
from .._parse import rtnetlink
from .files import read_text
from .netlink import dump

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

    from .._model.host import Interface
    from .files import Read
    from .netlink import Dump

    # A counter takes an attach type and a target (a file descriptor or an interface index) and returns how many programs
    # are attached. Raises OSError.
    Count = Callable[[int, int], int]

_ROUTES = 65536  # a router on the internet has a million
_INTERFACE_SYSCTLS = ("route_localnet", "rp_filter", "accept_local", "forwarding")
_SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/ip_nonlocal_bind",
    "net/ipv6/bindv6only",
)
_OPTIONAL = (
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/ipv4/tcp_fastopen",
    "net/netfilter/nf_conntrack_helper",
)

# Number of bpf(2): asm/unistd.h of each architecture.
_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "ppc64": 361, "s390x": 351}
_UNKNOWN_PLACE = (errno.EINVAL, errno.ENOSYS, errno.ENOENT)  # an older kernel, or one without BPF
_PROG_QUERY, _SK_LOOKUP, _TCX_INGRESS = 16, 36, 46


class _Programs(NamedTuple):
    sk_lookup: int | None
    tc: set[int]  # indexes of the interfaces


def collect_network(read: Read = read_text, ask: Dump = dump, count: Count | None = None, routes: bool = True) -> HostNetwork:
    """Return what could be read; what could not is in its `gaps`. Changes nothing on the host.

    routes: False leaves the routes out, of which a router may have many.
    """
    gaps: list[Gap] = []
    answers = {kind: _ask(ask, kind, gaps) for kind in _KINDS if routes or kind != rtnetlink.RTM_GETROUTE}
    listed = answers.get(rtnetlink.RTM_GETROUTE, [])
    try:
        links = rtnetlink.links(answers[rtnetlink.RTM_GETLINK])
        addresses = rtnetlink.addresses(answers[rtnetlink.RTM_GETADDR])
        names = {link.index: link.name for link in links}
        ways = rtnetlink.routes(listed[:_ROUTES], names)
        rules = rtnetlink.rules(answers[rtnetlink.RTM_GETRULE])
        for family in rtnetlink.displaced(answers[rtnetlink.RTM_GETRULE]):
            gaps.append(Gap("routing rules", "not_evaluated", f"{family}: the kernel's own rules for the tables local and main were moved"))
        qdiscs = rtnetlink.classified(answers[rtnetlink.RTM_GETQDISC])
    except OSError as error:
        gaps.append(Gap("rtnetlink", "unparsable", str(error)))
        links, addresses, ways, rules, qdiscs = [], {}, [], [], set()
    if len(listed) > _ROUTES:
        gaps.append(Gap("routes", "unsupported", f"only the first {_ROUTES} routes were read"))
    programs = _programs(count or bpf_count, links, gaps)
    interfaces = [
        link._replace(
            addresses=tuple(addresses.get(link.index, ())),
            tc=link.kind == "netkit" or link.index in qdiscs or link.index in programs.tc,
        )
        for link in links
    ]
    sysctls = _sysctls(read, [link.name for link in links], gaps)
    return HostNetwork(tuple(interfaces), tuple(ways), tuple(rules), sysctls, programs.sk_lookup, tuple(gaps))


_KINDS = {
    rtnetlink.RTM_GETLINK: "interfaces",
    rtnetlink.RTM_GETADDR: "addresses",
    rtnetlink.RTM_GETROUTE: "routes",
    rtnetlink.RTM_GETRULE: "routing rules",
    rtnetlink.RTM_GETQDISC: "queueing disciplines",
}


def _ask(ask: Dump, kind: int, gaps: list[Gap]) -> list[bytes]:
    try:
        return ask(0, kind, rtnetlink.get(kind))
    except OSError as error:
        denied = isinstance(error, PermissionError)
        gaps.append(Gap(_KINDS[kind], "denied" if denied else "failed", f"the kernel says: {error.strerror or error}"))
        return []


def _sysctls(read: Read, names: Sequence[str], gaps: list[Gap]) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    refused: list[str] = []
    said = ""
    for path in (
        *_SYSCTLS,
        *_OPTIONAL,
        *(f"net/ipv4/conf/{name}/{key}" for name in ("all", "default", *names) for key in _INTERFACE_SYSCTLS),
        *(f"net/ipv6/conf/{name}/force_forwarding" for name in names),  # of kernel 6.17 and later
    ):
        try:
            found[path] = int(read(f"/proc/sys/{path}"))
        except FileNotFoundError:  # no IPv6, no bridge filter, or the interface is gone
            if path == _SYSCTLS[0]:
                gaps.append(Gap(f"/proc/sys/{path}", "absent", "the sysctls of the network are not visible"))
                return {}
        except (OSError, ValueError) as error:
            found[path] = None
            refused.append(path)
            said = said or str(error)
    if refused:
        text = f"{said}; {len(refused)} sysctls could not be read" if len(refused) > 1 else said
        gaps.append(Gap(f"/proc/sys/{refused[0]}", "denied" if "ermission" in said else "failed", text[:500]))
    return found


def _programs(count: Count, links: list[Interface], gaps: list[Gap]) -> _Programs:
    """Ask for programs that no dump shows: sk_lookup of the namespace, and tc programs that hang on no qdisc (tcx)."""
    try:
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
        try:
            lookups = count(_SK_LOOKUP, namespace)
        finally:
            os.close(namespace)
        return _Programs(lookups, {link.index for link in links if count(_TCX_INGRESS, link.index)})
    except OSError as error:
        denied = isinstance(error, PermissionError)
        text = f"BPF programs cannot be listed: {error.strerror or error}"
        gaps.append(Gap("bpf", "denied" if denied else "unsupported", text))
        return _Programs(None, set())


def bpf_count(attach_type: int, target: int) -> int:
    """Return how many programs are attached; 0 where the kernel does not know this place. Raises OSError."""
    number = _BPF.get(platform.machine())
    if number is None or struct.calcsize("P") != 8:
        raise OSError(f"the number of bpf(2) on {platform.machine()} is not known")
    try:
        import ctypes
    except ImportError as error:
        raise OSError(str(error)) from None
    query = ctypes.create_string_buffer(struct.pack("=IIIIQIIQ", target, attach_type, 0, 0, 0, 0, 0, 0), 64)
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(ctypes.c_long(number), ctypes.c_int(_PROG_QUERY), query, ctypes.c_uint(64)) == 0:
        return int(struct.unpack_from("=I", query, 24)[0])
    code = ctypes.get_errno()
    if code in _UNKNOWN_PLACE:
        return 0
    raise OSError(code, os.strerror(code))
