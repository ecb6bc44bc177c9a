# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does a match hold for a packet of which all but the address of the other end is known? Three values: None is unknown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from .._model.network import network_range

if TYPE_CHECKING:
    from .._model.ruleset import Match
    from .._model.vocabulary import Family

_NUMBERS = {"tcp": "6", "udp": "17", "udplite": "136", "sctp": "132", "dccp": "33"}
CONNTRACK = -200  # NF_IP_PRICONNTRACK: the priority at which packets are tracked
# What is fixed in the first packet of a TCP connection, in the first answer and in those that follow; the rest is chosen.
_FLAGS: dict[str, dict[str, bool]] = {
    "new": {"syn": True, "ack": False, "rst": False, "fin": False},
    "established": {"syn": False, "ack": True, "rst": False, "fin": False},
    "reply": {"ack": True, "rst": False, "fin": False},
}
# A reply goes the other way: what a match calls source is this end.
TURNED = {
    "source": "destination",
    "destination": "source",
    "source_port": "destination_port",
    "destination_port": "source_port",
    "source_type": "destination_type",
    "destination_type": "source_type",
}

AWAY = ("FOREIGN", "ROUTED")  # of no interface; what is ROUTED may be local all the same
_HERE = frozenset(("LOCAL", "BROADCAST", "MULTICAST"))  # types of addresses that a foreign one never has

Phase = Literal["new", "established", "reply"]


class Taken(NamedTuple):
    """The socket that TPROXY gave a packet to. by: the argument of the target that did it."""

    address: str
    port: int
    by: str


class Packet(NamedTuple):
    """A packet from outside, or the answer to it. Of it only the address of the other end, its source, is free.

    destination: the address of this end as a number, None when it is not known. interface: where it came in, "" when
    that is not known, but not on loopback. cast: what the destination is here: LOCAL, BROADCAST, MULTICAST, ANYCAST or
    FOREIGN. mark: None when it is not known. tracked: False after notrack, None when that is not known.
    origin: destination, port and cast before they were rewritten. leaving: the interface on which a forwarded packet goes
    on, None when that is not known. sport: the port that it comes from, None when that is free. taken: by a socket; what the
    packet says of its destination stays.
    """

    family: Family
    protocol: str
    destination: int | None
    port: int
    interface: str
    cast: str = "LOCAL"
    mark: int | None = 0
    tracked: bool | None = True
    origin: tuple[int | None, int, str] | None = None
    leaving: str | None = ""
    sport: int | None = None
    taken: Taken | None = None


class Stage(NamedTuple):
    """Where a rule stands, and in which phase of a connection. whole: the packet is not a fragment there.

    answered: connection tracking sees the answers; ct_marks: some rule may set the mark of a connection; forwarded: the
    connection ends on another machine. helped: a helper may have expected the connection, which makes it RELATED.
    """

    phase: Phase
    hook: str
    priority: int
    whole: bool
    answered: bool = True
    ct_marks: bool = False
    forwarded: bool = False
    helped: bool = False


def field_of(match: Match, stage: Stage) -> str:
    """Return what a match is about, seen from the first packet's direction."""
    return TURNED.get(match.field, match.field) if stage.phase == "reply" else match.field


def holds(match: Match, packet: Packet, stage: Stage) -> bool | None:
    """Say whether a match that is not about the other end's address holds for the packet."""
    field = field_of(match, stage)
    if field == "destination":
        return _destination(match, packet)
    if field == "source":  # of the other family; in an inet table it cannot hold, negated or not
        return False
    if field == "ct_original_destination" and any(network_range(value).family != packet.family for value in match.values):
        return False
    answer = _holds(field, match.values, packet, stage)
    return answer if answer is None or not match.negated else not answer


def _destination(match: Match, packet: Packet) -> bool | None:
    found = [network_range(value) for value in match.values]
    if any(entry.family != packet.family for entry in found):
        return False
    if packet.destination is None:
        return None
    return any(entry.first <= packet.destination <= entry.last for entry in found) != match.negated


