# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import errno
import struct

import pytest
from ansible_collections.loopguard.loopback.plugins.module_utils._parse.netlink import NetlinkError, end


def test_a_dump_that_the_kernel_breaks_off_is_not_complete():
    with pytest.raises(NetlinkError) as refused:
        end(struct.pack("=i", -errno.EPERM))
    assert refused.value.errno == errno.EPERM


@pytest.mark.parametrize("payload", [b"", struct.pack("=i", 0), struct.pack("=i", -errno.ENOENT)])
def test_the_end_of_a_dump(payload):
    """ENOENT: the kernel has no such protocol, so it has no sockets of it."""
    end(payload)
