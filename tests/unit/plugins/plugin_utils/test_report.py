# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import re
import shlex
import sys
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.loopguard.loopback.plugins.plugin_utils._report.page import render_page
from ansible_collections.loopguard.loopback.plugins.plugin_utils._report.record import build_record, fails, started_at
from ansible_collections.loopguard.loopback.plugins.plugin_utils._report.table import render_table
from ansible_collections.loopguard.loopback.plugins.plugin_utils._report.text import endpoint, visible

sys.path.insert(0, str(Path(__file__).parent))
from answers import HOSTILE, answer, gap, hostile, listener, path, service

ROOT = Path(__file__).parents[4]
SCHEMA = json.loads((ROOT / "roles/exposure_report/files/audit-1.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
END = datetime(2026, 11, 22, 21, 30, 2, tzinfo=timezone.utc)
LINKS = {"html": "reports/latest/index.html", "json": "reports/latest/audit.json"}
UNREACHABLE = {"unreachable": True, "msg": "Task failed: no route to host", "changed": False}
FAILED = {"failed": True, "msg": "no python", "changed": False}


def record(findings: dict[str, Any]) -> dict[str, Any]:
    made = build_record(findings, "0.1.0", END - timedelta(seconds=1.8), END)
    VALIDATOR.validate(json.loads(json.dumps(made, allow_nan=False)))
    return made


def table(findings: dict[str, Any], width: int = 120) -> str:
    return "\n".join(render_table(record(findings), width, LINKS, ["ansible", "-i", "hosts.yml"]))


def test_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_services_and_hosts_are_ordered_worst_first_and_counted() -> None:
    made = record(
        {
            "web10": answer(service("a", "sealed")),
            "web2": answer(service("b", "sealed"), service("a", "exposed"), service("c", "unknown")),
            "web1": answer(service("a", "exposed")),
            "dark": UNREACHABLE,
            "odd": FAILED,
            "none": None,
            "doubt": answer(service("a", "unknown")),
            "idle": answer(),
        }
    )
    assert [host["name"] for host in made["hosts"]] == ["web1", "web2", "dark", "odd", "none", "doubt", "web10", "idle"]
    assert [row["verdict"] for row in made["hosts"][1]["services"]] == ["exposed", "unknown", "sealed"]
    assert made["summary"]["services"] == {"total": 6, "exposed": 2, "unknown": 2, "sealed": 2, "absent": 0}
    states = {"exposed": 2, "unreachable": 1, "failed": 1, "no_result": 1, "unknown": 1, "sealed": 1, "absent": 1}
    assert made["summary"]["hosts"] == {"total": 8, **states}
    assert made["worst"][0] == {
        "name": "a",
        "port": 6379,
        "protocol": "tcp",
        "exposed": 2,
        "unknown": 1,
        "hosts": ["web1", "web2", "doubt"],
    }


def test_order_does_not_depend_on_the_order_of_answers() -> None:
    findings = {f"h{number}": answer(service("b", "sealed", 2), service("a", "sealed", 1)) for number in range(12)}
    backwards = dict(reversed([(name, answer(*reversed(result["exposures"]))) for name, result in findings.items()]))
    assert record(findings) == record(backwards)


@pytest.mark.parametrize(
    ("result", "state", "message"),
    [
        (None, "no_result", "no findings were registered for this host"),
        ({"skipped": True}, "no_result", "the task that looks at this host was skipped"),
        (UNREACHABLE, "unreachable", "no route to host"),
        (FAILED, "failed", "no python"),
        ("sealed", "no_result", "the findings are a str, not the result of exposure_info"),
        ({}, "failed", "the answer was not understood: exposures is not a list"),
        ({**answer(), "host": None}, "failed", "the answer was not understood: host is not a mapping"),
        (answer({**service("a", "sealed"), "verdict": "safe"}), "failed",
         "the answer was not understood: exposures[0].verdict is not one of exposed, unknown, sealed, absent"),
        (answer({**service("a", "sealed"), "port": True}), "failed", "the answer was not understood: exposures[0].port is not a port"),
        (answer(service("a", "sealed", paths=[path(reach=["accepted"])])), "failed",
         "the answer was not understood: exposures[0].paths[0].reach is not one of accepted, maybe"),
    ],
)  # fmt: skip
def test_a_host_without_a_result_is_never_a_pass(result: Any, state: str, message: str) -> None:
    made = record({"web1": result})
    assert (made["hosts"][0]["state"], made["hosts"][0]["message"]) == (state, message)
    assert made["hosts"][0]["services"] == []
    assert fails(made, "unknown") == [f"1 host {state.replace('_', ' ')}"]
    assert state.replace("_", " ").upper() in table({"web1": result})
    assert message in render_page(made)


def test_nothing_found_is_unknown_when_something_was_not_seen() -> None:
    assert record({"h": answer(unknowns=(gap(),))})["hosts"][0]["state"] == "unknown"
    assert fails(record({"h": answer(unknowns=(gap(),))}), "unknown") == ["1 host unknown"]
    assert record({"h": answer()})["hosts"][0]["state"] == "absent"


@pytest.mark.parametrize(
    ("fail_on", "expected"),
    [
        ("never", []),
        ("exposed", ["1 service exposed"]),
        ("unknown", ["1 service exposed", "2 services unknown", "1 host unreachable", "1 host failed", "1 host no result"]),
    ],
)
def test_fail_on(fail_on: str, expected: list[str]) -> None:
    findings = {"a": answer(service("x", "exposed"), service("y", "unknown")), "b": answer(service("y", "unknown"))}
    made = record({**findings, "c": UNREACHABLE, "d": FAILED, "e": None, "f": answer(service("z", "absent"), service("w", "sealed"))})
    assert fails(made, fail_on) == expected
    assert fails(record({"f": answer(service("z", "absent"), service("w", "sealed"))}), fail_on) == []


def test_started_is_the_earliest_look_and_wrong_clocks_do_not_count() -> None:
    begun = END - timedelta(seconds=4)

    def seen(collected: str, seconds: Any = 0.5) -> dict[str, Any]:
        result = answer()
        result["host"] |= {"collected": collected, "seconds": seconds}
        return result

    assert started_at({"a": seen("2026-11-22T21:30:01Z")}, begun, END) == END - timedelta(seconds=1.5)
    assert started_at({"a": seen("2001-01-01T00:00:00Z")}, begun, END) == begun
    assert started_at({"a": seen("2101-01-01T00:00:00Z"), "b": seen("x"), "c": seen("2026-11-22T21:30:00Z", "x")}, begun, END) == begun
    assert started_at({"a": None, "b": UNREACHABLE, "c": "x"}, None, END) == END


def test_one_machine_on_one_screen() -> None:
    orders = service("orders-db", "exposed", 5432, listeners=[listener("127.0.0.1", 5432)])
    orders["paths"] = [path(via="relay", text="anyone on eth0 via socat (pid 812) listening on 0.0.0.0:15432")]
    lines = table({"localhost": answer(service("mosquitto", "sealed", 1883), service("redis", "exposed"), orders)}, 120).splitlines()
    assert lines == [
        "loopguard.loopback 0.1.0: auditing this machine (as root; nothing is changed)",
        "",
        "SERVICE    LISTENS ON               VERDICT  WHO GETS IN, AND HOW",
        "orders-db  127.0.0.1:5432           EXPOSED  anyone on eth0 via socat (pid 812) listening on 0.0.0.0:15432",
        "redis      0.0.0.0:6379, [::]:6379  EXPOSED  anyone on eth0 (IPv4, IPv6): policy ACCEPT",
        "mosquitto  127.0.0.1:1883           SEALED   this machine only; checked: bind, firewall",
        "",
        "2 exposed, 1 sealed, of 3 services on 1 host (1.8 s)",
        "Report   reports/latest/index.html",
        "Record   reports/latest/audit.json",
        "Next     ansible localhost -i hosts.yml -m include_role -a name=loopguard.loopback.verify_bind"
        """ -e '{"verify_bind_enforce": true}' --check --diff""",
    ]


def test_the_next_step_declares_what_was_only_discovered() -> None:
    last = table({"web1": answer(service("redis", "exposed", declared=False))}).splitlines()[-1]
    assert shlex.split(last)[-4:] == [
        "-e",
        '{"verify_bind_enforce": true, "loopguard_services": [{"name": "redis", "port": 6379, "protocol": "tcp"}]}',
        "--check",
        "--diff",
    ]
    assert "Next" not in table({"web1": answer(service("redis", "unknown"), service("b", "sealed", 2))})


def test_an_ordinary_user_is_told_once_what_was_not_seen() -> None:
    text = table({"localhost": answer(service("a", "unknown"), service("b", "unknown", 2), unknowns=(gap(),), privileged=False)})
    assert "(as an ordinary user; nothing is changed)" in text
    assert text.count("run again as root") == 1
    assert "Not seen: iptables-nft-save. To see it, run again as root: sudo make audit, or --become." in text
    assert "run again as root" not in table({"localhost": answer(service("a", "unknown"), unknowns=(gap(),))})


def test_a_fleet_is_cut_to_a_screen_and_points_to_the_page() -> None:
    findings: dict[str, Any] = {f"web{number}": answer(service("redis", "exposed"), service("b", "sealed", 2)) for number in range(100)}
    lines = table({**findings, "dark": UNREACHABLE}).splitlines()
    assert "FLEET  101 hosts: 100 exposed · 1 unreachable" in lines
    assert lines[lines.index("EXPOSED ON  UNKNOWN ON  SERVICE") + 1] == "100         0           redis 6379/tcp: web0, web1, web2 +97"
    assert "... 191 more rows, none worse than these: reports/latest/index.html" in lines
    assert sum(" EXPOSED " in line for line in lines) == 10
    assert len(lines) < 40


@pytest.mark.parametrize("width", [40, 60, 80, 100, 132])
def test_the_width_is_respected_and_no_word_is_lost(width: int) -> None:
    made = answer(service("a-rather-long-name-for-a-service-" * 2, "exposed"), service("b", "unknown", 2))
    text = table({"web-with-a-long-name.example.org": made, "dark": UNREACHABLE}, width)
    lines = [line for line in text.splitlines() if not line.startswith("Next ")]
    assert all(len(line) <= width for line in lines)
    flat = re.sub(r"\s+", "", text)
    for word in ("policyACCEPT", "youmustberoot", "noroutetohost", "EXPOSED", "UNKNOWN", "UNREACHABLE"):
        assert word in flat


def test_colour_is_added_to_the_word_and_never_replaces_it() -> None:
    made = record({"h": answer(service("a", "exposed"))})
    plain = render_table(made, 120, {}, ["ansible"])
    painted = render_table(made, 120, {}, ["ansible"], lambda text, word: f"<{word}>{text}</>")
    assert [re.sub(r"<[^>]*>", "", line) for line in painted] == plain
    assert any("<exposed>EXPOSED</>" in line for line in painted)


def test_no_character_of_a_host_acts_on_the_terminal() -> None:
    text = table({"h": hostile(), "dark": {**UNREACHABLE, "msg": HOSTILE}, "odd": {**FAILED, "msg": HOSTILE}, HOSTILE[:200]: answer()})
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "\\x1b[31m" in text
    assert len(text) < 20_000


def test_long_texts_are_bounded_in_the_record() -> None:
    made = record({"h": hostile()})
    assert made["hosts"][0]["services"][0]["name"].endswith(f"… ({len(HOSTILE):,} characters)")


def test_numbers_that_json_does_not_have_become_null() -> None:
    result = answer(service("a", "sealed", listeners=[listener("127.0.0.1", 1, odd=float("nan"))]))
    result["host"]["seconds"] = float("inf")
    made = record({"h": result})
    assert made["hosts"][0]["services"][0]["listeners"][0]["odd"] is None
    assert made["hosts"][0]["facts"]["seconds"] is None


def test_the_page_has_no_element_and_no_address_from_a_host() -> None:
    page = render_page(record({"h": hostile()}))
    seen: list[tuple[str, str, str]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.extend((tag, name, value or "") for name, value in [("", ""), *attrs])

    Reader().feed(page)
    assert "default-src 'none'; style-src 'sha256-" in page
    assert sum(tag == "script" for tag, name, _value in seen if not name) == 1
    assert not {tag for tag, _name, _value in seen} & {"img", "iframe", "object", "embed", "link", "base", "form"}
    addresses = [value for _tag, name, value in seen if name in ("href", "src", "action", "style") or name.startswith("on")]
    symbols = {f"#way-{kind}" for kind in ("who", "interface", "rule", "redirect", "service", "arrow")}
    assert set(addresses) == {"#services", *symbols}
    assert sum(tag == "svg" for tag, name, _value in seen if not name) == 1 + 40  # the symbols, and the ways that are shown
    assert not set("\x1b\x07\x00\x9b\u202e\u2066") & set(page)


def test_the_page_of_a_thousand_hosts_stays_small_and_names_every_host() -> None:
    services = [service(f"s{number}", "exposed" if number < 3 else "sealed", number + 1) for number in range(40)]
    page = render_page(build_record({f"web{number}": answer(*services) for number in range(1000)}, "0.1.0", END, END))
    assert len(page) < 6_000_000
    assert page.count('data-host="') == 1000
    assert page.count("<tr class=") == 5000
    assert "in audit.json" in page


def test_names_for_people() -> None:
    assert endpoint(listener("fe80::1", 22, interface="eth0")) == "[fe80::1%eth0]:22"
    assert endpoint(listener("127.0.0.53", 53, interface="lo", protocol="udp")) == "127.0.0.53%lo:53/udp"
    assert visible("Käse 日本 a\tb\u200d\ud800\U000e0041") == "Käse 日本 a\\x09b\\u200d\\ud800\\U000e0041"
    assert visible("x" * 500, 10) == "xxxxxxxxxx… (500 characters)"
