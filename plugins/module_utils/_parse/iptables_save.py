# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what iptables-save prints, and the files that iptables-restore reads (iptables(8), iptables-extensions(8))."""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from typing import Callable, Literal, Optional

from .._model.gap import Gap
from .._model.network import BITS, network_range
from .._model.ruleset import HELPER, Backend, Chain, Match, Rule, Table, Target, TargetKind, builtin_base
from .error import ParseError
from .protocol import protocol_name

_Parsed = tuple[tuple[Match, ...], Target]
_Build = Callable[["tuple[str, ...]", bool, str], Optional[Match]]

_COMMENT = re.compile(r' -m comment --comment (?:"(?:[^"\\]|\\.)*"|[^\s"]+)(?=\s|$)', re.DOTALL)
_TOKEN = re.compile(r'(?:[^\s"]|"(?:[^"\\]|\\.)*")+', re.DOTALL)
_ADDRESS = re.compile(r"(! )?(-[sd]) ([^\s,!]+) (?=\S)")
_COUNTERS = re.compile(r"\[\d+:\d+\]\s+")
_CHAIN = re.compile(r":(\S+)\s+(\S+)(?:\s+\[\d+:\d+\])?")
_QUOTED_LINES = 64  # a comment may hold line breaks, which iptables-save prints as they are

_UNPARSED = Target("opaque")
_CONTINUE = Target("continue")  # a rule without -j
_LOGGED = Target("continue")
_REMEMBERED = 20000
_TABLES = ("filter", "nat", "mangle", "raw", "security")

_BASE = {
    "-s": "-s", "--source": "-s", "--src": "-s",
    "-d": "-d", "--destination": "-d", "--dst": "-d",
    "-p": "-p", "--protocol": "-p", "--proto": "-p",
    "-i": "-i", "--in-interface": "-i",
    "-o": "-o", "--out-interface": "-o",
    "-f": "-f", "--fragment": "-f", "--fragments": "-f",
    "-m": "-m", "--match": "-m",
    "-j": "-j", "--jump": "-j",
    "-g": "-g", "--goto": "-g",
    "-c": "-c", "--set-counters": "-c",
    "-4": "-4", "--ipv4": "-4",
    "-6": "-6", "--ipv6": "-6",
}  # fmt: skip
# getopt_long takes these too; a verdict must not vanish among the options of some match.
_SHORTENED = frozenset(("--j", "--ju", "--jum", "--g", "--go", "--got"))
_FREE_TEXT = frozenset(("--comment", "--log-prefix", "--nflog-prefix", "--ulog-prefix"))

_ANY_PROTOCOL = frozenset(("all", "0", "ip", "hopopt"))

_STATES = frozenset(("NEW", "ESTABLISHED", "RELATED", "INVALID", "UNTRACKED", "SNAT", "DNAT"))
_ADDRESS_TYPES = frozenset(("UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT"))
_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg")

_FINAL = {
    "ACCEPT": Target("accept"),
    "DROP": Target("drop"),
    "REJECT": Target("drop"),
    "TARPIT": Target("drop"),
    "RETURN": Target("return"),
    "NOTRACK": Target("notrack"),
    "SNAT": Target("snat"),
    "MASQUERADE": Target("snat"),
    "SAME": Target("snat"),
}
_CONTINUING = frozenset((
    "AUDIT", "CHECKSUM", "CLASSIFY", "CONNSECMARK", "DSCP", "ECN", "HL", "IDLETIMER", "LED", "LOG", "NFLOG", "RATEEST",
    "SECMARK", "SET", "TCPMSS", "TCPOPTSTRIP", "TEE", "TOS", "TRACE", "TTL", "ULOG",
))  # fmt: skip
_WITH_OPTIONS = frozenset(("MARK", "CONNMARK", "CT", "DNAT", "REDIRECT", "NETMAP", "TPROXY"))


class _Unparsable(ValueError):
    """The line is not a rule that we can read."""


