# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rulesets of the real ufw, firewalld, fail2ban and netavark: Debian's own packages, run in namespaces and a root of their own."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from rulesets import TCP_PORTS

ROOT = Path(__file__).parents[2] / ".cache/managers"
SUITE = "trixie"
PACKAGES = "ufw,firewalld,fail2ban,netavark,aardvark-dns,iptables,nftables,iproute2,procps,dbus"
# A copy of the root that is thrown away, in which /proc and /sys show the namespaces that we are in.
_PRELUDE = """
set -eu
mount -t tmpfs tmpfs /mnt && mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
cd /mnt/root && mount -t proc proc proc && mount -t sysfs sysfs sys && mount --rbind /dev dev && mount -t tmpfs tmpfs run
mkdir -p run/netns run/dbus run/fail2ban
inside() { chroot . "$@"; }
until_it() { for _try in $(seq 100); do ! "$@" || return 0; sleep 0.1; done; return 1; }
ip link set lo up
for link in eth0 eth1 back0; do ip link add $link type veth peer name peer_$link; ip link set $link up; done
ip address add 10.77.1.1/24 dev eth0; ip address add 10.77.2.1/24 dev eth1
ip address add 2001:db8:77:1::1/64 dev eth0 nodad; ip address add 2001:db8:77:2::1/64 dev eth1 nodad
{
"""
_POSTLUDE = """
} >&2
inside iptables-nft-save; echo =; inside ip6tables-nft-save; echo =; inside nft -y list ruleset
"""


