# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a relay's command line says of the port that it leads to."""

from __future__ import annotations

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.relays import leads_to
from hypothesis import given
from hypothesis import strategies as st

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
        ("nginx", "nginx: master process", "maybe"),
    ],
)
def test_leads_to(process, command, expected):
    assert leads_to(process, command, 5432, OWN) == expected


@given(command=st.text(max_size=300), process=st.sampled_from(["socat", "ssh", "docker-proxy", "nginx"]))
def test_any_command_line_has_an_answer(command, process):
    assert leads_to(process, command, 5432, OWN) in ("yes", "maybe", "no")
