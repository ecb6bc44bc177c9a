# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rulesets that mislead whoever reads them: each is loaded, neighbours try to get in, and the judge must agree with the kernel.

Who gets in is asserted first. Then: who got in must be among the sources of a path, and the verdict is the one of the table.
Each trap has network namespaces of its own: the server (eth0, eth1, eth2), the neighbours `near` and `far`, and `back`,
which the server can forward to.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.command import Output
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.evidence import gather
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.listeners import collect
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.netlink import dump
from ansible_collections.loopguard.loopback.plugins.module_utils._judge.exposure import judge
from ansible_collections.loopguard.loopback.plugins.module_utils._model.network import network_range
from ansible_collections.loopguard.loopback.plugins.module_utils._model.service import Service
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import iptables_save

SECONDS = 0.4
CLONE_NEWNET = 0x40000000
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75
NEIGHBOURS = {"near": 1, "far": 2, "back": 9}
# Where a neighbour knocks: on the server's address on its own link, near also on the one of the other link.
NEAR4, NEAR6 = "near 10.77.1.1", "near 2001:db8:77:1::1"
FAR4, FAR6 = "far 10.77.2.1", "far 2001:db8:77:2::1"
ACROSS4, ACROSS6 = "near 10.77.2.1", "near 2001:db8:77:2::1"
NEAR, FAR = (NEAR4, NEAR6), (FAR4, FAR6)
STRANGE4, STRANGE6 = "near 203.0.113.9", "near 2001:db8:9::9"  # of no machine here
WIDE, LOOPBACK, TRANSPARENT = "::@6379", "127.0.0.1@6379", "127.0.0.1@6379 transparent"
BEHIND = "back 10.77.9.2@80"  # a container of its own, which port 8080 of the server is published for
PRELUDE = """
nft4=iptables-nft; nft6=ip6tables-nft; old4=iptables-legacy; old6=ip6tables-legacy
ipt() { $nft4 "$@"; $nft6 "$@"; }
legacy() { $old4 "$@"; $old6 "$@"; }
forwarding() { sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1; }
published() { forwarding; $nft4 -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 10.77.9.2:80; }
diverted() {
    for each in -4 -6; do ip $each rule add fwmark 1 lookup 100; ip $each route add local default dev lo table 100; done
}
tproxy() { $nft4 -t mangle -A PREROUTING -p tcp "$@" -j TPROXY --on-ip 127.0.0.1 --on-port 6379 --tproxy-mark 1; }
# Of the redirect alone: who knocks on the port itself is gone before nat.
redirected() { $nft4 -t raw -A PREROUTING -p tcp --dport 6379 -j DROP; $nft4 -t nat -A PREROUTING -p tcp --dport 16379 -j REDIRECT --to-ports 6379; }
"""


class Trap(NamedTuple):
    """rules: commands for bash. opened, shut: who gets in and who does not, as `neighbour address [port]`.

    verdict: of the service that is declared on `port`. listeners: [neighbour] address@port [transparent] [reused] [silent]. saved: a dump in place of what
    the server's tools print; `rules` then loads what it means.
    """

    name: str
    rules: str
    opened: tuple[str, ...]
    shut: tuple[str, ...]
    verdict: str
    port: int = 6379
    listeners: tuple[str, ...] = (WIDE,)
    saved: str = ""


