"""A witness on the mobile node: writes down when links, addresses and default routes came and went.

Performs I/O. Runs as `python -m lab.monitor FILE`; one JSON line for each change, `at` in seconds of
CLOCK_BOOTTIME.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

from lab.rtnetlink import GROUPS, Address, Carrier, Change, DefaultRoute, changes, dump_requests


def main(path: str) -> None:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    netlink.bind((0, GROUPS))
    names: dict[int, str] = {}
    with open(path, "w", buffering=1) as file:
        for request in dump_requests():
            netlink.send(request)
            # Each dump ends with a short NLMSG_DONE; only then does the kernel take the next request.
            done = False
            while not done:
                octets = netlink.recv(1 << 16)
                _write(file, octets, names)
                done = ends_dump(octets)
        while True:
            _write(file, netlink.recv(1 << 16), names)


def _write(file: Any, octets: bytes, names: dict[int, str]) -> None:
    at = time.clock_gettime(time.CLOCK_BOOTTIME)
    for change in changes(octets):
        if isinstance(change, Carrier):
            names[change.index] = change.name
        line = {"at": round(at, 6), "interface": names.get(change.index, ""), **_facts(change)}
        file.write(json.dumps(line) + "\n")


def _facts(change: Change) -> dict[str, object]:
    match change:
        case Carrier():
            return {"what": "carrier", "present": change.present}
        case Address():
            return {"what": "address", "present": change.present, "address": str(change.address)}
        case DefaultRoute():
            return {"what": "route", "present": change.present, "family": change.family}


def ends_dump(octets: bytes) -> bool:
    """Whether a netlink datagram has an NLMSG_DONE (or NLMSG_ERROR) message in it."""
    offset = 0
    while offset + 16 <= len(octets):
        length = int.from_bytes(octets[offset : offset + 4], sys.byteorder)
        if int.from_bytes(octets[offset + 4 : offset + 6], sys.byteorder) in (2, 3):
            return True
        offset += max(16, (length + 3) & ~3)
    return False


if __name__ == "__main__":
    main(sys.argv[1])
