# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of nfnetlink: which nf_tables tables, rules and ipsets the kernel holds (linux/netfilter/nf_tables.h, ipset/ip_set.h)."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .netlink import NetlinkError, attributes

NETLINK_NETFILTER = 12
NFT_MSG_GETTABLE = 10 << 8 | 1
NFT_MSG_GETCHAIN = 10 << 8 | 4
NFT_MSG_GETRULE = 10 << 8 | 7
IPSET_CMD_LIST = 6 << 8 | 7
FAMILIES = {0: "unspec", 1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

_GENERIC = struct.Struct(">BBH")  # nfgenmsg: family, version, resource id
_META_KEYS = (3, 4, 5, 6, 7, 16)  # mark, iif, oif, iifname, oifname, l4proto
_NFTRACE = 12  # set by -j TRACE
_PLAIN = frozenset((b"match\0", b"target\0", b"counter\0", b"immediate\0", b"limit\0", b"log\0", b"bitwise\0"))
_NETWORK, _TRANSPORT = 1, 2
_TRANSPORT_FIELDS = ((0, 2), (2, 2), (0, 4), (13, 1), (0, 1))  # one port, both, TCP flags, ICMP type
_NETWORK_FIELDS = {"ip": ((9, 1), (6, 2)), "ip6": ((6, 1),)}  # protocol, fragment offset
_ADDRESSES = {"ip": ((12, 16), (16, 20)), "ip6": ((8, 24), (24, 40))}


class KernelTable(NamedTuple):
    """generation: the low bits of the number of the ruleset; it differs after every change. dormant: its chains are off."""

    family: str
    name: str
    generation: int
    dormant: bool


def get_tables() -> bytes:
    """Return the payload of NFT_MSG_GETTABLE for every family."""
    return _GENERIC.pack(0, 0, 0)


def tables(payloads: list[bytes]) -> list[KernelTable]:
    """Raises OSError for an answer that is not netlink."""
    found = []
    for payload in payloads:
        if len(payload) < _GENERIC.size:
            raise NetlinkError(errno.EBADMSG, f"a message of {len(payload)} bytes")
        family, _version, generation = _GENERIC.unpack_from(payload)
        table = attributes(payload, _GENERIC.size)
        name = _name(table.get(1))
        found.append(KernelTable(FAMILIES.get(family, str(family)), name, generation, bool(_u32(table.get(2)) & 1)))
    return found


def of_family(family: str) -> bytes:
    """Return the payload of NFT_MSG_GETCHAIN or NFT_MSG_GETRULE for a family."""
    return _GENERIC.pack(next(number for number, name in FAMILIES.items() if name == family), 0, 0)


def chains(payloads: list[bytes]) -> set[tuple[str, str]]:
    """Return (table, chain) of each. Raises OSError for an answer that is not netlink."""
    found = (attributes(payload, _GENERIC.size) for payload in payloads)
    return {(_name(chain.get(1)), _name(chain.get(3))) for chain in found}


def _name(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode("utf-8", "replace")


def foreign_tables(payloads: list[bytes], family: str) -> set[str]:
    """Return the names of the tables that hold a rule that iptables-nft-save would print wrongly.

    It reads the expressions that iptables writes; of a rule that nft wrote it prints what it understands and drops the
    rest: `tcp dport { 22, 80 } drop` becomes `-p tcp -j DROP` (iptables 1.8.9).
    """
    found: set[str] = set()
    plain: set[bytes] = set()
    for payload in payloads:
        rule = attributes(payload, _GENERIC.size)
        expressions = rule.get(4, b"")
        if expressions in plain:
            continue
        if _is_iptables(expressions, family):
            plain.add(expressions)
        else:
            found.add(_name(rule.get(1)))
    return found


def _is_iptables(expressions: bytes, family: str) -> bool:
    ranged = False
    for element in _elements(expressions):
        expression = attributes(element)
        name = expression.get(1, b"")
        if name in _PLAIN:
            continue
        data = attributes(expression.get(2, b""))
        if name == b"meta\0":
            ranged = False
            key = _u32(data.get(2))
            if key != _NFTRACE and (1 not in data or key not in _META_KEYS):
                return False
        elif name == b"payload\0":
            base, offset, length = _u32(data.get(2)), _u32(data.get(3)), _u32(data.get(4))
            ranged = base == _TRANSPORT and length == 2
            if base == _TRANSPORT:
                fine = (offset, length) in _TRANSPORT_FIELDS
            else:
                fine = base == _NETWORK and (
                    (offset, length) in _NETWORK_FIELDS[family]
                    or any(offset == first and offset + length <= last for first, last in _ADDRESSES[family])
                )
            if not fine or 1 not in data:
                return False
        elif name == b"cmp\0":
            if _u32(data.get(2)) > 1 and not ranged:  # equal, not equal; otherwise one end of a range
                return False
        elif name != b"range\0" or not ranged:
            return False
    return True


def _elements(data: bytes) -> Iterator[bytes]:
    """Yield the values of a list, whose members all have the same type."""
    position = 0
    while position + 4 <= len(data):
        length = max(4, int.from_bytes(data[position : position + 2], "little" if _LITTLE else "big"))
        yield data[position + 4 : position + length]
        position += (length + 3) & ~3


_LITTLE = struct.pack("=H", 1) == b"\1\0"


def _u32(value: bytes | None) -> int:
    return int.from_bytes(value, "big") if value else 0


def get_ipsets() -> bytes:
    """Return the payload of IPSET_CMD_LIST that asks for names alone."""
    protocol = struct.pack("=HHB3x", 5, 1, 6)
    only_names = struct.pack("=HH", 8, 6 | 0x4000) + struct.pack(">I", 2)  # IPSET_FLAG_LIST_SETNAME
    return _GENERIC.pack(0, 0, 0) + protocol + only_names


def ipsets(payloads: list[bytes]) -> list[str]:
    """Raises OSError for an answer that is not netlink."""
    names = (_name(attributes(payload, _GENERIC.size).get(2)) for payload in payloads)
    return [name for name in names if name]
