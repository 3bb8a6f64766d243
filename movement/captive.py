"""Whether a network lets nobody out before they have agreed to something, read from what its web servers say.

Pure. RFC 8908 (the portal's API), RFC 8910 section 2, RFC 9110 section 15.4 (redirection).
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from wire.http import Answer

MAX_URL = 2048


@dataclass(frozen=True, slots=True)
class Portal:
    """`captive` None: the answer says nothing. `url` is where a person can agree, if it is known."""

    captive: bool | None
    url: str | None = None


NOTHING = Portal(None)


def from_api(answer: Answer) -> Portal:
    """What the API of a portal says of us."""
    if answer.status != 200:
        return NOTHING
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return NOTHING
    if not isinstance(said, dict) or not isinstance(said.get("captive"), bool):
        return NOTHING
    return Portal(said["captive"], _shown(said.get("user-portal-url")))


def from_probe(answer: Answer, expected: str) -> Portal:
    """What somebody on the way has made of a page that is known: `expected` is its status, or its text.

    Another page than that one was put there by the network, and so was a redirection.
    """
    if answer.status == 511 or 300 <= answer.status < 400:
        return Portal(True, _shown(answer.location))
    if expected.isdigit():
        return Portal(answer.status != int(expected))
    if answer.status != 200:
        return NOTHING
    return Portal(expected.encode() not in answer.body)


def _shown(url: object) -> str | None:
    """A URL that can be printed and opened."""
    if not isinstance(url, str) or len(url) > MAX_URL or not url.isprintable():
        return None
    return url if url.partition("://")[0] in ("http", "https") else None
