"""What our two ends tell each other beyond the RFCs, in vendor-specific mobility options that others skip.

Pure. RFC 5094 (type 19: vendor, subtype, data).

* Observed address (in a Binding Acknowledgement over UDP): from where the Binding Update came, so that a user
  sees the address translation on the way (RFC 5555 section 5.1: the outer header is not protected).
* Interruption (in a Binding Update): for how long nothing could be received, so that the home agent can send
  again what it sent into a path that was gone.
* Path MTU (in a Binding Update): the largest outer packet that passes between us, as the mobile node has
  measured it in both directions or knows it from its link, so that none that the home agent sends disappears.
* Second port (in a Binding Acknowledgement that refuses an update without the H flag): where the home agent
  answers such updates as well, so that a mobile node sees whether a NAT maps it anew for every port.
* Protection (in both): this end's share of the keys of protected payload (tunnel.protection). Nothing in it
  is secret, but whoever could change it could keep the ends from agreeing: the message has to be authentic.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from wire.options import Option, UnknownOption

VENDOR_SPECIFIC = 19
VENDOR = 32473
"""The enterprise number of RFC 5612; this project has none of its own."""
OBSERVED_IPV4, INTERRUPTION, PROTECTION, PATH_MTU, SECOND_PORT = 1, 2, 3, 4, 5
MAX_INTERRUPTION = 0xFFFF / 1000
"""Seconds."""

_HEAD = struct.Struct("!IB")
_OBSERVED = struct.Struct("!4sH")
_MILLISECONDS = struct.Struct("!H")
_OCTETS = struct.Struct("!H")
_PORT = struct.Struct("!H")
_PROTECTION = struct.Struct("!I16sI")
NONCE_SIZE = 16


@dataclass(frozen=True, slots=True)
class Protection:
    """The sender takes in protected payload under `spi`; `nonce` is its share of the keys.

    `answers` is the SPI of the other end's share that this one belongs to, 0 in a Binding Update.
    """

    spi: int
    nonce: bytes
    answers: int = 0


def observed_option(address: IPv4Address, port: int) -> UnknownOption:
    """The address and UDP port that a Binding Update came from."""
    return _option(OBSERVED_IPV4, _OBSERVED.pack(address.packed, port))


def observed_in(options: Iterable[Option]) -> tuple[IPv4Address, int] | None:
    """Address and port in the first such option; None when there is none."""
    data = _data(options, OBSERVED_IPV4, _OBSERVED.size)
    if data is None:
        return None
    address, port = _OBSERVED.unpack(data)
    return IPv4Address(address), port


def interruption_option(seconds: float) -> UnknownOption:
    """Nothing sent in the last `seconds` has arrived; in milliseconds on the wire, at most 65.535 s."""
    milliseconds = round(min(max(seconds, 0.0), MAX_INTERRUPTION) * 1000)
    return _option(INTERRUPTION, _MILLISECONDS.pack(milliseconds))


def interruption_in(options: Iterable[Option]) -> float | None:
    """Seconds in the first such option; None when there is none."""
    data = _data(options, INTERRUPTION, _MILLISECONDS.size)
    return None if data is None else int(_MILLISECONDS.unpack(data)[0]) / 1000


def path_mtu_option(octets: int) -> UnknownOption:
    """Outer packets of up to `octets` pass; ValueError if two octets cannot count them."""
    if not 0 <= octets <= 0xFFFF:
        raise ValueError(f"a path MTU of {octets} octets")
    return _option(PATH_MTU, _OCTETS.pack(octets))


def path_mtu_in(options: Iterable[Option]) -> int | None:
    """Octets in the first such option; None when there is none."""
    data = _data(options, PATH_MTU, _OCTETS.size)
    return None if data is None else int(_OCTETS.unpack(data)[0])


def second_port_option(port: int) -> UnknownOption:
    """Another UDP port of the sender that answers; ValueError if it is none."""
    if not 1 <= port <= 0xFFFF:
        raise ValueError(f"UDP port {port}")
    return _option(SECOND_PORT, _PORT.pack(port))


def second_port_in(options: Iterable[Option]) -> int | None:
    """The port in the first such option; None when there is none, or it is zero."""
    data = _data(options, SECOND_PORT, _PORT.size)
    return None if data is None else int(_PORT.unpack(data)[0]) or None


def protection_option(protection: Protection) -> UnknownOption:
    """The share of the sender. ValueError if its nonce is not NONCE_SIZE octets long."""
    if len(protection.nonce) != NONCE_SIZE:
        raise ValueError(f"a nonce has {NONCE_SIZE} octets")
    return _option(PROTECTION, _PROTECTION.pack(protection.spi, protection.nonce, protection.answers))


def protection_in(options: Iterable[Option]) -> Protection | None:
    """The share in the first such option; None when there is none."""
    data = _data(options, PROTECTION, _PROTECTION.size)
    return None if data is None else Protection(*_PROTECTION.unpack(data))


def _option(subtype: int, data: bytes) -> UnknownOption:
    return UnknownOption(VENDOR_SPECIFIC, _HEAD.pack(VENDOR, subtype) + data)


def _data(options: Iterable[Option], subtype: int, size: int) -> bytes | None:
    for option in options:
        if not isinstance(option, UnknownOption) or option.type != VENDOR_SPECIFIC:
            continue
        if len(option.data) == _HEAD.size + size and _HEAD.unpack_from(option.data) == (VENDOR, subtype):
            return option.data[_HEAD.size :]
    return None
