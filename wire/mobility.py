"""Mobility messages as values, and their octets.

Pure. RFC 6275 sections 6.1 and 9.2, RFC 5555 section 3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import assert_never

from wire.checksum import internet_checksum, pseudo_header6, word_sum
from wire.ip import NO_NEXT_HEADER, PROTOCOL_MOBILITY
from wire.option_codec import LIFETIME_UNIT, decode_options, encode_options
from wire.options import Option
from wire.profile import AckFlag, Profile, UpdateFlag
from wire.reader import DecodeError
from wire.status import BindingStatus, binding_status, status_text

__all__ = [
    "MAX_LIFETIME",
    "AckFlag",
    "BindingAck",
    "BindingError",
    "BindingRefreshRequest",
    "BindingStatus",
    "BindingUpdate",
    "CareOfTest",
    "CareOfTestInit",
    "HomeTest",
    "HomeTestInit",
    "Message",
    "UnknownMessage",
    "UpdateFlag",
    "decode_message",
    "encode_message",
    "status_text",
]

MAX_LIFETIME = 0xFFFF * LIFETIME_UNIT
"""Seconds: the longest lifetime that a binding can have."""

_NO_FLAGS = AckFlag(0)


@dataclass(frozen=True, slots=True)
class BindingRefreshRequest:
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class HomeTestInit:
    """`cookie` of 8 octets."""

    cookie: bytes
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class CareOfTestInit:
    """`cookie` of 8 octets."""

    cookie: bytes
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class HomeTest:
    """`cookie` and `token` of 8 octets each."""

    nonce_index: int
    cookie: bytes
    token: bytes
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class CareOfTest:
    """`cookie` and `token` of 8 octets each."""

    nonce_index: int
    cookie: bytes
    token: bytes
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class BindingUpdate:
    """`lifetime` in seconds, 0 deregisters; `unknown_flags` are bits without a name in the profile."""

    sequence: int
    lifetime: int
    flags: UpdateFlag
    options: tuple[Option, ...] = ()
    unknown_flags: int = 0


@dataclass(frozen=True, slots=True)
class BindingAck:
    """`status` is a BindingStatus where it has a name; `lifetime` in seconds."""

    status: int
    sequence: int
    lifetime: int
    flags: AckFlag = _NO_FLAGS
    options: tuple[Option, ...] = ()
    unknown_flags: int = 0

    @property
    def accepted(self) -> bool:
        return self.status < 128


@dataclass(frozen=True, slots=True)
class BindingError:
    """`status` 1: no binding for the home address option; 2: unknown type of mobility message."""

    status: int
    home_address: IPv6Address
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class UnknownMessage:
    """A message of a type without a class here; `data` is all that follows the checksum."""

    type: int
    data: bytes


Message = (
    BindingRefreshRequest
    | HomeTestInit
    | CareOfTestInit
    | HomeTest
    | CareOfTest
    | BindingUpdate
    | BindingAck
    | BindingError
    | UnknownMessage
)

BINDING_REFRESH_REQUEST = 0
HOME_TEST_INIT = 1
CARE_OF_TEST_INIT = 2
HOME_TEST = 3
CARE_OF_TEST = 4
BINDING_UPDATE = 5
BINDING_ACK = 6
BINDING_ERROR = 7

_COMMON = struct.Struct("!BBBBH")
_TEST_INIT = struct.Struct("!2x8s")
_TEST = struct.Struct("!H8s8s")
_UPDATE = struct.Struct("!HHH")
_ACK = struct.Struct("!BBHH")
_ERROR = struct.Struct("!Bx16s")
_BODY = _COMMON.size
_MAX_HEADER = 256 * 8


def encode_message(
    message: Message, source: IPv6Address, destination: IPv6Address, profile: Profile
) -> bytes:
    """The mobility header with its checksum over the given pseudo-header addresses.

    `source` is the home address where a home address option is present, `destination` the one in a type 2
    routing header. Lifetimes are rounded down to units of 4 s: below 4 s is 0, which deregisters.
    ValueError for a value that the wire or the profile cannot express.
    """
    try:
        kind, fixed, options = _encode_body(message, profile)
        body = fixed + encode_options(options, _BODY + len(fixed), profile.option_types)
        length = _BODY + len(body)
        if length > _MAX_HEADER:
            raise ValueError(f"{length} octets are too long for a mobility header")
        header = _COMMON.pack(NO_NEXT_HEADER, length // 8 - 1, kind, 0, 0)
    except struct.error as error:
        raise ValueError(f"{type(message).__name__}: {error}") from error
    initial = word_sum(pseudo_header6(source, destination, length, PROTOCOL_MOBILITY)) + word_sum(header)
    return header[:4] + internet_checksum(body, initial).to_bytes(2, "big") + body


def _encode_body(message: Message, profile: Profile) -> tuple[int, bytes, tuple[Option, ...]]:
    match message:
        case BindingUpdate():
            flags = profile.update_bits(message.flags, message.unknown_flags)
            fixed = _UPDATE.pack(message.sequence, flags, _units(message.lifetime))
            return BINDING_UPDATE, fixed, message.options
        case BindingAck():
            flags = profile.ack_bits(message.flags, message.unknown_flags)
            fixed = _ACK.pack(message.status, flags, message.sequence, _units(message.lifetime))
            return BINDING_ACK, fixed, message.options
        case BindingRefreshRequest():
            return BINDING_REFRESH_REQUEST, bytes(2), message.options
        case HomeTestInit():
            return HOME_TEST_INIT, _TEST_INIT.pack(_octets8(message.cookie)), message.options
        case CareOfTestInit():
            return CARE_OF_TEST_INIT, _TEST_INIT.pack(_octets8(message.cookie)), message.options
        case HomeTest():
            return HOME_TEST, _encode_test(message), message.options
        case CareOfTest():
            return CARE_OF_TEST, _encode_test(message), message.options
        case BindingError():
            return BINDING_ERROR, _ERROR.pack(message.status, message.home_address.packed), message.options
        case UnknownMessage():
            return message.type, _whole_units(message.data), ()
        case _:
            assert_never(message)


def _whole_units(data: bytes) -> bytes:
    if (_BODY + len(data)) % 8:
        raise ValueError("a mobility header fills units of eight octets")
    return data


def _encode_test(message: HomeTest | CareOfTest) -> bytes:
    return _TEST.pack(message.nonce_index, _octets8(message.cookie), _octets8(message.token))


def _octets8(value: bytes) -> bytes:
    if len(value) != 8:
        raise ValueError(f"a cookie or token has 8 octets, not {len(value)}")
    return value


def _units(lifetime: int) -> int:
    return min(lifetime // LIFETIME_UNIT, 0xFFFF)


def decode_message(data: bytes, source: IPv6Address, destination: IPv6Address, profile: Profile) -> Message:
    """The message at the start of `data`, checked in the order of RFC 6275 section 9.2.

    Addresses as for `encode_message`. DecodeError with a pointer calls for an ICMPv6 Parameter Problem,
    without one for silence; an UnknownMessage calls for a BindingError of status 2.
    Octets behind the header are ignored, since nothing follows a payload protocol of 59.
    """
    if len(data) < 8:
        raise DecodeError("shorter than a mobility header")
    payload_protocol, header_length, kind = data[0], data[1], data[2]
    length = (header_length + 1) * 8
    if length > len(data):
        raise DecodeError("mobility header exceeds the packet")
    header = data[:length]
    initial = word_sum(pseudo_header6(source, destination, length, PROTOCOL_MOBILITY))
    if internet_checksum(header, initial):
        raise DecodeError("mobility header checksum is wrong")
    known = _DECODERS.get(kind)
    if known is None:
        return UnknownMessage(kind, header[_BODY:])
    minimum, decode = known
    if payload_protocol != NO_NEXT_HEADER:
        raise DecodeError("mobility header with a payload", pointer=0)
    if header_length < minimum:
        raise DecodeError("mobility header too short for its type", pointer=1)
    return decode(header, profile)


def _decode_refresh_request(header: bytes, profile: Profile) -> Message:
    return BindingRefreshRequest(decode_options(header, 8, profile.option_types))


def _decode_home_test_init(header: bytes, profile: Profile) -> Message:
    (cookie,) = _TEST_INIT.unpack_from(header, _BODY)
    return HomeTestInit(cookie, decode_options(header, 16, profile.option_types))


def _decode_care_of_test_init(header: bytes, profile: Profile) -> Message:
    (cookie,) = _TEST_INIT.unpack_from(header, _BODY)
    return CareOfTestInit(cookie, decode_options(header, 16, profile.option_types))


def _decode_home_test(header: bytes, profile: Profile) -> Message:
    nonce_index, cookie, token = _TEST.unpack_from(header, _BODY)
    return HomeTest(nonce_index, cookie, token, decode_options(header, 24, profile.option_types))


def _decode_care_of_test(header: bytes, profile: Profile) -> Message:
    nonce_index, cookie, token = _TEST.unpack_from(header, _BODY)
    return CareOfTest(nonce_index, cookie, token, decode_options(header, 24, profile.option_types))


def _decode_update(header: bytes, profile: Profile) -> Message:
    sequence, bits, units = _UPDATE.unpack_from(header, _BODY)
    flags, unknown = profile.split_update_bits(bits)
    options = decode_options(header, 12, profile.option_types)
    return BindingUpdate(sequence, units * LIFETIME_UNIT, flags, options, unknown)


def _decode_ack(header: bytes, profile: Profile) -> Message:
    status, bits, sequence, units = _ACK.unpack_from(header, _BODY)
    flags, unknown = profile.split_ack_bits(bits)
    options = decode_options(header, 12, profile.option_types)
    return BindingAck(binding_status(status), sequence, units * LIFETIME_UNIT, flags, options, unknown)


def _decode_error(header: bytes, profile: Profile) -> Message:
    status, address = _ERROR.unpack_from(header, _BODY)
    return BindingError(status, IPv6Address(address), decode_options(header, 24, profile.option_types))


_DECODERS: Mapping[int, tuple[int, Callable[[bytes, Profile], Message]]] = {
    BINDING_REFRESH_REQUEST: (0, _decode_refresh_request),
    HOME_TEST_INIT: (1, _decode_home_test_init),
    CARE_OF_TEST_INIT: (1, _decode_care_of_test_init),
    HOME_TEST: (2, _decode_home_test),
    CARE_OF_TEST: (2, _decode_care_of_test),
    BINDING_UPDATE: (1, _decode_update),
    BINDING_ACK: (1, _decode_ack),
    BINDING_ERROR: (2, _decode_error),
}
"""Type -> the least Header Len (in units of 8 octets behind the first 8) and the decoder of the rest."""
