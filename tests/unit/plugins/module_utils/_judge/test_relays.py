# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a relay's command line says of the port that it leads to."""

from __future__ import annotations

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.candidates import Candidate
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.relays import Goal, leading, leads_to
from ansible_collections.loopguard.loopback.plugins.module_utils._model.listener import Listener
from ansible_collections.loopguard.loopback.plugins.module_utils._model.relay import Connection, Leg
from hypothesis import given
from hypothesis import strategies as st

GOAL = Goal("tcp", 5432, frozenset([5]))
OWN = frozenset(["10.0.0.5", "127.0.0.1", "::1"])


@pytest.mark.parametrize(
    ("process", "command", "expected"),
    [
        ("socat", "socat TCP-LISTEN:15432,fork TCP:127.0.0.1:5432", "yes"),
        ("socat", "socat TCP6-LISTEN:15432,fork tcp6:[::1]:5432", "yes"),
        ("socat", "socat TCP-LISTEN:15432,fork TCP4:10.0.0.5:5432", "yes"),
        ("socat", "socat TCP-LISTEN:5432,fork TCP4:10.0.0.9:5432", "no"),
        ("socat", "socat TCP-LISTEN:15432,fork TCP4:db.example:5432", "maybe"),
        ("socat", "socat TCP-LISTEN:15432,fork TCP4:127.0.0.1:012470", "maybe"),
        ("socat", "socat TCP6-LISTEN:15432,fork TCP6:[0:0:0:0:0:0:0:1]:5432", "yes"),
        ("socat", "socat UDP-LISTEN:15432,fork UDP:127.0.0.1:5432", "yes"),
        ("socat", "socat TCP-LISTEN:15432,fork TCP4:127.0.0.1:80", "no"),
        ("socat", "socat TCP-LISTEN:15432,fork TCP4:db:postgresql", "maybe"),
        ("socat", "socat TCP-LISTEN:15432,fork UNIX-CONNECT:/run/postgresql/.s.PGSQL.5432", "yes"),
        ("socat", "socat TCP-LISTEN:15432,fork EXEC:/bin/cat", "maybe"),
        ("ssh", "ssh -N -R 15432:localhost:5432 far", "yes"),
        ("ssh", "ssh -N -R*:15432:127.0.0.1:5432 far", "yes"),
        ("ssh", "ssh -N -R 15432:localhost:80 far", "no"),
        ("ssh", "ssh -N -R 1080 far", "yes"),
        ("ssh", "ssh -L 15432:localhost:5432 far", "no"),
        ("ssh", "ssh -fNR 15432:localhost:5432 far", "yes"),
        ("ssh", "ssh -NTR15432:localhost:5432 far", "yes"),
        ("ssh", "ssh -NR 15432:10.0.0.9:5432 far", "no"),
        ("ssh", "ssh -NR 15432:127.1:5432 far", "maybe"),
        ("ssh", "ssh -NR 15432:localhost:postgresql far", "maybe"),
        ("ssh", "ssh -NR 15432:/run/postgresql/.s.PGSQL.5432 far", "yes"),
        ("ssh", "ssh -NR 8080:/run/x.sock far", "maybe"),
        ("ssh", "ssh -o RemoteForward=15432 localhost:5432 far", "yes"),
        ("ssh", "ssh -oRemoteForward=15432 db:5432 far", "maybe"),
        ("ssh", "ssh -N far", "maybe"),
        ("ssh", "ssh: /run/ssh/control [mux]", "maybe"),
        ("ssh", "ssh far uptime", "no"),
        ("ssh", "ssh -N -L 15432:localhost:5432 far", "no"),
        ("systemd-socket-", "/lib/systemd/systemd-socket-proxyd --exit-idle-time=30s localhost:5432", "yes"),
        ("systemd-socket-", "/lib/systemd/systemd-socket-proxyd 10.0.0.9:5432", "no"),
        (
            "docker-proxy",
            "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 80 -container-ip 172.17.0.2 -container-port 5432",
            "no",
        ),
        (
            "docker-proxy",
            "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 80 -container-ip 127.0.0.1 -container-port 5432",
            "yes",
        ),
        ("systemd-socket-", "/lib/systemd/systemd-socket-proxyd 127.0.0.1:5432", "yes"),
        ("systemd-socket-", "/lib/systemd/systemd-socket-proxyd 127.0.0.1:54321", "no"),
        ("kubectl", "kubectl port-forward svc/db 5432:5432", "no"),
        ("cloudflared", "cloudflared tunnel --url tcp://localhost:5432", "yes"),
        ("cloudflared", "cloudflared tunnel run", "maybe"),
        ("tailscaled", "tailscaled --tun=userspace-networking", "yes"),
        ("tailscaled", "tailscaled --state=/var/lib/tailscale/tailscaled.state", "maybe"),
        ("nginx", "nginx: master process", "maybe"),
    ],
)
def test_leads_to(process, command, expected):
    assert leads_to(process, command, 5432, OWN) == expected


@given(command=st.text(max_size=300), process=st.sampled_from(["socat", "ssh", "docker-proxy", "nginx"]))
def test_any_command_line_has_an_answer(command, process):
    assert leads_to(process, command, 5432, OWN) in ("yes", "maybe", "no")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("ssh -g -L 15432:localhost:80 far", "no"),
        ("ssh -g -L 15432:localhost:5432 far", "maybe"),
        ("ssh -gL*:15432:db:5432 far", "maybe"),
        ("ssh -g -L 15432:localhost:80 -D 1080 far", "maybe"),
        ("ssh -o LocalForward=15432 localhost:80 far", "maybe"),
        ("ssh far", "maybe"),
    ],
)
def test_a_socket_of_ssh_leads_to_the_other_end(command, expected):
    assert leads_to("ssh", command, 5432, OWN, listening=True) == expected


