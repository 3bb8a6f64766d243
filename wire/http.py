"""One answer of a web server, as far as it takes to recognise a captive portal.

Pure. RFC 9112 (HTTP/1.1), of which HTTP/1.0 without transfer codings is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from wire.reader import DecodeError

MAX_ANSWER = 16384
"""Octets that are read of an answer; what comes after that is not looked at."""
MAX_FIELDS = 64


@dataclass(frozen=True, slots=True)
class Page:
    """Where to ask: `host` is a name or an address, `target` what stands in the request line."""

    secure: bool
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """`location` is where a redirection leads, None without one."""

    status: int
    location: str | None
    body: bytes


def page_of(url: str) -> Page:
    """Raises ValueError, with the reason, for what is no URL of a web page."""
    parts: SplitResult = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no http:// or https:// URL")
    if not (url.isascii() and url.isprintable()) or " " in url or parts.username is not None:
        raise ValueError(f"{url!r} has signs that do not belong into it")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    secure = parts.scheme == "https"
    return Page(secure, parts.hostname.partition("%")[0], parts.port or (443 if secure else 80), target)


def request_for(page: Page, accept: str) -> bytes:
    """A request that ends the connection and asks for no transfer coding."""
    lines = (
        f"GET {page.target} HTTP/1.0",
        f"Host: {page.authority}",
        f"Accept: {accept}",
        "Cache-Control: no-cache",
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(lines).encode("ascii")


def decode_answer(octets: bytes) -> Answer:
    """DecodeError unless it begins like an answer of a web server."""
    head, _, body = octets[:MAX_ANSWER].partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    words = first.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit() or len(words[1]) != 3:
        raise DecodeError("no answer of a web server")
    location = None
    for field in fields[:MAX_FIELDS]:
        name, colon, value = field.partition(b":")
        if colon and name.lower() == b"location" and location is None:
            location = value.strip().decode("latin-1")
    return Answer(int(words[1]), location, body)
