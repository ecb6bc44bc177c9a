#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
set -eux
ip link add lan type veth peer name peer
ip address add 192.0.2.1/24 dev lan
ip address add 2001:db8::1/64 dev lan nodad
ip link set lan up
ip link set peer up
pytest -v test_audit.py test_page.py
