"""Signs that the other end writes another wire profile than ours: recognised and said, never acted upon.

Pure. One bit means different things in RFC 5555, RFC 5845 and the draft (section 3.1.3), so a message of the
other profile is usually read without an error, and understood wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable

from wire.mobility import BindingAck, BindingUpdate
from wire.options import Option, UnknownOption
from wire.profile import DRAFT_00, RFC5555_TLV, AckFlag, Profile, UpdateFlag

_PROXY_OPTIONS = frozenset(range(22, 29))
"""Options that a message of Proxy Mobile IPv6 has (RFC 5213 section 8)."""
_UPDATE_TLV = RFC5555_TLV.update_flags[UpdateFlag.TLV]
_ACK_TLV = RFC5555_TLV.ack_flags[AckFlag.TLV]


def in_update(update: BindingUpdate, profile: Profile, native: bool) -> str:
    """What in a Binding Update speaks for another profile, and for which; "" if nothing does.

    `native`: it came over IPv6, where nobody who follows RFC 5555 asks for UDP.
    """
    if UpdateFlag.PROXY in update.flags and not _of_proxy(update.options):
        return _likely(DRAFT_00, "0x0200 is its F, and P without a proxy here")
    if native and profile is not DRAFT_00 and UpdateFlag.FORCE_UDP in update.flags:
        return _likely(DRAFT_00, "0x0100 is its T, and F on an IPv6 link here")
    if update.unknown_flags & _UPDATE_TLV:
        return _likely(RFC5555_TLV, "0x0080 is its T, and nothing here")
    return ""


def in_ack(ack: BindingAck, profile: Profile, tlv_asked: bool) -> str:
    """The same for a Binding Acknowledgement; `tlv_asked`: the update that it answers had T."""
    if AckFlag.PROXY in ack.flags and not _of_proxy(ack.options):
        return _likely(DRAFT_00, "0x20 is its T, and P without a proxy here")
    if ack.unknown_flags & _ACK_TLV:
        return _likely(RFC5555_TLV, "0x10 is its T, and nothing here")
    if AckFlag.TLV in ack.flags and not tlv_asked:
        return f"some other wire profile (T of {profile.name} without having been asked)"
    return ""


def _of_proxy(options: Iterable[Option]) -> bool:
    return any(isinstance(one, UnknownOption) and one.type in _PROXY_OPTIONS for one in options)


def _likely(profile: Profile, why: str) -> str:
    return f"wire profile {profile.name} ({why})"
