# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A ruleset says the same as text for iptables-restore and as it is read back, by whichever tool."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._model.network import subtract
from ansible_collections.loopguard.loopback.plugins.module_utils._parse import ipset_save, iptables_save, nft_json

sys.path.insert(0, str(Path(__file__).parents[3] / "oracle"))
import kernel
from compare import divided
from lab import run
from rulesets import IPSETS, Iptables

SEEDS = range(40)


@pytest.fixture(scope="module")
def ipsets():
    run("ipset", "restore", stdin=IPSETS)
    return ipset_save.parse(run("ipset", "save"), "ipset save")[0]


def of_text(text, backend, family):
    tables, gaps = iptables_save.parse(text, "test", f"iptables-{backend}", family)
    assert not gaps
    return tables


@pytest.mark.parametrize("backend", kernel.BACKENDS)
@pytest.mark.parametrize("family", kernel.FAMILIES)
def test_a_save_says_what_was_restored(ipsets, backend, family):
    for seed in SEEDS:
        text = kernel.complete(Iptables(seed, family).ruleset())
        run(kernel.command(backend, family, "restore"), stdin=text)
        saved = run(kernel.command(backend, family, "save"))
        said = [divided(of_text(dump, backend, family), ipsets, family) for dump in (text, saved)]
        assert said[0] == said[1], f"seed {seed}"


@pytest.mark.parametrize("family", kernel.FAMILIES)
def test_nft_says_less_of_rules_of_iptables_and_nothing_else(ipsets, family):
    """Extensions of iptables are opaque in `nft -j`: what they decide is `maybe` there."""
    settled = 0
    for seed in SEEDS:
        text = kernel.complete(Iptables(seed, family).ruleset())
        run("nft", "flush", "ruleset")
        run(kernel.command("nft", family, "restore"), stdin=text)
        tables, _gaps = nft_json.parse(run("nft", "-j", "list", "ruleset"), "nft")
        fully = divided(of_text(text, "nft", family), ipsets, family)
        for (protocol, port, reach), sources in divided(tables, ipsets, family).items():
            if reach != "maybe":
                settled += 1
                assert subtract(sources, fully.get((protocol, port, reach), [])) == [], f"seed {seed}"
    assert settled > len(SEEDS)
