#!/usr/bin/env bash
# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# A slice of the oracle: the judge against the kernel. ORACLE: other options for it.
set -eux
read -ra options <<<"${ORACLE:---seconds 110}"
pytest -v -p no:cacheprovider test_read_back.py
exec python ../../../oracle/oracle.py "${options[@]}"
