# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configurations of relays: those that Debian ships, and those that the real programs accepted."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import (
    haproxy_conf,
    nginx_conf,
    rinetd_conf,
    stunnel_conf,
    systemctl_show,
    xinetd_conf,
)
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.error import ParseError
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.relay_conf import MOST_LEGS, split
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).parents[1] / "fixtures"


def files(**texts):
    """Find in a few files; a name with * is a pattern for all whose name begins so."""

    def find(pattern):
        if pattern.endswith("*"):
            return [(name, text) for name, text in texts.items() if name.startswith(pattern[:-1])]
        if pattern not in texts:
            raise OSError(errno.ENOENT, "No such file or directory")
        return [(pattern, texts[pattern])]

    return find


def nginx(text, **more):
    return nginx_conf.legs("main", files(main=text, **more))


def haproxy(*texts):
    return haproxy_conf.legs([f"f{number}" for number in range(len(texts))], files(**{f"f{n}": text for n, text in enumerate(texts)}))


OTHERS = {"stunnel": stunnel_conf.legs, "rinetd": rinetd_conf.legs, "xinetd": xinetd_conf.legs}


def told(legs):
    """Return listens, target (or ! and the doubt), and the line."""
    return [(*leg.listens, "->", leg.target or f"! {leg.doubt}", int(leg.place.rpartition(":")[2])) for leg in legs]


def fixture(name):
    return (FIXTURES / name).read_text()


def test_nginx_every_way():
    web = (":80", "[::]:80", "->")
    assert told(nginx(fixture("nginx/1.22.1-debian12-every-way.conf"))) == [
        (*web, "127.0.0.1:3000", 5),
        (*web, "unix:/run/app.sock", 5),
        (*web, "[::1]:3001", 5),
        (*web, "localhost:9000", 10),
        (*web, "10.0.0.9:443", 11),
        (*web, "! proxy_pass http://$arg_to:80/", 12),
        (*web, "unix:/run/php/php-fpm.sock", 13),
        (*web, "localhost:50051", 14),
        (*web, "localhost:11211", 15),
        (*web, "unix:/run/other.sock", 16),
        ("127.0.0.1:8080", "->", "127.0.0.1:8081", 18),
        ("localhost:80", "->", "localhost:9001", 19),
    ]


def test_nginx_as_debian_ships_it_leads_nowhere():
    find = {"/etc/nginx/sites-enabled/*": [("default", fixture("nginx/1.22.1-debian12-default-site.conf"))]}
    find["main"] = [("main", fixture("nginx/1.22.1-debian12-main.conf"))]
    find["/etc/nginx/mime.types"] = []
    assert nginx_conf.legs("main", lambda pattern: find.get(pattern, [])) == ()


@pytest.mark.parametrize(
    ("text", "doubt"),
    [
        ("http { server { location / { content_by_lua_file x.lua; } } }", "content_by_lua_file decides"),
        ("http { server { location / { js_content x; } } }", "js_content decides"),
        ("mail { auth_http localhost:9002/auth; server { listen 143; } }", "auth_http decides"),
        ("http { upstream u { server $x; } server { location / { proxy_pass http://U/; } } }", "server $x"),
        (
            "http { upstream u { server x service=_http._tcp resolve; } server { location / { proxy_pass http://u; } } }",
            "server x service=_http",
        ),
        ("http { include gone.conf; }", "gone.conf: No such file"),
        ("http { include main; }", "files that include one another"),
        ("http { server {", "the file ends inside"),
        ("http { } }", "unexpected }"),
        ('http { server { x "', "a quote or a backslash without end"),
        ("{" * 100, "unexpected {"),
        ("a{" * 100, "blocks in one another"),
    ],
)
def test_nginx_what_cannot_be_told(text, doubt):
    assert any(doubt in leg.doubt for leg in nginx(text)), nginx(text)


