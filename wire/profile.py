"""Wire profiles: which flag sits at which bit, which TLV layout and which service names, as data.

Pure. RFC 5555, RFC 5845, draft-ietf-mext-nemo-v4traversal-00; IANA mobility parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, Flag, auto
from types import MappingProxyType
from typing import TypeVar

HOME_AGENT_PORT = 4191


class UpdateFlag(Flag):
    """What a BindingUpdate asks for; the bit on the wire is the profile's."""

    ACKNOWLEDGE = auto()
    HOME = auto()
    LINK_LOCAL = auto()
    KEY_MANAGEMENT = auto()
    MAP = auto()
    ROUTER = auto()
    PROXY = auto()
    FORCE_UDP = auto()
    TLV = auto()


class AckFlag(Flag):
    """What a BindingAck grants; the bit on the wire is the profile's."""

    KEY_MANAGEMENT = auto()
    ROUTER = auto()
    PROXY = auto()
    TLV = auto()


class TlvLayout(Enum):
    """The four octets between the UDP header and the inner packet once TLV format is negotiated."""

    DRAFT = "draft"
    """Type 8, Length 8, Reserved 16; see DRAFT_TLV_TYPES. Length counts the payload, 0 if above 255."""
    RFC5845 = "rfc5845"
    """Type 4 (always 0), Reserved 4, Next Header 8, Length 16 (of the payload)."""


DRAFT_TLV_TYPES: Mapping[int, int] = MappingProxyType({4: 1, 41: 2, 50: 3, 47: 4})
"""IP protocol number -> Type of the draft's TLV header (IPv4, IPv6, ESP, GRE)."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One dialect of the protocol. Both ends are configured alike; it is never guessed from packets.

    `update_flags` (of 16 bits) and `ack_flags` (of 8 bits) map a flag to its bit. `srv_names` are the
    prefixes of `.<domain>` to query, best first. `option_types` overrides the type octet of mobility
    options by their IANA number, for peers that predate the assignment.
    """

    name: str
    update_flags: Mapping[UpdateFlag, int]
    ack_flags: Mapping[AckFlag, int]
    tlv: TlvLayout | None
    srv_names: tuple[str, ...]
    option_types: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))

    def update_bits(self, flags: UpdateFlag, unknown: int) -> int:
        """The flag field of a BindingUpdate. ValueError for a flag that this profile cannot express."""
        return _join(flags, self.update_flags, unknown, 0xFFFF)

    def ack_bits(self, flags: AckFlag, unknown: int) -> int:
        """The flag field of a BindingAck. ValueError for a flag that this profile cannot express."""
        return _join(flags, self.ack_flags, unknown, 0xFF)

    def split_update_bits(self, bits: int) -> tuple[UpdateFlag, int]:
        """The flags set in `bits`, and the bits that mean nothing in this profile."""
        flags, unknown = _split(bits, self.update_flags)
        return UpdateFlag(flags), unknown

    def split_ack_bits(self, bits: int) -> tuple[AckFlag, int]:
        """The flags set in `bits`, and the bits that mean nothing in this profile."""
        flags, unknown = _split(bits, self.ack_flags)
        return AckFlag(flags), unknown


_FlagT = TypeVar("_FlagT", bound=Flag)


def _join(flags: _FlagT, table: Mapping[_FlagT, int], unknown: int, field: int) -> int:
    left = flags.value
    bits = 0
    for flag, bit in table.items():
        if left & flag.value:
            left ^= flag.value
            bits |= bit
        if unknown & bit:
            raise ValueError(f"bit {bit:#x} is the flag {flag.name} of this profile")
    if left:
        raise ValueError(f"this profile has no bit for all of {flags}")
    if unknown & ~field:
        raise ValueError(f"unknown flags {unknown:#x} do not fit the field")
    return bits | unknown


def _split(bits: int, table: Mapping[_FlagT, int]) -> tuple[int, int]:
    flags = 0
    for flag, bit in table.items():
        if bits & bit:
            flags |= flag.value
            bits ^= bit
    return flags, bits


_COMMON_UPDATE_FLAGS = {
    UpdateFlag.ACKNOWLEDGE: 0x8000,
    UpdateFlag.HOME: 0x4000,
    UpdateFlag.LINK_LOCAL: 0x2000,
    UpdateFlag.KEY_MANAGEMENT: 0x1000,
    UpdateFlag.MAP: 0x0800,
    UpdateFlag.ROUTER: 0x0400,
}
_RFC5555_UPDATE_FLAGS = {**_COMMON_UPDATE_FLAGS, UpdateFlag.PROXY: 0x0200, UpdateFlag.FORCE_UDP: 0x0100}
_RFC5555_ACK_FLAGS = {AckFlag.KEY_MANAGEMENT: 0x80, AckFlag.ROUTER: 0x40, AckFlag.PROXY: 0x20}

RFC5555 = Profile(
    name="rfc5555",
    update_flags=MappingProxyType(_RFC5555_UPDATE_FLAGS),
    ack_flags=MappingProxyType(_RFC5555_ACK_FLAGS),
    tlv=None,
    srv_names=("_mip6._ipv6",),
)
RFC5555_TLV = Profile(
    name="rfc5555+rfc5845-tlv",
    update_flags=MappingProxyType({**_RFC5555_UPDATE_FLAGS, UpdateFlag.TLV: 0x0080}),
    ack_flags=MappingProxyType({**_RFC5555_ACK_FLAGS, AckFlag.TLV: 0x10}),
    tlv=TlvLayout.RFC5845,
    srv_names=("_mip6._ipv6",),
)
DRAFT_00 = Profile(
    name="draft-00",
    update_flags=MappingProxyType(
        {**_COMMON_UPDATE_FLAGS, UpdateFlag.FORCE_UDP: 0x0200, UpdateFlag.TLV: 0x0100}
    ),
    ack_flags=MappingProxyType({AckFlag.KEY_MANAGEMENT: 0x80, AckFlag.ROUTER: 0x40, AckFlag.TLV: 0x20}),
    tlv=TlvLayout.DRAFT,
    srv_names=("mip6ha.ipv6", "_mip6._ipv6"),
)

PROFILES = (RFC5555, RFC5555_TLV, DRAFT_00)


def profile_named(name: str) -> Profile:
    """The profile of that name; ValueError names the choices."""
    for profile in PROFILES:
        if profile.name == name:
            return profile
    raise ValueError(f"no wire profile {name!r}; there are {', '.join(p.name for p in PROFILES)}")
