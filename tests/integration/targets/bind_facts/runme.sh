#!/usr/bin/env bash
# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Real sockets in a network namespace of its own; `ss` and the peer module are the judges.
set -euo pipefail
cd "$(dirname "$0")"
exec unshare --net --mount-proc --fork --pid python3 test_bind_facts.py
