# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold listeners on COUNT ports from FIRST on while a command runs: `sockets.py FIRST COUNT COMMAND...`."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys

first, count, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
resource.setrlimit(resource.RLIMIT_NOFILE, (count + 200, max(count + 200, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
held = []
for number in range(count):
    sock = socket.socket(socket.AF_INET6 if number % 2 else socket.AF_INET)
    sock.bind(("::1" if number % 2 else "127.0.0.1", first + number))
    sock.listen(1)
    held.append(sock)
sys.exit(subprocess.run(command, check=False).returncode)