def parse(text: str, source: str, backend: Backend, family: Literal["ip", "ip6"]) -> tuple[list[Table], list[Gap]]:
    """Return the tables in the order of the text, and what in it could not be read.

    A text of several dumps yields a table for each section, also when two have the same name. A rule that cannot be read
    stays in its chain with an unknown match and an opaque target. A text of nothing but comments has no tables.
    Raises ParseError for what is not a complete dump.
    """
    if "\0" in text:
        raise ParseError(source, text[: text.index("\0")].count("\n") + 1, "binary data, not an iptables ruleset")
    if not text.strip():
        raise ParseError(source, 1, "an empty text, not an iptables ruleset")
    lines = text.replace("\r\n", "\n").split("\n")
    tables: list[Table] = []
    gaps: list[Gap] = []
    section: _Section | None = None
    skip = 0
    for number, line in enumerate(lines, 1):
        if number <= skip or not line:
            continue
        first = line[0]
        if section is None:
            if first == "*":
                section = _Section(line[1:].strip(), source, family, gaps, number)
            elif first == "#":
                gaps += _announced(line, source)
            elif line.strip():
                raise ParseError(source, number, "not an iptables ruleset", line)
        elif first == "-":
            if '"' in line:
                line, skip = _whole(lines, number)
            section.command(line, number)
        elif first == "[":
            if '"' in line:
                line, skip = _whole(lines, number)
            section.command(_COUNTERS.sub("", line, count=1), number)
        elif first == ":":
            section.declare(line, number)
        elif first == "#":
            gaps += _announced(line, source)
        elif line.rstrip() == "COMMIT":
            tables.append(section.table(backend))
            section = None
        elif first == "*":
            raise ParseError(source, number, f"table {section.name} ends without COMMIT", line)
        elif line.strip():
            section.lost(line, number, "not a chain, a rule or COMMIT")
    if section is not None:
        raise ParseError(source, len(lines), f"table {section.name} ends without COMMIT")
    return tables, gaps


def _announced(line: str, source: str) -> list[Gap]:
    """iptables-nft-save says in comments what it does not show."""
    if "use 'nft' tool" in line or "-legacy tables present" in line:
        return [Gap(source, "unsupported", line.lstrip("# ").strip()[:500])]
    return []


def _whole(lines: list[str], number: int) -> tuple[str, int]:
    """Join a line that ends inside quotes with those that follow; return it and the number of its last line."""
    line = lines[number - 1]
    if "\\" not in line and line.count('"') % 2 == 0:
        return line, number
    for last in range(number, min(number + _QUOTED_LINES, len(lines)) + 1):
        if last > number:
            if lines[last - 1].strip() == "COMMIT":
                break
            line += "\n" + lines[last - 1]
        if not _TOKEN.sub("", line).strip():
            return line, last
    return lines[number - 1], number


