# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that a verdict rests on; nothing else is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .firewall import Firewall
from .gap import Gap
from .host import HostNetwork
from .listener import Listener
from .relay import Connection, Relay


class Evidence(NamedTuple):
    """namespace: the network namespace that is judged; listeners of others are left out of the verdict."""

    listeners: Sequence[Listener]
    listener_gaps: Sequence[Gap]
    relays: Sequence[Relay]
    namespace: str
    firewall: Firewall
    host: HostNetwork
    connections: Sequence[Connection] = ()
