#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bind_facts
short_description: What this host listens on, on which address, and who holds it
version_added: 0.1.0
author: The loopguard.loopback authors (@loopguard)
description:
  - Lists the listening sockets of a host as the kernel tells them, with the process, the systemd unit and the container behind each.
  - Says how wide each socket is bound, and keeps apart what other tools mix up, such as a dual-stack V(::) and one with V6ONLY,
    or V(0.0.0.0) on a socket that is tied to V(lo).
  - Asks NETLINK_SOCK_DIAG, then C(/proc/net), then C(ss), C(netstat), C(lsof) and C(sockstat). The source that answered is in the result.
  - The facts C(tcp_listen) and C(udp_listen) have the form of M(community.general.listen_ports_facts), so that this module can take its place.
options:
  protocols:
    description:
      - The protocols to list. A protocol that the kernel has not loaded has no sockets.
      - V(raw), V(packet) and V(unix) sockets have no port that a firewall could close, so they are listed on request only.
    type: list
    elements: str
    choices: [tcp, udp, udplite, sctp, dccp, raw, packet, unix]
    default: [tcp, udp, udplite, sctp, dccp]
  processes:
    description:
      - Find the processes that hold each socket. Only root sees those of other users.
    type: bool
    default: true
  namespaces:
    description:
      - V(own) lists the network namespace of the module, V(all) every one on the machine, containers included.
      - Entering another namespace takes root.
    type: str
    choices: [own, all]
    default: own
  include_non_listening:
    description:
      - List connected sockets too.
    type: bool
    default: false
extends_documentation_fragment:
  - loopguard.loopback.attributes
  - loopguard.loopback.attributes.facts
attributes:
  platform:
    support: full
    platforms: posix
seealso:
  - module: community.general.listen_ports_facts
  - module: loopguard.loopback.exposure_info
"""

EXAMPLES = r"""
- name: List what listens
  loopguard.loopback.bind_facts:

- name: PostgreSQL listens on loopback and on nothing else
  ansible.builtin.assert:
    that:
      - ansible_facts.loopguard_listeners_complete
      - ansible_facts.loopguard_listeners | selectattr('port', 'eq', 5432) | rejectattr('scope', 'eq', 'loopback') | length == 0

- name: List the sockets of every container on the machine
  loopguard.loopback.bind_facts:
    namespaces: all
