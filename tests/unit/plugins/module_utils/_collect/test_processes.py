# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a control group path and /proc say of a process."""

from __future__ import annotations

import os

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._collect import processes

ID = "4f2b0a1c" * 8


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("0::/system.slice/redis-server.service\n", "/system.slice/redis-server.service"),
        ("12:pids:/system.slice/x.service\n1:name=systemd:/system.slice/redis.service\n0::/\n", "/system.slice/redis.service"),
        ("1:name=systemd:/init.scope\n0::/system.slice/cron.service\n", "/system.slice/cron.service"),
        ("4:memory:/x\n", ""),
        ("", ""),
    ],
)
def test_cgroup_path(text, path):
    assert processes.cgroup_path(text) == path


@pytest.mark.parametrize(
    ("path", "unit", "container"),
    [
        ("/system.slice/redis-server.service", "redis-server.service", None),
        ("/system.slice/system-postgresql.slice/postgresql@15-main.service", "postgresql@15-main.service", None),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service", "foo.service", None),
        ("/user.slice/user-0.slice/session-1.scope", "session-1.scope", None),
        (f"/system.slice/docker-{ID}.scope", f"docker-{ID}.scope", {"engine": "docker", "id": ID}),
        (f"/docker/{ID}", None, {"engine": "docker", "id": ID}),
        (f"/machine.slice/libpod-{ID}.scope/container", f"libpod-{ID}.scope", {"engine": "podman", "id": ID}),
        (f"/machine.slice/libpod-{ID}.scope/system.slice/nginx.service", "nginx.service", {"engine": "podman", "id": ID}),
        (
            f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope",
            f"cri-containerd-{ID}.scope",
            {"engine": "kubernetes", "id": ID},
        ),
        ("/lxc.payload.web/system.slice/nginx.service", "nginx.service", {"engine": "lxc", "id": "web"}),
        ("/machine.slice/machine-build.scope", "machine-build.scope", {"engine": "systemd-nspawn", "id": "build"}),
        ("/system.slice/docker.service", "docker.service", None),
        ("/system.slice/lxc.service", "lxc.service", None),
        ("/", None, None),
    ],
)
def test_unit_and_container(path, unit, container):
    assert processes.unit_of(path) == unit
    assert processes.container_of(path) == container


def test_own_process():
    own = processes.describe(os.getpid(), processes.boot_time())
    assert own.pid == os.getpid()
    assert own.started
    assert own.command


def test_a_name_with_parentheses_and_an_ended_process(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (a) b (c) S " + " ".join(["0"] * 18 + ["500"]) + " 0\n")
    assert processes.describe(7, 1000.0, str(tmp_path)).name == "a) b (c"
    assert processes.describe(8, 1000.0, str(tmp_path)) is None


def test_processes_that_cannot_be_listed_are_counted(tmp_path):
    for pid in ("1", "2"):
        (tmp_path / pid / "fd").mkdir(parents=True)
    (tmp_path / "1" / "fd" / "3").symlink_to("socket:[77]")
    (tmp_path / "2" / "fd").rmdir()
    found = processes.owners({77, 78}, str(tmp_path))
    assert found == processes.Owners({77: [1]}, 0)
