"""Wrap and unwrap: what stands between the outer header and the inner packet.

Pure. RFC 5555 section 4.1 (vanilla), RFC 5845 section 6.5 and draft-ietf-mext-nemo-v4traversal-00
section 4.1 (the two TLV headers), RFC 2003, RFC 2473, RFC 4213 (IP in IP), RFC 3948 (ESP in UDP); DSCP and
ECN: RFC 2983, RFC 6040.
"""

from __future__ import annotations

import struct
from typing import Literal, assert_never

from tunnel.path import TLV_HEADER, Drop, Encapsulation
from wire.checksum import internet_checksum
from wire.esp import NatTraversal, classify_port_4500
from wire.ip import IPV4_HEADER, PROTOCOL_IPV4, PROTOCOL_IPV6
from wire.profile import DRAFT_TLV_TYPES, TlvLayout

EMPTY = Drop("udp-empty")
UNKNOWN_FORMAT = Drop("udp-unknown-format")
TLV_DISABLED = Drop("tlv-not-negotiated")
TLV_LENGTH = Drop("tlv-length")
TLV_TYPE = Drop("tlv-type")
CONGESTED = Drop("ecn-congested")
ESP_MALFORMED = Drop("esp-malformed")
IKE = Drop("ike-unsupported")
KEEPALIVE = Drop("nat-keepalive")
"""No refusal: it has done its work in the NAT, and is no sign of life (RFC 3948 section 4)."""

NOT_ECT, ECT_1, ECT_0, CE = 0, 1, 2, 3

_TLV_RFC5845 = struct.Struct("!BBH")
_TLV_DRAFT = struct.Struct("!BBxx")
_TLV_DRAFT_PROTOCOLS = {kind: protocol for protocol, kind in DRAFT_TLV_TYPES.items()}
_DRAFT_MAX_LENGTH = 255
_VERSION_OF = {PROTOCOL_IPV4: 4, PROTOCOL_IPV6: 6}


def protocol_of(packet: bytes) -> int:
    """The IP protocol number of an inner packet: 4 or 41."""
    return PROTOCOL_IPV6 if packet[0] >> 4 == 6 else PROTOCOL_IPV4


def wrap(packet: bytes, encapsulation: Encapsulation) -> bytes:
    """The octets after the outer IP header (IP in IP) or after the UDP header. No copy without a header."""
    match encapsulation:
        case Encapsulation.IP_IN_IP | Encapsulation.UDP:
            return packet
        case Encapsulation.UDP_TLV | Encapsulation.UDP_TLV_DRAFT as kind:
            return tlv_header(kind, packet[0] >> 4, len(packet)) + packet
        case Encapsulation.ESP | Encapsulation.ESP_UDP:
            raise ValueError("ESP needs keys: see tunnel.payload_esp")
        case _:
            assert_never(encapsulation)


def tlv_header(
    kind: Literal[Encapsulation.UDP_TLV, Encapsulation.UDP_TLV_DRAFT], version: int, length: int
) -> bytes:
    """Four octets for an inner packet of `version` (6, else taken for 4) and `length`."""
    protocol = PROTOCOL_IPV6 if version == 6 else PROTOCOL_IPV4
    if kind is Encapsulation.UDP_TLV:
        return _TLV_RFC5845.pack(0, protocol, length)
    # One octet cannot count most packets; then it says 0 and the UDP length counts.
    return _TLV_DRAFT.pack(DRAFT_TLV_TYPES[protocol], length if length <= _DRAFT_MAX_LENGTH else 0)


def demultiplex(payload: bytes, tlv: TlvLayout | None) -> bytes | Drop:
    """The inner packet of a UDP datagram, told by the first four bits: 4 or 6 vanilla, 0 a TLV header.

    Vanilla is always accepted, since BUs keep it and a lost BA leaves the ends in different formats; a
    TLV header of the profile's layout only where the profile has one.
    """
    if not payload:
        return EMPTY
    version = payload[0] >> 4
    if version in (4, 6):
        return payload
    if version != 0:
        return UNKNOWN_FORMAT
    match tlv:
        case None:
            return TLV_DISABLED
        case TlvLayout.RFC5845:
            return _unwrap_rfc5845(payload)
        case TlvLayout.DRAFT:
            return _unwrap_draft(payload)
        case _:
            assert_never(tlv)


def esp_in(datagram: bytes) -> bytes | Drop:
    """The ESP packet that a datagram on UDP port 4500 is, if it is one."""
    match classify_port_4500(datagram):
        case NatTraversal.ESP:
            return datagram
        case NatTraversal.KEEPALIVE:
            return KEEPALIVE
        case NatTraversal.IKE:
            return IKE
        case NatTraversal.MALFORMED:
            return ESP_MALFORMED
        case other:
            assert_never(other)


def _unwrap_rfc5845(payload: bytes) -> bytes | Drop:
    if len(payload) <= TLV_HEADER:
        return TLV_LENGTH
    _, protocol, length = _TLV_RFC5845.unpack_from(payload)
    if length != len(payload) - TLV_HEADER:
        return TLV_LENGTH
    return _inner(payload, protocol)


def _unwrap_draft(payload: bytes) -> bytes | Drop:
    if len(payload) <= TLV_HEADER:
        return TLV_LENGTH
    kind, length = _TLV_DRAFT.unpack_from(payload)
    if length and length != len(payload) - TLV_HEADER:
        return TLV_LENGTH
    return _inner(payload, _TLV_DRAFT_PROTOCOLS.get(kind))


def _inner(payload: bytes, protocol: int | None) -> bytes | Drop:
    """The packet after the TLV header, if it is of the announced kind; ESP and GRE inside are not taken."""
    if payload[TLV_HEADER] >> 4 != _VERSION_OF.get(protocol or 0):
        return TLV_TYPE
    return payload[TLV_HEADER:]


def tos_of(packet: bytes) -> int:
    """DSCP and ECN of a packet: the IPv4 TOS octet or the IPv6 traffic class."""
    if packet[0] >> 4 == 6:
        return (packet[0] << 4 | packet[1] >> 4) & 0xFF
    return packet[1]


def with_outer_ecn(packet: bytes, outer_tos: int) -> bytes | Drop:
    """The inner packet with the congestion mark of the outer header merged in (RFC 6040 section 4.2).

    A mark that the inner packet cannot carry becomes what it stands for: a loss.
    """
    outer, inner = outer_tos & 3, tos_of(packet) & 3
    if outer == CE and inner == NOT_ECT:
        return CONGESTED
    if outer == CE and inner != CE:
        return _with_ecn(packet, CE)
    if outer == ECT_1 and inner == ECT_0:
        return _with_ecn(packet, ECT_1)
    return packet


def _with_ecn(packet: bytes, ecn: int) -> bytes:
    octets = bytearray(packet)
    if packet[0] >> 4 == 6:
        octets[1] = octets[1] & 0xCF | ecn << 4
        return bytes(octets)
    octets[1] = octets[1] & 0xFC | ecn
    octets[10:12] = bytes(2)
    header = octets[: max(IPV4_HEADER, (packet[0] & 0x0F) * 4)]
    octets[10:12] = internet_checksum(header).to_bytes(2, "big")
    return bytes(octets)