def test_nginx_a_file_that_is_included_stands_in_the_block():
    legs = nginx("stream { include conf*; }", conf1="upstream x { server 127.0.0.1:1; }", conf2="server { listen 2; proxy_pass x; }")
    assert [(leg.listens, leg.target, leg.place) for leg in legs] == [((":2",), "127.0.0.1:1", "conf1:1")]


def test_haproxy_every_way():
    plain = (":80", "127.0.0.1:81", "[::]:8000-8002", "->")
    chosen = [("db.example.com:5434", 27), ("127.0.0.1:", 28), ("127.0.0.1:", 29)]
    usual = [("127.0.0.1:5432", 24), ("[::1]:5433", 25)]
    sockets = [("unix:/run/a.sock", 31), ("unix:/run/b.sock", 32), ("unix:name", 33)]
    both = [("127.0.0.1:6000", 38), ("! server ${TARGET}:6001", 39), ("! server 0.0.0.0:6002", 40)]
    named = [*chosen, *usual, *sockets, ("127.0.0.1:5999", 35), *both]
    found = told(haproxy(fixture("haproxy/2.6.12-debian12-every-way.cfg")))
    assert sorted(found) == sorted(
        [(*plain, *way) for way in [*chosen, *usual]]
        + [("*:82", "->", *way) for way in named]
        + [("->", *way) for way in chosen]
        + [("unix:/run/haproxy-front.sock", "->", *way) for way in sockets]
        + [("10.0.0.5:84", "->", *way) for way in [*both, *usual]]
    )


def test_haproxy_as_debian_ships_it_leads_nowhere():
    assert haproxy(fixture("haproxy/2.6.12-debian12-main.cfg")) == ()


@pytest.mark.parametrize(
    "text",
    [
        "global\n lua-load x.lua",
        "frontend f\n bind :1\n http-request use-service lua.x",
        "listen f\n bind :1\n http-request set-dst hdr(dst)",
        "listen f\n bind :1\n tcp-request content set-dst-port int(5432)",
        "defaults\n option transparent",
        "listen f\n bind :1\n server x tcp4@${A}:1",
        "listen f\n bind :1\n server x 10.0.0.1:1 socks4 127.0.0.1:2",
        "log-forward x\n bind :1",
        "frontend f\n bind 'x",
        ".if true",
    ],
)
def test_haproxy_what_cannot_be_told(text):
    assert any(leg.doubt for leg in haproxy(text)), haproxy(text)


@pytest.mark.parametrize(
    ("program", "name", "expected"),
    [
        ("stunnel", "5.68-debian12-every-way.conf", [
            (":993", "->", "localhost:143", 6), ("127.0.0.1:5431", "->", "db.example:5432", 11), ("[::]:3307", "->", "unix:/run/mysqld/mysqld.sock", 14),
            ("[::]:3307", "->", "127.0.0.1:80", 15), (":1337", "->", "! exec = /bin/cat", 19), (":1080", "->", "! protocol = socks", 24)]),
        ("stunnel", "5.68-debian12-sample.conf", [
            ("127.0.0.1:110", "->", "pop.gmail.com:995", 65), ("127.0.0.1:143", "->", "imap.gmail.com:993", 74),
            ("127.0.0.1:25", "->", "smtp.gmail.com:465", 83)]),
        ("rinetd", "0.73-debian12-every-way.conf", [
            ("0.0.0.0:80", "->", "127.0.0.1:3000", 3), ("[::1]:8080", "->", "[::1]:3000", 5), ("127.0.0.1:4000", "->", "127.0.0.1:domain", 6)]),
        ("xinetd", "2.3.15.3-debian12-every-way.conf", [
            ("0.0.0.0:15432", "->", "127.0.0.1:5432", 14), (":15434", "->", "! starts /usr/bin/socat - TCP:127.0.0.1:5434", 33)]),
    ],
)  # fmt: skip
def test_the_others(program, name, expected):
    assert told(OTHERS[program]("main", files(main=fixture(f"{program}/{name}")))) == expected


