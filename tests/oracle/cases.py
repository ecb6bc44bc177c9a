# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one round tries, made of its seed: rulesets, settings of the kernel, and who knocks where."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

from kernel import FAMILIES
from lab import BEHIND, CLIENTS, HOSTS, STRANGE, Probe, address
from managers import MANAGERS, captured
from proxies import NativeProxies, Proxies
from redirects import OUTSIDE, NativeRedirects, Redirects
from rulesets import TCP_PORTS, UDP_PORTS, Iptables, Native

_MIXED = {
    "nft": ("nft",),
    "legacy": ("legacy",),
    "native": ("native",),
    "nft and legacy": ("nft", "legacy"),
    "native and legacy": ("native", "legacy"),
    "native and nft": ("native", "nft"),
}
_REDIRECTING = {"redirect": (Redirects, NativeRedirects), "tproxy": (Proxies, NativeProxies)}
KINDS = (
    *("ufw", "firewalld", "fail2ban", "netavark"),
    *(f"{way} {backend}" for way in _REDIRECTING for backend in ("nft", "legacy", "native")),
    *_MIXED,
)
_CONFIGURATIONS = 40 * len(KINDS)  # seeds for which a manager keeps one configuration


class Case(NamedTuple):
    """rulesets: {(nft, legacy or native; ip, ip6 or inet): lines}. settings: file below /proc/sys/net -> value.

    diverted: every address is local for packets with mark 1.
    """

    kind: str
    seed: int
    rulesets: Mapping[tuple[str, str], list[str]]
    settings: Mapping[str, int]
    probes: tuple[Probe, ...]
    diverted: bool = False


def make(seed: int) -> Case:
    kind = KINDS[seed % len(KINDS)]
    pick = random.Random(seed)
    if kind in _MIXED:
        return Case(kind, seed, _mixed(seed, _MIXED[kind]), settings(0, 0), LOCAL)
    chosen = settings(pick.choice([1, 1, 1, 0]), pick.choice([0, 0, 1, 2]))
    if kind in MANAGERS:
        rulesets = {}
        for (backend, family), lines in captured(kind, seed // _CONFIGURATIONS).items():
            kept = (Native(seed) if backend == "native" else Iptables(seed, family)).between(lines)
            rulesets[backend, family] = kept
        return Case(kind, seed, rulesets, chosen, PUBLISHED if kind == "netavark" else LOCAL)
    way, backend = kind.split()
    of_iptables, native = _REDIRECTING[way]
    made = {(backend, family): of_iptables(seed, family).ruleset() for family in FAMILIES if backend != "native"}
    made = made or {("native", "inet"): native(seed).ruleset()}
    if way == "tproxy":
        return Case(kind, seed, made, chosen, WIDELY, pick.random() < 0.8)
    return Case(kind, seed, made, chosen, ANYWHERE)


def _mixed(seed, backends):
    made = {}
    for backend in backends:
        if backend == "native":
            made["native", "inet"] = Native(seed).ruleset()
        else:
            made.update({(backend, family): Iptables(f"{seed} {backend}", family).ruleset() for family in FAMILIES})
    return made


def settings(forwarding: int, localnet: int) -> dict[str, int]:
    """localnet: 1 for one interface, 2 for every one."""
    return {
        "ipv4/ip_forward": forwarding,
        "ipv6/conf/all/forwarding": forwarding,
        "ipv4/conf/eth0/route_localnet": int(localnet == 1),
        "ipv4/conf/all/route_localnet": int(localnet == 2),
    }


def _probes(hosts, ports, destinations):
    """destinations: (link or nothing for the client's own, host)."""
    return tuple(
        Probe(family, client, address(family, client, host), protocol, address(family, link or client, number), port)
        for family in ("ipv4", "ipv6")
        for client in CLIENTS
        for host in hosts
        for protocol, numbers in ports.items()
        for port in numbers
        for link, number in destinations
    )


LOCAL = _probes(HOSTS, {"tcp": TCP_PORTS, "udp": UDP_PORTS}, [("", 1), ("", 9)])
ANYWHERE = _probes((2, 3, 130), OUTSIDE, [("", 1), ("", 9), ("back0", BEHIND[0])])
WIDELY = (*ANYWHERE, *dict.fromkeys(probe._replace(destination=STRANGE[probe.family]) for probe in ANYWHERE))
PUBLISHED = _probes((2, 3, 130), {"tcp": (5432, 8080), "udp": (8053,)}, [("", 1), ("", 9), ("back0", BEHIND[0])])
