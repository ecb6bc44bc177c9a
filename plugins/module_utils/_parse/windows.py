# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Windows host tells: the JSON of plugin_utils/_windows/evidence.ps1, and the rows of win_listen_ports_facts.

The firewall becomes tables that the judge of Linux rules walks: one chain for each interface, with its profile's rules in
the order in which Windows applies them (bypass, block, allow, default: MS-FASP 2.2.34). What cannot be evaluated of a
rule is a match `unknown`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .._model.address import canonical, scope_of
from .._model.firewall import Firewall
from .._model.gap import Gap
from .._model.host import HostNetwork, Interface
from .._model.listener import Listener
from .._model.network import BITS, network_range
from .._model.relay import AGENTS, PortProxy, Relay
from .._model.ruleset import Chain, Match, Rule, Table, Target, TargetKind
from .._model.vocabulary import Family
from . import portproxy
from .error import ParseError
from .protocol import protocol_name

_OWN_GROUP, _OWN_NAME = "loopguard.loopback", re.compile(r"loopguard\.loopback (?:tcp|udp) [0-9]{1,5}")
_SOURCE = "the evidence of Windows"
_LONGEST, _MOST_ROWS, _MOST_INDEX, _TEXT = 64 << 20, 65536, 0xFFFFFFFF, 4096
_PARTS = ("elevated", "service", "profiles", "rules", "addresses", "networks", "portproxy", "processes")
_PLAIN = ("elevated", "service", "portproxy")  # lists of one value
_RUNNING = 4  # System.ServiceProcess.ServiceControllerStatus
# NetworkCategory of MSFT_NetConnectionProfile -> profile; bit of a profile in a rule's Profiles: NET_FW_PROFILE_TYPE2.
_CATEGORIES = {"0": "Public", "1": "Private", "2": "Domain"}
_PROFILES = {"Domain": 1, "Private": 2, "Public": 4}
_ANY_PROFILE = (0, 0x7FFFFFFF)
# Action of MSFT_NetFirewallRule, in the order in which Windows asks.
_BYPASS = 3
_ACTIONS: dict[int, tuple[str, TargetKind]] = {_BYPASS: ("Bypass", "accept"), 4: ("Block", "drop"), 2: ("Allow", "accept")}
_LAST = 2
# FW_ENFORCEMENT_STATE (MS-FASP 2.2.27): full; and what says nothing about the profiles that are in force.
_FULL, _IN_FORCE = 1, (1, 2, 5)
_PORT = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
# What must be `Any`, so that a rule is not tied to something that a packet does not show.
_SCOPES = ("program", "service", "interface_type", "dynamic_target", "local_user", "remote_user", "remote_machine")


class _Place(NamedTuple):
    """An interface, the profile that is in force on it, and the name that Windows gives it."""

    interface: Interface
    profile: str
    alias: str


class WindowsHost(NamedTuple):
    """All but the listeners. gaps: what could not be read that concerns sockets and relays. own_rules: names of ours."""

    hostname: str
    elevated: bool
    own_rules: tuple[str, ...]
    firewall: Firewall
    network: HostNetwork
    proxies: tuple[PortProxy, ...]
    relays: tuple[Relay, ...]
    commands: dict[int, str]
    gaps: tuple[Gap, ...]


def parse(text: str) -> WindowsHost:
    """Read the JSON. Raises ParseError that names the place when it has another shape or is too large."""
    data = _load(text)
    failed = {_text(row, "subject", "errors"): _text(row, "text", "errors") for row in _rows(data, "errors")}
    parts: dict[str, list[Any]] = {}
    named: dict[str, Gap] = {}
    for name in _PARTS:
        if data.get(name) is None:
            subject = name if name == "processes" else f"Windows {name}"
            named[name] = Gap(subject, "failed", _line(failed.get(name) or "it was not told"))
        parts[name] = [] if name in named else _rows(data, name, dicts=name not in _PLAIN)
    places, network_gaps = _places(parts["addresses"], parts["networks"])
    proxies, proxy_gaps = _proxies(parts["portproxy"])
    processes = [_process(row) for row in parts["processes"]]
    own = [_text(row, "name", "rules") for row in parts["rules"] if row.get("group") == _OWN_GROUP]
    return WindowsHost(
        _line(_text(data, "hostname", "evidence")),
        parts["elevated"] == [True],
        tuple(name for name in own if _OWN_NAME.fullmatch(name)),
        _firewall(places, parts, named),
        _network(places, [*network_gaps, *_of(named, "addresses")]),  # without the networks, an interface may have any profile
        tuple(proxies),
        tuple(relay for relay in processes if relay.name in AGENTS),
        {relay.pid: relay.command for relay in processes if relay.command},
        (*_of(named, "portproxy", "processes"), *proxy_gaps),
    )


