# SPDX-License-Identifier: GPL-3.0-or-later
"""Try to connect to each [address, port, allowed networks] of the JSON in argv, all at once, and print as JSON what got in unallowed."""

import ipaddress
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

SECONDS = 3


def attempt(target):
    address, port, allowed = target
    try:
        with socket.create_connection((address, port), timeout=SECONDS) as connection:
            source = ipaddress.ip_address(connection.getsockname()[0])
    except OSError:
        return None
    networks = [ipaddress.ip_network(network) for network in allowed]
    return None if any(source in network for network in networks) else f"{source} got in to {address} port {port}"


with ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(filter(None, pool.map(attempt, json.loads(sys.argv[1]))))))
