# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attributes that the modules document."""

from __future__ import annotations


class ModuleDocFragment:
    """Extend `attributes` for every module, then `attributes.facts` or `attributes.info` for one that changes nothing."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  platform:
    description: Target OS/families that can be operated against.
  action_group:
    description: Use C(group/loopguard.loopback.all) in C(module_defaults) to set defaults for every module of this collection.
    support: full
    membership:
      - loopguard.loopback.all
"""

    # A module that reads and never changes the host, and returns what it read.
    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
"""

    # The same, which returns C(ansible_facts).
    FACTS = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This action does not modify state.
  diff_mode:
    support: N/A
    details:
      - This action does not modify state.
  facts:
    description: Action returns an C(ansible_facts) dictionary that will update existing host facts.
    support: full
"""

    # The host is read through Linux interfaces.
    LINUX = r"""
options: {}
attributes:
  platform:
    support: full
    platforms: linux
"""
