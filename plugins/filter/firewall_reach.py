# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sources a saved ruleset lets through, and which rule decides."""

from __future__ import annotations

DOCUMENTATION = r"""
name: firewall_reach
version_added: 0.1.0
author:
  - The loopguard.loopback authors (@loopguard)
short_description: Tell which sources a saved ruleset lets through
description:
  - Judges a dump on the controller; no host is asked. Every source address is in exactly one of the three lists of the result.
  - What a dump cannot tell (other tables, addresses of the host, sets that were not saved) makes sources C(maybe), never C(dropped).
  - A dump shows one packet filter. For a host, with every filter, route and relay, use M(loopguard.loopback.exposure_info).
positional: _input
options:
  _input:
    description: What C(iptables-save), C(ip6tables-save) or C(nft -j list ruleset) printed; the format is recognised.
    type: str
    required: true
  port:
    description: The destination port.
    type: int
    required: true
  protocol:
    description: The transport protocol.
    type: str
    choices: [tcp, udp, udplite, sctp, dccp]
    default: tcp
  chain:
    description: C(INPUT) or C(FORWARD) for every base chain of that hook, or the name of any chain, of which the end is C(maybe).
    type: str
    default: INPUT
  family:
    description: The address family. The dumps of iptables do not say theirs.
    type: str
    choices: [ipv4, ipv6]
    default: ipv4
  interface:
    description: Where the packet comes in. Without it, any interface but loopback.
    type: str
  destination:
    description: The address that the packet is for. Without it, any.
    type: str
  state:
    description: What connection tracking says of the packet.
    type: str
    choices: [NEW, ESTABLISHED]
    default: NEW
seealso:
  - module: loopguard.loopback.exposure_info
"""

EXAMPLES = r"""
- name: Nobody but the office reaches the database
  ansible.builtin.assert:
    that:
      - reach.accepted == ['192.0.2.0/24']
      - reach.maybe == []
  vars:
    reach: "{{ lookup('ansible.builtin.file', 'db1.rules') | loopguard.loopback.firewall_reach(port=5432) }}"
"""

RETURN = r"""
_value:
  description: All source addresses, divided by what happens to the packet.
  type: dict
  contains:
    accepted:
      description: Sources that get through.
      type: list
      elements: str
      sample: [192.0.2.0/24]
    maybe:
      description: Sources of which the dump does not tell.
      type: list
      elements: str
    dropped:
      description: Sources that do not get through.
      type: list
      elements: str
    decided_by:
      description: The rules that might decide, then the one that does, for each set of sources; rule V(0) is the policy of a chain.
      type: list
      elements: dict
      contains:
        reach:
          description: What happens to these sources.
          type: str
          choices: [accepted, maybe, dropped]
        sources:
          description: The sources.
          type: list
          elements: str
        rules:
          description: C(backend), C(family), C(table), C(chain), C(rule), C(text) and C(handle).
          type: list
          elements: dict
    unknowns:
      description: Lines that could not be read, and rules that could not be evaluated.
      type: list
      elements: str
"""

from collections.abc import Iterable
from typing import Any, Callable, Literal

from ansible.errors import AnsibleFilterError
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.condition import Packet
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.reach import Filter
from ansible_collections.loopguard.loopback.plugins.module_utils._model.network import network_range
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import iptables_save, nft_json
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.error import ParseError

try:
    from netaddr import IPAddress, IPRange, cidr_merge
except ImportError as error:
    _missing: ImportError | None = error
else:
    _missing = None

_PHASES = {"NEW": "new", "ESTABLISHED": "established"}


def firewall_reach(
    dump: str,
    port: int,
    protocol: str = "tcp",
    chain: str = "INPUT",
    family: str = "ipv4",
    interface: str | None = None,
    destination: str | None = None,
    state: str = "NEW",
) -> dict[str, Any]:
    """Return accepted, maybe, dropped, decided_by and unknowns. Raises AnsibleFilterError that names the line or option."""
    if _missing:
        raise AnsibleFilterError(f"firewall_reach: the Python library netaddr is missing on the controller: {_missing}")
    for option, value, known in (
        ("protocol", protocol, ("tcp", "udp", "udplite", "sctp", "dccp")),
        ("family", family, ("ipv4", "ipv6")),
        ("state", state, tuple(_PHASES)),
    ):
        if value not in known:
            raise AnsibleFilterError(f"firewall_reach: {option} must be one of {', '.join(known)}, not {value!r}")
    if isinstance(port, bool) or not str(port).isdigit() or not 0 < int(port) < 65536:
        raise AnsibleFilterError(f"firewall_reach: port must be a number from 1 to 65535, not {port!r}")
    if not isinstance(dump, str):
        raise AnsibleFilterError("firewall_reach: the ruleset must be text")
    try:
        if dump.lstrip()[:1] == "{":
            tables, gaps = nft_json.parse(dump, "the ruleset")
        else:
            tables, gaps = iptables_save.parse(dump, "the ruleset", "iptables-legacy", "ip" if family == "ipv4" else "ip6")
        here = network_range(destination) if destination else None
        if here and (here.family != family or here.first != here.last):
            raise AnsibleFilterError(f"firewall_reach: destination must be one {family} address, not {destination!r}")
        packet = Packet(family, protocol, here.first if here else None, int(port), interface or "", leaving=None)  # type: ignore[arg-type]  # checked above
        parts = Filter(tables, {}).through(packet, chain, _PHASES[state])  # type: ignore[arg-type]  # checked above
    except (ParseError, ValueError) as error:
        raise AnsibleFilterError(f"firewall_reach: {error}") from error
    except KeyError:
        raise AnsibleFilterError(f"firewall_reach: the ruleset has no chain {chain!r} for {family}") from None
    doubts = [f"{gap.subject}: {gap.text}" for gap in gaps]
    doubts += [decision.text for part in parts if part.reach == "maybe" for decision in part.decided_by[:-1]]
    sources: dict[str, list[tuple[int, int]]] = {"accepted": [], "maybe": [], "dropped": []}
    for part in parts:
        sources["maybe" if gaps else part.reach] += part.sources  # a line that was not read may have changed any of it
    named = {answer: _networks(ranges, family) for answer, ranges in sources.items()}
    decided = [
        {"reach": part.reach, "sources": _networks(part.sources, family), "rules": [decision._asdict() for decision in part.decided_by]}
        for part in parts
    ]
    return {**named, "decided_by": decided, "unknowns": list(dict.fromkeys(doubts))}


def _networks(ranges: Iterable[tuple[int, int]], family: str) -> list[str]:
    version: Literal[4, 6] = 4 if family == "ipv4" else 6
    return [str(network) for network in cidr_merge(IPRange(IPAddress(first, version), IPAddress(last, version)) for first, last in ranges)]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"firewall_reach": firewall_reach}
