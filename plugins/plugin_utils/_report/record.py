# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of one audit: what every host answered, ordered, counted and checked. Schema: docs/report.md."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone
from math import isfinite
from typing import Any

from .text import natural

SCHEMA = "loopguard.loopback/audit/1"
VERDICTS = ("exposed", "unknown", "sealed", "absent")
# A host's state is the worst verdict of its services, or why there is none. Worst first.
STATES = ("exposed", "unreachable", "failed", "no_result", "unknown", "sealed", "absent")
WITHOUT_RESULT = ("unreachable", "failed", "no_result")
# Which words of a record make `exposure_report_fail_on` fail.
FAILS_ON: dict[str, tuple[str, ...]] = {
    "never": (),
    "exposed": ("exposed",),
    "unknown": ("exposed", "unknown", *WITHOUT_RESULT),
}
# What shows that a relay leads to a service.
SHOWN = ("connection", "configuration", "command_line", "program")
WORST = 20
_TEXT_LIMIT = 4096
_DEPTH_LIMIT = 8


class NotUnderstoodError(ValueError):
    """A host's answer does not have the shape that exposure_info documents; the message names the place."""


def build_record(findings: dict[str, Any], version: str, started: datetime, finished: datetime) -> dict[str, Any]:
    """Make the record of the schema from what each host registered.

    findings: host name -> the registered result of exposure_info, or None where there is none.
    """
    hosts = sorted(
        (_host(name, result) for name, result in findings.items()),
        key=lambda host: (STATES.index(host["state"]), natural(host["name"])),
    )
    services = Counter(service["verdict"] for host in hosts for service in host["services"])
    states = Counter(host["state"] for host in hosts)
    return {
        "schema": SCHEMA,
        "collection": {"name": "loopguard.loopback", "version": version},
        "started": _stamp(started),
        "finished": _stamp(finished),
        "seconds": round(max(0.0, (finished - started).total_seconds()), 1),
        "summary": {
            "hosts": {"total": len(hosts), **{state: states[state] for state in STATES}},
            "services": {"total": sum(services.values()), **{word: services[word] for word in VERDICTS}},
        },
        "worst": _worst(hosts),
        "hosts": hosts,
    }


def fails(record: dict[str, Any], fail_on: str) -> list[str]:
    """Return what the record holds that `fail_on` forbids, as words: ["2 services exposed", "1 host unreachable"]."""
    words = FAILS_ON[fail_on]
    services, hosts = record["summary"]["services"], record["summary"]["hosts"]
    found = [(services[word], "service", word) for word in VERDICTS if word in words]
    found += [(hosts[word], "host", word.replace("_", " ")) for word in WITHOUT_RESULT if word in words]
    if "unknown" in words:
        found.append((sum(1 for host in record["hosts"] if _empty_unknown(host)), "host", "unknown"))
    return [f"{number} {noun}{'' if number == 1 else 's'} {word}" for number, noun, word in found if number]