def candidate(*legs, port=80, address="0.0.0.0", inode=1, pids=(8,), process="nginx", listed=True, command="nginx"):
    scope = {"0.0.0.0": "wildcard", "127.0.0.1": "loopback"}.get(address, "private")
    row = Listener(
        "tcp", "ipv4", address, port, False, None, scope, 0, "root", inode, pids, process, command, None, None, None, "1",
        None, False, None, "LISTEN", "", 0, (),
    )  # fmt: skip
    return Candidate(process, command, pids[0], row, legs if process == "nginx" else None, listed)


def lead(*candidates, connections=(), goal=GOAL):
    return [(found.row.port, lead.leads, lead.shown, lead.detail) for found, lead in leading(candidates, goal, connections, OWN)]


@pytest.mark.parametrize(
    ("legs", "expected"),
    [
        ([], None),
        ([Leg((":80",), "127.0.0.1:5432", "a:1")], "yes"),
        ([Leg((":80",), "localhost:5432", "a:1")], "yes"),
        ([Leg((":80",), "10.0.0.5:5432", "a:1")], "yes"),
        ([Leg((":80",), "10.0.0.9:5432", "a:1")], None),
        ([Leg((":80",), "[::1]:5432", "a:1")], "yes"),
        ([Leg((":80",), "db:5432", "a:1")], "maybe"),
        ([Leg((":80",), "db:80", "a:1")], None),
        ([Leg((":80",), "127.0.0.1:", "a:1")], "maybe"),
        ([Leg((":80",), "10.0.0.9:", "a:1")], None),
        ([Leg((":80",), "127.0.0.1:postgresql", "a:1")], "maybe"),
        ([Leg((":81",), "127.0.0.1:5432", "a:1")], None),
        ([Leg((":70-90",), "127.0.0.1:5432", "a:1")], "yes"),
        ([Leg((), "127.0.0.1:5432", "a:1")], "yes"),
        ([Leg(("*:http",), "127.0.0.1:5432", "a:1")], "yes"),
        ([Leg(("unix:/x",), "127.0.0.1:5432", "a:1")], "yes"),
        ([Leg((":81",), "", "a:1", "who knows")], None),
        ([Leg((":80",), "", "a:1", "who knows")], "maybe"),
        ([Leg((":80",), "", "a:1", "who knows"), Leg((":80",), "127.0.0.1:5432", "a:1")], "yes"),
        ([Leg((":80",), "unix:/run/x", "a:1")], "maybe"),
        ([Leg((":80",), "unix:/run/x", "a:1", holders=(5, 6))], "yes"),
        ([Leg((":80",), "unix:/run/x", "a:1", holders=(7,))], None),
        ([Leg((":80",), "unix:/run/postgresql/.s.PGSQL.5432", "a:1")], "yes"),
    ],
)
def test_a_configuration(legs, expected):
    detail = "a:1 (who knows)" if all(leg.doubt for leg in legs) else "a:1"
    assert lead(candidate(*legs)) == ([(80, expected, "configuration", detail)] if expected else [])


def test_a_configuration_tells_addresses_apart():
    leg = Leg(("10.0.0.5:80",), "127.0.0.1:5432", "a:1")
    assert lead(candidate(leg, address="127.0.0.1")) == []
    assert lead(candidate(leg, address="10.0.0.5")) != []
    assert lead(candidate(leg)) != []


def test_relays_over_relays():
    first = candidate(Leg((":80",), "127.0.0.1:81", "a:1"))
    second = candidate(Leg((":81",), "127.0.0.1:5432", "b:1"), port=81, address="127.0.0.1", pids=(9,))
    assert sorted(lead(first, second)) == [(80, "yes", "configuration", "a:1"), (81, "yes", "configuration", "b:1")]
    doubtful = candidate(Leg((":81",), "db:5432", "b:1"), port=81, address="127.0.0.1", pids=(9,))
    assert [leads for _port, leads, *_rest in lead(first, doubtful)] == ["maybe", "maybe"]


def connection(peer="127.0.0.1", peer_port=5432, through=(1,), protocol="tcp"):
    return Connection(protocol, "127.0.0.1", 40112, peer, peer_port, (8,), through)


@pytest.mark.parametrize(
    ("made", "leads"),
    [
        (connection(), True),
        (connection("10.0.0.5"), True),
        (connection("10.0.0.9"), False),
        (connection(peer_port=5433), False),
        (connection(through=(2,)), False),
        (connection(protocol="udp"), False),
    ],
)
@pytest.mark.parametrize(
    ("process", "listed", "sure"), [("nginx", True, "yes"), ("sshd", False, "yes"), ("sshd-session", False, "yes"), ("app", False, "maybe")]
)
def test_an_open_connection_shows_that_a_program_leads_in(made, leads, process, listed, sure):
    found = lead(candidate(process=process, listed=listed), connections=[made])
    shown = [entry[:3] for entry in found if entry[2] == "connection"]
    assert shown == ([(80, sure, "connection")] if leads else [])
    assert all("127.0.0.1:40112 → " in entry[3] for entry in found if entry[2] == "connection")


def test_an_open_connection_is_stronger_than_a_configuration_without_it():
    assert lead(candidate(), connections=[connection()])[0][2] == "connection"


@pytest.mark.parametrize(("command", "leads"), [("ssh -R 1:localhost:99 far", False), ("cloudflared tunnel run", True)])
def test_a_connection_of_one_that_dials_out(command, leads):
    process = command.split()[0]
    agent = Candidate(process, command, 8, None, None, True)
    found = [lead.shown for _agent, lead in leading([agent], GOAL, [connection()], OWN)]
    assert found == (["connection"] if leads else [])
