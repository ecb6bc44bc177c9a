# SPDX-License-Identifier: GPL-3.0-or-later
"""Print every packet filter of this host, table by table and without counters, and what its managers keep in files.

With --others, leave out what restrict_firewall calls its own.
"""

import glob
import re
import subprocess
import sys


def said(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def tables():
    for tool, names in (("iptables-legacy-save", "/proc/net/ip_tables_names"), ("ip6tables-legacy-save", "/proc/net/ip6_tables_names")):
        with open(names) as file:
            if file.read().strip():
                yield tool, said(tool)
    for tool in ("iptables-nft-save", "ip6tables-nft-save"):
        yield tool, said(tool)
    for family, name in re.findall(r"^table (inet) (\S+)$", said("nft", "list", "tables"), re.MULTILINE):
        yield f"nft {family} {name}", said("nft", "-s", "list", "table", family, name)


def files():
    for pattern in (
        "ufw/*.rules",
        "firewalld/**/*.xml",
        "loopguard/*",
        "systemd/system/*loopguard*",
        "systemd/system/*/*loopguard*",
        "sysctl.d/*loopguard*",
    ):
        for path in glob.glob(f"/etc/{pattern}", recursive=True):
            with open(path) as file:
                yield path, file.read()


def others(text):
    """Leave out lines and chains that speak of loopguard, the marked block of ufw, and the table that was made for it."""
    text = re.sub(r"# BEGIN loopguard.*# END loopguard[^\n]*\n", "", text, flags=re.DOTALL)
    text = re.sub(r"\n?\tchain \S*loopguard\S* {\n(?:\t\t.*\n)*\t}\n", "", text)
    text = "".join(line for line in text.splitlines(keepends=True) if "loopguard" not in line.lower())
    return re.sub(r"\*raw\n(:\S+ ACCEPT\n)+COMMIT\n", "", text)


for title, text in sorted([*tables(), *files()]):
    text = re.sub(r" \[\d+:\d+\]$|^#.*\n", "", text, flags=re.MULTILINE) if title.startswith("ip") else text
    if "--others" in sys.argv:
        text = "" if "loopguard" in title else others(text)
    if text:
        print(f"== {title}\n{text}")
