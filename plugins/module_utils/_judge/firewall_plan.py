# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would have to be loaded, and by which program, so that declared services are closed to all but their sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from .._model.network import cidrs, network_range
from .._model.ruleset import Table
from .._model.service import Service
from .._model.vocabulary import FAMILIES, Family

Backend = Literal["nftables", "iptables", "iptables-nft", "iptables-legacy", "ufw", "firewalld"]
BACKENDS = ("auto", "iptables", "nftables", "ufw", "firewalld")

CHAIN, TABLE = "LOOPGUARD", "loopguard"
_ENGINES = ("docker", "podman", "kube-proxy", "libvirt")  # they send packets for ports of the host elsewhere
_NEED_LOCALNET = ("docker", "podman", "kube-proxy")
_FIREWALLD_PROTOCOLS = ("tcp", "udp", "sctp", "dccp")


class Group(NamedTuple):
    """Services with the same sources. ports: by protocol, sorted. ipv4, ipv6: the fewest CIDRs of their sources."""

    services: tuple[str, ...]
    ports: Mapping[str, tuple[int, ...]]
    ipv4: tuple[str, ...]
    ipv6: tuple[str, ...]


class Plan(NamedTuple):
    """why: what the choice of the backend rests on. forwards: packets for ports of this host go on to somewhere else.

    localnet: paths below /proc/sys of what lets the network in to 127.0.0.0/8. needed_by: the programs that set them.
    former: backends that hold rules of ours from an earlier run. problems: why nothing may be changed.
    """

    backend: Backend
    why: str
    groups: tuple[Group, ...]
    forwards: bool
    localnet: tuple[str, ...]
    needed_by: tuple[str, ...]
    former: tuple[Backend, ...]
    problems: tuple[str, ...]


class Wishes(NamedTuple):
    """What the user asked for. keep: sources that every service lets in. connection: SSH_CONNECTION of the login."""

    backend: str = "auto"
    keep: tuple[str, ...] = ()
    connection: str = ""
    log: str = "none"


def plan(facts: Mapping[str, Any], tables: Sequence[Table], tools: Sequence[str], services: Sequence[Service], wishes: Wishes) -> Plan:
    """Plan for one host.

    facts: what firewall_facts returns, of which `tables` are the tables. tools: names of programs that the host has.
    Raises KeyError when the facts are something else.
    """
    closed = [service for service in services if "firewall" not in service.controls]
    active = {str(manager["name"]) for manager in facts["managers"] if manager["active"]}
    problems = []
    if {"ufw", "firewalld"} <= active and wishes.backend == "auto":
        problems.append("ufw and firewalld are both active: say which one is meant with restrict_firewall_backend.")
    backend, why = _backend(tables, active, tools, wishes.backend)
    problems += [f"{gap['subject']}: {gap['text']}." for gap in facts["gaps"] if gap["reason"] == "denied"]
    problems += _cuts(closed, wishes)
    if backend == "firewalld":
        problems += _beyond_firewalld(facts, closed, wishes)
    opened = sorted(path for path, value in facts["host"]["sysctls"].items() if path.endswith("/route_localnet") and value == 1)
    return Plan(
        backend,
        why,
        _groups(closed, wishes.keep),
        bool(active & set(_ENGINES)) or _rewrites(tables),
        tuple(opened),
        tuple(name for name in _NEED_LOCALNET if name in active),
        tuple(_former(tables)),
        tuple(problems),
    )


def _groups(services: Sequence[Service], keep: Sequence[str]) -> tuple[Group, ...]:
    found: dict[tuple[tuple[str, ...], ...], list[Service]] = {}
    for service in services:
        found.setdefault(tuple(_sources((*service.allow, *keep), family) for family in FAMILIES), []).append(service)
    groups = []
    for (ipv4, ipv6), members in sorted(found.items()):
        ports: dict[str, list[int]] = {}
        for service in members:
            ports.setdefault(service.protocol, []).append(service.port)
        sorted_ports = {protocol: tuple(sorted(numbers)) for protocol, numbers in sorted(ports.items())}
        groups.append(Group(tuple(service.name for service in members), sorted_ports, ipv4, ipv6))
    return tuple(groups)