def started_at(findings: dict[str, Any], process_started: datetime | None, finished: datetime) -> datetime:
    """Return when the first host was looked at.

    Clocks of hosts may be wrong, so what they say counts only between the start of this process and now.
    """
    times = []
    for result in findings.values():
        host = result.get("host") if isinstance(result, dict) else None
        try:
            collected = datetime.strptime(host["collected"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)  # type: ignore[index]  # TypeError is caught
            times.append(collected - timedelta(seconds=host["seconds"]))  # type: ignore[index]  # TypeError is caught
        except (KeyError, OverflowError, TypeError, ValueError):
            continue
    earliest = min((moment for moment in times if moment <= finished), default=process_started or finished)
    return max(earliest, process_started) if process_started else earliest


def _empty_unknown(host: dict[str, Any]) -> bool:
    return host["state"] == "unknown" and not host["services"]


def _stamp(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _host(name: str, result: Any) -> dict[str, Any]:
    host: dict[str, Any] = {"name": name, "state": "no_result", "message": None, "facts": None, "services": [], "unknowns": []}
    if result is None:
        host["message"] = "no findings were registered for this host"
    elif not isinstance(result, dict):
        host["message"] = f"the findings are a {type(result).__name__}, not the result of exposure_info"
    elif result.get("unreachable") is True:
        host.update(state="unreachable", message=_message(result))
    elif result.get("failed") is True:
        host.update(state="failed", message=_message(result))
    elif result.get("skipped") is True:
        host["message"] = "the task that looks at this host was skipped"
    else:
        try:
            services = [_service(row, f"exposures[{i}]") for i, row in enumerate(_rows(result, "exposures", ""))]
            unknowns = [_gap(row, f"unknowns[{i}]") for i, row in enumerate(_rows(result, "unknowns", ""))]
            facts = _facts(_mapping(result, "host", ""))
        except NotUnderstoodError as error:
            host.update(state="failed", message=f"the answer was not understood: {error}")
            return host
        services.sort(key=lambda row: (VERDICTS.index(row["verdict"]), natural(row["name"]), row["port"], row["protocol"]))
        host.update(state=_state(services, unknowns), facts=facts, services=services, unknowns=unknowns)
    return host


def _message(result: dict[str, Any]) -> str:
    return _text(result.get("msg", "")).removeprefix("Task failed: ").removeprefix("Action failed: ")


def _state(services: list[dict[str, Any]], unknowns: list[dict[str, Any]]) -> str:
    if not services:
        return "unknown" if unknowns else "absent"
    return str(services[0]["verdict"])


def _worst(hosts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the services that most hosts expose, then those that most hosts leave unknown."""
    places: dict[tuple[str, int, str], dict[str, list[str]]] = {}
    for host in hosts:
        for service in host["services"]:
            if service["verdict"] in ("exposed", "unknown"):
                key = service["name"], service["port"], service["protocol"]
                names = places.setdefault(key, {"exposed": [], "unknown": []})[service["verdict"]]
                if host["name"] not in names:
                    names.append(host["name"])
    ranking = sorted(places.items(), key=lambda item: (-len(item[1]["exposed"]), -len(item[1]["unknown"]), natural(item[0][0]), item[0]))
    return [
        {
            "name": name,
            "port": port,
            "protocol": protocol,
            "exposed": len(by["exposed"]),
            "unknown": len(by["unknown"]),
            "hosts": (by["exposed"] + by["unknown"])[:WORST],
        }
        for (name, port, protocol), by in ranking[:WORST]
    ]


# What a host sends is read key by key: a host that lies about the shape is "failed", not a traceback and not a pass.


def _service(row: Any, where: str) -> dict[str, Any]:
    _want(isinstance(row, dict), where, "a mapping")
    return {
        "name": _string(row, "name", where),
        "port": _port(row, where),
        "protocol": _string(row, "protocol", where),
        "kind": _optional(row, "kind", where),
        "declared": row.get("declared") is True,
        "verdict": _word(row, "verdict", where, VERDICTS),
        "scope": _optional(row, "scope", where),
        "listeners": [_listener(item, f"{where}.listeners[{i}]") for i, item in enumerate(_rows(row, "listeners", where))],
        "paths": [_path(item, f"{where}.paths[{i}]") for i, item in enumerate(_rows(row, "paths", where))],
        "reasons": _strings(row, "reasons", where),
        "unknowns": [_gap(item, f"{where}.unknowns[{i}]") for i, item in enumerate(_rows(row, "unknowns", where))],
        "checked": _strings(row, "checked", where),
        "controls": _bounded(row["controls"]) if isinstance(row.get("controls"), dict) else {},
    }


def _listener(row: Any, where: str) -> dict[str, Any]:
    _want(isinstance(row, dict), where, "a mapping")
    known = {
        "protocol": _string(row, "protocol", where),
        "family": _string(row, "family", where),
        "address": _string(row, "address", where),
        "port": _port(row, where),
        "interface": _optional(row, "interface", where),
        "scope": _optional(row, "scope", where),
        "process": _optional(row, "process", where),
        "user": _optional(row, "user", where),
        "unit": _optional(row, "unit", where),
        "pids": [pid for pid in row.get("pids") or [] if isinstance(pid, int)] if isinstance(row.get("pids"), list) else [],
    }
    return {**{_text(key): _bounded(value) for key, value in sorted(row.items())}, **known}


def _path(row: Any, where: str) -> dict[str, Any]:
    _want(isinstance(row, dict), where, "a mapping")
    return {
        "family": _string(row, "family", where),
        "interface": _string(row, "interface", where),
        "via": _string(row, "via", where),
        "reach": _word(row, "reach", where, ("accepted", "maybe")),
        "sources": _strings(row, "sources", where),
        "sources_omitted": _omitted(row, where),
        "destinations": _strings(row, "destinations", where),
        "decided_by": [_rule(item, f"{where}.decided_by[{i}]") for i, item in enumerate(_rows(row, "decided_by", where))],
        "text": _string(row, "text", where),
        "shown": None if row.get("shown") is None else _word(row, "shown", where, SHOWN),
    }


def _omitted(row: dict[str, Any], where: str) -> int:
    number = row.get("sources_omitted", 0)
    _want(isinstance(number, int) and not isinstance(number, bool) and number >= 0, f"{where}.sources_omitted", "a number")
    return int(number)


def _rule(row: Any, where: str) -> dict[str, Any]:
    _want(isinstance(row, dict), where, "a mapping")
    number = row.get("rule")
    _want(isinstance(number, int) and not isinstance(number, bool) and number >= 0, f"{where}.rule", "a rule number")
    return {
        "backend": _string(row, "backend", where),
        "family": _string(row, "family", where),
        "table": _string(row, "table", where),
        "chain": _string(row, "chain", where),
        "rule": number,
        "text": _string(row, "text", where),
    }


def _gap(row: Any, where: str) -> dict[str, Any]:
    _want(isinstance(row, dict), where, "a mapping")
    return {key: _string(row, key, where) for key in ("subject", "reason", "text")}


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    seconds = row.get("seconds")
    return {
        "hostname": _optional(row, "hostname", "host"),
        "privileged": row.get("privileged") is True,
        "recorded": row.get("recorded") is True,
        "seconds": float(seconds) if isinstance(seconds, (int, float)) and 0 <= seconds < 1e9 else None,
        "collected": _optional(row, "collected", "host"),
        "namespace": _optional(row, "namespace", "host"),
    }


def _want(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise NotUnderstoodError(f"{where} is not {what}")


def _rows(row: dict[str, Any], key: str, where: str) -> list[Any]:
    value = row.get(key)
    _want(isinstance(value, list), f"{where}.{key}".lstrip("."), "a list")
    return value  # type: ignore[return-value]  # _want has seen it


def _mapping(row: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    value = row.get(key)
    _want(isinstance(value, dict), f"{where}.{key}".lstrip("."), "a mapping")
    return value  # type: ignore[return-value]  # _want has seen it


def _string(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    _want(isinstance(value, str), f"{where}.{key}", "a text")
    return _text(value)


def _optional(row: dict[str, Any], key: str, where: str) -> str | None:
    return None if row.get(key) is None else _string(row, key, where)


def _strings(row: dict[str, Any], key: str, where: str) -> list[str]:
    values = _rows(row, key, where)
    _want(all(isinstance(value, str) for value in values), f"{where}.{key}", "a list of texts")
    return [_text(value) for value in values]


def _word(row: dict[str, Any], key: str, where: str, words: tuple[str, ...]) -> str:
    value = row.get(key)
    _want(value in words, f"{where}.{key}", f"one of {', '.join(words)}")
    return str(value)


def _port(row: dict[str, Any], where: str) -> int:
    value = row.get("port")
    _want(isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535, f"{where}.port", "a port")
    return int(value)  # type: ignore[arg-type]  # _want has seen it


def _text(value: Any) -> str:
    """Return plain, bounded text; Ansible's tagged strings lose their tags here."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > _TEXT_LIMIT:
        return f"{text[:_TEXT_LIMIT]}… ({len(text):,} characters)"
    return str(text)


def _bounded(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, dict) and depth < _DEPTH_LIMIT:
        return {_text(key): _bounded(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list) and depth < _DEPTH_LIMIT:
        return [_bounded(item, depth + 1) for item in value]
    return _text(value)