class _Section:
    """One table while it is read, from *table to COMMIT."""

    def __init__(self, name: str, source: str, family: Literal["ip", "ip6"], gaps: list[Gap], line: int) -> None:
        if not name or " " in name:
            raise ParseError(source, line, "not a table name", name)
        self.name, self.source, self.family, self.gaps = name, source, family, gaps
        self.chains: dict[str, list[Rule]] = {}
        self.policies: dict[str, Literal["accept", "drop"]] = {}
        self.known: dict[str, _Parsed] = {}  # the same options come again and again
        self.options = _Options(family, self.chains)
        if name not in _TABLES:
            gaps.append(Gap(f"{source}:{line}", "not_evaluated", f"the hooks of table {name} are not known"))

    def declare(self, line: str, number: int) -> None:
        found = _CHAIN.fullmatch(line.rstrip())
        if not found:
            self.lost(line, number, "not a chain")
            return
        chain, policy = found.groups()
        rules = self.chains.setdefault(chain, [])
        if policy in ("ACCEPT", "DROP"):
            self.policies[chain] = "accept" if policy == "ACCEPT" else "drop"
        elif policy != "-":
            self.lost(line, number, f"policy {policy} is not ACCEPT or DROP")
            rules.append(Rule(1, (Match("unknown", (), False, line),), _UNPARSED, line, number))

    def command(self, line: str, number: int) -> None:
        """Take one rule: -A, and -I, -N, -P as hand-written files have them."""
        words = line.split(None, 2)
        command, chain, rest = words if len(words) == 3 else (words[0] if words else "", words[1] if len(words) > 1 else "", "")
        if command not in ("-A", "--append"):
            if command in ("-N", "--new-chain") and chain and not rest.strip():
                self.chains.setdefault(chain, [])
                return
            if command in ("-P", "--policy") and rest.strip() in ("ACCEPT", "DROP"):
                self.declare(f":{chain} {rest.strip()}", number)
                return
        if chain not in self.chains and (command[:2] == "--" or not chain or builtin_base(self.name, chain) is None):
            self.lost(line, number, f"chain {chain!r} is not declared")
            if not chain or chain[0] == "-":
                return
        rules = self.chains.setdefault(chain, [])
        place = len(rules)
        try:
            if command in ("-I", "--insert"):
                position, _space, others = rest.lstrip().partition(" ")
                numbered = position.isascii() and position.isdigit() and len(position) < 10
                place, rest = (min(int(position) - 1, place), others) if numbered else (0, rest)
            elif command not in ("-A", "--append"):
                raise _Unparsable(f"{command} is not supported")
            matches, target = self.parsed(rest)
        except _Unparsable as error:
            self.lost(line, number, str(error))
            matches, target = (Match("unknown", (), False, line),), _UNPARSED
        # tuple.__new__ saves a third of the time that Rule() takes, for each of maybe 100,000 rules
        rule = tuple.__new__(Rule, (len(rules) + 1, matches, target, line.rstrip(), number, 0))
        if place >= len(rules):
            rules.append(rule)
        else:
            rules.insert(max(place, 0), rule)
            rules[:] = [later._replace(number=count) for count, later in enumerate(rules, 1)]

    def parsed(self, rest: str) -> _Parsed:
        known = self.known.get(rest)
        if known is not None:
            return known
        address = _ADDRESS.match(rest)
        if address:  # addresses differ from rule to rule, what follows them seldom does
            negated, option, value = address.groups()
            matches, target = self.parsed(rest[address.end() :])
            match = self.options.address(option, value, bool(negated))
            return ((match, *matches), target)
        cut = _COMMENT.sub("", f" {rest}") if "--comment " in rest else rest
        if '"' not in cut:
            tokens = cut.split()
        else:
            tokens = _TOKEN.findall(cut)
            if _TOKEN.sub("", cut).strip():
                raise _Unparsable("a quote is not closed")
        parsed = self.options.read(tokens)
        if len(self.known) < _REMEMBERED:
            self.known[rest] = parsed
        return parsed

    def lost(self, line: str, number: int, reason: str) -> None:
        self.gaps.append(Gap(f"{self.source}:{number}", "unparsable", f"{reason}: {line.strip()}"[:500]))

    def table(self, backend: Backend) -> Table:
        chains = {}
        for name, rules in self.chains.items():
            base = builtin_base(self.name, name)
            if base:
                kind, hook, priority = base
                chains[name] = Chain(name, tuple(rules), kind, hook, priority, self.policies.get(name, "accept"))
            else:
                chains[name] = Chain(name, tuple(rules))
        return Table(self.family, self.name, backend, self.source, chains)


