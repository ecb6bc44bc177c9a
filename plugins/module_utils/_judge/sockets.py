# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What rules ask of the sockets of this machine: whom TPROXY gives a packet to, and whether there is a socket for it.

The lookups are the kernel's: nf_tproxy_get_sock_v4, nf_sk_lookup_slow_v4, xt_TPROXY.c, xt_socket.c, nft_tproxy.c, nft_socket.c.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from .._model.network import network_range, spell
from .approach import families_of, unmapped
from .condition import Taken
from .redirect import choices
from .walk import Given

if TYPE_CHECKING:
    from .._model.listener import Listener
    from .._model.ruleset import Match, Target
    from .._model.vocabulary import Family
    from .condition import Packet, Stage

    # Takes a family and an interface; returns its addresses.
    AddressesOf = Callable[[Family, str], Iterable[int]]


class _Found(NamedTuple):
    """The sockets that a lookup may end at. sure: it ends at one of them, or nowhere when there are none."""

    rows: list[Listener]
    sure: bool

    def transparent(self) -> bool | None:
        """Say whether the one that is found has IP_TRANSPARENT."""
        answers = {row.transparent for row in self.rows}
        return answers.pop() if len(answers) == 1 and self.sure else None


class Sockets:
    """rows: what listens in the network namespace. complete: there is nothing else."""

    def __init__(self, rows: Iterable[Listener], complete: bool, addresses: AddressesOf) -> None:
        self._rows = [row for row in rows if row.protocol in ("tcp", "udp")]
        self._complete, self._addresses = complete, addresses

    def given(self, target: Target, packet: Packet, stage: Stage) -> Given | None:
        """Return what TPROXY makes of a packet, except for its mark; None when that is not known."""
        if packet.protocol not in ("tcp", "udp"):
            return Given([], True)
        if stage.phase != "new":
            return self._of_connection(target, packet, stage)
        way = choices(target, packet.destination, packet.port, packet.family)
        if not way and choices(target, None, packet.port):  # for the other family
            return Given([], True)
        if len(way) != 1:
            return None
        address, port = way[0]
        found = self._look_up(packet, [address] if address is not None else self._instead(packet), port)
        taken = [packet._replace(taken=Taken(row.address, row.port, target.argument)) for row in found.rows if row.transparent is not False]
        sockets = {(row.family, row.address, row.interface) for row in found.rows}
        transparent = found.transparent()
        if found.sure and (not taken or (transparent and len(sockets) == 1)):
            return Given(taken[:1], True)
        return Given(list(dict.fromkeys(taken)), False)

    def _of_connection(self, target: Target, packet: Packet, stage: Stage) -> Given | None:
        """A packet of a connection goes to its own socket, when that is transparent."""
        if stage.phase == "reply" or stage.forwarded or packet.origin or packet.destination is None:
            return None
        if packet.taken:
            return Given([packet._replace(taken=packet.taken._replace(by=target.argument))], True)
        here = Taken(spell(packet.family, packet.destination), packet.port, target.argument)
        transparent = self._look_up(packet, [packet.destination], packet.port).transparent()
        return None if transparent is None else Given([packet._replace(taken=here)] if transparent else [], True)

    def exists(self, match: Match, packet: Packet, stage: Stage) -> bool | None:
        """Say whether there is a socket for a packet, of the kind that a match asks for: `transparent`, `nowildcard`."""
        if packet.protocol not in ("tcp", "udp"):
            return False
        connected = stage.phase == "established" and not stage.forwarded
        if connected and "full" in match.values:  # the last packet of a handshake comes before there is a socket of its own
            return None
        if packet.taken and stage.phase != "reply":
            wild = not connected and network_range(unmapped(packet.taken.address)).first == 0
            return "nowildcard" in match.values or not wild
        if packet.destination is None or packet.origin or stage.phase == "reply":
            return None
        found = self._look_up(packet, [packet.destination], packet.port)  # also for what will be forwarded
        if not found.rows:
            return False if found.sure and not connected else None
        if not connected and "nowildcard" not in match.values:
            if all(row.scope == "wildcard" for row in found.rows):
                return False if found.sure else None
            if any(row.scope == "wildcard" for row in found.rows):
                return None
        return found.transparent() if "transparent" in match.values else True if found.sure else None

    def _instead(self, packet: Packet) -> list[int | None]:
        """Return the addresses that may stand in for one that TPROXY does not name: the first of the interface, if it has some."""
        own: list[int | None] = list(self._addresses(packet.family, packet.interface))
        return own if own and packet.family == "ipv4" else [*own, packet.destination]  # IPv6 passes over some, by their age

    def _look_up(self, packet: Packet, here: list[int | None], port: int) -> _Found:
        """Find who listens on one of some addresses (which one is not known), or else on every address."""
        rows, sure = [], self._complete
        for row in self._rows:
            if (row.protocol, row.port) == (packet.protocol, port) and packet.family in families_of(row):
                unsure = "interface" in row.unknowns
                if unsure or row.interface in (None, packet.interface):
                    rows.append(row)
                    sure = sure and not unsure
                elif row.interface != "lo":  # it may be a VRF
                    rows.append(row)
                    sure = False
        wild = [row for row in rows if row.scope == "wildcard"]
        named = [row for row in rows if row.scope != "wildcard" and (None in here or network_range(unmapped(row.address)).first in here)]
        if named and (len(here) > 1 or None in here):
            return _Found(named + wild, False)
        return _Found(named or wild, sure)
