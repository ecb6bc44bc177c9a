# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

pytest.importorskip("ansible.errors")  # a filter runs on the controller

from ansible.errors import AnsibleFilterError
from ansible_collections.loopguard.loopback.plugins.filter.bind_controls import bind_controls

ABSENT = {
    "name": "cache",
    "port": 6379,
    "protocol": "tcp",
    "kind": "redis",
    "declared": True,
    "verdict": "absent",
    "listeners": [],
    "paths": [],
    "unknowns": [],
}


def test_one_control_for_each_exposure():
    services = [{"name": "cache", "port": 6379}]
    (control,) = bind_controls({"exposures": [ABSENT]}, services)
    assert control["service"] == "cache"
    assert control["status"] == "not_applicable"
    assert control["evidence"] == ["nothing listens on tcp port 6379"]


def test_a_waiver_is_read_from_the_declaration():
    services = [{"name": "cache", "port": 6379, "controls": {"bind": {"status": "not_applicable", "reason": "a lab"}}}]
    assert bind_controls({"exposures": [ABSENT]}, services)[0]["evidence"] == ["waived: a lab"]


@pytest.mark.parametrize(
    ("result", "services", "said"),
    [({"failed": True}, [], "has exposures"), ({"exposures": []}, [{"name": "a"}], "port None is not a port")],
)
def test_something_else_is_refused(result, services, said):
    with pytest.raises(AnsibleFilterError, match=said):
        bind_controls(result, services)
