# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page in a browser: Chromium through chromedriver (https://www.w3.org/TR/webdriver2/)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timezone
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.loopguard.loopback.plugins.plugin_utils._report.page import render_page
from ansible_collections.loopguard.loopback.plugins.plugin_utils._report.record import build_record

sys.path.insert(0, str(Path(__file__).parents[3] / "unit/plugins/plugin_utils"))
from answers import HOSTILE, answer, gap, hostile, path, service

NOW = datetime(2026, 11, 22, 21, 30, tzinfo=timezone.utc)
SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
]


class Browser:
    def __init__(self, port: int, profile: Path) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=120)
        self._session = ""
        options = {"binary": "/usr/bin/chromium", "args": [*SWITCHES, f"--user-data-dir={profile}"]}
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
            "unhandledPromptBehavior": "ignore",
        }
        self._session = f"/session/{self.ask('POST', '/session', capabilities={'alwaysMatch': wanted})['sessionId']}"

    def close(self) -> None:
        self.ask("DELETE", "")
        self._connection.close()

    def ask(self, method: str, path: str, **body: Any) -> Any:
        self._connection.request(method, self._session + path, json.dumps(body) if method == "POST" else None)
        value = json.loads(self._connection.getresponse().read())["value"]
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(value["message"])
        return value

    def cdp(self, command: str, **parameters: Any) -> Any:
        return self.ask("POST", "/goog/cdp/execute", cmd=command, params=parameters)

    def run(self, script: str) -> Any:
        return self.ask("POST", "/execute/sync", script=script, args=[])

    def open(self, page: Path, width: int = 1280, dark: bool = False, script: bool = True) -> None:
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.cdp("Emulation.setScriptExecutionDisabled", value=not script)
        self.log("performance")
        self.ask("POST", "/url", url=page.as_uri())

    def log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.ask("POST", "/se/log", type=kind)
        return entries

    def requests(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.log("performance")]
        return [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout
        ports = (int(found.group(1)) for line in driver.stdout if (found := re.search(r"successfully on port (\d+)", line)))
        port = next(ports, 0)
        assert port, "chromedriver did not start"
        with closing(Browser(port, tmp_path_factory.mktemp("profile"))) as opened:
            yield opened
        driver.terminate()


def page(folder: Path, findings: dict[str, Any]) -> Path:
    file = folder / "index.html"
    file.write_text(render_page(build_record(findings, "0.1.0", NOW, NOW)), "utf-8")
    return file


def fleet() -> dict[str, Any]:
    services = service("redis", "exposed"), service("mosquitto", "sealed", 1883), service("gone", "absent", 2)
    findings = {f"web{number}": answer(*services) for number in range(3)}
    findings |= {f"db{number}": answer(service("grafana", "unknown", 3000), unknowns=(gap(),), privileged=False) for number in range(2)}
    findings["quiet"] = answer(service("mosquitto", "sealed", 1883))
    return {**findings, "dark": {"unreachable": True, "msg": "no route to host"}}


VISIBLE = "return [...document.querySelectorAll('[data-verdict]')].filter(row => !row.hidden).map(row => row.dataset.verdict)"


@pytest.mark.parametrize(
    "make", [lambda: {"localhost": hostile()}, lambda: {HOSTILE[:200]: hostile(), "b": {"failed": True, "msg": HOSTILE}}]
)
def test_hostile_texts_do_nothing(browser: Browser, tmp_path: Path, make: Any) -> None:
    file = page(tmp_path, make())
    browser.open(file)
    with pytest.raises(RuntimeError, match="no such alert"):
        browser.ask("GET", "/alert/text")
    assert browser.requests() == [file.as_uri()]
    assert browser.run("return document.querySelectorAll('img,iframe,object,embed,link,base,form').length") == 0
    assert browser.run("return document.scripts.length") == 1
    assert (
        browser.run("return [...document.querySelectorAll('*')].some(e => [...e.attributes].some(a => a.name.startsWith('on')))") is False
    )
    assert "<img src=http://192.0.2.9/x onerror=alert(1)>\\u202egnp.exe" in browser.run("return document.body.textContent")
    assert [entry for entry in browser.log("browser") if entry["level"] == "SEVERE"] == []
    browser.open(file, 360)
    assert browser.run("return document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_no_sideways_scrolling_and_enough_contrast(browser: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    browser.open(page(tmp_path, fleet()), width, dark)
    browser.run("document.querySelectorAll('details').forEach(item => { item.open = true; })")
    assert browser.run("return document.documentElement.scrollWidth") == width
    # WCAG 2.2, 1.4.3: the ratio of every text to the first opaque background behind it.
    ratios = browser.run("""
      const channels = c => c.match(/[\\d.]+/g).map(Number);
      const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
      const behind = e => { const c = channels(getComputedStyle(e).backgroundColor); return c.length < 4 || c[3] > 0 ? c : behind(e.parentElement); };
      return [...document.querySelectorAll('body *')].filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.tagName !== 'SCRIPT')
        .map(e => { const [a, b] = [light(channels(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
          return [(a + .05) / (b + .05), e.className || e.tagName]; });
    """)
    assert len(ratios) > 50
    assert [row for row in ratios if row[0] < 4.5] == []
    assert len(b64decode(browser.ask("GET", "/screenshot"))) > 10_000


def test_the_filter_shows_what_is_asked_and_hides_empty_hosts(browser: Browser, tmp_path: Path) -> None:
    browser.open(page(tmp_path, fleet()))
    assert len(browser.run(VISIBLE)) == 13
    browser.run(
        "document.querySelectorAll('#filter input[type=checkbox]').forEach(box => { if (box.value !== 'unknown') { box.click(); } })"
    )
    assert browser.run(VISIBLE) == ["unknown", "unknown"]
    assert browser.run("return [...document.querySelectorAll('[data-host]')].filter(e => !e.hidden).map(e => e.dataset.host)") == [
        "db0",
        "db1",
    ]
    assert browser.run("return document.getElementById('result').textContent") == "2 of 13 rows shown"


def test_the_search_takes_names_of_hosts_and_services(browser: Browser, tmp_path: Path) -> None:
    browser.open(page(tmp_path, fleet()))
    browser.run("const box = document.querySelector('input[type=search]'); box.value = 'web1 mosq'; box.dispatchEvent(new Event('input'))")
    browser.ask("POST", "/execute/async", script="setTimeout(arguments[0], 400)", args=[])
    assert browser.run(VISIBLE) == ["sealed"]


def test_without_script_everything_is_there_but_the_filter(browser: Browser, tmp_path: Path) -> None:
    browser.open(page(tmp_path, fleet()), script=False)
    tree = browser.cdp("Accessibility.getFullAXTree")["nodes"]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]]
    assert {"banner", "main", "contentinfo"} <= {role for role, _name in roles}
    assert not [name for role, name in roles if role == "searchbox"]
    assert ("columnheader", "Who gets in, and how") in roles
    assert ("rowheader", "redis") in roles
    assert ("heading", "web0") in roles
    browser.cdp("Emulation.setScriptExecutionDisabled", value=False)


