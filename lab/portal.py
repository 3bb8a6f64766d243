"""A captive portal: the web server of a network that lets nobody out before they have agreed to something.

Performs I/O. Runs as `python -m lab.portal URL` on a router, where requests to any web server end up while
the network is captive, and as `python -m lab.portal` on a web server of the Internet, which answers 204 to
everybody. RFC 8908 (the answer to whoever asks whether it is captive; without TLS, there being no name here
that anybody would vouch for).
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import TCPServer, ThreadingMixIn

from lab.captivity import API, LOGIN, MARK, OPEN, PORT

_PAGE = b"<!doctype html><title>Welcome</title><form method=post><button>Agree</button></form>\n"


class _Server(ThreadingMixIn, TCPServer):
    """Answers over both families. Unlike HTTPServer it does not ask DNS for its own name first."""

    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True
    portal: str | None = None
    """How guests reach the portal; None on a web server of the Internet."""


class _Answer(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        portal = self.server.portal
        if portal is None:
            self._say(204)
        elif self.path == API:
            said = {"captive": Path(MARK).exists(), "user-portal-url": portal + LOGIN}
            self._say(200, json.dumps(said).encode(), {"Content-Type": "application/captive+json"})
        elif self.path == LOGIN:
            self._say(200, _PAGE, {"Content-Type": "text/html"})
        else:
            self._say(302, b"", {"Location": portal + LOGIN})

    def do_POST(self) -> None:
        """Somebody agrees: from now on the network is open."""
        Path(MARK).unlink(missing_ok=True)
        subprocess.run(["nft", "-f", "-"], input=OPEN, text=True, check=True)
        self._say(200, b"You are online.\n", {"Content-Type": "text/plain"})

    def _say(self, status: int, body: bytes = b"", fields: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(fields or {}), "Cache-Control": "private", "Connection": "close"}.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(portal: str | None) -> None:
    server = _Server(("::", 80 if portal is None else PORT), _Answer)
    server.portal = portal
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