def _of(named: Mapping[str, Gap], *parts: str) -> list[Gap]:
    return [named[part] for part in parts if part in named]


def _firewall(places: Sequence[_Place], parts: Mapping[str, list[Any]], named: Mapping[str, Gap]) -> Firewall:
    gaps = _of(named, "service", "profiles", "rules")
    if "service" not in named and parts["service"] != [_RUNNING]:
        gaps.append(Gap("Windows service", "not_evaluated", "the service of the firewall (mpssvc) is not running"))
    profiles = {_text(row, "name", "profiles"): row for row in parts["profiles"]}
    if "profiles" not in named and set(profiles) != set(_PROFILES):
        gaps.append(Gap("Windows profiles", "unparsable", _line(f"profiles {', '.join(sorted(profiles)) or 'none'}")))
    if "rules" not in named and not parts["rules"]:
        gaps.append(Gap("Windows rules", "not_evaluated", "no rule at all is in force, and every Windows has some"))
    return Firewall((_table(places, profiles, parts["rules"]),), {}, tuple(gaps), {})


def _network(places: Sequence[_Place], gaps: Sequence[Gap]) -> HostNetwork:
    """Windows takes no packet from outside for 127.0.0.0/8, and none from an address of its own."""
    scopes = ["all", *(place.interface.name for place in places)]
    sysctls: dict[str, int | None] = {f"net/ipv4/conf/{scope}/{key}": 0 for scope in scopes for key in ("route_localnet", "accept_local")}
    return HostNetwork(tuple(place.interface for place in places), (), (), sysctls, 0, tuple(gaps))


def _proxies(said: Sequence[Any]) -> tuple[list[PortProxy], list[Gap]]:
    try:
        return portproxy.parse("\n".join(map(str, said)), "portproxy"), []
    except ParseError as error:
        return [], [Gap("Windows portproxy", "unparsable", _line(str(error)))]


def parse_listeners(facts: Mapping[str, Any], commands: Mapping[int, str]) -> tuple[list[Listener], list[Gap]]:
    """Read tcp_listen and udp_listen of ansible.windows.win_listen_ports_facts. commands: pid -> command line, where known."""
    found, gaps = [], []
    for protocol in ("tcp", "udp"):
        rows = _rows(facts, f"{protocol}_listen")
        found += [_listener(row, protocol, f"{protocol}_listen", commands) for row in rows]
        if not rows:  # the module hides errors, and every Windows listens on port 135 and for DNS answers
            gaps.append(Gap(protocol, "failed", "win_listen_ports_facts found no socket at all, which cannot be"))
    return found, gaps


def _listener(row: dict[str, Any], protocol: Any, where: str, commands: Mapping[int, str]) -> Listener:
    port, pid = _number(row, "port", where, 65535), _number(row, "pid", where, 0xFFFFFFFF)
    name = None if row.get("name") is None else _name(_text(row, "name", where))
    user = None if row.get("user") is None else _line(_text(row, "user", where))
    family, address = _address(row, where)
    # Whether a socket on :: takes IPv4 too is not told, nor is an interface.
    unknowns = ("interface", "v6only") if family == "ipv6" else ("interface",)
    return Listener(
        protocol, family, address, port, False if family == "ipv4" else None, None, scope_of(address), None, user, 0, (pid,), name,
        commands.get(pid), None, None, None, "", None, False, None, "LISTEN" if protocol == "tcp" else "UNCONN", "", 0, unknowns,
    )  # fmt: skip


def _places(addresses: Sequence[dict[str, Any]], networks: Sequence[dict[str, Any]]) -> tuple[list[_Place], list[Gap]]:
    """Return the interfaces. One whose profile is not known stands there once for each profile that it may have."""
    known = {_number(row, "index", "networks", _MOST_INDEX): str(row.get("category")) for row in networks}
    own: dict[tuple[str, int], list[str]] = {}
    for row in addresses:
        key = _text(row, "interface", "addresses"), _number(row, "index", "addresses", _MOST_INDEX)
        family, address = _address(row, "addresses")
        own.setdefault(key, []).append(f"{address}/{_number(row, 'length', 'addresses', BITS[family])}")
    places: list[_Place] = []
    for (alias, index), found in own.items():
        loopback = all(scope_of(address.partition("/")[0]) == "loopback" for address in found)
        profile = "Public" if loopback else _CATEGORIES.get(known.get(index, ""))
        shown = alias if alias.isprintable() else f"{alias!r} ({index})"
        names = {profile: shown} if profile else {each: f"{shown}, if {each}" for each in _PROFILES}
        for each, name in names.items():
            places.append(_Place(Interface(name, index, "", True, loopback, None, tuple(found)), each, alias))
    if len({place.interface.name for place in places}) < len(places):
        raise ParseError(_SOURCE, 0, "addresses: two interfaces have one name")
    if all(place.interface.loopback for place in places):
        return places, [Gap("Windows addresses", "not_evaluated", "no interface but loopback was told")]
    return places, []