class _Options:
    """The options of one rule to its matches and its target."""

    def __init__(self, family: Literal["ip", "ip6"], chains: dict[str, list[Rule]]) -> None:
        self.chains = chains
        self.family = family
        self.number = socket.AF_INET if family == "ip" else socket.AF_INET6
        self.bits = BITS["ipv4" if family == "ip" else "ipv6"]

    def read(self, tokens: list[str]) -> _Parsed:
        """Raises _Unparsable for what is not a list of options."""
        matches: list[Match] = []
        module = ""
        target = _CONTINUE
        place, end = 0, len(tokens)
        while place < end:
            start = place
            negated = tokens[place] == "!"
            if negated:
                place += 1
            if place >= end:
                raise _Unparsable("! stands alone")
            option = tokens[place]
            base = _BASE.get(option)
            if base is None and option not in _MATCH_OPTIONS and _splits(tokens, place):
                end = len(tokens)
                place = start
                continue
            place += 1
            if base is None:
                known = _MATCH_OPTIONS.get(option)
                if known and (module in known[0] or option in _ANYWHERE):
                    place, found = self._match(tokens, place, option, module, negated, known[1], known[2])
                else:
                    place = _group_end(tokens, start)
                    found = self._unknown(tokens[start:place], module)
                matches += found
            elif base == "-f":
                matches.append(Match("fragment", ("later",), negated, "! -f" if negated else "-f"))
            elif base in ("-4", "-6"):
                if (base == "-4") != (self.family == "ip"):
                    matches.append(Match("never", (), False, option))
            else:
                if place < end and tokens[place] == "!":  # old syntax: -s ! 10.0.0.0/8
                    if negated:
                        raise _Unparsable(f"{option} is negated twice")
                    negated = True
                    place += 1
                if place >= end:
                    raise _Unparsable(f"{option} has no value")
                value = tokens[place]
                place += 1
                if base == "-m":
                    module = value
                    if value == "socket":
                        stop = _group_end(tokens, place)
                        matches.append(_socket(tokens[place:stop]))
                        place = stop
                    elif value not in _MODULES:
                        stop = _group_end(tokens, place)
                        matches.append(Match("unknown", (), False, " ".join(["-m", value, *tokens[place:stop]])))
                        place, end = stop, len(tokens)
                elif base in ("-j", "-g"):
                    if target is not _CONTINUE or negated:
                        raise _Unparsable(f"a second {option}" if not negated else f"{option} is negated")
                    stop = _group_end(tokens, place) if place < end else end
                    target = self._target(base, value, tokens[place:stop])
                    end = len(tokens)
                    place, module = stop, ""
                elif base == "-c":
                    place += 1
                elif base in ("-s", "-d"):
                    matches.append(self.address(base, value, negated))
                elif base == "-p":
                    matches += _protocol(value, negated)
                else:
                    matches += _interface(base, value, negated)
        return tuple(matches), target

    def address(self, option: str, value: str, negated: bool) -> Match:
        """Read the value of -s or -d: a network, or several with commas."""
        text = f"! {option} {value}" if negated else f"{option} {value}"
        field: Literal["source", "destination"] = "source" if option == "-s" else "destination"
        address, slash, length = value.partition("/")
        try:
            socket.inet_pton(self.number, address)
        except (OSError, ValueError):
            pass
        else:
            if slash and length.isascii() and length.isdigit() and length[0] != "0" and len(length) < 4 and int(length) <= self.bits:
                return tuple.__new__(Match, (field, (value,), negated, text))
        try:
            values = tuple(self._network(part) for part in value.split(","))
        except ValueError:
            return Match("unknown", (), False, text)
        if negated and len(values) > 1:
            return Match("unknown", (), False, text)
        return Match(field, values, negated, text)

    def _network(self, text: str) -> str:
        network = network_range(text)
        if BITS[network.family] != self.bits:
            raise ValueError(f"not of this family: {text!r}")
        return network.text

    def _match(
        self, tokens: list[str], place: int, option: str, module: str, negated: bool, count: int, build: _Build
    ) -> tuple[int, list[Match]]:
        """Return the place after the option's values, and its match."""
        if count and place < len(tokens) and tokens[place] == "!":
            if negated:
                raise _Unparsable(f"{option} is negated twice")
            negated = True
            place += 1
        values = tuple(tokens[place : place + count])
        if len(values) < count:
            raise _Unparsable(f"{option} has no value")
        stop = place + count
        if stop < len(tokens) and tokens[stop] not in _BASE:
            stop = _group_end(tokens, stop, options=True)
        text = " ".join((option, *values, *tokens[place + count : stop]))
        if negated:
            text = f"! {text}"
        if module in ("set", "addrtype"):  # their further options change what the first one means
            stop = _group_end(tokens, place + count)
            if any(token in ("--limit-iface-in", "--limit-iface-out") for token in tokens[place:stop]) or (
                module == "set" and stop > place + count
            ):
                return stop, [Match("unknown", (), False, " ".join(["-m", module, text, *tokens[place + count : stop]]))]
            stop = place + count
        if option == "--mark" and module == "connmark":
            build = _ct_mark
        try:
            match = build(values, negated, text) if stop == place + count else None
        except ValueError:
            match = Match("unknown", (), False, text)
        if match is None and stop > place + count:
            match = Match("unknown", (), False, text)
        elif match is not None and match.field in ("source", "destination"):
            try:
                match = match._replace(values=tuple(self._network(value) for value in match.values))
            except ValueError:
                match = Match("unknown", (), False, text)
        return stop, [match] if match else []

    @staticmethod
    def _unknown(tokens: list[str], module: str) -> list[Match]:
        if not module:
            raise _Unparsable(f"{' '.join(tokens)!r} is not an option of iptables")
        return [Match("unknown", (), False, " ".join(["-m", module, *tokens]))]

    def _target(self, option: str, name: str, words: list[str]) -> Target:
        if option == "-g":
            if name not in self.chains:
                raise _Unparsable(f"-g to chain {name}, which is not declared")
            return Target("goto", name)
        if name in ("ACCEPT", "DROP", "RETURN"):
            if words:
                raise _Unparsable(f"{' '.join(words)!r} after -j {name}")
            return _FINAL[name]
        if name in _FINAL and name not in self.chains:
            return _FINAL[name]
        if name in self.chains:
            clash = name in _FINAL or name in _CONTINUING or name in _WITH_OPTIONS
            return Target("opaque", name) if clash else Target("jump", name)
        if name in _CONTINUING:
            return _LOGGED
        if name in _WITH_OPTIONS:
            return _argument(name, words)
        return Target("opaque", " ".join([name, *words]))


