#!/usr/bin/env bash
# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
set -eux
unpacked=$(realpath ../../../../.cache/relays)
PATH=$unpacked/usr/sbin:$unpacked/usr/bin:$PATH
LD_LIBRARY_PATH=$(echo "$unpacked"/usr/lib/*-linux-gnu)
export PATH LD_LIBRARY_PATH
exec pytest -v --capture=no -p no:cacheprovider test_lockout.py