def _table(places: Sequence[_Place], profiles: Mapping[str, dict[str, Any]], rows: Sequence[dict[str, Any]]) -> Table:
    rules: dict[str, list[tuple[int, Rule]]] = {profile: [] for profile in _PROFILES}
    for number, row in enumerate(rows, 1):
        if row.get("direction") == 2:
            continue
        bits, known = _number(row, "profiles", "rules", 0x7FFFFFFF), _rules(row, number)
        for profile, bit in _PROFILES.items():
            if bits in _ANY_PROFILE or bits & bit:
                rules[profile] += [(_order(row), rule) for rule in known]
    chains: dict[str, Chain] = {}
    for profile, found in rules.items():
        state = profiles.get(profile, {})
        ignored = _LAST if state.get("allow_rules") == "False" else None  # everything is blocked, whatever the rules allow
        body = [rule for order, rule in sorted(found, key=lambda pair: pair[0]) if order != ignored]
        excepted = _texts(state, "disabled_interfaces", "profiles") if state else []
        here = [place for place in places if place.profile == profile]
        on, off = (tuple(place.interface.name for place in here if (place.alias in excepted) is out) for out in (False, True))
        for name, devices, steps in (
            (profile, on, [*_switch(state), *body, *_default(state)]),
            (f"{profile} (left out)", off, [Rule(0, (), Target("accept"), "the firewall is off on this interface")]),
        ):
            chains[name] = Chain(name, tuple(steps), "filter", "ingress", 0, "drop", devices)
    return Table("inet", "Windows Firewall", "windows", "Get-NetFirewallRule", chains)


def _switch(profile: Mapping[str, Any]) -> list[Rule]:
    if profile.get("enabled") == "True":
        return []
    if profile.get("enabled") == "False":
        return [Rule(0, (), Target("accept"), "the firewall is off")]
    return [Rule(0, (_unknown("enabled"),), Target("accept"), "whether the firewall is on is not known")]


def _default(profile: Mapping[str, Any]) -> list[Rule]:
    action = profile.get("inbound")
    drop = Rule(0, (), Target("drop"), "default inbound action Block")
    if action == "Block":
        return [drop]
    if action == "Allow":
        return [Rule(0, (), Target("accept"), "default inbound action Allow")]
    return [Rule(0, (_unknown("inbound"),), Target("accept"), "the default inbound action is not known"), drop]


def _order(row: Mapping[str, Any]) -> int:
    """A rule that overrides blocks is asked first, and so is one that is not understood."""
    known = row.get("override_block") == "False" and row["action"] in _ACTIONS
    return list(_ACTIONS).index(row["action"]) if known else 0


def _rules(row: dict[str, Any], number: int) -> list[Rule]:
    """Return a rule as one for each address family that it names, so that no list of addresses mixes them."""
    action = _number(row, "action", "rules", 255)
    matches = [*_protocol(row), *_ports(row, "local_ports", "destination_port"), *_ports(row, "remote_ports", "source_port")]
    matches += [_unknown(f"{key} {row.get(key)!r}") for key in _SCOPES if row.get(key) != "Any"]
    if _texts(row, "interfaces", "rules") != ["Any"]:
        matches.append(_unknown(f"interfaces {row['interfaces']!r}"))
    if row.get("package") not in ("", "Any") or [row.get(key) for key in ("owner", "platforms", "extras")] != ["", [], []]:
        matches.append(_unknown("package, owner or platform"))
    secured = [row.get(key) for key in ("authentication", "encryption", "override_block")]
    if secured != ["NotRequired", "NotRequired", "False"] or action == _BYPASS:
        matches.append(_unknown(f"authentication {secured!r}"))
    states = row.get("enforcement")
    word, kind = _ACTIONS.get(action, (f"Action {action}", "opaque"))
    if kind == "drop" and not _in_force(states):
        matches.append(_unknown(f"enforcement {states!r}"))  # a block that is not in force blocks nothing
    remote, local = _networks(row, "remote_addresses"), _networks(row, "local_addresses")
    for named in (remote, local):
        if named is None:
            matches.append(_unknown("addresses"))
    target, text = Target(kind), _line(f"{word} {_text(row, 'name', 'rules')[:80]!r}")
    if not remote and not local:
        return [Rule(number, tuple(matches), target, text)]
    found = []
    for family in BITS:
        ends = []
        for field, named in (("source", remote), ("destination", local)):
            values = tuple(value for value in named or () if network_range(value).family == family)
            if values:
                ends.append(Match(field, values, False, field))  # type: ignore[arg-type]  # of the loop
            elif named:
                break  # it names addresses, and none of this family
        else:
            found.append(Rule(number, (*ends, *matches), target, text))
    return found