def test_the_keyboard_opens_the_evidence(browser: Browser, tmp_path: Path) -> None:
    browser.open(page(tmp_path, {"localhost": answer(service("redis", "exposed"))}))
    browser.run("document.querySelector('td summary').focus()")
    keys = [{"type": "keyDown", "value": "\ue007"}, {"type": "keyUp", "value": "\ue007"}]
    browser.ask("POST", "/actions", actions=[{"type": "key", "id": "keys", "actions": keys}])
    assert browser.run("return document.querySelector('td details').open") is True
    assert "INPUT policy" in browser.run("return document.querySelector('svg.way').textContent")


RELAYED = path(
    text="anyone on any interface via nginx (pid 8120) listening on 0.0.0.0:15432, by its configuration /etc/nginx/conf.d/orders-db.conf:12",
    via="relay", interface="any", shown="configuration",
)  # fmt: skip
DOUBTED = path(text="anyone on eth0 (IPv4): `-j DNAT --to 127.0.0.1:5432` sends packets elsewhere", via="redirect", reach="maybe")
WIDE = path(text="anyone on 網路 (IPv4): policy ACCEPT", interface="網路介面" * 10)


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_a_path_is_a_picture(browser: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    ways = service("orders-db", "exposed", paths=[RELAYED, DOUBTED, WIDE])
    browser.open(page(tmp_path, {"localhost": answer(ways)}), width, dark)
    browser.run("document.querySelectorAll('details').forEach(item => { item.open = true; })")
    # Every word lies inside its picture, and in its own line.
    boxes = browser.run("""
      return [...document.querySelectorAll('svg.way')].map(svg => { const all = svg.getBoundingClientRect();
        const texts = [...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect());
        return [texts.length, texts.every(box => box.width > 0 && box.left >= all.left && box.right <= all.right && box.bottom <= all.bottom),
          texts.every((box, i) => i === 0 || box.top >= texts[i - 1].top + 12)]; });
    """)
    assert [row[1:] for row in boxes] == [[True, True]] * 3
    assert min(row[0] for row in boxes) >= 8
    # A doubt is told by the line, not by its colour alone.
    dashes = browser.run("return [...document.querySelectorAll('svg.way > path')].map(line => getComputedStyle(line).strokeDasharray)")
    assert set(dashes[:4]) == {"none"}
    assert set(dashes[4:8]) == {"2px, 5px"}
    pictures = {
        node["name"]["value"]: node["description"]["value"]
        for node in browser.cdp("Accessibility.getFullAXTree")["nodes"]
        if node["role"]["value"] in ("image", "img") and not node["ignored"]
    }
    assert set(pictures) == {"An open way to orders-db", "A way that is not shown to be closed to orders-db"}
    browser.run("document.querySelectorAll('svg.way')[2].remove()")
    told = browser.run("return document.querySelector('svg.way desc').textContent")
    assert told == (
        "who: anyone, IPv4. interface: any interface, but loopback. rule: INPUT policy, policy ACCEPT. relay: nginx (pid 8120), "
        "listening on 0.0.0.0:15432, by its configuration /etc/nginx/conf.d/orders-db.conf:12. "
        "service: orders-db, 0.0.0.0:6379, [::]:6379"
    )


def test_a_thousand_hosts_open(browser: Browser, tmp_path: Path) -> None:
    services = [service(f"s{number}", "exposed" if number < 3 else "sealed", number + 1) for number in range(30)]
    browser.open(page(tmp_path, {f"web{number}": answer(*services) for number in range(1000)}))
    timing = browser.run("const t = performance.getEntriesByType('navigation')[0]; return [t.domContentLoadedEventEnd, t.loadEventEnd]")
    assert max(timing) < 15_000  # on two busy cores; 1 to 2 s alone
    assert len(browser.run(VISIBLE)) == 5000
