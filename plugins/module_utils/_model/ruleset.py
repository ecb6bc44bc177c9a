# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A packet filter as it was read: one model for iptables (nft and legacy) and native nftables.

Every value is text, a number or a tuple of them, so that a recorded ruleset travels as JSON and comes back
(`table_to_dict`, `table_from_dict`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

Backend = Literal["iptables-nft", "iptables-legacy", "nftables", "windows"]
TableFamily = Literal["ip", "ip6", "inet", "arp", "bridge", "netdev"]
Hook = Literal["ingress", "prerouting", "input", "forward", "output", "postrouting", "egress"]

MatchField = Literal[
    "source",  # values: CIDR, or first-last
    "destination",
    "protocol",  # tcp, udp, icmp, ... or a number as text
    "in_interface",  # a name; a trailing + or * is a wildcard
    "out_interface",
    "source_port",  # 22, or 1000:2000 (inclusive)
    "destination_port",
    "any_port",  # source or destination (multiport --ports)
    "ct_state",  # NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED, SNAT, DNAT
    "tcp_flags",  # "mask/set", lower case, comma separated: fin,syn,rst,ack/syn
    "mark",  # value/mask
    "ct_mark",
    "ct_original_port",  # the destination port of the connection's first packet, before it was rewritten
    "ct_original_destination",
    "ct_direction",  # ORIGINAL, REPLY
    "source_type",  # addrtype or fib: LOCAL, UNICAST, BROADCAST, MULTICAST, ...
    "destination_type",
    "set",  # an ipset: "name src,dst"
    "socket",  # there is a socket for the packet: plain, full, transparent (only such a one), nowildcard (also one on every address)
    "taken",  # the TPROXY before it in its rule, with this argument, has found a socket (nftables)
    "icmp_type",
    "fragment",
    "family",  # ipv4, ipv6 (nftables meta nfproto)
    "never",  # cannot match
    "unknown",  # cannot be evaluated; the text says what it is
]

TargetKind = Literal[
    "accept",
    "drop",  # DROP, REJECT, TARPIT: final, the packet does not arrive
    "return",
    "jump",  # argument: the chain
    "goto",
    "continue",  # LOG, NFLOG, counters, comments: the next rule decides
    "mark",  # argument: value/mask that the packet's mark becomes
    "notrack",
    "dnat",  # argument: address[:port] as written
    "redirect",  # argument: port(s) as written, or empty
    "netmap",  # argument: the network, of which an address becomes the one of the same place
    "tproxy",  # argument: [address][:port], and the mark as value/mask after a space
    "snat",  # SNAT, MASQUERADE: no influence on what arrives
    "opaque",  # anything else: it may decide either way
]


class Match(NamedTuple):
    """One condition. It holds when any of `values` does; `negated` turns that round.

    A `set` match holds when the packet's addresses are in the named set. `text` is the condition as written.
    """

    field: MatchField
    values: tuple[str, ...]
    negated: bool
    text: str


class Target(NamedTuple):
    kind: TargetKind
    argument: str = ""


HELPER = Target("continue", "helper")  # a helper of connection tracking: it may expect other connections
REWRITING = frozenset(("dnat", "redirect", "netmap"))  # targets that change where a packet goes


class Rule(NamedTuple):
    """number: 1-based place in its chain, as `iptables -L --line-numbers` counts.

    line: 1-based line in the dump, 0 when the source has no lines. handle: nftables' handle, 0 without one.
    One nftables rule with a verdict map becomes several Rules with the same number, handle and text.
    """

    number: int
    matches: tuple[Match, ...]
    target: Target
    text: str
    line: int = 0
    handle: int = 0


class Chain(NamedTuple):
    """A chain; a base chain has a hook, a priority and a policy, a user chain has None for all three."""

    name: str
    rules: tuple[Rule, ...]
    type: str | None = None  # filter, nat, route
    hook: Hook | None = None
    priority: int | None = None
    policy: Literal["accept", "drop"] | None = None
    devices: tuple[str, ...] = ()


class SetElements(NamedTuple):
    """An ipset or an nftables set. `complete` is False when its membership changes by itself or was not understood.

    entries: CIDR, first-last or other elements as text; excluded: `nomatch` entries, which override.
    """

    name: str
    type: str
    entries: tuple[str, ...]
    excluded: tuple[str, ...] = ()
    complete: bool = True


class Table(NamedTuple):
    family: TableFamily
    name: str
    backend: Backend
    source: str  # the command or file that it was read from
    chains: dict[str, Chain]
    sets: Mapping[str, SetElements] = MappingProxyType({})


# Hook, priority and type of the built-in chains: linux/netfilter_ipv4.h, iptables(8).
_HOOKS: dict[str, Hook] = {
    "PREROUTING": "prerouting",
    "INPUT": "input",
    "FORWARD": "forward",
    "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}
_PRIORITIES = {"raw": -300, "mangle": -150, "filter": 0, "security": 50}
# Hooks that an answer may pass; one that comes from a container also comes in.
_ANSWERS = ("ingress", "prerouting", "output", "forward", "postrouting", "egress")


def builtin_base(table: str, chain: str) -> tuple[str, Hook, int] | None:
    """Return (type, hook, priority) of an iptables built-in chain, None for a user chain."""
    hook = _HOOKS.get(chain)
    if hook is None:
        return None
    if table == "nat":
        return "nat", hook, -100 if hook in ("prerouting", "output") else 100
    return ("filter", hook, _PRIORITIES[table]) if table in _PRIORITIES else None


def outward(table: Table) -> set[str]:
    """Name the chains that answers may pass."""
    waiting = [chain for chain in table.chains.values() if chain.hook in _ANSWERS]
    found = {chain.name for chain in waiting}
    while waiting:
        for rule in waiting.pop().rules:
            name = rule.target.argument
            if rule.target.kind in ("jump", "goto") and name in table.chains and name not in found:
                found.add(name)
                waiting.append(table.chains[name])
    return found


def table_to_dict(table: Table) -> dict[str, Any]:
    """Return the table as JSON data; the inverse is table_from_dict."""
    return {
        "family": table.family,
        "name": table.name,
        "backend": table.backend,
        "source": table.source,
        "chains": [
            {
                **chain._asdict(),
                "devices": list(chain.devices),
                "rules": [
                    {
                        **rule._asdict(),
                        "matches": [{**match._asdict(), "values": list(match.values)} for match in rule.matches],
                        "target": rule.target._asdict(),
                    }
                    for rule in chain.rules
                ],
            }
            for chain in table.chains.values()
        ],
        "sets": [set_to_dict(elements) for elements in table.sets.values()],
    }


def table_from_dict(data: dict[str, Any]) -> Table:
    """Read back what table_to_dict wrote. Raises KeyError or TypeError when it is something else."""
    chains = {}
    for chain in data["chains"]:
        rules = tuple(
            Rule(
                **{
                    **rule,
                    "matches": tuple(Match(**{**match, "values": tuple(match["values"])}) for match in rule["matches"]),
                    "target": Target(**rule["target"]),
                }
            )
            for rule in chain["rules"]
        )
        chains[chain["name"]] = Chain(**{**chain, "rules": rules, "devices": tuple(chain["devices"])})
    sets = {entry["name"]: set_from_dict(entry) for entry in data["sets"]}
    return Table(**{**data, "chains": chains, "sets": sets})


def set_to_dict(elements: SetElements) -> dict[str, Any]:
    return {**elements._asdict(), "entries": list(elements.entries), "excluded": list(elements.excluded)}


def set_from_dict(data: dict[str, Any]) -> SetElements:
    return SetElements(**{**data, "entries": tuple(data["entries"]), "excluded": tuple(data["excluded"])})
