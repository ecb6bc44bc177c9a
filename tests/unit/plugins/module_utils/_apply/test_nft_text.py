# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rulesets of nftables as text, without nft; listings are those of the real tool."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._apply import nft_text as text

LISTINGS = sorted((Path(__file__).parents[1] / "fixtures/nft").glob("*.txt"))
MOVING = """\
table inet loopguard {
\tset met {
\t\ttype ipv4_addr
\t\tflags dynamic,timeout
\t\telements = { 192.0.2.1 timeout 1h expires 59m,
\t\t\t     192.0.2.2 timeout 1h expires 58m }
\t}

\tset fixed {
\t\ttype ipv4_addr
\t\tflags interval
\t\telements = { 198.51.100.0/24 }
\t}
}
"""


@pytest.mark.parametrize("path", LISTINGS, ids=lambda path: path.name)
def test_every_listing_is_divided_into_its_tables(path):
    listing = path.read_text()
    found = text.parse(listing)
    assert len(found) == sum(line.startswith("table ") for line in listing.splitlines())
    assert all(part.startswith(f"table {family} {name} {{") and part.endswith("\n}\n") for (family, name), part in found.items())
    assert sum(part.count("\n") for part in found.values()) == sum(not line.startswith("#") for line in listing.splitlines() if line) + sum(
        part.count("\n\n") for part in found.values()
    )


def test_elements_that_come_and_go_do_not_count():
    found = text.plain(text.parse(MOVING))["inet", "loopguard"]
    assert "192.0.2" not in found
    assert "198.51.100.0/24" in found


def test_a_transaction_keeps_the_numbers_of_lines():
    new = text.transaction("table inet loopguard {\n}\n", "LOOPGUARD")
    assert new == "add table inet loopguard; delete table inet loopguard; table inet loopguard {\n}\n"
    assert text.transaction("", "LOOPGUARD") == "add table inet loopguard; delete table inet loopguard; \n"


def test_the_way_back_replaces_what_is_touched():
    undo = text.undo({("ip", "a"): "table ip a {\n}\n", ("ip", "b"): "table ip b {\n}\n"}, [("ip", "a"), ("inet", "loopguard")])
    assert undo == "add table inet loopguard; delete table inet loopguard; \nadd table ip a; delete table ip a; \ntable ip a {\n}\n"