def root() -> Path:
    """Return the root file system of the managers; made when it is absent."""
    made = ROOT / SUITE
    ROOT.mkdir(parents=True, exist_ok=True)
    with open(ROOT / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            options = ["--quiet", "--variant=minbase", f"--include={PACKAGES}", "--aptopt=APT::Install-Recommends \"false\"",
                       "--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/doc/*"]  # fmt: skip
            shutil.rmtree(f"{made}.new", ignore_errors=True)
            subprocess.run(["mmdebstrap", *options, SUITE, f"{made}.new"], check=True)
            os.rename(f"{made}.new", made)
    return made


def ufw(pick: random.Random) -> str:
    lines = [f"inside ufw default {pick.choice(['deny', 'allow', 'reject'])} incoming"]
    for _number in range(pick.randrange(1, 5)):
        verb = pick.choice(["allow", "allow", "deny", "reject", "limit"])
        port = pick.choice(TCP_PORTS)
        lines.append(
            "inside ufw "
            + pick.choice([f"{verb} {port}", f"{verb} {port}/tcp", f"{verb} in on eth0 to any port {port}", f"{verb} {port}:{port + 5}/udp",
                           f"{verb} from 10.77.1.0/25 to any port {port} proto tcp", f"{verb} from 2001:db8:77:2::/64 to any port {port}",
                           f"{verb} log from 10.77.2.3", "route allow in on eth0 out on back0"])
        )  # fmt: skip
    return "\n".join([*lines, "inside ufw --force enable"])


def firewalld(pick: random.Random) -> str:
    zone = pick.choice(["public", "public", "work", "trusted", "block", "drop"])
    lines = [
        "inside dbus-daemon --session --address=unix:path=/run/dbus/system_bus_socket --fork",
        f"inside firewall-offline-cmd --set-default-zone={zone}" if zone != "public" else ":",
    ]
    for _number in range(pick.randrange(1, 5)):
        port = pick.choice(TCP_PORTS)
        rule = f"--add-rich-rule=rule family=ipv4 source address=10.77.{pick.choice('12')}.0/25"
        lines.append(
            f"inside firewall-offline-cmd --zone={pick.choice(['public', zone, 'internal'])} "
            + pick.choice([f"--add-port={port}/tcp", f"--add-port={port}/udp", f"'{rule} port port={port} protocol=tcp accept'",
                           f"'{rule} {pick.choice(['drop', 'reject'])}'", "--add-source-port=1024-65535/udp",
                           f"'--add-rich-rule=rule family=ipv6 port port={port} protocol=tcp reject'"])
            + " || true"
        )  # fmt: skip
    if pick.random() < 0.5:
        lines.append(f"inside firewall-offline-cmd --zone=internal {pick.choice(['--add-interface=eth1', '--add-source=10.77.2.0/24'])}")
    return "\n".join([*lines, "inside firewalld --nopid", "until_it inside firewall-cmd --state"])


def fail2ban(pick: random.Random) -> str:
    action = pick.choice(["iptables-multiport", "iptables-allports", "nftables-multiport", "nftables-allports"])
    port = pick.choice(TCP_PORTS)
    kinds = ["DROP", "REJECT --reject-with icmp-port-unreachable"] if "iptables" in action else ["drop", "reject"]
    blocktype = pick.choice(kinds)
    banned = pick.sample(["10.77.1.2", "10.77.2.130", "10.77.1.200", "2001:db8:77:1::3", "2001:db8:77:2::c8"], 3)
    return f"""
touch var/log/none.log
cat >etc/fail2ban/jail.local <<'END'
[DEFAULT]
backend = polling
allowipv6 = yes
[sshd]
enabled = false
[lab]
enabled = true
filter = sshd
logpath = /var/log/none.log
port = 22,{port}
action = {action}[name=lab, port="22,{port}", protocol=tcp, blocktype="{blocktype}"]
END
rm -f etc/fail2ban/jail.d/*
inside fail2ban-server -b >&2
until_it inside fail2ban-client ping
inside fail2ban-client set lab banip {" ".join(banned)}
holds() {{ inside nft list ruleset | grep -q $1; }}
{" && ".join(f"until_it holds {host}" for host in banned)}
"""


def netavark(pick: random.Random) -> str:
    """Publish ports of a container at 10.77.9.2 on the bridge back0, as podman asks for it."""
    ports = [
        {"container_port": inside, "host_port": outside, "host_ip": pick.choice(["", "", "10.77.1.1"]), "protocol": protocol, "range": 1}
        for protocol, outside, inside in pick.sample([("tcp", 8080, 80), ("tcp", 5432, 5432), ("udp", 8053, 53)], pick.randrange(1, 4))
    ]
    network = {
        "dns_enabled": False, "driver": "bridge", "id": "a" * 64, "internal": False, "ipv6_enabled": True, "name": "lab",
        "network_interface": "back0", "options": {}, "ipam_options": {"driver": "host-local"},
        "subnets": [{"gateway": "10.77.9.1", "subnet": "10.77.9.0/24"}, {"gateway": "2001:db8:77:9::1", "subnet": "2001:db8:77:9::/64"}],
    }  # fmt: skip
    asked = {
        "container_id": "b" * 64, "container_name": "pod", "port_mappings": ports, "network_info": {"lab": network},
        "networks": {"lab": {"static_ips": ["10.77.9.2", "2001:db8:77:9::2"], "interface_name": "eth0"}},
    }  # fmt: skip
    driver = pick.choice(["iptables", "nftables"])
    return f"""
ip link delete back0
inside ip netns add pod
inside env NETAVARK_FW={driver} /usr/lib/podman/netavark --config /tmp setup /run/netns/pod <<'END'
{json.dumps(asked)}
END
"""


MANAGERS = {"ufw": ufw, "firewalld": firewalld, "fail2ban": fail2ban, "netavark": netavark}


@functools.lru_cache(maxsize=8)
def captured(name: str, number: int) -> dict[tuple[str, str], list[str]]:
    """Run a manager with one of its configurations; return what it loads, as the generators write rulesets."""
    script = _PRELUDE + MANAGERS[name](random.Random(f"{name} {number}")) + _POSTLUDE
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script, "bash", str(root())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{name} {number}: {done.stderr}")
    v4, v6, native = done.stdout.split("=\n", 2)
    found = {("nft", family): saved for family, text in (("ip", v4), ("ip6", v6)) if (saved := _saved(text))}
    if kept := _native(native):
        found["native", "inet"] = kept
    if not found:
        raise RuntimeError(f"{name} {number} loaded nothing: {done.stderr}")
    return found


def _saved(text: str) -> list[str]:
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    return lines if any(line.startswith("-A") for line in lines) else []


def _native(text: str) -> list[str]:
    """Return the lines of all tables but those of iptables; elements of a set on one line."""
    tables = {"filter", "nat", "mangle", "raw", "security"}
    lines, skip, wide = [], False, ""
    for line in map(str.strip, text.split("\n")):
        if line.startswith("table "):
            _table, family, name, *_more = line.split()
            skip = family in ("ip", "ip6") and name in tables
            line = f"table {family} {name} {{"
        if skip or not line or line.startswith(("flags owner", "#")):
            continue
        wide = f"{wide} {line}".strip()
        if wide.startswith("elements") and not wide.endswith("}"):
            continue
        lines.append(wide)
        wide = ""
    return lines


if __name__ == "__main__":
    for (backend, family), lines in captured(sys.argv[1], int(sys.argv[2])).items():
        print("\n".join(f"{backend} {family}: {line}" for line in lines))