def _sources(networks: Iterable[str], family: Family) -> tuple[str, ...]:
    """Return the networks of one family without overlaps, which nftables refuses in a set."""
    ranges = sorted((network.first, network.last) for network in map(network_range, networks) if network.family == family)
    joined: list[tuple[int, int]] = []
    for first, last in ranges:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return tuple(network for first, last in joined for network in cidrs(family, first, last))


def _backend(tables: Sequence[Table], active: set[str], tools: Sequence[str], wish: str) -> tuple[Backend, str]:
    if wish in ("ufw", "firewalld", "nftables"):
        return wish, "restrict_firewall_backend says so"  # type: ignore[return-value]  # one of the choices
    kinds = {table.backend for table in tables if _filters(table)}
    legacy_alone = "iptables-legacy" in kinds and "iptables-nft" not in kinds
    if wish == "iptables":
        return ("iptables-legacy" if legacy_alone else "iptables"), "restrict_firewall_backend says so"
    for manager in ("ufw", "firewalld"):
        if manager in active:
            return manager, f"{manager} manages the rules"
    if kinds == {"iptables-legacy"}:
        return "iptables-legacy", "every rule is one of iptables-legacy"
    if kinds == {"iptables-nft"}:
        return "iptables-nft", "every rule is one of iptables-nft"
    if "nft" in tools:
        return "nftables", "there are rules of " + " and ".join(sorted(kinds)) if kinds else "there are no rules"
    return ("iptables-legacy" if legacy_alone else "iptables"), "nft is not installed"


def _filters(table: Table) -> bool:
    return table.family in ("ip", "ip6", "inet") and any(chain.rules or chain.policy == "drop" for chain in table.chains.values())


def _former(tables: Sequence[Table]) -> list[Backend]:
    found: set[Backend] = set()
    for table in tables:
        if table.backend == "nftables":
            found |= {"nftables"} if (table.family, table.name) == ("inet", TABLE) else set()
        elif CHAIN in table.chains:
            found.add("iptables-legacy" if table.backend == "iptables-legacy" else "iptables-nft")
    return sorted(found)


def _rewrites(tables: Sequence[Table]) -> bool:
    """Say whether some rule may send packets for this host elsewhere."""
    return any(
        rule.target.kind == "dnat" or (rule.target.kind == "opaque" and table.name == "nat")
        for table in tables
        for chain in table.chains.values()
        for rule in chain.rules
    )


def _cuts(services: Sequence[Service], wishes: Wishes) -> list[str]:
    """Name the service that would be closed to the very connection that Ansible uses."""
    words = wishes.connection.split()
    if len(words) != 4:
        return []
    client, port = words[0].partition("%")[0], int(words[3])
    here = network_range(client)
    found = []
    for service in services:
        networks = map(network_range, (*service.allow, *wishes.keep))
        inside = any(network.family == here.family and network.first <= here.first <= network.last for network in networks)
        if (service.protocol, service.port) == ("tcp", port) and not inside and not _loopback(client):
            found.append(
                f"{service.name} (tcp port {port}) is what this very login came in by, from {client}: it would be cut off. "
                f"Add {client} to `allow` of {service.name} or to restrict_firewall_keep."
            )
    return found


def _loopback(client: str) -> bool:
    return client == "::1" or client.startswith("127.")


def _beyond_firewalld(facts: Mapping[str, Any], services: Sequence[Service], wishes: Wishes) -> list[str]:
    problems = [
        f"{service.name}: firewalld has no rules for {service.protocol}; choose another restrict_firewall_backend."
        for service in services
        if service.protocol not in _FIREWALLD_PROTOCOLS
    ]
    if wishes.log == "nflog":
        problems.append("firewalld cannot log to nflog everywhere: choose restrict_firewall_log=log.")
    if any(source["kind"] == "firewalld" and source["state"] == "different" for source in facts["persisted"]["sources"]):
        lost = [f"{entry['chain']} {entry['text']}" for entry in facts["persisted"]["differences"] if entry["family"] == "inet"]
        problems.append(
            "firewalld runs with rules that are not permanent, and the reload that is needed would change them: "
            + "; ".join(lost[:3])
            + ". See `firewall-cmd --runtime-to-permanent`."
        )
    return problems
