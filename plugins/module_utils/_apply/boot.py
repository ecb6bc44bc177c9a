# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same rules after a reboot: a unit of our own, which restores our own chains or table and leaves all others alone."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from .._collect.command import succeeded
from .._collect.files import read_text
from . import iptables_text, nft_text
from .error import ApplyError

if TYPE_CHECKING:
    from .._collect.command import Runner
    from .sides import Iptables, Nftables

_UNITS = "/etc/systemd/system"
_FILES = "/etc/loopguard"
_SIDES = ("ipv4", "ipv6", "nftables")

# After whatever else loads rules, at boot and whenever it is restarted or reloaded, as some of them flush everything, and
# before the network is up. Not wanted by sysinit.target: some of those come after it.
_LOADERS = "netfilter-persistent.service iptables.service ip6tables.service nftables.service ufw.service"
_UNIT = """\
# Written by loopguard.loopback.firewall_ruleset.
[Unit]
Description=Packet filter rules of {name}
Documentation=https://galaxy.ansible.com/ui/repo/published/loopguard/loopback/
DefaultDependencies=no
After=local-fs.target systemd-modules-load.service {loaders}
PartOf={loaders}
ReloadPropagatedFrom={loaders}
Before=network-pre.target shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh {script}
ExecReload=/bin/sh {script}

[Install]
WantedBy=multi-user.target
"""
_SCRIPT = """\
#!/bin/sh
# Written by loopguard.loopback.firewall_ruleset. Puts its rules in place at boot, and leaves all others alone.
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export PATH
mkdir -p -m 700 /run/loopguard
{steps}exit "${{failed:-0}}"
"""
# The tables that are not there yet are noted, so that they go when the rules are removed.
_NOTE = "{tool}-save | grep -qx '\\*{table}' || echo '{family} {table}' >>/run/loopguard/made\n"
_RESTORE = "{stands} || {tool}-restore --wait 30 --noflush <{file} || failed=1\n"
_STANDS = "{command} -t {table} -S {chain} >/dev/null 2>&1"


class Boot:
    """What a ruleset leaves for the next boot. sides: empty for nothing."""

    def __init__(self, name: str, sides: Sequence[Iptables | Nftables], ruleset: str) -> None:
        self.unit = f"{name.lower()}-firewall.service"
        stem = os.path.join(_FILES, self.unit[: -len(".service")])
        self._link = os.path.join(_UNITS, "multi-user.target.wants", self.unit)
        self._all = [os.path.join(_UNITS, self.unit), stem, *(f"{stem}.{side}" for side in _SIDES)]
        self._files: dict[str, str] = {}
        steps = []
        for side in sides:
            file = f"{stem}.{side.label}"
            if side.kind == "nftables":
                self._files[file] = nft_text.transaction(ruleset, name)
                steps.append(f"nft -f {file} || failed=1\n")
                continue
            text, _lines = iptables_text.transaction(ruleset, {}, name)
            self._files[file] = text
            if side.kind == "iptables-nft":
                steps += [_NOTE.format(tool=side.tool, family=side.family, table=table) for table in sorted(iptables_text.tables(text))]
            own = iptables_text.declared(text, name)
            stands = _STANDS.format(command=side.tool, table=own[0], chain=shlex.quote(own[1])) if own else "false"
            steps.append(_RESTORE.format(stands=stands, tool=side.tool, file=file))
        if sides:
            self._files[stem] = _SCRIPT.format(steps="".join(steps))
            self._files[os.path.join(_UNITS, self.unit)] = _UNIT.format(name=name, script=stem, loaders=_LOADERS)

    @property
    def stands(self) -> str:
        """Say what is there now: `nothing`, `this ruleset`, or `another ruleset` than is wanted."""
        found = {path: _read(path) for path in self._all}
        there = {path: text for path, text in found.items() if text is not None}
        if not there and not os.path.islink(self._link):
            return "nothing"
        return "this ruleset" if there == self._files and os.path.exists(self._link) else "another ruleset"

    @property
    def wanted(self) -> str:
        return "this ruleset" if self._files else "nothing"

    def write(self, run: Runner) -> None:
        """Make it so. Raises ApplyError."""
        if self.stands == self.wanted:
            return
        systemd = os.path.isdir("/run/systemd/system")
        if systemd and not self._files:
            succeeded(run, ["systemctl", "stop", self.unit])  # it has done its work at boot, and would be listed for ever
        try:
            self._write()
        except OSError as error:
            raise ApplyError(f"The rules stand, but not after a reboot: {error.filename}: {error.strerror}.") from error
        if systemd:
            succeeded(run, ["systemctl", "daemon-reload"])

    def _write(self) -> None:
        if self._files:
            os.makedirs(_FILES, 0o700, exist_ok=True)
            os.makedirs(os.path.dirname(self._link), 0o755, exist_ok=True)
        for path in self._all:
            if path not in self._files:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                continue
            with open(f"{path}.new", "w", encoding="utf-8") as file:
                file.write(self._files[path])
            os.rename(f"{path}.new", path)
        if self._files and not os.path.islink(self._link):
            os.symlink(os.path.join(_UNITS, self.unit), self._link)
        if not self._files:
            with suppress(FileNotFoundError):
                os.unlink(self._link)
            with suppress(OSError):  # rules of another name are in it
                os.rmdir(_FILES)


def _read(path: str) -> str | None:
    try:
        return read_text(path)
    except OSError:  # as good as none: it is about to be written
        return None


def possible() -> bool:
    return os.path.isdir(_UNITS)