TRAPS = (
    # 1: two backends, every one of which must accept
    Trap("T1 nft accepts and legacy drops", "ipt -A INPUT -p tcp --dport 6379 -j ACCEPT; legacy -A INPUT -p tcp --dport 6379 -j DROP",
         (), (*NEAR, *FAR), "sealed"),
    Trap("T2 legacy accepts and nft drops", "legacy -A INPUT -p tcp --dport 6379 -j ACCEPT; ipt -A INPUT -p tcp --dport 6379 -j DROP",
         (), NEAR, "sealed"),
    Trap("T2 both let it through their policy DROP",
         "ipt -P INPUT DROP; legacy -P INPUT DROP; ipt -A INPUT -p tcp --dport 6379 -j ACCEPT; legacy -A INPUT -p tcp --dport 6379 -j ACCEPT",
         NEAR, (), "exposed"),
    Trap("T2 one of two policies DROP has no accept", "ipt -P INPUT DROP; legacy -P INPUT DROP; legacy -A INPUT -p tcp --dport 6379 -j ACCEPT",
         (), NEAR, "sealed"),
    # 2: several tables and priorities
    Trap("T3 accept ends one nft table only",
         """nft -f - <<< 'table inet a { chain c { type filter hook input priority -10; tcp dport 6379 accept; }; }
            table inet b { chain c { type filter hook input priority 10; tcp dport 6379 drop; }; }'""",
         (), NEAR, "sealed"),
    Trap("T3 a policy DROP of a table that no rule of which is about the port",
         """nft -f - <<< 'table inet a { chain c { type filter hook input priority 0; tcp dport 6379 accept; }; }
            table inet b { chain c { type filter hook input priority -1; policy drop; tcp dport 22 accept; }; }'""",
         (), NEAR, "sealed"),
    Trap("T3 every table accepts",
         """nft -f - <<< 'table inet a { chain c { type filter hook input priority -1; policy drop; tcp dport 6379 accept; }; }
            table inet b { chain c { type filter hook input priority 0; policy drop; tcp dport 6379 accept; }; }'""",
         NEAR, (), "exposed"),
    # 3: goto
    Trap("T5 goto in a base chain ends at the policy DROP", "ipt -P INPUT DROP; ipt -N c; ipt -A INPUT -g c; ipt -A INPUT -j ACCEPT",
         (), NEAR, "sealed"),
    Trap("T5 goto in a base chain ends at the policy ACCEPT", "legacy -N c; legacy -A INPUT -g c; legacy -A INPUT -j DROP",
         NEAR, (), "exposed"),
    Trap("T5 goto of nftables in a base chain",
         "nft -f - <<< 'table inet t { chain c { }; chain in { type filter hook input priority 0; goto c; drop; }; }'",
         NEAR, (), "exposed"),
    Trap("T6 goto below a jump returns to the caller's caller",
         "ipt -P INPUT DROP; ipt -N a; ipt -N b; ipt -A INPUT -j a; ipt -A INPUT -j ACCEPT; ipt -A a -g b; ipt -A a -j DROP",
         NEAR, (), "exposed"),
    Trap("T6 goto below a jump skips the accept behind it",
         "legacy -N a; legacy -N b; legacy -A INPUT -j a; legacy -A INPUT -j DROP; legacy -A a -g b; legacy -A a -j ACCEPT",
         (), NEAR, "sealed"),
    # 4: RETURN
    Trap("T7 RETURN in a base chain is the policy ACCEPT", "ipt -A INPUT -p tcp --dport 6379 -j RETURN; ipt -A INPUT -j DROP",
         NEAR, (), "exposed"),
    Trap("T7 RETURN in a base chain is the policy DROP",
         "legacy -P INPUT DROP; legacy -A INPUT -p tcp --dport 6379 -j RETURN; legacy -A INPUT -j ACCEPT",
         (), NEAR, "sealed"),
    # 5: REDIRECT
    Trap("T8 INPUT does not see the port before a redirect", "redirected; $nft4 -A INPUT -p tcp --dport 16379 -j DROP",
         (f"{NEAR4} 16379",), (NEAR4,), "exposed", listeners=("0.0.0.0@6379",)),
    Trap("T8 the outside port of a redirect", "redirected; $nft4 -A INPUT -p tcp --dport 16379 -j DROP",
         (NEAR4,), (f"{NEAR4} 6379",), "exposed", port=16379, listeners=("0.0.0.0@6379",)),
    Trap("T8 INPUT sees the port after a redirect", "redirected; $nft4 -A INPUT -p tcp --dport 6379 -j DROP",
         (), (NEAR4, f"{NEAR4} 16379"), "sealed", listeners=("0.0.0.0@6379",)),
    Trap("T8 redirect of nftables, both families",
         """nft -f - <<< 'table inet t { chain pre { type nat hook prerouting priority -100; tcp dport 16379 redirect to :6379; };
            chain raw { type filter hook prerouting priority -300; tcp dport 6379 drop; };
            chain in { type filter hook input priority 0; tcp dport 16379 drop; }; }'""",
         (f"{NEAR4} 16379", f"{NEAR6} 16379"), NEAR, "exposed"),
    # 6: loopback
    Trap("T9 DNAT to 127.0.0.1 is dead without route_localnet",
         "$nft4 -t nat -A PREROUTING -p tcp --dport 16379 -j DNAT --to-destination 127.0.0.1:6379",
         (), (NEAR4, f"{NEAR4} 16379"), "sealed", listeners=(LOOPBACK,)),
    Trap("T10 DNAT to 127.0.0.1 with route_localnet",
         "sysctl -qw net.ipv4.conf.eth0.route_localnet=1; $nft4 -t nat -A PREROUTING -p tcp --dport 16379 -j DNAT --to-destination 127.0.0.1:6379",
         (f"{NEAR4} 16379",), (NEAR4, f"{FAR4} 16379"), "exposed", listeners=(LOOPBACK,)),
    Trap("T29 REDIRECT does not reach a socket on 127.0.0.1",
         "$nft4 -t nat -A PREROUTING -p tcp --dport 16379 -j REDIRECT --to-ports 6379",
         (), (NEAR4, f"{NEAR4} 16379"), "sealed", listeners=(LOOPBACK,)),
    Trap("T29 nor does a port that is redirected to itself", "$old4 -t nat -A PREROUTING -p tcp --dport 6379 -j REDIRECT",
         (), (NEAR4, FAR4), "sealed", listeners=(LOOPBACK,)),
    Trap("T9 DNAT to ::1", "$nft6 -t nat -A PREROUTING -p tcp --dport 16379 -j DNAT --to-destination [::1]:6379",
         (), (NEAR6, f"{NEAR6} 16379"), "sealed", listeners=("::1@6379",)),
    # 7: a container
    Trap("T11 DNAT passes by INPUT", "$nft4 -P INPUT DROP; published", (NEAR4, FAR4), (), "exposed", 8080, (BEHIND,)),
    Trap("T11 DNAT without ip_forward", "published; sysctl -qw net.ipv4.ip_forward=0", (), (NEAR4, FAR4), "absent", 8080, (BEHIND,)),
    Trap("T11 DNAT with FORWARD DROP", "published; $nft4 -P FORWARD DROP", (), (NEAR4,), "absent", 8080, (BEHIND,)),
    Trap("T11 a socket on the published port, and INPUT drops it",
         "published; $nft4 -A INPUT -p tcp --dport 8080 -j DROP", (NEAR4,), (), "exposed", 8080, (BEHIND, "0.0.0.0@8080")),
    Trap("T11 DNAT past INPUT over IPv6",
         "forwarding; $nft6 -P INPUT DROP; $nft6 -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination [2001:db8:77:9::2]:80",
         (NEAR6,), (NEAR4,), "exposed", 8080, ("back 2001:db8:77:9::2@80",)),
    Trap("T11 DNAT of nftables past INPUT",
         """forwarding; nft -f - <<< 'table ip t { chain pre { type nat hook prerouting priority -100; tcp dport 8080 dnat to 10.77.9.2:80; };
            chain in { type filter hook input priority 0; policy drop; }; }'""",
         (NEAR4,), (), "exposed", 8080, (BEHIND,)),
    Trap("T12 DOCKER-USER --dport does not see the outside port",
         "published; $nft4 -N DOCKER-USER; $nft4 -A FORWARD -j DOCKER-USER; $nft4 -A DOCKER-USER -p tcp --dport 8080 -j DROP",
         (NEAR4,), (), "exposed", 8080, (BEHIND,)),
    Trap("T12 DOCKER-USER --dport sees the container's port",
         "published; $nft4 -N DOCKER-USER; $nft4 -A FORWARD -j DOCKER-USER; $nft4 -A DOCKER-USER -p tcp --dport 80 -j DROP",
         (), (NEAR4,), "absent", 8080, (BEHIND,)),
    Trap("T13 DOCKER-USER --ctorigdstport",
         "published; $nft4 -N DOCKER-USER; $nft4 -A FORWARD -j DOCKER-USER; "
         "$nft4 -A DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL -j DROP",
         (), (NEAR4,), "absent", 8080, (BEHIND,)),
    Trap("T36 FORWARD accepts what was DNATed",
         "published; $nft4 -P FORWARD DROP; $nft4 -A FORWARD -m conntrack --ctstate DNAT -j ACCEPT", (NEAR4,), (), "exposed", 8080, (BEHIND,)),
    Trap("T36 INPUT accepts what was redirected",
         "$nft4 -t nat -A PREROUTING -p tcp --dport 16379 -j REDIRECT --to-ports 6379; "
         "$nft4 -P INPUT DROP; $nft4 -A INPUT -m conntrack --ctstate DNAT -j ACCEPT",
         (f"{NEAR4} 16379",), (NEAR4,), "exposed", listeners=("0.0.0.0@6379",)),
    # 8: the other family
    Trap("T14 no rules for IPv6", "$nft4 -A INPUT -p tcp --dport 6379 -j DROP", (NEAR6,), (NEAR4,), "exposed"),
    Trap("T15 a table of family ip", "nft -f - <<< 'table ip t { chain c { type filter hook input priority 0; tcp dport 6379 drop; }; }'",
         (NEAR6,), (NEAR4,), "exposed"),
    Trap("T15 a table of family inet", "nft -f - <<< 'table inet t { chain c { type filter hook input priority 0; tcp dport 6379 drop; }; }'",
         (), NEAR, "sealed"),
    # 9: NOTRACK
    Trap("T16 an untracked packet is not NEW, and is not dropped",
         "ipt -t raw -A PREROUTING -p tcp --dport 6379 -j CT --notrack; ipt -A INPUT -p tcp --dport 6379 -m conntrack --ctstate NEW -j DROP",
         NEAR, (), "exposed"),
    Trap("T16 an untracked packet is not NEW, and is not accepted",
         "ipt -t raw -A PREROUTING -p tcp --dport 6379 -j CT --notrack; ipt -P INPUT DROP; ipt -A INPUT -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT",
         (), NEAR, "sealed"),
    Trap("T16 a dropped NEW that is tracked", "legacy -A INPUT -p tcp --dport 6379 -m conntrack --ctstate NEW -j DROP", (), NEAR, "sealed"),
    # 10: early hooks
    Trap("T17 a drop in raw PREROUTING", "ipt -t raw -A PREROUTING -p tcp --dport 6379 -j DROP; ipt -A INPUT -j ACCEPT", (), NEAR, "sealed"),
    Trap("T17 a drop in mangle PREROUTING", "legacy -t mangle -A PREROUTING -p tcp --dport 6379 -j DROP", (), NEAR, "sealed"),
    Trap("T20 a drop at the ingress of each device",
         """nft -f - <<< 'table netdev t { chain a { type filter hook ingress device eth0 priority 0; tcp dport 6379 drop; };
            chain b { type filter hook ingress devices = { eth1, eth2 } priority 0; tcp dport 6379 drop; }; }'""",
         (), (*NEAR, *FAR), "sealed"),
    Trap("T20 a drop at the ingress of one device",
         "nft -f - <<< 'table netdev t { chain a { type filter hook ingress device eth0 priority 0; tcp dport 6379 drop; }; }'",
         FAR, NEAR, "exposed"),
    Trap("T20 a drop at the ingress of a device in a table of family inet",
         """nft -f - <<< 'table inet t { chain a { type filter hook ingress device eth0 priority 0; tcp dport 6379 drop; }; }'""",
         FAR, NEAR, "exposed"),
    Trap("a drop in a nat chain, where nothing asks for tracking",
         "nft -f - <<< 'table inet t { chain c { type nat hook input priority 100; tcp dport 6379 drop; }; }'",
         NEAR, (), "unknown"),
    Trap("a drop in a nat chain, after notrack",
         """nft -f - <<< 'table inet t { chain c { type nat hook prerouting priority -100; tcp dport 6379 drop; };
            chain raw { type filter hook prerouting priority -300; tcp dport 6379 notrack; }; }'""",
         NEAR, (), "exposed"),
    Trap("a drop in a nat chain, for what is tracked",
         """nft -f - <<< 'table inet t { chain c { type nat hook input priority 100; tcp dport 6379 drop; };
            chain in { type filter hook input priority 0; ct state new counter; }; }'""",
         (), NEAR, "unknown"),
    Trap("a table that is switched off",
         "nft -f - <<< 'table inet t { flags dormant; chain c { type filter hook input priority 0; tcp dport 6379 drop; }; }'",
         NEAR, (), "exposed"),
    Trap("FORWARD is not on the way", "ipt -P FORWARD DROP; legacy -A FORWARD -j DROP", NEAR, (), "exposed"),
    Trap("a drop in security", "legacy -t security -A INPUT -p tcp --dport 6379 -j DROP", (), NEAR, "sealed"),
    Trap("a mark that comes too late", "ipt -t mangle -A INPUT -j MARK --set-mark 1; ipt -t raw -A PREROUTING -m mark --mark 1 -j DROP",
         NEAR, (), "exposed"),
    Trap("DNAT to another address of the server",
         "$nft4 -t nat -A PREROUTING -p tcp --dport 16379 -j DNAT --to-destination 10.77.9.1:6379; $nft4 -t raw -A PREROUTING -p tcp --dport 6379 -j DROP",
         (f"{NEAR4} 16379",), ("near 10.77.9.1",), "exposed", listeners=("10.77.9.1@6379",)),
    Trap("DNAT by a map of nftables",
         """nft -f - <<< 'table ip t { chain pre { type nat hook prerouting priority -100; dnat to tcp dport map { 16379 : 10.77.9.1 } : 6379; };
            chain raw { type filter hook prerouting priority -300; tcp dport 6379 drop; }; }'""",
         (f"{NEAR4} 16379",), (NEAR4,), "exposed", listeners=("10.77.9.1@6379",)),
    Trap("DNAT by a map of nftables to addresses and ports",
         """nft -f - <<< 'table ip t { map m { type inet_service : ipv4_addr . inet_service; elements = { 16379 : 10.77.9.1 . 6379, 7000 : 10.77.9.2 . 80 }; };
            chain pre { type nat hook prerouting priority -100; dnat ip to tcp dport map @m; };
            chain raw { type filter hook prerouting priority -300; tcp dport 6379 drop; }; }'""",
         (f"{NEAR4} 16379",), (NEAR4,), "exposed", listeners=("10.77.9.1@6379",)),
    Trap("every port is redirected to one that is closed",
         "$nft4 -A INPUT -p tcp --dport 6379 -j DROP; $nft4 -t nat -A PREROUTING -i eth1 -p tcp -j REDIRECT --to-ports 6379",
         (), (NEAR4, FAR4), "sealed", listeners=("0.0.0.0@6379",)),
    Trap("a REDIRECT of whatever passes by",
         "$nft4 -A INPUT -p tcp -m conntrack --ctorigdst 10.77.0.0/16 -j DROP; $nft4 -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 6379",
         ("near 203.0.113.9 80",), (NEAR4, f"{NEAR4} 80"), "exposed", listeners=("0.0.0.0@6379",)),
    Trap("a NETMAP to loopback",
         "sysctl -qw net.ipv4.conf.all.route_localnet=1; $nft4 -t nat -A PREROUTING -d 10.77.1.1 -p tcp -j NETMAP --to 127.0.0.1/32",
         (NEAR4,), (FAR4,), "exposed", listeners=(LOOPBACK,)),
    # TPROXY: packets keep their destination, and a socket of loopback takes them
    Trap("a TPROXY to a socket that is not transparent", "diverted; tproxy --dport 16379",
         (), (NEAR4, f"{NEAR4} 16379"), "sealed", listeners=(LOOPBACK,)),
    Trap("a TPROXY to a transparent socket on loopback", "diverted; tproxy --dport 16379",
         (f"{NEAR4} 16379", f"{STRANGE4} 16379"), (NEAR4,), "exposed", listeners=(TRANSPARENT,)),
    Trap("a TPROXY, and the guide's rules for the socket's own port",
         "diverted; tproxy --dport 16379; ipt -A INPUT -i lo -j ACCEPT; ipt -A INPUT -p tcp --dport 6379 -j DROP",
         (f"{NEAR4} 16379",), (NEAR4,), "exposed", listeners=(TRANSPARENT,)),
    Trap("a TPROXY of a port that INPUT drops", "diverted; tproxy --dport 16379; ipt -A INPUT -p tcp --dport 16379 -j DROP",
         (), (NEAR4, f"{NEAR4} 16379", f"{STRANGE4} 16379"), "sealed", listeners=(TRANSPARENT,)),
    Trap("a TPROXY that no rule of routing helps", "tproxy --dport 16379",
         (f"{NEAR4} 16379",), (f"{STRANGE4} 16379",), "exposed", listeners=(TRANSPARENT,)),
    Trap("a TPROXY for other machines alone, without routing", "tproxy ! -d 10.77.1.1 --dport 16379; $nft4 -A INPUT -d 10.77.0.0/16 -j DROP",
         (), (f"{NEAR4} 16379", f"{STRANGE4} 16379"), "sealed", listeners=(TRANSPARENT,)),
    Trap("a TPROXY of first packets alone", "diverted; tproxy --dport 16379 -m conntrack --ctstate NEW ! -d 10.77.0.0/16",
         (), (f"{NEAR4} 16379", f"{STRANGE4} 16379"), "unknown", listeners=(TRANSPARENT,)),
    Trap("a TPROXY with the match of sockets before it",
         "diverted; $nft4 -t mangle -N DIVERT; $nft4 -t mangle -A PREROUTING -p tcp -m socket -j DIVERT; "
         "$nft4 -t mangle -A DIVERT -j MARK --set-mark 1; $nft4 -t mangle -A DIVERT -j ACCEPT; "
         "tproxy -m conntrack --ctstate NEW --dport 16379",
         (f"{NEAR4} 16379", f"{STRANGE4} 16379"), (NEAR4,), "exposed", listeners=(TRANSPARENT,)),
    Trap("a TPROXY that keeps the port",
         "$nft4 -t mangle -A PREROUTING -p tcp -j TPROXY --on-ip 127.0.0.1 --on-port 0 --tproxy-mark 1",
         (NEAR4,), (f"{NEAR4} 16379",), "exposed", listeners=(TRANSPARENT,)),
    Trap("a TPROXY to a socket on every address",
         "$nft4 -t raw -A PREROUTING -p tcp --dport 6379 -j DROP; "
         "$nft4 -t mangle -A PREROUTING -i eth1 -p tcp -m tcp --dport 16379 -j TPROXY --on-port 6379",
         (f"{FAR4} 16379",), (NEAR4, FAR4, f"{NEAR4} 16379"), "exposed", listeners=("0.0.0.0@6379 transparent",)),
    Trap("a TPROXY where another socket stands in front of the one on every address",
         "$nft4 -t raw -A PREROUTING -p tcp --dport 6379 -j DROP; tproxy --dport 16379",
         (), (NEAR4, f"{NEAR4} 16379"), "sealed", listeners=("0.0.0.0@6379 transparent reused", "127.0.0.1@6379 reused")),
    Trap("a TPROXY to a port where nobody listens drops",
         "for each in $nft4 $nft6; do $each -t mangle -A PREROUTING -p tcp --dport 6379 -j TPROXY --on-port 9999; done",
         (), NEAR, "sealed"),
    Trap("a TPROXY of nftables to a port where nobody listens does nothing",
         "nft -f - <<< 'table inet t { chain pre { type filter hook prerouting priority -150; tcp dport 6379 tproxy to :9999 drop; }; }'",
         (*NEAR, *FAR), (), "exposed"),
    Trap("a TPROXY of nftables goes on with the rule",
         """diverted; nft -f - <<< 'table ip t { chain pre { type filter hook prerouting priority -150;
            tcp dport 16379 tproxy to 127.0.0.1:6379 meta mark set 1 accept; ip daddr != 127.0.0.0/8 drop; }; }'""",
         (f"{NEAR4} 16379", f"{STRANGE4} 16379"), (NEAR4,), "exposed", listeners=(TRANSPARENT,)),
    Trap("a TPROXY of nftables, and a drop behind it",
         """diverted; nft -f - <<< 'table ip t { chain pre { type filter hook prerouting priority -150;
            tcp dport 16379 tproxy to 127.0.0.1:6379 meta mark set 1; drop; }; }'""",
         (), (NEAR4, f"{NEAR4} 16379"), "sealed", listeners=(TRANSPARENT,)),
    Trap("a TPROXY of nftables with its match of sockets",
         """diverted; nft -f - <<< 'table inet t { chain pre { type filter hook prerouting priority -150;
            ct state established socket transparent 1 meta mark set 1 accept;
            meta nfproto ipv6 tcp dport 16379 ct state new tproxy ip6 to [::1]:6379 meta mark set 1; }; }'""",
         (f"{NEAR6} 16379", f"{STRANGE6} 16379"), (NEAR6, NEAR4), "exposed", listeners=("::1@6379 transparent",)),
    # AnyIP: addresses that are local by a route alone
    Trap("a local network that no rule thinks of", "ip route add local 203.0.113.0/24 dev lo; $nft4 -A INPUT -d 10.77.0.0/16 -j DROP; $nft6 -P INPUT DROP",
         (STRANGE4,), (NEAR4, "near 203.0.114.9"), "exposed"),
    Trap("a local network and a socket on loopback", "ip route add local 203.0.113.0/24 dev lo", (), (STRANGE4, NEAR4), "sealed",
         listeners=(LOOPBACK,)),
    Trap("a longer prefix within a local network",
         "ip route add local 203.0.113.0/24 dev lo; ip route add blackhole 203.0.113.0/28; $nft4 -A INPUT ! -d 203.0.113.0/28 -j DROP; $nft6 -P INPUT DROP",
         (), (STRANGE4, NEAR4), "unknown"),
    Trap("a longer prefix behind a local network, when rules part the tables",
         "ip rule add fwmark 7 lookup 7; ip route add local 203.0.113.0/24 dev lo; ip route add blackhole 203.0.113.0/28; "
         "$nft4 -A INPUT ! -d 203.0.113.0/28 -j DROP; $nft6 -P INPUT DROP",
         (STRANGE4,), (NEAR4,), "exposed"),
    Trap("a longer prefix before a local network of IPv6",
         "ip route add local 2001:db8:9::/48 dev lo; ip route add blackhole 2001:db8:9::/64; $nft6 -A INPUT ! -d 2001:db8:9::/64 -j DROP; $nft4 -P INPUT DROP",
         (STRANGE6,), (NEAR6,), "exposed"),
    Trap("everything is local by its mark",
         "diverted; $nft4 -t mangle -A PREROUTING -i eth0 -j MARK --set-mark 1; $nft4 -A INPUT -d 10.77.0.0/16 -j DROP; $nft6 -P INPUT DROP",
         (STRANGE4,), (NEAR4,), "exposed", listeners=("0.0.0.0@6379 transparent",)),
    Trap("everything is local by its mark, and nobody answers from there",
         "diverted; $nft4 -t mangle -A PREROUTING -i eth0 -j MARK --set-mark 1; $nft4 -A INPUT -d 10.77.0.0/16 -j DROP; $nft6 -P INPUT DROP",
         (), (STRANGE4, NEAR4), "sealed"),
    Trap("everything of IPv6 is local by its mark",
         "diverted; $nft6 -t mangle -A PREROUTING -i eth0 -j MARK --set-mark 1; $nft6 -A INPUT -d 2001:db8:77::/48 -j DROP; $nft4 -P INPUT DROP",
         (STRANGE6,), (NEAR6,), "exposed"),
    Trap("everything would be local by a mark that no packet has",
         "diverted; $nft4 -t mangle -A PREROUTING -i eth0 -j MARK --set-mark 2; $nft4 -A INPUT -d 10.77.0.0/16 -j DROP; $nft6 -P INPUT DROP",
         (), (STRANGE4, NEAR4), "sealed"),
    Trap("a rule of routing that asks for a port",
         "ip rule add ipproto tcp dport 6379 lookup 100; ip route add local default dev lo table 100; "
         "$nft4 -A INPUT -d 10.77.0.0/16 -j DROP; $nft6 -P INPUT DROP",
         (STRANGE4,), (NEAR4,), "unknown", listeners=("0.0.0.0@6379 transparent",)),
    # Routes and sockets that decide more than they show
    Trap("DNAT to an address that is local by a route",
         "ip route add local 203.0.113.0/24 dev lo; $nft4 -t raw -A PREROUTING -p tcp --dport 6379 -j DROP; "
         "$nft4 -t nat -A PREROUTING -p tcp --dport 16379 -j DNAT --to-destination 203.0.113.9:6379; $nft6 -P INPUT DROP",
         (f"{NEAR4} 16379",), (NEAR4, STRANGE4), "exposed"),
    Trap("DNAT to an address of IPv6 that is local by a route",
         "ip -6 route add local 2001:db8:9::/64 dev lo; $nft6 -t raw -A PREROUTING -p tcp --dport 6379 -j DROP; "
         "$nft6 -t nat -A PREROUTING -p tcp --dport 16379 -j DNAT --to-destination [2001:db8:9::9]:6379; $nft4 -P INPUT DROP",
         (f"{NEAR6} 16379",), (NEAR6,), "exposed"),
    Trap("OUTPUT parts a local network",
         "ip route add local 203.0.113.0/24 dev lo; $nft4 -A INPUT -d 10.77.0.0/16 -j DROP; $nft4 -A OUTPUT -s 203.0.113.0/28 -j DROP; $nft6 -P INPUT DROP",
         ("near 203.0.113.99",), (STRANGE4, NEAR4), "exposed"),
    Trap("PREROUTING drops what is not local",
         "ip route add local 203.0.113.0/24 dev lo; $nft4 -t mangle -A PREROUTING -m addrtype ! --dst-type LOCAL -j DROP; "
         "$nft4 -A INPUT -d 10.77.0.0/16 -j DROP; $nft6 -P INPUT DROP",
         (STRANGE4,), (NEAR4,), "unknown"),
    Trap("a REDIRECT of what is local by a route",
         "ip route add local 203.0.113.0/24 dev lo; $nft4 -t raw -A PREROUTING -p tcp --dport 6379 -j DROP; "
         "$nft4 -t nat -A PREROUTING -d 203.0.113.0/24 -p tcp --dport 16379 -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 6379; $nft6 -P INPUT DROP",
         (f"{STRANGE4} 16379",), (NEAR4,), "unknown"),
    Trap("addrtype of IPv6 asks routing",
         "ip -6 rule add to 2001:db8:9::/64 lookup 100; ip -6 route add local 2001:db8:9::/64 dev lo table 100; "
         "$nft6 -A INPUT -d 2001:db8:9::/64 -m addrtype --dst-type LOCAL -j ACCEPT; ipt -P INPUT DROP",
         (STRANGE6,), (NEAR6,), "unknown"),
    Trap("fib of IPv6 asks routing",
         "ip -6 rule add to 2001:db8:9::/64 lookup 100; ip -6 route add local 2001:db8:9::/64 dev lo table 100; "
         "nft -f - <<< 'table inet t { chain c { type filter hook input priority 0; policy drop; ip6 daddr 2001:db8:9::/64 fib daddr type local accept; }; }'",
         (STRANGE6,), (NEAR6,), "unknown"),
    Trap("a local network in the table main",
         "ip route add local 203.0.113.0/24 dev lo table main; $nft4 -A INPUT -d 10.77.0.0/16 -j DROP; $nft6 -P INPUT DROP",
         (STRANGE4,), (NEAR4,), "unknown"),
    Trap("a local network in the table main, and addrtype",
         "ip route add local 203.0.113.0/24 dev lo table main; $nft4 -A INPUT -d 203.0.113.0/24 -m addrtype --dst-type LOCAL -j ACCEPT; ipt -P INPUT DROP",
         (STRANGE4,), (NEAR4,), "unknown"),
    Trap("a socket on an address that is local by another table",
         "ip rule add to 203.0.113.0/24 lookup 100; ip route add local 203.0.113.0/24 dev lo table 100; $nft4 -A INPUT -m addrtype --dst-type LOCAL -j DROP",
         (STRANGE4,), (NEAR4,), "exposed", listeners=("203.0.113.9@6379 transparent",)),
    Trap("the match of sockets parts own addresses",
         "$nft4 -t mangle -A PREROUTING -p tcp -m conntrack --ctstate NEW -m socket -j DROP",
         (ACROSS4, FAR4), (NEAR4,), "exposed", listeners=("0.0.0.0@6379 reused", "10.77.1.1@6379 reused")),
    Trap("a TPROXY of nftables to 0.0.0.0",
         """nft -f - <<< 'table ip t { chain pre { type filter hook prerouting priority -150; tcp dport 16379 tproxy to 0.0.0.0:6379; };
            chain in { type filter hook input priority 0; tcp dport 6379 drop; }; }'""",
         (f"{NEAR4} 16379",), (NEAR4,), "exposed", listeners=("10.77.1.1@6379 transparent",)),
    Trap("the match of sockets, and one on ::ffff:0.0.0.0",
         "$nft4 -A INPUT -p tcp -m conntrack --ctstate NEW -m socket -j DROP; $nft4 -t raw -A PREROUTING -p tcp --dport 6379 -j DROP; "
         "nft -f - <<< 'table ip t { chain pre { type filter hook prerouting priority -150; tcp dport 16379 ct state new tproxy to 127.0.0.1:6379; }; }'",
         (f"{NEAR4} 16379",), (NEAR4,), "exposed", listeners=("::ffff:0.0.0.0@6379 transparent",)),
    Trap("a route for a type of service",
         "ip rule add to 203.0.113.0/24 lookup 100; ip route add local 203.0.113.0/24 dev lo table 100; "
         "ip route add blackhole 203.0.113.0/28 tos 0x10 table 100; $nft4 -A INPUT ! -d 203.0.113.0/28 -j DROP; $nft6 -P INPUT DROP",
         (STRANGE4,), (NEAR4,), "unknown", listeners=("0.0.0.0@6379 transparent",)),
    Trap("a route for some sources",
         "ip -6 route add local 2001:db8:9::/64 dev lo table 100; ip -6 rule add to 2001:db8:9::/64 lookup 100; "
         "ip -6 route add blackhole 2001:db8:9::/80 from 2001:db8:5555::/64 table 100; $nft6 -A INPUT ! -d 2001:db8:9::/80 -j DROP; $nft4 -P INPUT DROP",
         (STRANGE6,), (NEAR6,), "unknown"),
    Trap("TPROXY of two backends, nft came first",
         "diverted; tproxy --dport 16379; "
         "$old4 -t mangle -A PREROUTING -p tcp --dport 16379 -j TPROXY --on-ip 127.0.0.1 --on-port 6380 --tproxy-mark 1",
         (f"{NEAR4} 16379",), (NEAR4,), "unknown", listeners=(TRANSPARENT, "127.0.0.1@6380 transparent silent")),
    Trap("TPROXY of two backends, legacy came first",
         "diverted; $old4 -t mangle -A PREROUTING -p tcp --dport 16379 -j TPROXY --on-ip 127.0.0.1 --on-port 6380 --tproxy-mark 1; "
         "tproxy --dport 16379",
         (), (NEAR4, f"{NEAR4} 16379"), "unknown", listeners=(TRANSPARENT, "127.0.0.1@6380 transparent silent")),
    Trap("TPROXY of iptables and of nftables, iptables came first",
         """diverted; tproxy --dport 16379; nft -f - <<< 'table ip t { chain pre { type filter hook prerouting priority -150;
            tcp dport 16379 tproxy to 127.0.0.1:6380 meta mark set 1; }; }'""",
         (f"{NEAR4} 16379",), (NEAR4,), "unknown", listeners=(TRANSPARENT, "127.0.0.1@6380 transparent silent")),
    Trap("marks of two backends, legacy came last",
         "ipt -t mangle -A PREROUTING -p tcp --dport 6379 -m mark ! --mark 1 -j DROP; legacy -t mangle -A PREROUTING -j MARK --set-mark 1",
         NEAR, (), "unknown"),
    Trap("marks of two backends, legacy asks before nft marks",
         "ipt -t mangle -A PREROUTING -j MARK --set-mark 1; legacy -t mangle -A PREROUTING -p tcp --dport 6379 -m mark --mark 1 -j DROP",
         NEAR, (), "unknown"),
    Trap("port 1, which a TPROXY keeps",
         "$nft4 -t mangle -A PREROUTING -p tcp -j TPROXY --on-ip 127.0.0.1 --on-port 0 --tproxy-mark 1",
         (NEAR4,), (), "exposed", 1, ("127.0.0.1@1 transparent",)),
    Trap("the rule for main is gone",
         "ip rule del pref 32766; ip rule add pref 40000 lookup 100; ip route add blackhole 203.0.113.0/28; "
         "ip route add local 203.0.113.0/24 dev lo table 100; ip route add 10.77.1.0/24 dev eth0 table 100; "
         "$nft4 -A INPUT ! -d 203.0.113.0/28 -j DROP; $nft6 -P INPUT DROP",
         (STRANGE4,), (NEAR4,), "unknown", listeners=("0.0.0.0@6379 transparent",)),
    Trap("a local network's port goes to a container",
         "forwarding; ip route add local 203.0.113.0/24 dev lo; "
         "$nft4 -t nat -A PREROUTING -d 203.0.113.0/24 -p tcp --dport 8080 -j DNAT --to-destination 10.77.9.2:80",
         (f"{STRANGE4} 8080",), (f"{NEAR4} 8080",), "exposed", 8080, (BEHIND,)),
    Trap("a local network's port goes to a socket of loopback",
         "ip route add local 203.0.113.0/24 dev lo; tproxy -d 203.0.113.0/24 --dport 16379",
         (f"{STRANGE4} 16379",), (f"{NEAR4} 16379",), "exposed", 16379, (TRANSPARENT,)),
    # 11: TCP flags, and a client that offers ECN
    Trap("T18b a set of flags is exact",
         """ip netns exec near sysctl -qw net.ipv4.tcp_ecn=1
            nft -f - <<< 'table inet t { chain c { type filter hook input priority 0; policy drop; tcp flags { syn, ack } accept; }; }'""",
         FAR, NEAR, "unknown"),
    Trap("T18b a flag tests a bit",
         """ip netns exec near sysctl -qw net.ipv4.tcp_ecn=1
            nft -f - <<< 'table inet t { chain c { type filter hook input priority 0; policy drop; tcp flags syn accept; tcp flags ack accept; }; }'""",
         (*NEAR, *FAR), (), "exposed"),
    Trap("T18b an exact drop lets ECN through",
         """ip netns exec near sysctl -qw net.ipv4.tcp_ecn=1
            nft -f - <<< 'table inet t { chain c { type filter hook input priority 0; tcp flags { syn, rst } drop; }; }'""",
         NEAR, FAR, "unknown"),
    Trap("T18b a set of one flag is none",
         """ip netns exec near sysctl -qw net.ipv4.tcp_ecn=1
            nft -f - <<< 'table inet t { chain c { type filter hook input priority 0; tcp flags { syn } drop; }; }'""",
         (), (*NEAR, *FAR), "sealed"),
    Trap("T18b --syn leaves ECN out of its mask", "ip netns exec near sysctl -qw net.ipv4.tcp_ecn=1; ipt -A INPUT -p tcp --syn -j DROP",
         (), (*NEAR, *FAR), "sealed"),
    # 12: the weak host model
    Trap("T28 -d of one address", "$nft4 -A INPUT -d 10.77.1.1 -p tcp --dport 6379 -j DROP; $nft6 -A INPUT -d 2001:db8:77:1::1 -p tcp --dport 6379 -j DROP",
         (ACROSS4, ACROSS6, *FAR), NEAR, "exposed"),
    Trap("T28 a socket on one address is reached through every interface", "$nft4 -A INPUT -i eth1 -p tcp --dport 6379 -j DROP",
         (ACROSS4,), (FAR4, NEAR4), "exposed", listeners=("10.77.2.1@6379",)),
    # 13: the answer
    Trap("T25 OUTPUT drops the answer", "ipt -A OUTPUT -p tcp --sport 6379 -j DROP", (), NEAR, "sealed"),
    Trap("T25 OUTPUT DROP accepts what is established",
         "ipt -P OUTPUT DROP; ipt -A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT", NEAR, (), "exposed"),
    Trap("T25 a native chain drops the answer",
         "nft -f - <<< 'table inet t { chain c { type filter hook output priority 0; policy drop; tcp sport 22 accept; }; }'",
         (), NEAR, "sealed"),
    # 14: the second packet
    Trap("the SYN is accepted and the ACK is not", "ipt -P INPUT DROP; ipt -A INPUT -p tcp --syn -j ACCEPT", (), NEAR, "sealed"),
    Trap("NEW is accepted and ESTABLISHED is not", "legacy -P INPUT DROP; legacy -A INPUT -m conntrack --ctstate NEW -j ACCEPT", (), NEAR, "unknown"),
    Trap("ESTABLISHED alone is accepted", "ipt -P INPUT DROP; ipt -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", (), NEAR, "sealed"),
    # 15: ipset
    Trap("T32 nomatch in a set that drops",
         "ipset create s hash:net; ipset add s 10.0.0.0/8; ipset add s 10.77.1.0/24 nomatch; $nft4 -A INPUT -m set --match-set s src -j DROP",
         (NEAR4,), (FAR4,), "exposed", listeners=("0.0.0.0@6379",)),
    Trap("T32 a set that drops everyone",
         "ipset create s hash:net; ipset add s 0.0.0.0/1; ipset add s 128.0.0.0/1; $nft4 -A INPUT -m set --match-set s src -j DROP",
         (), (NEAR4, FAR4), "sealed", listeners=("0.0.0.0@6379",)),
    Trap("T32 nomatch in a set that accepts",
         "ipset create s hash:net; ipset add s 10.77.0.0/16; ipset add s 10.77.1.0/24 nomatch; $old4 -P INPUT DROP; "
         "$old4 -A INPUT -m set --match-set s src -j ACCEPT",
         (FAR4,), (NEAR4,), "exposed", listeners=("0.0.0.0@6379",)),
    Trap("T31 a dump with a set that does not exist is not loaded",
         """! $nft4-restore <<< $'*filter\\n:INPUT DROP\\n-A INPUT -m set --match-set s src -j DROP\\nCOMMIT'""",
         (NEAR4,), (), "exposed", listeners=("0.0.0.0@6379",)),
    # 16: verdict maps
    Trap("T35 untracked in a map of states",
         """nft -f - <<< 'table inet t { chain raw { type filter hook prerouting priority -300; tcp dport 6379 notrack; };
            chain in { type filter hook input priority 0; policy drop; ct state vmap { established : accept, untracked : accept, invalid : drop }; }; }'""",
         NEAR, (), "exposed"),
    Trap("T35 no new in a map of states",
         """nft -f - <<< 'table inet t { chain in { type filter hook input priority 0; policy drop;
            ct state vmap { established : accept, untracked : accept, invalid : drop }; }; }'""",
         (), NEAR, "sealed"),
    # 17: what nft does not tell of iptables
    Trap("conntrack and multiport of iptables-nft", "ipt -A INPUT -p tcp -m conntrack --ctstate NEW -m multiport --dports 22,6379 -j DROP",
         (), NEAR, "sealed"),
    Trap("REJECT of iptables-nft beside a rule of nft",
         "ipt -A INPUT -p tcp -m multiport --dports 22,80 -j REJECT; for f in ip ip6; do nft add rule $f filter INPUT tcp dport { 80, 6379 } drop; done",
         (), NEAR, "sealed"),
    Trap("iptables-nft-save hides the ports of a rule of nft",
         "ipt -P INPUT DROP; ipt -A INPUT -m conntrack --ctstate INVALID -j DROP; "
         "for f in ip ip6; do nft add rule $f filter INPUT tcp dport { 22, 80 } accept; done",
         (), NEAR, "sealed"),
    # 18: both backends, both families, by name
    Trap("legacy alone drops", "legacy -A INPUT -p tcp --dport 6379 -j DROP", (), NEAR, "sealed"),
    Trap("nft for IPv4 and legacy for IPv6", "$nft4 -A INPUT -p tcp --dport 6379 -j DROP; $old6 -A INPUT -p tcp --dport 6379 -j DROP",
         (), NEAR, "sealed"),
    # 20: names of interfaces
    Trap("T27 eth+ is every eth", "ipt -A INPUT -i eth+ -p tcp --dport 6379 -j DROP", (), (*NEAR, *FAR), "sealed"),
    Trap("T27 eth is no wildcard", "ipt -A INPUT -i eth -p tcp --dport 6379 -j DROP", NEAR, (), "exposed"),
    Trap("T27 eth0 is one of them", "legacy -A INPUT -i eth0 -p tcp --dport 6379 -j DROP", FAR, NEAR, "exposed"),
    Trap("T27 everything but lo", "legacy -A INPUT ! -i lo -p tcp --dport 6379 -j DROP", (), (*NEAR, *FAR), "sealed"),
    Trap("T27 eth* of nftables",
         """nft -f - <<< 'table inet t { chain c { type filter hook input priority 0; iifname "eth*" tcp dport 6379 drop; }; }'""",
         (), (*NEAR, *FAR), "sealed"),
    Trap("T27 not eth* of nftables",
         """nft -f - <<< 'table inet t { chain c { type filter hook input priority 0; iifname != "eth*" tcp dport 6379 drop; }; }'""",
         NEAR, (), "exposed"),
    Trap("T27 an asterisk between quotes that is none",
         r"""nft -f - <<< 'table inet t { chain c { type filter hook input priority 0; iifname "eth\\*" tcp dport 6379 drop; }; }'""",
         NEAR, (), "unknown"),
    # marks
    Trap("T22 a mark of mangle decides in filter, and drops",
         "ipt -t mangle -A PREROUTING -p tcp --dport 6379 -j MARK --set-mark 1; ipt -A INPUT -m mark --mark 1 -j DROP", (), NEAR, "sealed"),
    Trap("T22 a mark of mangle decides in filter, and accepts",
         "ipt -t mangle -A PREROUTING -p tcp --dport 6379 -j MARK --set-mark 1; ipt -P INPUT DROP; ipt -A INPUT -m mark --mark 1 -j ACCEPT",
         NEAR, (), "exposed"),
    Trap("T22 a mark of nftables from one neighbour",
         """nft -f - <<< 'table inet t { chain pre { type filter hook prerouting priority -10; iifname "eth0" meta mark set 0x5; };
            chain in { type filter hook input priority 0; meta mark & 0xf == 0x5 tcp dport 6379 drop; }; }'""",
         FAR, NEAR, "exposed"),
    Trap("T22 a mark that nobody sets", "ipt -A INPUT -p tcp --dport 6379 -m mark ! --mark 1 -j DROP", (), NEAR, "sealed"),
    # what a set, or where a connection was first sent to, tells apart
    Trap("a set of ports that is redirected",
         "ipset create p bitmap:port range 0-65535; ipset add p 16379; $nft4 -t raw -A PREROUTING -p tcp --dport 6379 -j DROP; "
         "$nft4 -t nat -A PREROUTING -p tcp -m set --match-set p dst -j REDIRECT --to-ports 6379",
         (f"{NEAR4} 16379",), (NEAR4,), "exposed", listeners=("0.0.0.0@6379",)),
    Trap("a set of foreign addresses that is redirected",
         "ipset create p hash:net; ipset add p 203.0.113.0/24; $old4 -t raw -A PREROUTING -p tcp --dport 6379 -j DROP; "
         "$old4 -t nat -A PREROUTING -p tcp -m set --match-set p dst -j REDIRECT --to-ports 6379",
         ("near 203.0.113.9 16379",), (f"{NEAR4} 16379",), "exposed", listeners=("0.0.0.0@6379",)),
    Trap("a set with one of the own addresses",
         "ipset create p hash:ip; ipset add p 10.77.2.1; $old4 -P INPUT DROP; $old4 -A INPUT -m set --match-set p dst -j ACCEPT",
         (ACROSS4,), (NEAR4,), "exposed", listeners=("0.0.0.0@6379",)),
    Trap("a set with one of the own addresses that drops",
         "ipset create p hash:ip; ipset add p 10.77.1.1; $nft4 -A INPUT -m set --match-set p dst -j DROP",
         (ACROSS4,), (NEAR4,), "exposed", listeners=("0.0.0.0@6379",)),
    Trap("the answers from one of the own addresses are dropped", "$nft4 -A OUTPUT -s 10.77.1.1 -p tcp --sport 6379 -j DROP",
         (ACROSS4,), (NEAR4,), "exposed", listeners=("0.0.0.0@6379",)),
    Trap("the answers from a set are dropped",
         "ipset create p hash:ip; ipset add p 10.77.1.1; $nft4 -A OUTPUT -m set --match-set p src -p tcp --sport 6379 -j DROP",
         (ACROSS4,), (NEAR4,), "exposed", listeners=("0.0.0.0@6379",)),
    Trap("ctorigdst of one of the own addresses",
         "$nft4 -P INPUT DROP; $nft4 -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; $nft4 -A INPUT -m conntrack --ctorigdst 10.77.2.1 -j ACCEPT",
         (ACROSS4,), (NEAR4,), "exposed", listeners=("0.0.0.0@6379",)),
    Trap("ct original daddr does not hold for the other family, negated or not",
         """nft -f - <<< 'table inet t { chain c { type filter hook input priority 0; tcp dport 6379 ct original ip daddr != 192.0.2.1 drop; }; }'""",
         (NEAR6,), (NEAR4,), "exposed"),
    Trap("four nat tables of one priority",
         """nft -f - <<< 'table ip z { chain raw { type filter hook prerouting priority -300; tcp dport 6379 drop; }; }'
            for t in a:7000 b:7001 c:7002 d:6379; do
              nft -f - <<< "table ip ${t%:*} { chain p { type nat hook prerouting priority -100; tcp dport 16379 redirect to :${t#*:}; }; }"
            done""",
         (f"{NEAR4} 16379",), (NEAR4,), "unknown", listeners=("0.0.0.0@6379",)),
    # another source, behind SNAT
    Trap("SNAT in INPUT hides the source from the answer",
         "$nft4 -t nat -A INPUT -s 10.77.1.2 -p tcp --dport 6379 -j SNAT --to-source 10.77.9.2; "
         "$nft4 -t raw -A OUTPUT -d 10.77.1.2 -p tcp --sport 6379 -j DROP; $nft4 -A INPUT ! -s 10.77.1.2 -p tcp --dport 6379 -j DROP",
         (NEAR4,), (FAR4,), "unknown", listeners=("0.0.0.0@6379",)),
    Trap("SNAT in INPUT hides the source from a chain behind it",
         """nft -f - <<< 'table ip t { chain i { type nat hook input priority 100; tcp dport 6379 snat to 10.77.9.1; };
            chain o { type filter hook input priority 200; tcp dport 6379 ip saddr != 10.77.9.1 drop; }; }'""",
         (NEAR4,), (), "unknown", listeners=("0.0.0.0@6379",)),
    Trap("MASQUERADE hides the source from what leaves",
         """published; $nft4 -t nat -A POSTROUTING -o eth2 -j MASQUERADE
            nft -f - <<< 'table netdev e { chain c { type filter hook egress device eth2 priority 0; ip saddr != 10.77.9.1 drop; }; }'""",
         (NEAR4,), (), "unknown", 8080, (BEHIND,)),
    Trap("MASQUERADE behind an exception hides the source from the answer",
         "published; $nft4 -P FORWARD DROP; $nft4 -A FORWARD -s 10.77.1.2 -j ACCEPT; $nft4 -A FORWARD -d 10.77.1.2 -j ACCEPT; "
         "$nft4 -t nat -A POSTROUTING -s 10.77.2.0/24 -j ACCEPT; $nft4 -t nat -A POSTROUTING -j MASQUERADE; "
         "$nft4 -t raw -A PREROUTING -s 10.77.9.2 -d 10.77.1.2 -j DROP",
         (NEAR4,), (FAR4,), "unknown", 8080, (BEHIND,)),
    Trap("a mark from the port of a bridge",
         """ip address flush dev eth0; ip link add br0 type bridge; ip link set br0 address 02:00:00:00:01:01; ip link set br0 up
            ip link set eth0 master br0; ip address add 10.77.1.1/24 dev br0; sleep 1
            nft -f - <<< 'table netdev t { chain c { type filter hook ingress device eth0 priority 0; meta mark set 1; }; }'
            $nft4 -A INPUT -p tcp --dport 6379 -m mark ! --mark 1 -j DROP""",
         (NEAR4,), (FAR4,), "unknown", listeners=("0.0.0.0@6379",)),
    # limits
    Trap("T23 a limit lets the first through", "$nft4 -P INPUT DROP; $nft4 -A INPUT -p tcp --dport 6379 -m limit --limit 1/hour --limit-burst 2 -j ACCEPT",
         (NEAR4,), (FAR4,), "unknown", listeners=("0.0.0.0@6379",)),
    # two nat tables of one priority: the one that came last is asked first, and no dump tells which
    Trap("T30 nat of legacy came last",
         "redirected; $old4 -t nat -A PREROUTING -p tcp --dport 16379 -j REDIRECT --to-ports 7000",
         (), (NEAR4, f"{NEAR4} 16379"), "unknown", listeners=("0.0.0.0@6379",)),
    Trap("T30 nat of nft came last",
         "$old4 -t nat -A PREROUTING -p tcp --dport 16379 -j REDIRECT --to-ports 7000; redirected",
         (f"{NEAR4} 16379",), (NEAR4,), "unknown", listeners=("0.0.0.0@6379",)),
    Trap("T30 nat of nft and of legacy agree",
         "redirected; $old4 -t nat -A PREROUTING -p tcp --dport 16379 -j REDIRECT --to-ports 6379",
         (f"{NEAR4} 16379",), (NEAR4,), "exposed", listeners=("0.0.0.0@6379",)),
    # 19: spellings of old; the verdict is on the text, and `rules` loads what it means
    Trap("old negation", "$nft4 -A INPUT ! -s 10.77.2.0/24 -p tcp --dport 6379 -j DROP", (FAR4,), (NEAR4,), "exposed",
         listeners=("0.0.0.0@6379",), saved="*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s ! 10.77.2.0/255.255.255.0 -p tcp --dport 6379 -j DROP\nCOMMIT\n"),
    Trap("old negation of an interface, counters before -A", "$nft4 -A INPUT ! -i lo -p tcp --dport 6379 -j DROP", (), (NEAR4,), "sealed",
         listeners=("0.0.0.0@6379",), saved="*filter\n:INPUT ACCEPT [1:2]\n[3:4] -A INPUT -i ! lo -p tcp --dport 6379 -j DROP\nCOMMIT\n"),
    Trap("a dotted mask", "$nft4 -A INPUT -s 10.77.0.0/255.255.254.0 -p tcp --dport 6379 -j DROP", (FAR4,), (NEAR4,), "exposed",
         listeners=("0.0.0.0@6379",), saved="*filter\n:INPUT ACCEPT\n-A INPUT -s 10.77.0.0/255.255.254.0 -p tcp --dport 6379 -j DROP\nCOMMIT\n"),
    Trap("--syn, and no -m tcp before --dport", "$nft4 -A INPUT -p tcp --dport 6379 --syn -j DROP", (), (NEAR4,), "sealed",
         listeners=("0.0.0.0@6379",), saved="*filter\n:INPUT ACCEPT\n-A INPUT -p tcp --dport 6379 --syn -j DROP\nCOMMIT\n"),
    Trap("CRLF, and a chain without counters", "$nft4 -N c; $nft4 -A INPUT -j c; $nft4 -A c -p tcp --dport 6379 -j DROP", (), (NEAR4,), "sealed",
         listeners=("0.0.0.0@6379",), saved="*filter\r\n:INPUT ACCEPT\r\n:c -\r\n-A INPUT -j c\r\n-A c -p tcp --dport 6379 -j DROP\r\nCOMMIT\r\n"),
    Trap("the name of a service", "$nft4 -A INPUT -p tcp --dport https -j DROP", (), (NEAR4,), "sealed", 443, ("0.0.0.0@443",),
         saved="*filter\n:INPUT ACCEPT\n-A INPUT -p tcp --dport https -j DROP\nCOMMIT\n"),
    Trap("a host name is not looked up", "$nft4 -A INPUT -s 127.0.0.1 -p tcp --dport 6379 -j DROP", (NEAR4,), (), "unknown",
         listeners=("0.0.0.0@6379",), saved="*filter\n:INPUT ACCEPT\n-A INPUT -s localhost -p tcp --dport 6379 -j DROP\nCOMMIT\n"),
    Trap("concatenated dumps", "$nft4 -t raw -A PREROUTING -p tcp --dport 6379 -j DROP; $nft4 -P INPUT ACCEPT", (), (NEAR4,), "sealed",
         listeners=("0.0.0.0@6379",),
         saved="*raw\n:PREROUTING ACCEPT\n-A PREROUTING -p tcp --dport 6379 -j DROP\nCOMMIT\n# Generated by\n*filter\n:INPUT ACCEPT\nCOMMIT\n"),
)  # fmt: skip


