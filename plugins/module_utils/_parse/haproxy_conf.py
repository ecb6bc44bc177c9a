# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of haproxy: which `bind` leads to which server (docs.haproxy.org, configuration.txt)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .._model.relay import Leg
from .error import ParseError
from .relay_conf import MOST_LEGS, at, bounded, doubt, found, lines, of_error, places, split

if TYPE_CHECKING:
    from .relay_conf import Find, Line

_WORD = re.compile(r"""\s+ | \#.* | (?P<word>(?:\\.|"(?:\\.|[^"\\])*"|'[^']*'|[^\s"'\\\#])+)""", re.VERBOSE)
_QUOTED = re.compile(r"""\\(.)|"((?:\\.|[^"\\])*)"|'([^']*)'""")
_SECTIONS = frozenset(
    (
        "global", "defaults", "frontend", "backend", "listen", "userlist", "peers", "resolvers", "mailers", "program", "cache",
        "ring", "http-errors", "fcgi-app", "log-forward", "log-profile", "crt-store", "traces", "acme",
    )
)  # fmt: skip
_PREFIX = re.compile(r"(?:ipv[46]|tcp[46]?|udp[46]?|quic[46]|mptcp[46]?)@")
_UNIX = re.compile(r"(?:unix@|uxst@|uxdg@|abnsz?@)?(/.*)|(?:unix|uxst|uxdg|abnsz?)@(.*)")
_CODE = re.compile(r"lua-load|lua-load-per-thread|load-server-state-from-file|transparent|\..*")
_CODE_INSIDE = re.compile(r"set-dst|set-dst-port|use-service|lua\..*|transparent|http_proxy|do-resolve")


class _Proxy:
    """A frontend, a backend, or both in one (listen)."""

    def __init__(self, kind: str) -> None:
        self.front, self.back = kind in ("frontend", "listen", "log-forward"), kind in ("backend", "listen")
        self.binds: list[str] = []
        self.anywhere = False  # a bind that cannot be told
        self.servers: list[tuple[str, str, str]] = []  # target, place, doubt
        self.names: list[str] = []  # backends; "" is any
        self.standard = False  # has a default_backend


def words(line: Line, source: str, number: int) -> list[str]:
    """Return the words of a line. Raises ParseError for a quote without end."""
    result = []
    position = 0
    while position < len(line.text):
        token = _WORD.match(line.text, position)
        if token is None:
            raise ParseError(source, number, "a quote or a backslash without end", line.text)
        if token["word"]:
            result.append(_QUOTED.sub(lambda part: next((text for text in part.groups() if text is not None), ""), token["word"]))
        position = token.end()
    return result


def legs(files: list[str], find: Find) -> tuple[Leg, ...]:
    """Return the ways through a haproxy with these configuration files; `find` reads them."""
    ways: list[Leg] = []
    proxies: list[tuple[str, _Proxy]] = []
    defaults: list[str] = []
    for pattern in files:
        for path, text in found(find, pattern, "", ways):
            try:
                _file(path, text, proxies, defaults, ways)
            except ParseError as error:
                ways.append(of_error(error))
    backs: dict[str, list[_Proxy]] = {}
    for name, proxy in proxies:
        if proxy.back and proxy.servers:
            backs.setdefault(name, []).append(proxy)
    backs[""] = [back for same in backs.values() for back in same]
    usual = [back for chosen in dict.fromkeys(defaults) for back in backs.get(chosen, ())]
    for proxy in [proxy for _name, proxy in proxies]:
        if not proxy.front or not (proxy.binds or proxy.anywhere) or len(ways) > MOST_LEGS:
            continue
        listens = () if proxy.anywhere else places(proxy.binds)
        behind = [back for chosen in dict.fromkeys(proxy.names) for back in backs.get(chosen, ())]
        for back in dict.fromkeys([proxy, *behind, *([] if proxy.standard else usual)]):
            ways += [Leg(listens, target, place, text) for target, place, text in back.servers]
    return bounded(ways)


def _file(path: str, text: str, proxies: list[tuple[str, _Proxy]], defaults: list[str], ways: list[Leg]) -> None:
    section = ""
    proxy = _Proxy("")
    for line in lines(path, text, "#"):
        split_line = words(line, path, int(line.place.rpartition(":")[2]))
        name, arguments = split_line[0], split_line[1:]
        if name in _SECTIONS:
            section = name
            proxy = _Proxy(name)
            proxies.append((arguments[0] if arguments else "", proxy))
            if len(arguments) > 1 and arguments[1] != "from":  # the old spelling: listen NAME ADDRESS
                _bind(proxy, arguments[1])
            if name == "log-forward":
                proxy.servers.append(("", line.place, "log-forward hands messages on"))
        elif proxy.front or proxy.back:
            _directive(proxy, name, arguments, line)
        elif section == "defaults" and name == "default_backend":
            defaults += arguments[:1]
        elif _decides(name, arguments):
            ways.append(doubt(line.place, " ".join(split_line)))


def _directive(proxy: _Proxy, name: str, arguments: list[str], line: Line) -> None:
    if name in ("bind", "dgram-bind"):
        for address in arguments[0].split(",") if arguments else ():
            _bind(proxy, address)
    elif name in ("server", "server-template", "dispatch"):
        place = {"server": 1, "server-template": 2, "dispatch": 0}[name]
        if len(arguments) > place:
            proxy.servers.append(_server(arguments[place], line.place, "socks4" in arguments))
    elif name in ("default_backend", "use_backend") and arguments:
        proxy.names.append("" if "%[" in arguments[0] or "$" in arguments[0] else arguments[0])
        proxy.standard = proxy.standard or name == "default_backend"
    elif _decides(name, arguments):
        proxy.servers.append(("", line.place, f"{name} {' '.join(arguments)}"[:200]))


def _decides(name: str, arguments: list[str]) -> bool:
    """Say whether code, or the client, decides where to."""
    inside = arguments if name in ("http-request", "tcp-request", "option") else ()
    return bool(_CODE.fullmatch(name)) or any(_CODE_INSIDE.fullmatch(word.partition("(")[0]) for word in inside)


def _bind(proxy: _Proxy, address: str) -> None:
    path = _UNIX.fullmatch(address)
    address = _PREFIX.sub("", address)
    if "$" in address or ("@" in address and not path):
        proxy.anywhere = True
    else:
        proxy.binds.append(f"unix:{path[1] or path[2]}" if path else at(*split(address)))


def _server(address: str, place: str, over_another: bool) -> tuple[str, str, str]:
    path = _UNIX.fullmatch(address)
    plain = _PREFIX.sub("", address)
    if "$" in plain or over_another or ("@" in plain and not path):
        return "", place, f"server {address}"
    if path:
        return f"unix:{path[1] or path[2]}", place, ""
    host, port = split(plain)
    if host in ("", "*", "0.0.0.0", "::", "[::]"):  # the address that the client asked for
        return "", place, f"server {address}"
    return at(host, port if port.isdigit() and int(port) else ""), place, ""
