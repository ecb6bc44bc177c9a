# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what `nft -j list ruleset` prints (libnftables-json(5); nftables 0.9.8 to 1.1.3).

What a rule tests and does becomes the matches and targets of the model. An expression that has no exact counterpart is
an unknown match with its JSON as text, and a rule that ends in something unknown has an opaque target.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import product
from typing import Any, Callable, NamedTuple

from .._model.gap import Gap
from .._model.network import network_range
from .._model.ruleset import HELPER, Chain, Match, MatchField, Rule, SetElements, Table, Target
from .error import ParseError
from .protocol import protocol_name

_FAMILIES = ("ip", "ip6", "inet", "arp", "bridge", "netdev")
_HOOKS = ("ingress", "prerouting", "input", "forward", "output", "postrouting", "egress")
_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr")
_STATES = ("new", "established", "related", "invalid", "untracked")
_TYPES = ("unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole", "unreachable", "prohibit")
_PORTS = ("tcp", "udp", "udplite", "sctp", "dccp")
# Protocols that a TCP packet may show as the first header after IPv6, because others come between: RFC 8200.
_EXTENSIONS = (
    "0",
    "43",
    "44",
    "51",
    "60",
    "135",
    "139",
    "140",
    "hopopt",
    "ipv6-route",
    "ipv6-frag",
    "ah",
    "ipv6-opts",
    "mobility-header",
)
_HARMLESS = ("counter", "log", "comment", "last", "dup", "flow", "secmark", "ct timeout")
_HARMLESS_META = ("priority", "nftrace", "secmark", "pkttype")
_HARMLESS_CT = ("event", "label", "secmark", "zone")
_HARMLESS_FIELDS = ("dscp", "ecn", "ttl", "hoplimit", "flowlabel")
_FULL = 0xFFFFFFFF
_PARTS = 4096  # of one rule; a map or a set of concatenations becomes that many rules at most

_HANDLE = re.compile(r"(?s)(.*) # handle (\d+)")
_DEVICES = re.compile(r"\bdevices? (?:= )?(?:\{ ([^}]*) \}|(\S+))")


class Spoken(NamedTuple):
    """What `nft -a list ruleset` says. rules: (family, table, handle) -> text; devices: (family, table, chain) -> names."""

    rules: dict[tuple[str, str, int], str]
    devices: dict[tuple[str, str, str], tuple[str, ...]]


class _Unknown(ValueError):
    """This expression has no counterpart in the model."""


class _Part(NamedTuple):
    """One of the rules that a rule of nftables becomes."""

    matches: tuple[Match, ...]
    target: Target


def texts(spoken: str) -> Spoken:
    """Read the rules as people write them from `nft -a list ruleset`, best effort: the JSON says what counts."""
    found = Spoken({}, {})
    family = table = chain = ""
    waiting: list[str] = []
    for line in spoken.split("\n"):
        words = line.split()
        if line.startswith("table ") and len(words) > 2:
            family, table, chain = words[1], words[2], ""
        elif line.startswith("\t") and not line.startswith("\t\t"):
            chain = words[1] if len(words) > 1 and words[0] == "chain" else ""
            waiting = []
        elif chain and words:
            if words[0] == "type" and line.endswith(";"):
                devices = _DEVICES.search(line)
                if devices:
                    names = (devices.group(1) or devices.group(2)).replace('"', "").replace(",", " ").split()
                    found.devices[family, table, chain] = tuple(names)
                continue
            waiting.append(line.strip())
            text = _HANDLE.fullmatch(" ".join(waiting))
            if text:
                found.rules[family, table, int(text.group(2))] = text.group(1)
                waiting = []
    return found


def parse(text: str, source: str, spoken: Spoken | None = None) -> tuple[list[Table], list[Gap]]:
    """Return every table, and what could not be read. A dormant table has no base chains: it filters nothing.

    Raises ParseError for what is not the ruleset of nft.
    """
    try:
        items = _items(text, source)
        return _Reader(source, spoken or Spoken({}, {})).read(items)
    except RecursionError:
        raise ParseError(source, 0, "expressions are nested too deeply") from None


