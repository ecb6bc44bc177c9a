# SPDX-License-Identifier: GPL-3.0-or-later
"""Connect to every TCP port of the groups in argv on every address in argv, all at once; print as JSON who got in unallowed."""

import ipaddress
import itertools
import json
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

SECONDS = 3


def attempt(target):
    address, group, port = target
    try:
        with socket.create_connection((address, port), timeout=SECONDS) as connection:
            source = ipaddress.ip_address(connection.getsockname()[0])
    except OSError:
        return None
    if any(source in ipaddress.ip_network(network) for network in group["ipv4"] + group["ipv6"]):
        return None
    return f"{source} to {address} port {port}"


addresses, groups = map(json.loads, sys.argv[1:])
ports = [(group, port) for group in groups for port in group["ports"].get("tcp", [])]
targets = [(address, group, port) for address, (group, port) in itertools.product(addresses, ports)]
with ThreadPoolExecutor(64) as pool:
    print(json.dumps([success for success in pool.map(attempt, targets) if success]))