def run(*argv, stdin=None):
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)


def tool(argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return Output(127, "", "not found")
    return Output(done.returncode, done.stdout, done.stderr)


def enter(descriptor):
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Lab:
    """Until its stack is closed, the main thread is in a new network namespace: the server's."""

    def __init__(self, stack):
        self.stack = stack
        outside = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.stack.callback(os.close, outside)
        self.stack.callback(enter, outside)
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.stack.callback(os.close, home)
        self.places = {"": home}
        batch = ["link set lo up"]
        for number, (name, net) in enumerate(NEIGHBOURS.items()):
            run("ip", "netns", "add", name)
            self.stack.callback(run, "ip", "netns", "delete", name)
            self.places[name] = os.open(f"/run/netns/{name}", os.O_RDONLY)
            self.stack.callback(os.close, self.places[name])
            ours, theirs = (f"02:00:00:00:{net:02}:{host:02}" for host in (1, 2))
            batch += [
                f"link add eth{number} address {ours} type veth peer name lan address {theirs} netns {name}",
                f"address add 10.77.{net}.1/24 dev eth{number}",
                f"address add 2001:db8:77:{net}::1/64 dev eth{number} nodad",
                f"link set eth{number} up",
            ]
            there = [
                "link set lo up",
                f"address add 10.77.{net}.2/24 dev lan",
                f"address add 2001:db8:77:{net}::2/64 dev lan nodad",
                "link set lan up",
                f"route add default via 10.77.{net}.1",
                f"route add ::/0 via 2001:db8:77:{net}::1",
            ]
            # A ruleset may drop what asks for a neighbour, and that is not what the traps are about.
            there += [f"neighbour add {address} lladdr {ours} dev lan" for address in (f"10.77.{net}.1", f"2001:db8:77:{net}::1")]
            batch += [f"neighbour add {address} lladdr {theirs} dev eth{number}" for address in (f"10.77.{net}.2", f"2001:db8:77:{net}::2")]
            run("ip", "-batch", "-", stdin="\n".join(batch))
            run("ip", "-n", name, "-batch", "-", stdin="\n".join(there))
            batch = []
        for name, address in (
            ("near", "10.77.1.1"),
            ("near", "2001:db8:77:1::1"),
            ("far", "2001:db8:77:2::1"),
            ("back", "2001:db8:77:9::1"),
        ):
            self._until_refused(name, address)

    def _until_refused(self, name, address):
        for _attempt in range(50):
            with self.socket(name, address) as client:
                try:
                    client.connect((address, 1))
                except ConnectionRefusedError:
                    return
                except OSError:
                    time.sleep(0.02)
        raise RuntimeError(f"{name} does not reach {address}")

    def socket(self, name, address):
        """Make a socket in a namespace; it stays there."""
        enter(self.places[name])
        try:
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        finally:
            enter(self.places[""])
        made.settimeout(SECONDS)
        return made

    def listen(self, place):
        """Send one byte to whoever comes."""
        where, _at, rest = place.rpartition("@")
        name, _space, address = where.rpartition(" ")
        port, *options = rest.split()
        listener = self.stack.enter_context(self.socket(name, address))
        if address == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if "transparent" in options:
            listener.setsockopt(*((socket.IPPROTO_IPV6, IPV6_TRANSPARENT) if ":" in address else (socket.SOL_IP, IP_TRANSPARENT)), 1)
        if "reused" in options:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        enter(self.places[name])
        try:
            listener.bind((address, int(port)))
        finally:
            enter(self.places[""])
        listener.listen()
        listener.settimeout(None)
        self.stack.callback(listener.shutdown, socket.SHUT_RDWR)  # before it is closed: accept() returns
        threading.Thread(target=serve, args=(listener, b"?" if "silent" in options else b"!"), daemon=True).start()

    def who_gets_in(self, knocks, port):
        """Let all of them try at once."""
        knocking = []
        for knock in knocks:
            name, address, *other = knock.split()
            knocking.append((self.socket(name, address), (address, int(other[0]) if other else port)))
        with ThreadPoolExecutor() as pool:
            return [knock for knock, inside in zip(knocks, pool.map(gets_in, knocking)) if inside]


def gets_in(knocking):
    client, place = knocking
    with client:
        try:
            client.connect(place)
            return client.recv(1) == b"!"
        except OSError:
            return False


def serve(listener, word):
    while True:
        try:
            accepted, _peer = listener.accept()
        except OSError:
            return
        with accepted, contextlib.suppress(OSError):
            accepted.send(word)


def source_of(knock):
    name, address, *_port = knock.split()
    net = NEIGHBOURS[name]
    return ("ipv6", network_range(f"2001:db8:77:{net}::2")) if ":" in address else ("ipv4", network_range(f"10.77.{net}.2"))


@pytest.fixture
def lab():
    with contextlib.ExitStack() as stack:
        yield Lab(stack)


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.name)
def test_trap(lab, trap):
    for place in trap.listeners:
        lab.listen(place)
    run("bash", "-euc", PRELUDE + trap.rules)
    evidence = gather(tool, collect(dump, tool))
    assert not evidence.firewall.gaps
    if trap.saved:
        tables, gaps = iptables_save.parse(trap.saved, "a file", "iptables-legacy", "ip")
        evidence = evidence._replace(firewall=evidence.firewall._replace(tables=tuple(tables), gaps=tuple(gaps)))
    (exposure,) = judge(evidence, [Service("it", trap.port)])
    assert [knock for knock in trap.opened if not lab.who_gets_in([knock], trap.port)] == []
    assert lab.who_gets_in(trap.shut, trap.port) == []
    for knock in trap.opened:
        family, source = source_of(knock)
        ways = [path for path in exposure.paths if path.family == family]
        assert any(low <= source.first <= high for path in ways for low, high in path.sources), (knock, exposure)
    assert exposure.verdict == trap.verdict, exposure


