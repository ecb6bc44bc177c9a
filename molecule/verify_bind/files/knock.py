# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect from here to every port on every address in argv, and print as JSON which ones answered."""

import itertools
import json
import socket
import sys


def answers(address, port):
    try:
        with socket.create_connection((address, port), timeout=3):
            return True
    except OSError:
        return False


ports, addresses = json.loads(sys.argv[1]), sys.argv[2:]
print(json.dumps({f"{address} {port}": answers(address, port) for address, port in itertools.product(addresses, ports)}))