def _holds(field: str, values: tuple[str, ...], packet: Packet, stage: Stage) -> bool | None:
    if field == "protocol":
        number = _NUMBERS.get(packet.protocol, packet.protocol)
        return any(value in (packet.protocol, number, "all", "0") for value in values)
    if field in ("in_interface", "out_interface"):
        return _interface(field, values, packet, stage)
    if field == "destination_port":
        return _port(values, packet.port)
    if field == "source_port":
        if packet.sport is not None:
            return _port(values, packet.sport)
        return True if any(_all_ports(value) for value in values) else None
    if field == "any_port":
        either = _port(values, packet.port), _port(values, packet.sport) if packet.sport is not None else None
        return True if True in either else None if None in either else False
    if field == "ct_state":
        return _state(values, packet, stage)
    if field == "tcp_flags":
        if packet.protocol != "tcp":
            return False
        return _flags(values, _FLAGS[stage.phase]) if stage.whole else None
    if field == "mark":
        return marked(values, packet.mark)
    if field == "ct_mark":
        return None if stage.ct_marks or not packet.tracked or early(stage) else marked(values, 0)
    if field == "ct_original_port":
        return None if early(stage) or not packet.tracked else _port(values, packet.origin[1] if packet.origin else packet.port)
    if field == "ct_original_destination":
        original = packet.origin[0] if packet.origin else packet.destination
        if original is None or early(stage) or not packet.tracked:
            return None
        found = [network_range(value) for value in values]
        return all(entry.family == packet.family for entry in found) and any(entry.first <= original <= entry.last for entry in found)
    if field == "ct_direction":
        direction = "REPLY" if stage.phase == "reply" else "ORIGINAL"
        return None if early(stage) or not packet.tracked else direction in values
    if field == "destination_type":
        if packet.cast == "ROUTED":
            return None
        if packet.cast == "FOREIGN":
            return False if _HERE.issuperset(values) else None
        # The kernel's tables do not agree on what an IPv6 group or anycast address is.
        return packet.cast in values if packet.cast == "LOCAL" or packet.family == "ipv4" else None
    if field == "family":
        return packet.family in values
    if field == "taken":
        return packet.taken is not None and packet.taken.by in values
    if field in ("icmp_type", "fragment", "never"):
        return False
    return None  # unknown, source_type


def early(stage: Stage) -> bool:
    """Say whether connection tracking has not seen the packet, or has it just now."""
    return stage.hook in ("ingress", "prerouting", "output") and stage.priority <= CONNTRACK


def _interface(field: str, values: tuple[str, ...], packet: Packet, stage: Stage) -> bool | None:
    """In a hook that has no such interface the name is empty: linux/netfilter/x_tables.h, nft_meta.c."""
    if stage.phase == "reply":
        arrives = packet.leaving if stage.hook in ("prerouting", "forward") else ""
        leaves = packet.interface if stage.forwarded else packet.leaving
    else:
        arrives, leaves = packet.interface, packet.leaving if stage.hook in ("forward", "postrouting") else ""
    name = arrives if field == "in_interface" else leaves
    absent = stage.hook != "forward" and (field == "out_interface") == (stage.hook in ("ingress", "prerouting", "input"))
    if name is None or (not name and not absent):  # some interface, but not loopback
        named = [value for value in values if value != "lo"]
        return True if any(value in ("+", "*") for value in named) else None if named else False
    return any(name.startswith(value[:-1]) if value[-1:] in ("+", "*") else name == value for value in values)


def _state(values: tuple[str, ...], packet: Packet, stage: Stage) -> bool | None:
    if "DNAT" in values or "SNAT" in values:  # bits of their own beside the state
        if "DNAT" in values and packet.origin and packet.tracked and not early(stage):
            if packet.port != packet.origin[1] or packet.destination not in (packet.origin[0], None):
                return True
            if packet.destination is None:
                return None  # what is sent to where it was going anyway is not marked: nf_nat_setup_info
        if stage.phase != "new" or not packet.tracked:
            return None
    if packet.tracked is None:
        return None
    if not packet.tracked:
        return "UNTRACKED" in values
    if early(stage):  # before connection tracking has seen a packet its state is INVALID: xt_conntrack.c, nft_ct.c
        return None if stage.priority == CONNTRACK and stage.hook != "ingress" else "INVALID" in values
    if stage.phase == "new":
        return None if stage.helped and "RELATED" in values and "NEW" not in values else "NEW" in values
    return "ESTABLISHED" in values if stage.answered else None


def bounds(value: str) -> tuple[int, int]:
    """Read 22, 1000:2000, :1023 or 1024:. Raises ValueError."""
    first, colon, last = value.partition(":")
    return int(first or 0), int((last or 65535) if colon else first)


def _port(values: tuple[str, ...], port: int) -> bool | None:
    unknown = False
    for value in values:
        try:
            low, high = bounds(value)
        except ValueError:
            unknown = True
            continue
        if low <= port <= high:
            return True
    return None if unknown else False


def _all_ports(value: str) -> bool:
    first, colon, last = value.partition(":")
    return bool(colon) and first in ("", "0") and last in ("", "65535")


def _flags(values: tuple[str, ...], fixed: dict[str, bool]) -> bool | None:
    known: list[bool | None] = []
    for value in values:
        mask, _slash, wanted = value.partition("/")
        flags, expected = _names(mask), _names(wanted)
        if any(fixed[flag] != (flag in expected) for flag in flags & fixed.keys()) or expected - flags:
            known.append(False)
        else:
            known.append(None if flags - fixed.keys() else True)
    return True if True in known else None if None in known else False


def _names(flags: str) -> set[str]:
    names = {flag for flag in flags.lower().split(",") if flag not in ("", "none")}
    return names if "all" not in names else {"fin", "syn", "rst", "psh", "ack", "urg"}


def marked(values: tuple[str, ...], mark: int | None) -> bool | None:
    if mark is None:
        return None
    try:
        pairs = [value.partition("/") for value in values]
        return any(mark & int(mask or "0xffffffff", 0) == int(wanted, 0) for wanted, _slash, mask in pairs)
    except ValueError:
        return None