def test_a_byte_order_mark_is_no_option():  # the sample of stunnel begins with one
    assert stunnel_conf.legs("main", files(main="\ufeffconnect = 2\n")) == stunnel_conf.legs("main", files(main="connect = 2\n"))


def test_folders_that_are_included():
    find = files(main="include = dir", **{"dir/a": "[x]\naccept = 1\nconnect = 2"})
    assert told(stunnel_conf.legs("main", find)) == [(":1", "->", "localhost:2", 3)]
    redirect = "service x\n{\n port = 1\n redirect = localhost 2\n}"
    find = files(main="includedir dir\ninclude dir/a.conf", **{"dir/a.conf": redirect, "dir/b~": redirect})
    assert [leg.place for leg in xinetd_conf.legs("main", find)] == ["dir/a.conf:4"], "a folder leaves names with a dot out"


@pytest.mark.parametrize("version", ["247-debian11", "252-debian12"])
def test_sockets_of_systemd(version):
    sockets = systemctl_show.properties(fixture(f"systemctl/{version}-sockets.txt"), "x")
    places = {systemctl_show.first(unit, "Id"): systemctl_show.listens(unit) for unit in sockets}
    assert {name: listens for name, listens in places.items() if listens} == {
        "relay.socket": ("0.0.0.0:15432", "[::1]:15432"), "each.socket": ("[::]:15433",), "own.socket": ("[::]:15434",),
    }  # fmt: skip
    services = systemctl_show.properties(fixture(f"systemctl/{version}-services.txt"), "x")
    ways = {systemctl_show.first(unit, "Id"): systemctl_show.started(unit, "x", (":1",)) for unit in services}
    assert [leg.target for leg in ways["relay.service"]] == ["127.0.0.1:5432"]
    assert [leg.doubt for leg in ways["each@0.service"]] == ["starts /bin/socat - TCP:127.0.0.1:5432"]
    assert ways["own.service"] == []


def test_what_systemctl_does_not_say_is_a_doubt():
    assert systemctl_show.started({"Id": ["x"]}, "x", ())[0].doubt
    with pytest.raises(ParseError, match="y:2: not a property"):
        systemctl_show.properties("Id=x\nnonsense", "y")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", ("", "80")),
        ("::1:80", ("::1", "80")),
        ("[::1]", ("[::1]", "")),
        ("[::1]:80", ("[::1]", "80")),
        ("db", ("db", "")),
        (":80", ("", "80")),
    ],
)
def test_split(text, expected):
    assert split(text) == expected


def test_more_ways_than_anybody_follows_end_in_a_doubt():
    servers = "".join(f"server 10.0.0.1:{number};" for number in range(200))
    passes = "location / { proxy_pass http://u; }" * 200
    legs = nginx(f"http {{ upstream u {{ {servers} }} server {{ {passes} }} }}")
    assert len(legs) <= MOST_LEGS + 1
    assert legs[-1].doubt == f"more than {MOST_LEGS} ways"


_PIECES = st.lists(
    st.sampled_from(
        ["http", "stream", "upstream", "u", "server", "listen", "80", "{", "}", ";", "\n", " ", '"', "'", "\\", "#", "$x", "proxy_pass", "http://u/",
         "unix:/x", "frontend", "backend", "bind", ":80", "::", "[", "]", "default_backend", "include", "main", "=", "accept", "connect", "service",
         "redirect", "%[", "${", "x" * 300, "\0", "\u2028"]
    ) | st.text(max_size=8)
).map("".join)  # fmt: skip


@given(text=_PIECES)
def test_any_text_gives_ways_or_doubts(text):
    for legs in (nginx(text), haproxy(text), *(legs("main", files(main=text)) for legs in OTHERS.values())):
        for leg in legs:
            assert leg.target or leg.doubt
            assert leg.place


@given(text=_PIECES)
def test_any_text_of_nginx_has_directives_or_an_error_with_its_line(text):
    try:
        nginx_conf.parse(text, "x")
    except ParseError as error:
        assert 1 <= error.line <= text.count("\n") + 1
