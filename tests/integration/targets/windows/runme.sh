#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-3.0-or-later
set -eux
export ANSIBLE_CONNECTION_PLUGINS=$PWD/connection_plugins
pytest -v test_windows.py
