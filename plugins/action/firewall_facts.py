# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.loopguard.loopback.plugins.plugin_utils.uncollected import UncollectedAction as ActionModule

__all__ = ["ActionModule"]
