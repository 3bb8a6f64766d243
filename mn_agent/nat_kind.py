"""What kind of NAT is on the way, told from what two ports of the home agent see of one local port.

Pure. RFC 4787 section 4.1, RFC 5780 section 4.3. With one address of the home agent, endpoint-independent and
address-dependent mapping look alike, and nobody else is asked; so the names say what was measured.
"""

from __future__ import annotations

from enum import Enum


class Mapping(Enum):
    """What the NAT makes of one local port. The values are those of `mnctl/netcheck/1`."""

    PORT_INDEPENDENT = "port-independent"
    """Endpoint-independent, or address-dependent."""
    PORT_DEPENDENT = "port-dependent"
    """Address and port-dependent: "symmetric"."""


class Unknown(Enum):
    """Why it is not known; the values are for people."""

    NOT_ASKED = "not asked yet"
    NO_SECOND_PORT = "the home agent offers no second port to compare with"
    SECOND_PORT_SILENT = "the home agent's second port did not answer: a filter on the way to it?"
    NOT_SEEN = "the home agent does not say what it sees"


def compared(first: str | None, second: str | None) -> Mapping | Unknown:
    """`first` and `second`: `ADDRESS:PORT` as either port of the home agent saw it."""
    if first is None or second is None:
        return Unknown.NOT_SEEN
    return Mapping.PORT_INDEPENDENT if first == second else Mapping.PORT_DEPENDENT
