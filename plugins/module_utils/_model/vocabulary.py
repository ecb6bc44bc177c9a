# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The closed vocabularies. A new word is a type error, not an `else`."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["exposed", "unknown", "sealed", "absent"]
VERDICTS: tuple[Verdict, ...] = ("exposed", "unknown", "sealed", "absent")  # worst first

Scope = Literal["loopback", "link_local", "private", "public", "wildcard"]
SCOPES: tuple[Scope, ...] = ("loopback", "link_local", "private", "public", "wildcard")

Reach = Literal["accepted", "maybe", "dropped"]

Family = Literal["ipv4", "ipv6"]
FAMILIES: tuple[Family, ...] = ("ipv4", "ipv6")

Protocol = Literal["tcp", "udp", "udplite", "sctp", "dccp", "raw", "packet", "unix"]
PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp", "udplite", "sctp", "dccp", "raw", "packet", "unix")
ANSWERED = ("tcp", "sctp", "dccp")  # nothing is received before an answer was sent

# By which of a service's possible ways in a path leads (docs: the eight steps).
Via = Literal["bind", "route_localnet", "redirect", "relay", "router"]

# What shows that a relay leads to a service, the strongest first; `program`: it hands on, and nothing tells where to.
Shown = Literal["connection", "configuration", "command_line", "program"]

# What one step of the guide says about one service.
ControlStatus = Literal["pass", "fail", "unknown", "not_applicable", "not_checked"]
