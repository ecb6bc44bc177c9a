#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: exposure_report
short_description: One report of what every host of a play registered
version_added: 0.1.0
author: The loopguard.loopback authors (@loopguard)
description:
  - Reads C(verify_bind_findings), which the role C(verify_bind) registers, of every host of the play, prints the table and writes the report.
  - Runs once for the play, on the controller. No host is asked anything and nothing on a host changes.
  - A host that was unreachable, failed or has no findings stands in the report as such, never as a pass.
  - Use it through the role C(exposure_report).
options:
  directory:
    description:
      - Where the reports are kept, on the controller. A relative path is below the working directory.
      - Each run makes a directory named after its time, with mode 0700 and files of mode 0600, and points C(latest) at it.
    type: path
    default: reports
  formats:
    description:
      - What to write. An empty list writes nothing, and the table is still printed.
    type: list
    elements: str
    choices: [json, html]
    default: [json, html]
  fail_on:
    description:
      - V(exposed) fails the task when a service is exposed, V(unknown) also when a verdict is unknown or a host has no result.
      - The report is written first.
    type: str
    choices: [never, exposed, unknown]
    default: never
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - Prints the table, says what would be written, and writes nothing.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
    support: none
  platform:
    description: Target OS/families that can be operated against.
    support: full
    platforms: all
  action:
    description: Indicates this has a corresponding action plugin so some parts of the options can be executed on the controller.
    support: full
  bypass_host_loop:
    description: Forces a 'global' task that does not execute per host, this bypasses per host templating and serial, throttle and other loop considerations.
    support: full
  action_group:
    description: Use C(group/loopguard.loopback.all) in C(module_defaults) to set defaults for every module of this collection.
    support: full
    membership:
      - loopguard.loopback.all
seealso:
  - module: loopguard.loopback.exposure_info
"""

EXAMPLES = r"""
- name: Show and keep what the audit found
  loopguard.loopback.exposure_report:
    directory: reports
    fail_on: exposed
"""

RETURN = r"""
summary:
  description: How many hosts and services have which verdict.
  returned: always
  type: dict
  sample: {hosts: {total: 2, exposed: 1, sealed: 1}, services: {total: 4, exposed: 2, unknown: 1, sealed: 1, absent: 0}}
paths:
  description: Where the newest report is, by format.
  returned: always
  type: dict
  sample: {html: reports/latest/index.html, json: reports/latest/audit.json}
directory:
  description: The directory that this run made; null when nothing was written.
  returned: always
  type: str
  sample: /home/ops/reports/20261122T213000Z
"""