"""

RETURN = r"""
ansible_facts:
  description: The listeners of the host.
  returned: always
  type: dict
  contains:
    loopguard_listeners:
      description: One row for each socket.
      returned: always
      type: list
      elements: dict
      contains:
        protocol:
          description: The transport protocol, or the kind of socket.
          type: str
          returned: always
          choices: [tcp, udp, udplite, sctp, dccp, raw, packet, unix]
          sample: tcp
        family:
          description: The address family.
          type: str
          returned: always
          choices: [ipv4, ipv6, packet, unix]
          sample: ipv4
        address:
          description: The bound address in its canonical spelling, without zone; the path of a Unix socket.
          type: str
          returned: always
          sample: 127.0.0.1
        port:
          description: The bound port; the protocol number of a raw socket, the EtherType of a packet socket.
          type: int
          returned: always
          sample: 5432
        v6only:
          description: Whether an IPv6 socket leaves IPv4 alone; V(false) for an IPv4 socket, V(null) when unknown.
          type: bool
          returned: always
        interface:
          description: The interface that the socket is tied to; V(null) when it is free.
          type: str
          returned: always
          sample: lo
        scope:
          description: How wide the socket is bound.
          type: str
          returned: always
          choices: [loopback, link_local, private, public, wildcard]
          sample: loopback
        uid:
          description: The user who made the socket, or who owns the path of a Unix socket.
          type: int
          returned: always
        user:
          description: The name of that user.
          type: str
          returned: always
          sample: postgres
        inode:
          description: The inode of the socket; V(0) when unknown.
          type: int
          returned: always
        pids:
          description: The processes that hold the socket.
          type: list
          elements: int
          returned: always
        process:
          description: The name of the first of them.
          type: str
          returned: always
          sample: postgres
        command:
          description: Its command line, at most 4096 bytes.
          type: str
          returned: always
        started:
          description: When it started, in UTC.
          type: str
          returned: always
          sample: "2026-11-22T16:37:00Z"
        unit:
          description: The systemd unit, from the control group.
          type: str
          returned: always
          sample: postgresql@15-main.service
        container:
          description: The container, where the control group names one; C(engine) and C(id).
          type: dict
          returned: always
        namespace:
          description: The inode of the network namespace.
          type: str
          returned: always
          sample: "4026531840"
        mark:
          description: The mark of the socket (SO_MARK).
          type: int
          returned: always
        transparent:
          description: Whether TPROXY may hand the socket packets for any address (IP_TRANSPARENT).
          type: bool
          returned: always
        mode:
          description: The access mode of a Unix socket's path, octal.
          type: str
          returned: always
        state:
          description: The state of the socket; V(UNCONN) is a datagram socket without a peer.
          type: str
          returned: always
          choices:
            - LISTEN
            - UNCONN
            - ESTABLISHED
            - SYN_SENT
            - SYN_RECV
            - FIN_WAIT1
            - FIN_WAIT2
            - TIME_WAIT
            - CLOSE
            - CLOSE_WAIT
            - LAST_ACK
            - CLOSING
            - NEW_SYN_RECV
        peer:
          description: The address of the other end.
          type: str
          returned: always
        peer_port:
          description: The port of the other end.
          type: int
          returned: always
        unknowns:
          description: The keys of this row that its source cannot know; what stands there is no statement.
          type: list
          elements: str
          returned: always
          sample: [v6only, interface]
    loopguard_listeners_complete:
      description: Whether every socket and every owner could be seen.
      returned: always
      type: bool
    loopguard_listeners_gaps:
      description: What could not be seen, and why.
      returned: always
      type: list
      elements: dict
      contains:
        subject:
          description: What was asked.
          type: str
          returned: always
        reason:
          description: Why there is no answer.
          type: str
          returned: always
          choices: [absent, denied, failed, timeout, unparsable, unsupported, not_evaluated]
        text:
          description: What the tool, the kernel or the parser said.
          type: str
          returned: always
    loopguard_listeners_source:
      description: The sources that answered, joined by C(+).
      returned: always
      type: str
      sample: netlink
    loopguard_listeners_namespace:
      description: The inode of the network namespace that the module ran in.
      returned: always
      type: str
      sample: "4026531840"
    loopguard_listeners_asked:
      description: The options C(protocols) and C(processes) that these facts were gathered with, for whoever judges the record.
      returned: always
      type: dict
      sample: {protocols: [tcp, udp, udplite, sctp, dccp], processes: true}
    loopguard_relays:
      description: Running programs that are known to hand on what they get, such as socat, nginx or a tunnel agent.
      returned: always
      type: list
      elements: dict
      contains:
        pid:
          description: The process.
          type: int
          returned: always
        name:
          description: Its name.
          type: str
          returned: always
          sample: socat
        command:
          description: Its command line, at most 4096 bytes.
          type: str
          returned: always
        legs:
          description:
            - The ways through it that its configuration tells; V(null) when that was not read.
            - Read for nginx, haproxy, stunnel, rinetd, xinetd and sockets that systemd holds.
          type: list
          elements: dict
          returned: always
          contains:
            listens:
              description: The places that lead into it, C(address:port); none when it may be any that it listens on.
              type: list
              elements: str
              returned: always
            target:
              description: Where it ends, C(host:port) or C(unix:path); empty when that cannot be told.
              type: str
              returned: always
              sample: 127.0.0.1:5432
            place:
              description: The file and line, or the unit, that tells it.
              type: str
              returned: always
              sample: /etc/nginx/conf.d/db.conf:12
            doubt:
              description: Why the target cannot be told.
              type: str
              returned: always
            holders:
              description: The processes that listen on a Unix socket.
              type: list
              elements: int
              returned: always
    loopguard_connections:
      description:
        - Open connections to listening ports of this machine, held by a program that listens wider than loopback or is a known relay.
      returned: always
      type: list
      elements: dict
      contains:
        protocol:
          description: The transport protocol.
          type: str
          returned: always
        address:
          description: The address of the end that asked.
          type: str
          returned: always
        port:
          description: Its port.
          type: int
          returned: always
        peer:
          description: The address of the service.
          type: str
          returned: always
        peer_port:
          description: The port of the service.
          type: int
          returned: always
        pids:
          description: The processes that hold the end that asked.
          type: list
          elements: int
          returned: always
        through:
          description: The inodes of the sockets that the same program listens on.
          type: list
          elements: int
          returned: always
    tcp_listen:
      description: The TCP listeners as M(community.general.listen_ports_facts) returns them, one row for each socket and process.
      returned: always
      type: list
      elements: dict
      sample: [{address: 127.0.0.1, name: postgres, pid: 812, port: 5432, protocol: tcp, stime: Sun Nov 22 16:37:00 2026, user: postgres}]
    udp_listen:
      description: The same for UDP.
      returned: always
      type: list
      elements: dict
"""

from ansible_collections.loopguard.loopback.plugins.module_utils._collect.zipped import hasten

hasten()  # before anything else is imported

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.loopguard.loopback.plugins.module_utils._collect import listeners
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.command import runner
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.netlink import dump
from ansible_collections.loopguard.loopback.plugins.module_utils._collect.relays import collect_relays
from ansible_collections.loopguard.loopback.plugins.module_utils._model.facts import listen_ports_rows, listener_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.relay import connection_to_dict, relay_to_dict
from ansible_collections.loopguard.loopback.plugins.module_utils._model.vocabulary import PROTOCOLS


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "protocols": {
                "type": "list",
                "elements": "str",
                "choices": list(PROTOCOLS),
                "default": list(listeners.DEFAULT_PROTOCOLS),
            },
            "processes": {"type": "bool", "default": True},
            "namespaces": {"type": "str", "choices": ["own", "all"], "default": "own"},
            "include_non_listening": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    options = module.params
    run = runner()
    found = listeners.collect(
        dump,
        run,
        protocols=options["protocols"],
        processes=options["processes"],
        all_namespaces=options["namespaces"] == "all",
        non_listening=options["include_non_listening"],
    )
    leading = collect_relays(dump, run, found)
    started = {pid: process.started for pid, process in found.processes.items()}
    own = [row for row in found.rows if row.namespace == found.namespace]
    facts = {
        "loopguard_listeners": [listener_to_dict(row) for row in found.rows],
        "loopguard_listeners_complete": not found.gaps,
        "loopguard_listeners_gaps": [gap.to_dict() for gap in found.gaps],
        "loopguard_listeners_source": found.source,
        "loopguard_listeners_namespace": found.namespace,
        "loopguard_listeners_asked": {"protocols": options["protocols"], "processes": options["processes"]},
        "loopguard_relays": [relay_to_dict(relay) for relay in leading.relays],
        "loopguard_connections": [connection_to_dict(connection) for connection in leading.connections],
        "tcp_listen": listen_ports_rows(own, "tcp", started, options["include_non_listening"]),
        "udp_listen": listen_ports_rows(own, "udp", started, options["include_non_listening"]),
    }
    module.exit_json(changed=False, ansible_facts=facts)


if __name__ == "__main__":
    main()
