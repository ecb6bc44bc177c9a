#!/usr/bin/env bash
# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
set -eux
unpacked=$(realpath ../../../../.cache/relays)
export PATH=$unpacked/usr/sbin:$unpacked/usr/bin:$PATH
LD_LIBRARY_PATH=$(echo "$unpacked"/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH NGINX_MODULES=$unpacked/usr/lib/nginx/modules
[[ -d $NGINX_MODULES ]] || NGINX_MODULES=/usr/lib/nginx/modules
mount --types tmpfs tmpfs /run  # what the relays leave there
mkdir /run/netns /run/sshd
exec python test_relays.py
