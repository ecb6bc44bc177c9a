# Copyright (c) 2026 the loopguard.loopback authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of service that the collection knows: usual ports, process names, and whether they belong on loopback."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """ports: the usual ones, TCP unless `protocol` says otherwise.

    processes: names of the process (comm, at most 15 characters) that hold the port.
    private: belongs on loopback, so it is audited although nobody declared it.
    """

    name: str
    ports: tuple[int, ...] = ()
    processes: tuple[str, ...] = ()
    private: bool = True
    protocol: str = "tcp"


_ALL = (
    # databases
    Kind("postgresql", (5432, 5433), ("postgres", "pgbouncer", "postmaster")),
    Kind("mariadb", (3306, 33060), ("mariadbd", "mysqld")),
    Kind("mongodb", (27017, 27018, 27019), ("mongod", "mongos")),
    Kind("couchdb", (5984,), ("couchdb",)),
    Kind("cassandra", (9042, 7199), ()),
    Kind("clickhouse", (8123, 9009), ("clickhouse-serv", "clickhouse")),
    Kind("influxdb", (8086,), ("influxd",)),
    Kind("neo4j", (7474, 7687), ()),
    Kind("elasticsearch", (9200, 9300), ()),
    Kind("solr", (8983,), ()),
    Kind("mssql", (1433,), ("sqlservr",)),
    Kind("oracle", (1521,), ("tnslsnr",)),
    Kind("firebird", (3050,), ("firebird",)),
    Kind("ldap", (389,), ("slapd", "ns-slapd")),
    # caches, queues, coordination
    Kind("redis", (6379, 26379, 16379), ("redis-server", "redis-sentinel", "valkey-server", "keydb-server")),
    Kind("memcached", (11211,), ("memcached",)),
    Kind("mosquitto", (1883,), ("mosquitto",)),
    Kind("rabbitmq", (5672, 15672, 25672), ("beam.smp",)),
    Kind("epmd", (4369,), ("epmd",)),
    Kind("kafka", (9092,), ()),
    Kind("zookeeper", (2181,), ()),
    Kind("etcd", (2379, 2380), ("etcd",)),
    Kind("consul", (8500, 8600), ("consul",)),
    Kind("nats", (4222, 8222), ("nats-server",)),
    Kind("beanstalkd", (11300,), ("beanstalkd",)),
    # monitoring
    Kind("prometheus", (9090,), ("prometheus",)),
    Kind("alertmanager", (9093,), ("alertmanager", "prometheus-aler")),
    Kind(
        "prometheus_exporter",
        (9100, 9104, 9113, 9115, 9117, 9121, 9187),
        ("node_exporter", "prometheus-node", "prometheus-mysq", "prometheus-post", "prometheus-blac", "prometheus-apac"),
    ),
    Kind("grafana", (3000,), ("grafana", "grafana-server")),
    Kind("netdata", (19999,), ("netdata",)),
    Kind("statsd", (8125,), ("statsd",), protocol="udp"),
    Kind("snmp", (161,), ("snmpd",), protocol="udp"),
    Kind("elastic_kibana", (5601,), ()),
    # administration and debugging
    Kind("docker_api", (2375, 2376), ("dockerd",)),
    Kind("containerd", (), ("containerd",)),
    Kind("kubelet_readonly", (10255, 10248, 10249), ()),
    Kind("cups", (631,), ("cupsd",)),
    Kind("supervisor", (9001,), ("supervisord",)),
    Kind("webmin", (10000,), ("miniserv.pl",)),
    Kind("named_control", (953,), ()),
    Kind("node_inspector", (9229,), ()),
    Kind("chrome_devtools", (9222,), ("chrome", "chromium")),
    Kind("java_debug", (5005, 8000), ()),
    Kind("java_jmx", (1099, 9010), ("rmiregistry",)),
    Kind("python_debug", (5678,), ()),
    Kind("php_fpm", (9000,), ("php-fpm", "php-fpm7.4", "php-fpm8.2", "php-fpm8.4")),
    Kind("vnc", (5900, 5901), ("Xtigervnc", "x11vnc", "Xvnc", "vino-server")),
    Kind("x11", (6000,), ("Xorg",)),
    Kind("jupyter", (8888,), ("jupyter-noteboo", "jupyter-lab", "jupyter-server")),
    Kind("ollama", (11434,), ("ollama",)),
    Kind("docker_registry", (5000,), ("docker-registry",)),
    Kind("minio", (9000, 9001), ("minio",)),
    # storage and remote procedure calls
    Kind("nfs", (2049,), ()),
    Kind("rpcbind", (111,), ("rpcbind",)),
    Kind("smb", (445, 139), ("smbd",)),
    Kind("rsync", (873,), ("rsync",)),
    Kind("iscsi", (3260,), ("tgtd",)),
    # meant to be reached: known so that they can be declared, never audited unasked
    Kind("nginx", (), ("nginx",), private=False),
    Kind("apache", (), ("apache2", "httpd"), private=False),
    Kind("haproxy", (), ("haproxy",), private=False),
    Kind("ssh", (22,), ("sshd",), private=False),
    Kind("dns", (53,), ("named", "dnsmasq", "unbound"), private=False),
    Kind("http", (80, 443), (), private=False),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
KIND_NAMES = frozenset(KINDS)
_BY_PROCESS = {process: kind for kind in _ALL for process in kind.processes}
_BY_PORT = {(kind.protocol, port): kind for kind in reversed(_ALL) for port in kind.ports}


def recognise(protocol: str, port: int, process: str | None) -> Kind | None:
    """Return the kind of a listener: by its process where that is known to us, else by its port."""
    return _BY_PROCESS.get(process or "") or _BY_PORT.get((protocol, port))
