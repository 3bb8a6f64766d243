"""Mobility options <-> octets, with their alignment.

Pure. RFC 6275 section 6.2, RFC 5555 section 3, RFC 3963, RFC 4283, RFC 4285, RFC 5568, RFC 5648.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import assert_never

from wire.options import (
    AlternateCareOfAddress,
    Authentication,
    BindingAuthorization,
    BindingIdentifier,
    BindingRefreshAdvice,
    Ipv4AddressAck,
    Ipv4CareOfAddress,
    Ipv4HomeAddress,
    MessageIdentification,
    MobileNetworkPrefix,
    MobileNodeIdentifier,
    MobileNodeLinkLayerAddress,
    NatDetection,
    NonceIndices,
    Option,
    UnknownOption,
)
from wire.reader import DecodeError

LIFETIME_UNIT = 4
"""Seconds per unit of every lifetime and refresh interval of a mobility message."""

PAD1 = 0
PADN = 1
BINDING_REFRESH_ADVICE = 2
ALTERNATE_CARE_OF_ADDRESS = 3
NONCE_INDICES = 4
BINDING_AUTHORIZATION = 5
MOBILE_NETWORK_PREFIX = 6
LINK_LAYER_ADDRESS = 7
MOBILE_NODE_IDENTIFIER = 8
AUTHENTICATION = 9
MESSAGE_IDENTIFICATION = 10
IPV4_HOME_ADDRESS = 29
IPV4_ADDRESS_ACK = 30
NAT_DETECTION = 31
IPV4_CARE_OF_ADDRESS = 32
BINDING_IDENTIFIER = 35

MAX_OPTIONS = 32
"""Options that one message may hold, each with its padding: bounds the work that one packet can cause."""

_PREFIX_REQUEST = 0x02
_FORCE_UDP = 0x8000
_BID_HOME = 0x80

_U16 = struct.Struct("!H")
_U64 = struct.Struct("!Q")
_NONCES = struct.Struct("!HH")
_PREFIX = struct.Struct("!xB16s")
_AUTHENTICATION = struct.Struct("!BI")
_IPV4 = struct.Struct("!BB4s")
_NAT = struct.Struct("!HI")
_BID = struct.Struct("!HBB")

_PADDING = (b"", b"\0", *(bytes((PADN, n - 2)) + bytes(n - 2) for n in range(2, 9)))

_ALIGNMENT: Mapping[type[Option], tuple[int, int]] = {
    BindingRefreshAdvice: (0, 2),
    AlternateCareOfAddress: (6, 8),
    NonceIndices: (0, 2),
    BindingAuthorization: (2, 8),
    MobileNetworkPrefix: (4, 8),
    Authentication: (1, 4),
    MessageIdentification: (2, 8),
    Ipv4HomeAddress: (0, 4),
    Ipv4AddressAck: (0, 4),
    NatDetection: (0, 4),
    Ipv4CareOfAddress: (0, 4),
}
"""(x, n): the option starts at an octet of the mobility header that is x modulo n."""


def encode_options(options: Iterable[Option], start: int, types: Mapping[int, int]) -> bytes:
    """The options as they stand from octet `start` of a mobility header, padded to its end.

    ValueError for a value that has no octets. `types` overrides type octets by IANA number.
    """
    items = tuple(options)
    if len(items) > MAX_OPTIONS:
        raise ValueError(f"more than {MAX_OPTIONS} options")
    octets = bytearray()
    for index, option in enumerate(items):
        last = index == len(items) - 1
        if isinstance(option, BindingAuthorization) and not last:
            raise ValueError("binding authorization data is the last option")
        number, body = _encode_body(option)
        if len(body) > 255:
            raise ValueError("an option holds at most 255 octets")
        residue, modulus = _alignment(option, len(body), last)
        octets += _PADDING[(residue - start - len(octets)) % modulus]
        octets += bytes((types.get(number, number), len(body)))
        octets += body
    octets += _PADDING[-(start + len(octets)) % 8]
    return bytes(octets)


def _alignment(option: Option, length: int, last: bool) -> tuple[int, int]:
    if isinstance(option, BindingIdentifier):
        return (0, 2) if option.care_of is None else (2, 8)
    if last and isinstance(option, Authentication) and len(option.data) % 4 == 0:
        return -(2 + length) % 8, 8  # an authentication option ends the message, without padding behind it
    return _ALIGNMENT.get(type(option), (0, 1))


def _encode_body(option: Option) -> tuple[int, bytes]:
    match option:
        case BindingRefreshAdvice():
            return BINDING_REFRESH_ADVICE, _U16.pack(min(option.interval // LIFETIME_UNIT, 0xFFFF))
        case AlternateCareOfAddress():
            return ALTERNATE_CARE_OF_ADDRESS, option.address.packed
        case NonceIndices():
            return NONCE_INDICES, _NONCES.pack(option.home, option.care_of)
        case BindingAuthorization():
            return BINDING_AUTHORIZATION, _sized(option.authenticator, 12)
        case MobileNetworkPrefix():
            prefix = option.prefix
            return MOBILE_NETWORK_PREFIX, _PREFIX.pack(prefix.prefixlen, prefix.network_address.packed)
        case MobileNodeLinkLayerAddress():
            return LINK_LAYER_ADDRESS, option.data
        case MobileNodeIdentifier():
            return MOBILE_NODE_IDENTIFIER, bytes((option.subtype,)) + option.identifier
        case Authentication():
            return AUTHENTICATION, _AUTHENTICATION.pack(option.subtype, option.spi) + option.data
        case MessageIdentification():
            return MESSAGE_IDENTIFICATION, _U64.pack(option.timestamp)
        case UnknownOption():
            if option.type in (PAD1, PADN):
                raise ValueError("padding is not an option")
            return option.type, option.data
        case _:
            return _encode_dual_stack_body(option)


def _encode_dual_stack_body(
    option: Ipv4HomeAddress | Ipv4AddressAck | NatDetection | Ipv4CareOfAddress | BindingIdentifier,
) -> tuple[int, bytes]:
    match option:
        case Ipv4HomeAddress():
            prefix = _prefix_bits(option.prefix_length) | _PREFIX_REQUEST * option.prefix_request
            return IPV4_HOME_ADDRESS, _IPV4.pack(prefix, 0, option.address.packed)
        case Ipv4AddressAck():
            prefix = _prefix_bits(option.prefix_length) if option.accepted else 0
            return IPV4_ADDRESS_ACK, _IPV4.pack(option.status, prefix, option.address.packed)
        case NatDetection():
            return NAT_DETECTION, _NAT.pack(_FORCE_UDP * option.force_udp, option.refresh)
        case Ipv4CareOfAddress():
            return IPV4_CARE_OF_ADDRESS, _IPV4.pack(0, 0, option.address.packed)
        case BindingIdentifier():
            fixed = _BID.pack(option.identifier, option.status, _BID_HOME * option.home)
            return BINDING_IDENTIFIER, fixed + (option.care_of.packed if option.care_of else b"")
        case _:
            assert_never(option)


def _prefix_bits(prefix_length: int) -> int:
    if not 1 <= prefix_length <= 32:
        raise ValueError(f"an IPv4 prefix length is 1 to 32, not {prefix_length}")
    return prefix_length << 2


def _sized(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise ValueError(f"{length} octets are needed, not {len(data)}")
    return data


def decode_options(data: bytes, start: int, types: Mapping[int, int]) -> tuple[Option, ...]:
    """The options from octet `start` of a whole mobility header to its end, without paddings."""
    decoders = _DECODERS if not types else {types.get(n, n): d for n, d in _DECODERS.items()}
    found: list[Option] = []
    position, end = start, len(data)
    for _ in range(2 * MAX_OPTIONS + 2):
        if position < end and data[position] == PAD1:
            position = end - len(data[position:].lstrip(b"\0"))
        if position == end:
            return tuple(found)
        if position + 2 > end:
            raise DecodeError("option without a length")
        number, body_at = data[position], position + 2
        position = body_at + data[position + 1]
        if position > end:
            raise DecodeError("option overruns the message")
        if number == PADN:
            continue
        body = data[body_at:position]
        decode = decoders.get(number)
        option = decode(body) if decode is not None else UnknownOption(number, body)
        if isinstance(option, BindingAuthorization) and position != end:
            raise DecodeError("binding authorization data is not the last option")
        found.append(option)
    raise DecodeError("too many options")


def last_place(data: bytes, start: int, number: int) -> int | None:
    """Where the last option with the type octet `number` starts in a mobility header that decodes."""
    place, position = None, start
    while position + 1 < len(data):
        kind = data[position]
        if kind == number:
            place = position
        position += 1 if kind == PAD1 else 2 + data[position + 1]
    return place


def _refresh_advice(body: bytes) -> Option:
    (interval,) = _U16.unpack(_of_length(body, 2))
    return BindingRefreshAdvice(interval * LIFETIME_UNIT)


def _alternate_care_of(body: bytes) -> Option:
    return AlternateCareOfAddress(IPv6Address(_of_length(body, 16)))


def _nonce_indices(body: bytes) -> Option:
    return NonceIndices(*_NONCES.unpack(_of_length(body, 4)))


def _authorization(body: bytes) -> Option:
    return BindingAuthorization(_of_length(body, 12))


def _network_prefix(body: bytes) -> Option:
    prefix_length, prefix = _PREFIX.unpack(_of_length(body, 18))
    if prefix_length > 128:
        raise DecodeError("mobile network prefix longer than 128 bits")
    return MobileNetworkPrefix(IPv6Network((prefix, prefix_length), strict=False))


def _link_layer_address(body: bytes) -> Option:
    return MobileNodeLinkLayerAddress(body)


def _node_identifier(body: bytes) -> Option:
    _at_least(body, 1)
    return MobileNodeIdentifier(body[0], body[1:])


def _authentication(body: bytes) -> Option:
    subtype, spi = _AUTHENTICATION.unpack_from(_at_least(body, 5))
    return Authentication(subtype, spi, body[5:])


def _message_identification(body: bytes) -> Option:
    return MessageIdentification(_U64.unpack(_of_length(body, 8))[0])


def _ipv4_home_address(body: bytes) -> Option:
    prefix, _, address = _IPV4.unpack(_of_length(body, 6))
    return Ipv4HomeAddress(IPv4Address(address), prefix >> 2, bool(prefix & _PREFIX_REQUEST))


def _ipv4_address_ack(body: bytes) -> Option:
    status, prefix, address = _IPV4.unpack(_of_length(body, 6))
    return Ipv4AddressAck(status, IPv4Address(address), prefix >> 2 if status < 128 else 0)


def _nat_detection(body: bytes) -> Option:
    flags, refresh = _NAT.unpack(_of_length(body, 6))
    return NatDetection(bool(flags & _FORCE_UDP), refresh)


def _ipv4_care_of(body: bytes) -> Option:
    return Ipv4CareOfAddress(IPv4Address(_of_length(body, 6)[2:]))


def _binding_identifier(body: bytes) -> Option:
    identifier, status, flags = _BID.unpack_from(_at_least(body, 4))
    address: IPv4Address | IPv6Address | None
    match len(body):
        case 4:
            address = None
        case 8:
            address = IPv4Address(body[4:])
        case 20:
            address = IPv6Address(body[4:])
        case length:
            raise DecodeError(f"option of {length} octets cannot be a binding identifier")
    return BindingIdentifier(identifier, status, bool(flags & _BID_HOME), address)


def _of_length(body: bytes, length: int) -> bytes:
    if len(body) != length:
        raise DecodeError(f"option of {len(body)} octets should have {length}")
    return body


def _at_least(body: bytes, length: int) -> bytes:
    if len(body) < length:
        raise DecodeError(f"option of {len(body)} octets should have {length} or more")
    return body


_DECODERS: Mapping[int, Callable[[bytes], Option]] = {
    BINDING_REFRESH_ADVICE: _refresh_advice,
    ALTERNATE_CARE_OF_ADDRESS: _alternate_care_of,
    NONCE_INDICES: _nonce_indices,
    BINDING_AUTHORIZATION: _authorization,
    MOBILE_NETWORK_PREFIX: _network_prefix,
    LINK_LAYER_ADDRESS: _link_layer_address,
    MOBILE_NODE_IDENTIFIER: _node_identifier,
    AUTHENTICATION: _authentication,
    MESSAGE_IDENTIFICATION: _message_identification,
    IPV4_HOME_ADDRESS: _ipv4_home_address,
    IPV4_ADDRESS_ACK: _ipv4_address_ack,
    NAT_DETECTION: _nat_detection,
    IPV4_CARE_OF_ADDRESS: _ipv4_care_of,
    BINDING_IDENTIFIER: _binding_identifier,
}
