# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of exposure_info as its documentation describes them, small enough to read in a test."""

from __future__ import annotations

from typing import Any

HOSTILE = (
    "\x1b[31m\x1b]0;title\x07</script><img src=http://192.0.2.9/x onerror=alert(1)>\u202egnp.exe\u2066\x9b2J\x00\r\n" + "A" * 1_000_000
)


def listener(address: str, port: int, **other: Any) -> dict[str, Any]:
    scope = "loopback" if address in ("127.0.0.1", "::1") else "wildcard"
    row = {"protocol": "tcp", "family": "ipv6" if ":" in address else "ipv4", "address": address, "port": port, "interface": None}
    row |= {"scope": scope, "v6only": False, "pids": [812], "process": "redis-server", "user": "redis", "unit": None, "container": None}
    return row | other


def path(family: str = "ipv4", text: str | None = None, **other: Any) -> dict[str, Any]:
    word = {"ipv4": "IPv4", "ipv6": "IPv6"}[family]
    rule = {"backend": "iptables-nft", "family": "ip", "table": "filter", "chain": "INPUT", "rule": 0, "text": "policy ACCEPT"}
    row = {"family": family, "interface": "eth0", "via": "bind", "reach": "accepted", "sources": ["0.0.0.0/0"], "sources_omitted": 0}
    row |= {"destinations": ["10.0.0.5"], "decided_by": [rule], "text": text or f"anyone on eth0 ({word}): policy ACCEPT", "shown": None}
    return row | other


def service(name: str, verdict: str, port: int = 6379, **other: Any) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "port": port, "protocol": "tcp", "kind": None, "declared": True, "verdict": verdict}
    row |= {"scope": "loopback", "listeners": [listener("127.0.0.1", port)], "paths": [], "reasons": [], "unknowns": []}
    row |= {"checked": ["bind", "firewall"], "controls": {}}
    if verdict == "exposed":
        row |= {"scope": "wildcard", "listeners": [listener("0.0.0.0", port), listener("::", port)], "paths": [path(), path("ipv6")]}
    if verdict == "unknown":
        row["unknowns"] = [gap()]
    if verdict == "absent":
        row |= {"scope": None, "listeners": []}
    return row | other


def gap(subject: str = "iptables-nft-save", reason: str = "denied", text: str = "you must be root") -> dict[str, str]:
    return {"subject": subject, "reason": reason, "text": text}


def answer(*services: dict[str, Any], unknowns: tuple[dict[str, str], ...] = (), privileged: bool = True) -> dict[str, Any]:
    host = {"hostname": "db1", "privileged": privileged, "recorded": False, "seconds": 0.5}
    host |= {"collected": "2026-11-22T21:30:00Z", "namespace": "4026531840"}
    return {"exposures": list(services), "summary": {}, "unknowns": list(unknowns), "host": host, "changed": False}


def hostile(text: str = HOSTILE) -> dict[str, Any]:
    """Return an answer with the text in every place that takes one."""
    rule = {"backend": text, "family": text, "table": text, "chain": text, "rule": 3, "text": text}
    way = path(text=text, interface=text, via=text, sources=[text] * 50, destinations=[text], decided_by=[rule])
    row = listener("127.0.0.1", 6379, interface=text, process=text, user=text, unit=text, protocol=text)
    row |= {"address": text, text: [text]}
    evil = service(text, "exposed", listeners=[row], paths=[way] * 60, reasons=[text], unknowns=[gap(text, text, text)])
    evil |= {"checked": [text], "kind": text, "protocol": text, "controls": {text: text}}
    doubt = service(text, "unknown", 6380, listeners=[row], unknowns=[gap(text, text, text)])
    result = answer(evil, doubt, unknowns=(gap(text, text, text),), privileged=False)
    result["host"] |= {"hostname": text, "namespace": text, "collected": text}
    return result
