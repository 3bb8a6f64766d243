"""The correspondent's echo: every UDP datagram goes back to where it came from.

Performs I/O. Started as `python -m benchmarks.echo ADDRESS`; works until it is killed.
"""

from __future__ import annotations

import socket
import sys

from benchmarks.fleet import ECHO_PORT


def main() -> None:
    version6 = ":" in sys.argv[1]
    echo = socket.socket(socket.AF_INET6 if version6 else socket.AF_INET, socket.SOCK_DGRAM)
    echo.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    echo.bind((sys.argv[1], ECHO_PORT))
    print("{}", flush=True)
    while True:
        data, whence = echo.recvfrom(2048)
        echo.sendto(data, whence)


if __name__ == "__main__":
    main()