# Datagrams go to what routes of these types hold, although no interface has the address. Who: an address where near sends one.
DATAGRAMS = {
    "anycast": ("ip -6 route add anycast 2001:db8:9::9/128 dev eth0; $nft6 -A INPUT -d 2001:db8:9::/64 -j ACCEPT", STRANGE6),
    "anycast of another table": (
        "ip -6 rule add to 2001:db8:9::/64 lookup 100; ip -6 route add anycast 2001:db8:9::9/128 dev eth0 table 100; "
        "$nft6 -A INPUT -d 2001:db8:9::/64 -j ACCEPT",
        STRANGE6,
    ),
    "broadcast": ("ip route add broadcast 203.0.113.9 dev eth0 table local; $nft4 -A INPUT -d 203.0.113.0/24 -j ACCEPT", STRANGE4),
    "broadcast of another table": (
        "ip rule add to 203.0.113.0/24 lookup 100; ip route add broadcast 203.0.113.9 dev eth0 table 100; $nft4 -A INPUT -d 203.0.113.0/24 -j ACCEPT",
        STRANGE4,
    ),
    "nothing": ("$nft4 -A INPUT -d 203.0.113.0/24 -j ACCEPT", STRANGE4),
}


@pytest.mark.parametrize(("rules", "knock"), DATAGRAMS.values(), ids=list(DATAGRAMS))
def test_datagrams_by_a_route_of_another_type(lab, rules, knock):
    name, address = knock.split()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server, contextlib.suppress(TimeoutError):
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::", 6379))
        server.settimeout(SECONDS)
        run("bash", "-euc", PRELUDE + "ipt -P INPUT DROP; " + rules)
        (exposure,) = judge(gather(tool, collect(dump, tool)), [Service("it", 6379, "udp")])
        heard = b""
        enter(lab.places[name])
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as client:
            enter(lab.places[""])
            client.sendto(b"!", (address, 6379))
        heard = server.recv(9)
    assert bool(heard) == ("route" in rules)
    assert exposure.verdict in (("exposed", "unknown") if heard else ("sealed",)), exposure