def _items(text: str, source: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ParseError(source, error.lineno, f"not JSON: {error.msg}", text[:80]) from None
    except ValueError as error:  # a number of more digits than Python reads
        raise ParseError(source, 1, f"not JSON of nft: {error}", text[:80]) from None
    listed = data.get("nftables") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise ParseError(source, 1, "JSON, but not of nft", text[:80])
    items: list[tuple[str, dict[str, Any]]] = []
    for item in listed:
        if not isinstance(item, dict) or len(item) != 1 or not isinstance(next(iter(item.values())), dict):
            raise ParseError(source, 1, "not an object of nft", json.dumps(item)[:80])
        items.extend(item.items())
    if not items or items[0][0] != "metainfo":
        raise ParseError(source, 1, "nft's metainfo is missing", text[:80])
    if items[0][1].get("json_schema_version") != 1:
        raise ParseError(source, 1, "a version of nft's JSON that is not known", json.dumps(items[0][1])[:80])
    return items


class _Reader:
    def __init__(self, source: str, spoken: Spoken) -> None:
        self.source, self.spoken = source, spoken
        self.tables: dict[tuple[str, str], dict[str, Chain]] = {}
        self.rules: dict[tuple[str, str, str], list[Rule]] = {}
        self.counts: dict[tuple[str, str, str], int] = {}
        self.sets: dict[tuple[str, str], dict[str, SetElements]] = {}
        self.elements: dict[tuple[str, str, str], list[Any]] = {}  # static sets and maps
        self.gaps: list[Gap] = []

    def read(self, items: list[tuple[str, dict[str, Any]]]) -> tuple[list[Table], list[Gap]]:
        dormant = set()
        changing = set(_changed_sets(items))
        for kind, item in items:
            if kind in ("table", "chain", "set", "map", "rule"):
                family, table = self._text(item, "family"), self._text(item, "name" if kind == "table" else "table")
                if family not in _FAMILIES:
                    raise ParseError(self.source, 1, "a family of tables that is not known", family)
                chains = self.tables.setdefault((family, table), {})
                if kind == "table":
                    flags = item.get("flags", [])
                    if any(str(flag).startswith("dorm") for flag in (flags if isinstance(flags, list) else [flags])):
                        dormant.add((family, table))  # nft 1.0.6 prints it as "dorm"
                elif kind == "chain":
                    chain = self._chain(item, family, table)
                    chains[chain.name] = chain
                elif kind != "rule":
                    self._set(item, family, table, (family, table, str(item.get("name"))) in changing)
        for kind, item in items:
            if kind == "rule":
                self._rule(item)
        for (family, table, name), rules in self.rules.items():
            known = self.tables[family, table].get(name)
            if known is None:
                raise ParseError(self.source, 1, f"a rule of chain {name}, which table {family} {table} does not have")
            self.tables[family, table][name] = known._replace(rules=tuple(rules))
        tables = []
        for key, chains in self.tables.items():
            if key in dormant:
                chains = {name: Chain(name, chain.rules) for name, chain in chains.items()}
            family, table = key
            tables.append(Table(family, table, "nftables", self.source, chains, self.sets.get(key, {})))  # type: ignore[arg-type]  # one of _FAMILIES
        return tables, self.gaps

    def _text(self, item: dict[str, Any], key: str) -> str:
        value = item.get(key)
        if not isinstance(value, str):
            raise ParseError(self.source, 1, f"an object without {key}", json.dumps(item)[:80])
        return value

    def _chain(self, item: dict[str, Any], family: str, table: str) -> Chain:
        name = self._text(item, "name")
        if "hook" not in item:
            return Chain(name, ())
        hook, policy, priority = item["hook"], item.get("policy", "accept"), item.get("prio", 0)
        given = item.get("dev", [])
        understood = hook in _HOOKS and policy in ("accept", "drop") and isinstance(priority, int) and isinstance(given, (str, list))
        if not understood:
            raise ParseError(self.source, 1, f"base chain {name} is not understood", json.dumps(item)[:200])
        devices = (given,) if isinstance(given, str) else tuple(map(str, given))
        devices = devices or self.spoken.devices.get((family, table, name), ())  # nft 1.0.6 leaves a list of them out
        if hook in ("ingress", "egress") and not devices:
            where = f"chain {family} {table} {name}"
            self.gaps.append(Gap(where, "unsupported", "nft does not say for which devices the chain is"))
        return Chain(name, (), str(item.get("type", "filter")), hook, priority, policy, devices)

    def _set(self, item: dict[str, Any], family: str, table: str, changing: bool) -> None:
        name, flags = self._text(item, "name"), item.get("flags") or []
        elements = item.get("elem") or []
        known = isinstance(elements, list)
        static = not changing and "timeout" not in item and known
        static = static and not {"timeout", "dynamic", "eval"} & set(map(str, flags if isinstance(flags, list) else [flags]))
        if static:
            self.elements[family, table, name] = elements
        kind = item.get("type")
        entries = tuple(value if isinstance(value, str) else _spelled(value) for value in map(_spell_element, elements if known else []))
        self.sets.setdefault((family, table), {})[name] = SetElements(
            name, kind if isinstance(kind, str) else _spelled(kind), entries, (), static
        )

    def _rule(self, item: dict[str, Any]) -> None:
        family, table, chain = (self._text(item, key) for key in ("family", "table", "chain"))
        statements, handle = item.get("expr"), item.get("handle", 0)
        if not isinstance(statements, list) or not isinstance(handle, int):
            raise ParseError(self.source, 1, "a rule without expressions", json.dumps(item)[:200])
        key = (family, table, chain)
        number = self.counts[key] = self.counts.get(key, 0) + 1
        text = self.spoken.rules.get((family, table, handle)) or _spelled(statements)
        rules = self.rules.setdefault(key, [])
        for part in _Statements(family, table, self.elements).parts(statements):
            rules.append(Rule(number, part.matches, part.target, text, 0, handle))


def _changed_sets(items: list[tuple[str, dict[str, Any]]]) -> Iterable[tuple[str, str, str]]:
    """Name the sets that rules add to or delete from; nft 1.0.6 does not say that such a set is dynamic."""
    for kind, item in items:
        if kind != "rule" or not isinstance(item.get("expr"), list):
            continue
        for statement in item["expr"]:
            for name in ("set", "map"):
                change = statement.get(name) if isinstance(statement, dict) else None
                if isinstance(change, dict) and isinstance(change.get(name), str):
                    yield str(item.get("family")), str(item.get("table")), change[name].lstrip("@")


def _spelled(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _spell_element(element: Any) -> Any:
    value = element["elem"].get("val") if isinstance(element, dict) and isinstance(element.get("elem"), dict) else element
    try:
        return _plain(value)
    except _Unknown:
        return value


def _plain(value: Any) -> str:
    """Spell a constant: text, number, prefix or range. Raises _Unknown."""
    if isinstance(value, bool):
        raise _Unknown(value)
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, dict) and len(value) == 1:
        prefix, bounds = value.get("prefix"), value.get("range")
        if isinstance(prefix, dict) and isinstance(prefix.get("addr"), str) and isinstance(prefix.get("len"), int):
            return f"{prefix['addr']}/{prefix['len']}"
        if isinstance(bounds, list) and len(bounds) == 2:
            return f"{_plain(bounds[0])}-{_plain(bounds[1])}"
    raise _Unknown(value)


class _Statements:
    """The statements of one rule, in their order."""

    def __init__(self, family: str, table: str, elements: dict[tuple[str, str, str], list[Any]]) -> None:
        self.family, self.table, self.elements = family, table, elements

    def parts(self, statements: list[Any]) -> list[_Part]:
        """Return the rules that do the same: a statement with an effect ends one, and the next one repeats its matches."""
        done: list[_Part] = []
        ways: list[tuple[Match, ...]] = [()]  # the alternatives that sets of concatenations open
        doubtful = False
        for statement in statements:
            kind, body = next(iter(statement.items())) if isinstance(statement, dict) and statement else ("", statement)
            target = _final(kind, body)
            if target is not None:
                if target.argument[:1] == "{":  # looked up in a map; what is not in it goes on
                    mapped = self._mapped(kind, body)
                    if mapped and len(mapped) * len(ways) <= _PARTS:
                        return [*done, *(_Part(way + one.matches, one.target) for way in ways for one in mapped)]
                    ways = [(*way, _unknown(statement)) for way in ways]
                family = _family_of(kind, body)
                if family:
                    ways = [(*way, *self._family(family)) for way in ways]
                return [*done, *(_Part(way, target) for way in ways)]
            if kind == "vmap":
                ends, falls = self._verdict_map(body)
                if len(ways) * len(ends) > _PARTS:
                    ends, falls = [], False
                done += [_Part(way + end.matches, end.target) for way in ways for end in ends]
                if not falls:
                    done += [_Part((_unknown(statement),), Target("opaque", _spelled(body)))]
                return done
            effect = _effect(kind, body)
            if effect is not None:
                if effect != Target("continue"):
                    family = _family_of(kind, body)
                    if family:
                        ways = [(*way, *self._family(family)) for way in ways]
                    done += [_Part(way, effect) for way in ways]
                    ways = [_after(way, effect) for way in ways]
                continue
            if kind == "match":
                found = self._match(statement, body)
                if len(found) * len(ways) > _PARTS:
                    found = [(_unknown(statement),)]
                ways = [(*way, *(match for match in more if match not in way)) for way, more in product(ways, found)]
                continue
            doubtful = doubtful or kind not in ("limit", "quota", "ct count", "set", "map", "meter")
            text = f"xt {body.get('type')} {body.get('name')}" if kind == "xt" and isinstance(body, dict) else _spelled(statement)
            if kind == "xt" and text.startswith("xt target"):
                return [*done, *(_Part(way, Target("opaque", text)) for way in ways)]
            ways = [(*way, Match("unknown", (), False, text)) for way in ways]
        if done and not doubtful:
            return done
        target = Target("opaque", _spelled(_lasting(statements))) if doubtful else Target("continue")
        return [*done, *(_Part(way, target) for way in ways)]

    def _verdict_map(self, body: Any) -> tuple[list[_Part], bool]:
        """Return one rule for each element, and whether what they do not match falls through known."""
        data = body.get("data") if isinstance(body, dict) else None
        elements = data.get("set") if isinstance(data, dict) else self.elements.get((self.family, self.table, str(data)[1:]))
        if not isinstance(elements, list) or len(elements) > _PARTS:
            return [], False
        parts: list[_Part] = []
        rest: list[_Part] = []
        for element in elements:
            if not isinstance(element, list) or len(element) != 2:
                return [], False
            key, verdict = element
            kind, argument = next(iter(verdict.items())) if isinstance(verdict, dict) and verdict else ("", None)
            target = _final(kind, argument)
            if target is None:
                target = Target("continue") if kind == "continue" else Target("opaque", _spelled(verdict))
            if key == "*":
                rest = [_Part(self._implied_by_key(body.get("key")), target)]
                continue
            for matches in self._match({}, {"op": "==", "left": body.get("key"), "right": {"set": [key]}}):
                parts.append(_Part(matches, target))
        if rest and any(part.target.kind not in ("accept", "drop", "return", "goto") for part in parts):
            rest = [_Part((*rest[0].matches, _unknown(body)), rest[0].target)]  # it is for those that no other element matched
        return parts + rest, True

    def _mapped(self, kind: str, body: Any) -> list[_Part]:
        """Return one rule for each element of the map that says where a packet goes, none where that is something else."""
        looked_up = [part for part in ("addr", "port") if isinstance(body.get(part), dict) and list(body[part]) == ["map"]]
        lookup = body[looked_up[0]]["map"] if len(looked_up) == 1 else {}
        data = lookup.get("data") if isinstance(lookup, dict) else None
        elements = data.get("set") if isinstance(data, dict) else self.elements.get((self.family, self.table, str(data)[1:]))
        parts: list[_Part] = []
        for element in elements if isinstance(elements, list) and len(elements) <= _PARTS else ():
            if not isinstance(element, list) or len(element) != 2:
                return []
            key, value = element
            pair = value.get("concat") if isinstance(value, dict) else None
            given = dict(zip(("addr", "port"), pair)) if isinstance(pair, list) and len(pair) == 2 else {looked_up[0]: value}
            target = _final(kind, {**body, **given})
            if target is None or target.argument[:1] == "{" or key == "*":
                return []
            of_family = self._family(body["family"]) if body.get("family") in ("ip", "ip6") else ()
            ways = self._match({}, {"op": "==", "left": lookup["key"], "right": {"set": [key]}})
            parts += [_Part((*of_family, *way), target) for way in ways]
        return parts

    def _match(self, statement: Any, body: Any) -> list[tuple[Match, ...]]:
        """Return the alternatives, of which at most one can hold; each is a list of conditions."""
        try:
            operator, left, right = body["op"], body["left"], body["right"]
            if isinstance(left, dict) and "concat" in left:
                return self._concatenation(operator, left["concat"], right)
            return [self._condition(operator, left, right)]
        except (_Unknown, KeyError, TypeError, ValueError, AttributeError):
            return [(*self._implied(body), _unknown(statement or body))]

    def _concatenation(self, operator: str, fields: list[Any], right: Any) -> list[tuple[Match, ...]]:
        if operator not in ("==", "in"):
            raise _Unknown(operator)
        alternatives: list[tuple[Match, ...]] = []
        for element in self._members(right):
            values = element["concat"]
            if len(values) != len(fields) or len(alternatives) >= _PARTS:
                raise _Unknown(element)
            pairs = (self._condition("==", field, value) for field, value in zip(fields, values))
            alternatives.append(tuple(match for pair in pairs for match in pair))
        return alternatives or [(Match("never", (), False, _spelled(right)),)]

    def _members(self, right: Any) -> list[Any]:
        """Return the values that a match compares with. Raises _Unknown for a set that changes by itself."""
        if isinstance(right, str) and right.startswith("@"):
            try:
                elements = self.elements[self.family, self.table, right[1:]]
            except KeyError:
                raise _Unknown(right) from None
        elif isinstance(right, dict) and isinstance(right.get("set"), list):
            elements = right["set"]
        elif isinstance(right, dict) and isinstance(right.get("set"), (str, int, dict)):
            elements = [right["set"]]
        else:
            return [right]
        values = []
        for element in elements:
            if isinstance(element, dict) and "elem" in element:
                if not set(element["elem"]) <= {"val", "comment", "counter"}:
                    raise _Unknown(element)
                element = element["elem"]["val"]
            values.append(element)
        return values

    def _implied(self, body: Any) -> tuple[Match, ...]:
        """Return what an expression needs to be evaluated at all: nft adds it by itself and does not print it."""
        left = body.get("left") if isinstance(body, dict) else None
        if isinstance(left, dict) and isinstance(left.get("&"), list) and left["&"]:
            left = left["&"][0]
        payload = left.get("payload") if isinstance(left, dict) else None
        protocol = payload.get("protocol") if isinstance(payload, dict) else None
        if protocol in ("ip", "ip6"):
            return self._family(protocol)
        if protocol == "icmp":
            return (*self._family("ip"), Match("protocol", ("icmp",), False, "meta l4proto icmp"))
        if protocol == "icmpv6":
            return (*self._family("ip6"), Match("protocol", ("ipv6-icmp",), False, "meta l4proto ipv6-icmp"))
        if protocol in _PORTS:
            return (Match("protocol", (protocol,), False, f"meta l4proto {protocol}"),)
        return ()

    def _implied_by_key(self, key: Any) -> tuple[Match, ...]:
        """Return what the key of a map needs: one whose field a packet does not have ends the rule, `*` or not."""
        fields = key["concat"] if isinstance(key, dict) and isinstance(key.get("concat"), list) else [key]
        return tuple(dict.fromkeys(match for field in fields for match in self._implied({"left": field})))

    def _family(self, protocol: str) -> tuple[Match, ...]:
        if self.family == protocol:
            return ()
        family = "ipv4" if protocol == "ip" else "ipv6"
        return (Match("family", (family,), False, f"meta nfproto {family}"),)

    def _condition(self, operator: str, left: Any, right: Any) -> tuple[Match, ...]:
        """Return the matches of one comparison. Raises _Unknown, or what a wrong shape raises."""
        field: MatchField
        (kind, of), *more = left.items()
        if more:
            raise _Unknown(left)
        if kind == "&":
            return self._masked(operator, of, right, left)
        if kind == "payload":
            return (*self._implied({"left": left}), *self._payload(operator, of, right, left))
        if kind == "meta":
            return self._meta(operator, of["key"], right)
        if kind == "ct" and of.get("dir") == "original" and of["key"] in _ORIGINAL:
            field, convert = _ORIGINAL[of["key"]]
            return (self._compared(operator, field, right, convert, f"ct original {of['key']}"),)
        if kind == "ct" and set(of) == {"key"}:
            return self._ct(operator, of["key"], right)
        if kind == "socket" and operator == "==" and right in (0, 1) and (of["key"], right) in _SOCKETS:
            return (Match("socket", _SOCKETS[of["key"], right], False, f"socket {of['key']} {right}"),)
        if kind == "fib" and of["result"] == "type" and of["flags"] in (["daddr"], ["saddr"], "daddr", "saddr"):
            field = "destination_type" if "daddr" in of["flags"] else "source_type"
            return (self._compared(operator, field, right, _word(_TYPES), f"fib {of['flags']} type"),)
        raise _Unknown(left)

    def _compared(self, operator: str, field: MatchField, right: Any, convert: Callable[[Any], str], name: str) -> Match:
        if operator not in ("==", "!=", "in"):
            raise _Unknown(operator)
        values = tuple(map(convert, self._members(right)))
        negated = operator == "!="
        return Match(field, values, negated, f"{name} {'!= ' if negated else ''}{','.join(values[:16])}")

    def _payload(self, operator: str, of: dict[str, Any], right: Any, left: Any) -> tuple[Match, ...]:
        if "base" in of:
            return self._raw(operator, of, right)
        protocol, name = of["protocol"], of["field"]
        label = f"{protocol} {name}"
        if protocol in ("ip", "ip6") and name in ("saddr", "daddr"):
            field: MatchField = "source" if name == "saddr" else "destination"
            return (self._compared(operator, field, right, _address("ipv4" if protocol == "ip" else "ipv6"), label),)
        if protocol in (*_PORTS, "th") and name in ("sport", "dport"):
            field = "source_port" if name == "sport" else "destination_port"
            bounds = _bounds(operator, right)
            if bounds:
                return (Match(field, (bounds,), False, f"{label} {bounds}"),)
            return (self._compared(operator, field, right, _port, label),)
        if protocol == "tcp" and name == "flags":
            return (self._flags(operator, _FLAGS, right),)
        if protocol == "ip" and name == "protocol":
            return (self._compared(operator, "protocol", right, _protocol, label),)
        if protocol == "ip6" and name == "nexthdr" and operator == "==":
            match = self._compared(operator, "protocol", right, _protocol, label)
            if not set(match.values) & set(_EXTENSIONS):
                return match, _unknown(left)  # an extension header may stand in between
        if protocol in ("icmp", "icmpv6") and name == "type":
            return (self._compared(operator, "icmp_type", right, _plain, label),)
        raise _Unknown(left)

    def _raw(self, operator: str, of: dict[str, Any], right: Any) -> tuple[Match, ...]:
        """Bytes by their place, as miniupnpd writes them; only in tables of one IP version is their meaning fixed."""
        place = self.family, of["base"], of["offset"], of["len"]
        if place in (("ip", "nh", 72, 8), ("ip6", "nh", 48, 8)):
            if place[0] == "ip":
                return (self._compared(operator, "protocol", right, _protocol, "ip protocol"),)
        elif place in (("ip", "nh", 96, 32), ("ip", "nh", 128, 32)):
            field: MatchField = "source" if of["offset"] == 96 else "destination"
            return (self._compared(operator, field, right, _number_address, f"@nh,{of['offset']},32"),)
        elif place[1:] in (("th", 0, 16), ("th", 16, 16)):
            field = "destination_port" if of["offset"] else "source_port"
            return (self._compared(operator, field, right, _port, f"@th,{of['offset']},16"),)
        raise _Unknown(of)

    def _flags(self, operator: str, mask: tuple[str, ...], right: Any) -> Match:
        """`tcp flags syn` tests a bit; `== syn`, and any set, compare all eight bits."""
        members = self._members(right)
        if operator == "in":
            wanted = {flag for member in members for flag in _flag_names(member)}
            values = tuple(f"{flag}/{flag}" for flag in _FLAGS if flag in wanted)
        else:
            values = tuple(f"{','.join(mask)}/{','.join(_flag_names(member))}" for member in members)
        if operator not in ("==", "!=", "in") or not values:
            raise _Unknown(right)
        return Match("tcp_flags", values, operator == "!=", f"tcp flags {operator} {_spelled(right)}")

    def _masked(self, operator: str, of: Any, right: Any, left: Any) -> tuple[Match, ...]:
        expression, mask = of
        if expression == {"payload": {"protocol": "tcp", "field": "flags"}}:
            matches = self._flags(operator, _flag_names(mask), right) if operator != "in" else None
            if matches:
                return (*self._implied({"left": expression}), matches)
        for kind, field in (("meta", "mark"), ("ct", "ct_mark")):
            if expression == {kind: {"key": "mark"}}:
                bits = _integer(mask)
                return (self._compared(operator, field, right, _mark(bits), f"{kind} mark & {bits:#x}"),)  # type: ignore[arg-type]  # meta or ct
        raise _Unknown(left)

    def _meta(self, operator: str, key: str, right: Any) -> tuple[Match, ...]:
        if key in ("iif", "iifname", "oif", "oifname"):
            field: MatchField = "in_interface" if key[0] == "i" else "out_interface"
            return (self._compared(operator, field, right, _interface, key),)
        if key == "l4proto":
            return (self._compared(operator, "protocol", right, _protocol, "meta l4proto"),)
        if key == "nfproto":
            return (self._compared(operator, "family", right, _word(("ipv4", "ipv6"), str.lower), "meta nfproto"),)
        if key == "protocol":
            names = {"ip": "ipv4", "ip6": "ipv6"}
            return (self._compared(operator, "family", right, lambda value: names[value], "meta protocol"),)
        if key == "mark":
            return (self._compared(operator, "mark", right, _mark(_FULL), "meta mark"),)
        raise _Unknown(key)

    def _ct(self, operator: str, key: str, right: Any) -> tuple[Match, ...]:
        if key == "mark":
            return (self._compared(operator, "ct_mark", right, _mark(_FULL), "ct mark"),)
        if key == "direction":
            return (self._compared(operator, "ct_direction", right, _word(("original", "reply")), "ct direction"),)
        if key not in ("state", "status"):
            raise _Unknown(key)
        words = _word(_STATES if key == "state" else ("dnat", "snat"))
        members = self._members(right)
        if operator == "in":
            members = [word for member in members for word in _combined(member)]
        elif key == "status":  # the other bits of the status are not known
            raise _Unknown(right)
        elif any(len(_combined(member)) != 1 for member in members):  # a packet has one state: never equal to two
            members = [_combined(member)[0] for member in members if len(_combined(member)) == 1]
        return (self._compared(operator, "ct_state", {"set": [_combined(word)[0] for word in members]}, words, f"ct {key}"),)


def _lasting(statements: list[Any]) -> list[Any]:
    return [statement for statement in statements if not (isinstance(statement, dict) and "counter" in statement)]


def _unknown(statement: Any) -> Match:
    return Match("unknown", (), False, _spelled(statement))


def _after(way: tuple[Match, ...], effect: Target) -> tuple[Match, ...]:
    """Return the conditions for what follows an effect that changes what one of them tested."""
    if effect.kind == "tproxy":
        return (*way, Match("taken", (effect.argument,), False, f"tproxy to {effect.argument}"))
    changed = {"mark": "mark", "notrack": "ct_state"}.get(effect.kind)
    opaque = effect.kind == "opaque"
    return tuple(
        Match("unknown", (), False, match.text) if match.field == changed or (opaque and "mark" in match.field) else match for match in way
    )


def _final(kind: str, body: Any) -> Target | None:
    """Return the target of a statement that ends its rule."""
    if kind in ("accept", "drop", "return"):
        return Target(kind)  # type: ignore[arg-type]  # the name of a kind
    if kind in ("jump", "goto") and isinstance(body, dict) and isinstance(body.get("target"), str):
        return Target(kind, body["target"])  # type: ignore[arg-type]  # the name of a kind
    if kind == "continue":
        return Target("continue")
    if kind == "reject":
        return Target("drop")
    if kind in ("snat", "masquerade"):
        return Target("snat")
    if kind in ("dnat", "redirect"):
        destination = _destination(body)
        portless = kind == "redirect" or not isinstance(body, dict) or "addr" in body
        return Target(kind, destination if portless else f":{destination}")  # type: ignore[arg-type]  # the name of a kind
    if kind in ("queue", "fwd", "synproxy", "jump", "goto"):
        return Target("opaque", f"{kind} {_spelled(body)}")
    return None


def _family_of(kind: str, body: Any) -> str | None:
    """Return the family that a statement names; nft then leaves the match of it out (stmt_reject_postprocess)."""
    if not isinstance(body, dict):
        return None
    named = (
        {"icmp": "ip", "icmpv6": "ip6"}.get(str(body.get("type")))
        if kind == "reject"
        else body.get("family")
        if kind in ("dnat", "tproxy")
        else None
    )
    return named if named in ("ip", "ip6") else None


def _destination(body: Any) -> str:
    """Spell address:port; what is not constant as JSON."""
    if not isinstance(body, dict):
        return ""
    try:
        address, port = (_plain(body[key]) if key in body else "" for key in ("addr", "port"))
    except _Unknown:
        return _spelled(body)
    if ":" in address and port:
        address = f"[{address}]"
    return f"{address}:{port}" if address and port else address or port


def _effect(kind: str, body: Any) -> Target | None:
    """Return what a statement changes for the statements and rules after it; `continue` for nothing."""
    if kind in _HARMLESS:
        return Target("continue")
    if kind in ("ct helper", "ct expectation"):
        return HELPER
    if kind == "notrack":
        return Target("notrack")
    if kind == "tproxy":
        destination = _destination(body)
        return Target("tproxy", destination if not isinstance(body, dict) or "addr" in body else f":{destination}")
    if kind != "mangle" or not isinstance(body, dict) or not isinstance(body.get("key"), dict):
        return None
    what, of = next(iter(body["key"].items()), ("", None))
    key = str(of.get("key")) if isinstance(of, dict) else ""
    if what == "meta" and key == "mark":
        try:
            return Target("mark", _new_mark(body.get("value")))
        except (_Unknown, ValueError, TypeError):
            pass
    elif (what, key) == ("ct", "helper"):
        return HELPER
    elif (
        (what == "meta" and key in _HARMLESS_META)
        or (what == "ct" and key in _HARMLESS_CT)
        or what in ("tcp option", "ether")
        or (what == "payload" and isinstance(of, dict) and of.get("field") in _HARMLESS_FIELDS)
    ):
        return Target("continue")
    return Target("opaque", _spelled({"mangle": body}))


def _new_mark(value: Any) -> str:
    """Spell a constant mark, or (mark & keep) | bits, as value/mask. Raises _Unknown."""
    keep, bits = _FULL, 0
    if isinstance(value, dict):
        (operator, (inner, number)), *_more = value.items()
        number = _integer(number)
        if inner == {"meta": {"key": "mark"}} and operator in ("|", "&"):
            keep, bits = (_FULL, number) if operator == "|" else (number, 0)
        elif operator in ("|", "^") and isinstance(inner, dict) and list(inner) == ["&"]:
            mark, kept = inner["&"]
            keep, bits = _integer(kept), number
            if mark != {"meta": {"key": "mark"}} or (operator == "^" and keep & bits):
                raise _Unknown(value)
        else:
            raise _Unknown(value)
        return f"{bits:#x}/{(_FULL & ~keep) | bits:#x}"
    return f"{_integer(value):#x}/{_FULL:#x}"


def _integer(value: Any) -> int:
    number = int(value, 0) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= _FULL:
        raise _Unknown(value)
    return number


def _address(family: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        found = network_range(_plain(value))
        if found.family != family:
            raise _Unknown(value)
        return found.text

    return convert


def _number_address(value: Any) -> str:
    number = _integer(value)
    return network_range(".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))).text


def _port(value: Any) -> str:
    low, dash, high = _plain(value).partition("-")
    first, last = int(low), int(high if dash else low)
    if not 0 <= first <= last <= 65535:
        raise _Unknown(value)
    return f"{first}:{last}" if last > first else str(first)


def _bounds(operator: str, right: Any) -> str:
    """Return the ports of a comparison by size, or nothing when it is another one."""
    if operator not in ("<", ">", "<=", ">="):
        return ""
    port = _integer(right)
    first, last = (0, port - (operator == "<")) if operator[0] == "<" else (port + (operator == ">"), 65535)
    if not 0 <= first <= last <= 65535:
        raise _Unknown(right)
    return f"{first}:{last}"


def _protocol(value: Any) -> str:
    name = protocol_name(_plain(value))
    if name is None:
        raise _Unknown(value)
    return name


def _interface(value: Any) -> str:
    name = _plain(value)
    if not isinstance(value, str) or not name or name.isdigit() or name[-1] == "+" or "\\" in name:
        raise _Unknown(value)
    return name


def _mark(mask: int) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        return f"{_integer(value):#x}/{mask:#x}"

    return convert


# What nft_socket.c says of the socket of a packet, as a match asks for it.
_SOCKETS = {("transparent", 1): ("transparent", "nowildcard"), ("wildcard", 0): ("full",)}
# What `ct original` may ask. Not `l3proto` and `protocol`, which tell nothing new.
_ORIGINAL: dict[str, tuple[MatchField, Callable[[Any], str]]] = {
    "proto-dst": ("ct_original_port", _port),
    "ip daddr": ("ct_original_destination", _address("ipv4")),
    "ip6 daddr": ("ct_original_destination", _address("ipv6")),
}


def _word(words: tuple[str, ...], spell: Callable[[str], str] = str.upper) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if value not in words:
            raise _Unknown(value)
        return spell(value)

    return convert


def _combined(value: Any) -> list[Any]:
    """Return the members of a combination of bits: ["a", "b"], {"|": ["a", "b"]} (nested in old versions), or one."""
    if isinstance(value, dict) and list(value) == ["|"]:
        value = value["|"]
    elif not isinstance(value, list):
        return [value]
    return [member for part in value for member in _combined(part)]


def _flag_names(value: Any) -> tuple[str, ...]:
    """Return the TCP flags of a value, in the order of their bits. Raises _Unknown."""
    wanted = set()
    for member in _combined(value):
        if isinstance(member, int) and not isinstance(member, bool) and 0 <= member < 256:
            wanted |= {flag for bit, flag in enumerate(_FLAGS) if member >> bit & 1}
        elif member in _FLAGS:
            wanted.add(member)
        else:
            raise _Unknown(value)
    return tuple(flag for flag in _FLAGS if flag in wanted)
