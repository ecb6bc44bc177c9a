# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of nginx: which `listen` leads to which upstream (ngx_conf_file.c, nginx.org/en/docs)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from .._model.relay import Leg
from .error import ParseError
from .relay_conf import MOST_LEGS, at, bounded, doubt, found, of_error, places, split

if TYPE_CHECKING:
    from .relay_conf import Find

_DEEPEST = 32  # blocks in blocks, and files that include files
_TOKEN = re.compile(
    r"""[ \t\r\n]+ | \#[^\n]* | (?P<mark>[;{}])
    | "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>(?:[^'\\]|\\.)*)'
    | (?P<word>(?:\\.|[^\s;{}"'\#\\])(?:\\.|(?<=\$)\{|[^\s;{\\])*)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED = re.compile(r"\\([\"'\\ ])")
_URL = re.compile(r"(?:(https?|grpcs?)://)?([^/?]*)", re.IGNORECASE)
# Code, or a server that is asked, decides where to.
_CODE = re.compile(r".*_by_lua(_block|_file)?|js_(content|access|preread|filter|set)|perl|perl_set|auth_http|proxy_connect|state")


class Directive(NamedTuple):
    """words: its name and arguments. block: what stands in its braces, None without them."""

    words: tuple[str, ...]
    place: str
    block: list[Directive] | None


def parse(text: str, source: str) -> list[Directive]:
    """Return the directives of one file. Raises ParseError that names the line."""
    stack: list[list[Directive]] = [[]]
    words: list[str] = []
    line = begun = 1
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise ParseError(source, line, "a quote or a backslash without end", text[position : position + 60])
        kind = token.lastgroup
        if kind == "mark":
            mark = token["mark"]
            if mark == "}":
                if words or len(stack) == 1:
                    raise ParseError(source, line, "unexpected }")
                stack.pop()
            elif not words:
                raise ParseError(source, line, f"unexpected {mark}")
            else:
                block: list[Directive] | None = [] if mark == "{" else None
                stack[-1].append(Directive(tuple(words), f"{source}:{begun}", block))
                words = []
                if block is not None:
                    stack.append(block)
                    if len(stack) > _DEEPEST:
                        raise ParseError(source, line, f"more than {_DEEPEST} blocks in one another")
        elif kind:
            if not words:
                begun = line
            words.append(_ESCAPED.sub(r"\1", token[kind]))
        line += token[0].count("\n")
        position = token.end()
    if words or len(stack) > 1:
        raise ParseError(source, line, "the file ends inside a directive")
    return stack[0]


def legs(main: str, find: Find) -> tuple[Leg, ...]:
    """Return the ways through an nginx whose main file is `main`; `find` reads files."""
    ways: list[Leg] = []
    top = _included(found(find, main, "", ways), find, ways, 0)
    for directive in top:
        if directive.block is not None:
            _kind(directive, ways)
    return bounded(ways)


def _included(files: list[tuple[str, str]], find: Find, ways: list[Leg], depth: int) -> list[Directive]:
    """Parse files, with what they include in its place."""
    directives: list[Directive] = []
    for path, text in files:
        try:
            directives += _expanded(parse(text, path), find, ways, depth)
        except ParseError as error:
            ways.append(of_error(error))
    return directives


def _expanded(directives: list[Directive], find: Find, ways: list[Leg], depth: int) -> list[Directive]:
    whole: list[Directive] = []
    for directive in directives:
        if directive.words[0] == "include" and len(directive.words) == 2:
            if depth >= _DEEPEST:
                ways.append(doubt(directive.place, "files that include one another"))
            else:
                whole += _included(found(find, directive.words[1], directive.place, ways), find, ways, depth + 1)
        elif directive.block is None:
            whole.append(directive)
        else:
            whole.append(directive._replace(block=_expanded(directive.block, find, ways, depth)))
    return whole


def _kind(top: Directive, ways: list[Leg]) -> None:
    """Read one of http, stream, mail; any other block holds no server."""
    upstreams: dict[str, list[Directive]] = {}
    for directive in top.block or ():
        if directive.words[0] == "upstream" and len(directive.words) > 1:
            upstreams.setdefault(directive.words[1].lower(), []).extend(directive.block or ())
    _walk(top.block or [], (), upstreams, ways)


def _walk(directives: list[Directive], listens: tuple[str, ...], upstreams: dict[str, list[Directive]], ways: list[Leg]) -> None:
    for directive in directives:
        name, words, place = directive.words[0], directive.words, directive.place
        if len(ways) > MOST_LEGS:
            return
        if name == "upstream":
            continue
        if _CODE.fullmatch(name):
            ways.append(doubt(place, f"{name} decides", listens))
        elif (name.endswith("_pass") or name == "pass") and len(words) > 1:
            ways += _passed(name, words[1], place, listens, upstreams)
        if directive.block is not None:
            inside = _listens(directive.block) if name == "server" else listens
            _walk(directive.block, inside, upstreams, ways)


def _listens(block: list[Directive]) -> tuple[str, ...]:
    words = [directive.words[1] for directive in block if directive.words[0] == "listen" and len(directive.words) > 1]
    return places([word if word.startswith("unix:") else _address(word, "80", "") for word in words])


def _passed(name: str, value: str, place: str, listens: tuple[str, ...], upstreams: dict[str, list[Directive]]) -> list[Leg]:
    url = _URL.match(value)
    scheme, where = (url[1] or "", url[2]) if url else ("", value)
    if where.startswith("unix:"):
        where = value[value.index("unix:") :]
    if "$" in where:
        return [doubt(place, f"{name} {value}", listens)]
    if where.startswith("unix:"):
        return [Leg(listens, _socket(where), place)]
    standard = {"https": "443", "grpcs": "443"}.get(scheme.lower(), "80")
    members = upstreams.get(where.lower())
    if members is None:
        return [Leg(listens, _address(where, standard), place)]
    ways = []
    for member in members:
        if member.words[0] == "server" and len(member.words) > 1:
            target = member.words[1]
            if "$" in target or any(word.startswith("service=") for word in member.words):
                ways.append(doubt(member.place, " ".join(member.words), listens))
            else:
                ways.append(Leg(listens, _socket(target) if target.startswith("unix:") else _address(target, "80"), member.place))
        elif _CODE.fullmatch(member.words[0]):
            ways.append(doubt(member.place, f"{member.words[0]} decides", listens))
    return ways


def _address(text: str, port: str, host: str = "localhost") -> str:
    """Return host:port, with these where the text has none."""
    given = split(text)
    return at(given[0] or host, given[1] or port)


def _socket(text: str) -> str:
    """Cut the URI off: unix:/path:/uri."""
    return "unix:" + text[5:].partition(":")[0]
