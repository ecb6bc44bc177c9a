# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

pytest.importorskip("ansible.errors")  # a filter runs on the controller

from ansible.errors import AnsibleFilterError
from ansible_collections.loopguard.loopback.plugins.filter.declaration_errors import declaration_errors

GOOD = [{"name": "db", "port": 5432, "kind": "postgresql", "allow": ["10.2.0.0/24", "fd00::/8"]}]
BAD_PORT = [*GOOD, {"name": "mq", "port": "1883"}, {"name": "cache", "port": 63790000}]


@pytest.mark.parametrize(
    ("declaration", "sentence"),
    [
        (BAD_PORT, "db1: loopguard_services[2] 'cache': port 63790000 is not a port (1 to 65535)."),
        ([{"name": "a", "port": 0}], "db1: loopguard_services[0] 'a': port 0 is not a port (1 to 65535)."),
        ([{"name": "a", "port": True}], "db1: loopguard_services[0] 'a': port True is not a port (1 to 65535)."),
        (
            [{"name": "a", "port": 1}, {"name": "a", "port": 2}],
            "db1: loopguard_services[1] 'a': the name is already used by loopguard_services[0].",
        ),
        (
            [{"name": "a", "port": 1, "allow": ["10.0.0.0/33"]}],
            "db1: loopguard_services[0] 'a': allow: not a prefix length or mask in '10.0.0.0/33'.",
        ),
        ({"name": "a", "port": 1}, "db1: loopguard_services is a dict, not a list of services."),
        ("redis", "db1: loopguard_services is a str, not a list of services."),
        (["redis"], "db1: loopguard_services[0] is a str, not a mapping with name and port."),
    ],
)
def test_a_defect_is_named_with_host_and_item(declaration, sentence):
    assert declaration_errors({"db1": {"loopguard_services": declaration}}) == [sentence]


def test_an_undeclared_kind_is_named():
    (sentence,) = declaration_errors({"db1": {"loopguard_services": [{"name": "a", "port": 1, "kind": "postgres"}]}})
    assert sentence.startswith("db1: loopguard_services[0] 'a': kind 'postgres' is not one of ")


def test_every_defect_of_every_host_is_told_and_a_shared_one_once():
    hostvars = {f"db{number}": {"loopguard_services": BAD_PORT} for number in range(1, 6)}
    hostvars["web"] = {"loopguard_services": [{"name": "b", "port": -1}]}
    assert declaration_errors(hostvars) == [
        "db1, db2, db3 and 2 more: loopguard_services[2] 'cache': port 63790000 is not a port (1 to 65535).",
        "web: loopguard_services[0] 'b': port -1 is not a port (1 to 65535).",
    ]


def test_only_the_named_hosts_are_read():
    hostvars = {"db1": {"loopguard_services": GOOD}, "db2": {"loopguard_services": BAD_PORT}}
    assert declaration_errors(hostvars, hosts=["db1"]) == []


def test_the_first_variable_that_a_host_has_is_read_and_named():
    hostvars = {"db1": {"verify_bind_services": BAD_PORT, "loopguard_services": GOOD}, "db2": {"loopguard_services": GOOD}, "db3": {}}
    (sentence,) = declaration_errors(hostvars, variables=["verify_bind_services", "loopguard_services"])
    assert sentence.startswith("db1: verify_bind_services[2] 'cache'")


def test_what_is_known_replaces_what_hostvars_shows():
    hostvars = {"db1": {"loopguard_services": BAD_PORT}, "db2": {}}
    known = {"db1": {"loopguard_services": GOOD}, "db2": {"loopguard_services": "none"}}
    assert declaration_errors(hostvars, known=known) == ["db2: loopguard_services is a str, not a list of services."]


def test_something_else_is_refused():
    with pytest.raises(AnsibleFilterError, match="not a list"):
        declaration_errors([GOOD])