def _in_force(states: Any) -> bool:
    return isinstance(states, list) and _FULL in states and all(state in _IN_FORCE for state in states)


def _protocol(row: dict[str, Any]) -> list[Match]:
    text = _text(row, "protocol", "rules").lower()
    if text == "any":
        return []
    name = protocol_name({"icmpv4": "icmp"}.get(text, text)) if text.isascii() else None
    return [Match("protocol", (name,), False, text)] if name else [_unknown(f"protocol {text!r}")]


def _ports(row: dict[str, Any], key: str, field: Any) -> list[Match]:
    values = _texts(row, key, "rules")
    if values == ["Any"]:
        return []
    named = [_PORT.fullmatch(value) for value in values]
    if not named or not all(found and int(found[1]) <= int(found[2] or found[1]) < 65536 for found in named):
        return [_unknown(f"{key} {values[:4]!r}")]  # a keyword, such as RPC
    spans = tuple(f"{int(found[1])}:{int(found[2])}" if found[2] else str(int(found[1])) for found in named if found)
    return [Match(field, spans, False, ",".join(values)[:200])]


def _networks(row: dict[str, Any], key: str) -> list[str] | None:
    """Return the addresses of a rule, [] for any, None when one is a keyword, such as LocalSubnet."""
    values = _texts(row, key, "rules")
    if values == ["Any"]:
        return []
    try:
        return [network_range(value).text for value in values] or None
    except ValueError:
        return None


def _unknown(text: str) -> Match:
    return Match("unknown", (), False, _line(text))


def _process(row: dict[str, Any]) -> Relay:
    return Relay(_number(row, "pid", "processes", _MOST_INDEX), _name(_text(row, "name", "processes")), _text(row, "command", "processes"))


def _name(text: str) -> str:
    name = _line(text).lower()
    return name[:-4] if name.endswith(".exe") else name


def _address(row: dict[str, Any], where: str) -> tuple[Family, str]:
    try:
        return canonical(_text(row, "address", where).partition("%")[0])
    except ValueError as error:
        raise ParseError(_SOURCE, 0, f"{where}: {error}") from None


def _load(text: str) -> dict[str, Any]:
    if len(text) > _LONGEST:
        raise ParseError(_SOURCE, 0, f"{len(text):,} characters, more than {_LONGEST:,}")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ParseError(_SOURCE, 0, f"not JSON: {error}", text) from None
    if not isinstance(data, dict) or data.get("version") != 1:
        raise ParseError(_SOURCE, 0, "not version 1 of the evidence", text)
    return data


def _rows(data: Mapping[str, Any], key: str, dicts: bool = True) -> list[Any]:
    rows = data.get(key)
    if not isinstance(rows, list) or len(rows) > _MOST_ROWS or (dicts and not all(isinstance(row, dict) for row in rows)):
        raise ParseError(_SOURCE, 0, f"{key} is not a list of at most {_MOST_ROWS:,} {'mappings' if dicts else 'values'}")
    return rows


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise ParseError(_SOURCE, 0, f"{where}: {key} is not a text")
    return value[:_TEXT]


def _texts(row: Mapping[str, Any], key: str, where: str) -> list[str]:
    values = row.get(key)
    if (
        not isinstance(values, list)
        or len(values) > _MOST_ROWS
        or not all(isinstance(value, str) and len(value) <= _TEXT for value in values)
    ):
        raise ParseError(_SOURCE, 0, f"{where}: {key} is not a list of texts")
    return values


def _number(row: Mapping[str, Any], key: str, where: str, most: int) -> int:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ParseError(_SOURCE, 0, f"{where}: {key} is not a number from 0 to {most}")
    return value


def _line(text: str) -> str:
    """Return one line without anything that acts on a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)[:500]
