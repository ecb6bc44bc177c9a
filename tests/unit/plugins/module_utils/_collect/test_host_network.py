# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._collect import host_network
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.host_network import bpf_count, collect_network
from ansible_collections.loopguard.loopback.plugins.module_utils._model.host import host_from_dict, host_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import rtnetlink

FIXTURES = Path(__file__).parents[1] / "fixtures" / "rtnetlink"
FILES = {
    rtnetlink.RTM_GETLINK: "links",
    rtnetlink.RTM_GETADDR: "addresses",
    rtnetlink.RTM_GETROUTE: "routes",
    rtnetlink.RTM_GETRULE: "routing-rules",
    rtnetlink.RTM_GETQDISC: "qdiscs",
}


def dump(protocol, kind, payload):
    assert protocol == 0
    return [bytes.fromhex(line) for line in (FIXTURES / f"6.18-debian12-{FILES[kind]}.hex").read_text().split()]


def read(path):
    assert path.startswith("/proc/sys/net/")
    if "bridge" in path:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")
    return "1\n" if path.endswith("ip_forward") else "0\n"


def nothing(attach_type, target):
    return 0


def test_everything():
    host = collect_network(read, dump, nothing)
    assert not host.gaps
    assert {entry.name: (entry.addresses[:1], entry.tc) for entry in host.interfaces} == {
        "lo": (("127.0.0.1/8",), False),
        "br0": (("192.0.2.1/24",), False),
        "v1": (("10.9.0.1/32",), True),
        "v0": ((host.interfaces[-1].addresses[:1]), False),
    }
    assert host.sysctls["net/ipv4/ip_forward"] == 1
    assert {f"net/ipv4/conf/{name}/route_localnet" for name in ("all", "default", "lo", "br0", "v0", "v1")} <= host.sysctls.keys()
    assert not [path for path in host.sysctls if "bridge" in path]
    assert host.sk_lookup == 0
    assert host_from_dict(json.loads(json.dumps(host_to_dict(host)))) == host


def test_programs():
    def count(attach_type, target):
        return 2 if attach_type == host_network._SK_LOOKUP else int(target == 2)

    host = collect_network(read, dump, count)
    assert host.sk_lookup == 2
    assert [entry.name for entry in host.interfaces if entry.tc] == ["br0", "v1"]


def test_programs_that_cannot_be_listed():
    def refused(attach_type, target):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    host = collect_network(read, dump, refused)
    assert host.sk_lookup is None
    assert [(gap.subject, gap.reason) for gap in host.gaps] == [("bpf", "denied")]


def test_an_architecture_whose_call_is_not_known(monkeypatch):
    monkeypatch.setattr(host_network.platform, "machine", lambda: "vax")
    host = collect_network(read, dump)
    assert [(gap.subject, gap.reason) for gap in host.gaps] == [("bpf", "unsupported")]
    with pytest.raises(OSError, match="vax"):
        bpf_count(host_network._SK_LOOKUP, 0)


def test_sysctls_that_cannot_be_read_are_null_and_named_once():
    def denied(path):
        if path.endswith("route_localnet"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return read(path)

    host = collect_network(denied, dump, nothing)
    assert host.sysctls["net/ipv4/conf/br0/route_localnet"] is None
    assert host.sysctls["net/ipv4/conf/br0/rp_filter"] == 0
    assert [(gap.subject, gap.reason) for gap in host.gaps] == [("/proc/sys/net/ipv4/conf/all/route_localnet", "denied")]
    assert "6 sysctls" in host.gaps[0].text


def test_no_sysctls_at_all():
    def missing(path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    host = collect_network(missing, dump, nothing)
    assert host.sysctls == {}
    assert [(gap.subject, gap.reason) for gap in host.gaps] == [("/proc/sys/net/ipv4/ip_forward", "absent")]


def test_netlink_that_is_refused_or_broken():
    def refused(protocol, kind, payload):
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    host = collect_network(read, refused, nothing)
    assert len(host.gaps) == len(FILES)
    assert host.interfaces == ()
    host = collect_network(read, lambda protocol, kind, payload: [b"\1\2\3"], nothing)
    assert [(gap.subject, gap.reason) for gap in host.gaps] == [("rtnetlink", "unparsable")]


def test_routes_are_left_out_on_request():
    asked = []

    def listening(protocol, kind, payload):
        asked.append(kind)
        return dump(protocol, kind, payload)

    assert collect_network(read, listening, nothing, routes=False).routes == ()
    assert rtnetlink.RTM_GETROUTE not in asked