def _splits(tokens: list[str], place: int) -> bool:
    """Write --option=value and -ptcp as two tokens; say whether that was needed."""
    token = tokens[place]
    if token in _SHORTENED:
        raise _Unparsable(f"{token} is a shortened option")
    if token[:2] == "--":
        option, equals, value = token.partition("=")
        if equals and (option in _BASE or option in _MATCH_OPTIONS):
            tokens[place : place + 1] = [option, value]
            return True
    elif len(token) > 2 and token[0] == "-" and token[:2] in _BASE and token[1] not in "46f":
        tokens[place : place + 1] = [token[:2], token[2:]]
        return True
    return False


def _group_end(tokens: list[str], place: int, options: bool = False) -> int:
    """Return where the options of a match or target end: at the next base option, or (`options`) at any next option."""
    end = len(tokens)
    while place < end:
        token = tokens[place]
        following = tokens[place + 1] if token == "!" and place + 1 < end else token
        if following in _BASE or following in _ANYWHERE:
            return place
        if options and (following[:1] == "-" or token == "!"):
            return place
        if _splits(tokens, place):
            end = len(tokens)
        else:
            place += 2 if token in _FREE_TEXT else 1
    return end


@lru_cache(maxsize=512)
def _protocol(value: str, negated: bool) -> tuple[Match, ...]:
    text = f"! -p {value}" if negated else f"-p {value}"
    name = value.lower()
    if name in _ANY_PROTOCOL:
        return (Match("never", (), False, text),) if negated else ()
    known = protocol_name(name)
    if known is None:
        return (Match("unknown", (), False, text),)
    if known == "0":
        return (Match("never", (), False, text),) if negated else ()
    return (Match("protocol", (known,), negated, text),)


@lru_cache(maxsize=2048)
def _interface(option: str, value: str, negated: bool) -> tuple[Match, ...]:
    text = f"! {option} {value}" if negated else f"{option} {value}"
    name = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    if name == "+":
        return (Match("never", (), False, text),) if negated else ()
    if not name or name[0] == "!" or name[-1] == "*" or '"' in name or "\\" in name:
        return (Match("unknown", (), False, text),)
    return (Match("in_interface" if option == "-i" else "out_interface", (name,), negated, text),)


@lru_cache(maxsize=4096)
def _port(text: str) -> str:
    """Return 22 or 1000:2000. Raises ValueError."""
    low, colon, high = text.partition(":")
    if not colon:
        return str(_number(low))
    first, last = _number(low) if low else 0, _number(high) if high else 65535
    if last < first:
        raise ValueError(text)
    return f"{first}:{last}" if last > first else str(first)


def _number(text: str) -> int:
    if text.isascii() and text.isdigit():
        port = int(text)
        if port > 65535 or text != str(port):  # iptables reads 022 as octal
            raise ValueError(text)
        return port
    found = set()
    for protocol in ("tcp", "udp"):
        try:
            found.add(socket.getservbyname(text, protocol))
        except OSError:
            continue
    if len(found) != 1:
        raise ValueError(text)
    return found.pop()


def _mask(text: str) -> tuple[int, int]:
    value, slash, mask = text.partition("/")
    pair = int(value, 0), int(mask, 0) if slash else 0xFFFFFFFF
    if not all(0 <= number <= 0xFFFFFFFF for number in pair):
        raise ValueError(text)
    return pair


def _source_port(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("source_port", (_port(values[0]),), negated, text)


def _destination_port(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("destination_port", (_port(values[0]),), negated, text)


def _source_ports(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("source_port", tuple(map(_port, values[0].split(","))), negated, text)


def _destination_ports(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("destination_port", tuple(map(_port, values[0].split(","))), negated, text)


def _any_ports(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("any_port", tuple(map(_port, values[0].split(","))), negated, text)


def _syn(_values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("tcp_flags", ("fin,syn,rst,ack/syn",), negated, text)


def _tcp_flags(values: tuple[str, ...], negated: bool, text: str) -> Match:
    parts = []
    for value in values:
        names = value.lower().split(",")
        wanted = _FLAGS if names == ["all"] else () if names == ["none"] else tuple(names)
        if not set(wanted) <= set(_FLAGS):
            raise ValueError(value)
        parts.append(",".join(flag for flag in _FLAGS if flag in wanted))
    return Match("tcp_flags", ("/".join(parts),), negated, text)


def _icmp_type(values: tuple[str, ...], negated: bool, text: str) -> Match | None:
    if values[0] == "any":
        return Match("never", (), False, text) if negated else None
    return Match("icmp_type", values, negated, text)


def _among(value: str, words: frozenset[str]) -> tuple[str, ...]:
    found = tuple(value.upper().split(","))
    if not words.issuperset(found):
        raise ValueError(value)
    return found


def _ct_state(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("ct_state", _among(values[0], _STATES), negated, text)


def _original_destination(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("ct_original_destination", (network_range(values[0]).text,), negated, text)


def _original_port(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("ct_original_port", (_port(values[0]),), negated, text)


def _direction(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("ct_direction", _among(values[0], frozenset(("ORIGINAL", "REPLY"))), negated, text)


def _source_type(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("source_type", _among(values[0], _ADDRESS_TYPES), negated, text)


def _destination_type(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("destination_type", _among(values[0], _ADDRESS_TYPES), negated, text)


def _source_range(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("source", values, negated, text)


def _destination_range(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("destination", values, negated, text)


def _packet_mark(values: tuple[str, ...], negated: bool, text: str) -> Match:
    value, mask = _mask(values[0])
    return Match("mark", (f"{value:#x}/{mask:#x}",), negated, text)


def _ct_mark(values: tuple[str, ...], negated: bool, text: str) -> Match:
    value, mask = _mask(values[0])
    return Match("ct_mark", (f"{value:#x}/{mask:#x}",), negated, text)


def _set(values: tuple[str, ...], negated: bool, text: str) -> Match:
    return Match("set", (" ".join(values),), negated, text)


def _nothing(_values: tuple[str, ...], _negated: bool, _text: str) -> None:
    return None


_PORTS = frozenset(("tcp", "udp", "udplite", "sctp", "dccp"))
_MODULES = _PORTS | frozenset(
    (
        "state",
        "conntrack",
        "multiport",
        "iprange",
        "addrtype",
        "mark",
        "connmark",
        "set",
        "comment",
        "icmp",
        "icmp6",
        "icmpv6",
    )
)
# option: the modules that have it, how many values it takes, its match
_MATCH_OPTIONS: dict[str, tuple[frozenset[str], int, _Build]] = {
    "--sport": (_PORTS, 1, _source_port),
    "--source-port": (_PORTS, 1, _source_port),
    "--dport": (_PORTS, 1, _destination_port),
    "--destination-port": (_PORTS, 1, _destination_port),
    "--sports": (frozenset(("multiport",)), 1, _source_ports),
    "--source-ports": (frozenset(("multiport",)), 1, _source_ports),
    "--dports": (frozenset(("multiport",)), 1, _destination_ports),
    "--destination-ports": (frozenset(("multiport",)), 1, _destination_ports),
    "--ports": (frozenset(("multiport",)), 1, _any_ports),
    "--syn": (frozenset(("tcp",)), 0, _syn),
    "--tcp-flags": (frozenset(("tcp",)), 2, _tcp_flags),
    "--icmp-type": (frozenset(("icmp",)), 1, _icmp_type),
    "--icmpv6-type": (frozenset(("icmp6", "icmpv6")), 1, _icmp_type),
    "--state": (frozenset(("state",)), 1, _ct_state),
    "--ctstate": (frozenset(("conntrack",)), 1, _ct_state),
    "--ctorigdst": (frozenset(("conntrack",)), 1, _original_destination),
    "--ctorigdstport": (frozenset(("conntrack",)), 1, _original_port),
    "--ctdir": (frozenset(("conntrack",)), 1, _direction),
    "--src-type": (frozenset(("addrtype",)), 1, _source_type),
    "--dst-type": (frozenset(("addrtype",)), 1, _destination_type),
    "--src-range": (frozenset(("iprange",)), 1, _source_range),
    "--dst-range": (frozenset(("iprange",)), 1, _destination_range),
    "--mark": (frozenset(("mark", "connmark")), 1, _packet_mark),
    "--match-set": (frozenset(("set",)), 2, _set),
    "--set": (frozenset(("set",)), 2, _set),
    "--comment": (frozenset(("comment",)), 1, _nothing),
}
# Options of the protocol's own match, which -p loads by itself: they may stand anywhere after -p.
_ANYWHERE = frozenset(
    (
        "--sport",
        "--source-port",
        "--dport",
        "--destination-port",
        "--syn",
        "--tcp-flags",
        "--icmp-type",
        "--icmpv6-type",
    )
)


def _socket(words: list[str]) -> Match:
    asked = {"--transparent": "transparent", "--nowildcard": "nowildcard"}
    text = " ".join(["-m", "socket", *words])
    if not asked.keys() >= set(words):  # --restore-skmark sets the mark to the socket's
        return Match("unknown", (), False, text)
    return Match("socket", tuple(asked[word] for word in words) or ("plain",), False, text)


_REWRITES: dict[str, tuple[str, TargetKind]] = {
    "DNAT": ("--to-destination", "dnat"),
    "REDIRECT": ("--to-ports", "redirect"),
    "NETMAP": ("--to", "netmap"),
}


def _argument(name: str, words: list[str]) -> Target:
    """Read the options of a target that has some."""
    said = " ".join(words)
    if name == "CT":
        if "[unsupported" in words:
            return Target("opaque", f"CT {said}")
        return _FINAL["NOTRACK"] if "--notrack" in words else HELPER if "--helper" in words else _LOGGED
    values = dict(zip(words[::2], words[1::2]))
    if name == "MARK" and len(words) == 2:
        try:
            return _mark_target(words[0], words[1])
        except ValueError:
            pass
    if name in ("MARK", "CONNMARK"):  # the mark that a CONNMARK sets or copies is not known
        return Target("opaque", f"{name} {said}")
    if name == "TPROXY":
        address, port = values.get("--on-ip", ""), values.get("--on-port", "")
        if not port or len(words) % 2 or not values.keys() <= {"--on-ip", "--on-port", "--tproxy-mark"}:
            return Target("tproxy", said)
        address = "" if address in ("0.0.0.0", "::") else f"[{address}]" if ":" in address else address  # then it is the interface's own
        value, bits = _mask(values.get("--tproxy-mark", "0/0"))
        return Target("tproxy", f"{address}{'' if port == '0' else f':{port}'} {value:#x}/{bits:#x}")
    option, kind = _REWRITES[name]
    given = [value for word, value in zip(words, words[1:]) if word == option]
    if len(given) == 1:
        return Target(kind, given[0])
    return Target(kind, "" if words in ([], ["--random"]) else said)


def _mark_target(option: str, text: str) -> Target:
    """libxt_MARK.c: the mark becomes (mark & ~mask) ^ value."""
    value, mask = _mask(text)
    if option == "--set-mark":
        mask |= value
    elif option == "--or-mark":
        mask = value
    elif option == "--and-mark":
        value, mask = 0, ~value & 0xFFFFFFFF
    elif option != "--set-xmark" or value & ~mask:
        raise ValueError(text)
    return Target("mark", f"{value:#x}/{mask:#x}")
