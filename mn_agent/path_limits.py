"""How large outer packets may be in each place: by the link, by what was measured, by what is remembered.

Pure. RFC 8899 section 5.1.1 (PMTU_RAISE_TIMER, here a day), RFC 1191 section 6.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from mn_agent.binding_update_list import Target
from mn_agent.network_memory import NetworkMemory
from movement.known_networks import Learnt
from movement.policy import Attachment
from tunnel.envelope import ControlPacket
from tunnel.path import TunnelPath
from wire.mobility import BindingUpdate
from wire.vendor import path_mtu_option

KEPT = 86400.0
"""Seconds for which a measured MTU is believed; then the path may have become larger. Ours."""
USUAL = 1500
"""Octets that the other end takes for granted; only what is less has to be said."""

Place = tuple[str, IPv4Address | IPv6Address, int]


def place_of(attachment: Attachment) -> Place:
    """What tells one stay at a care-of address from the next."""
    return attachment.interface, attachment.care_of, attachment.carrier_losses


class PathLimits:
    """Of the links that are there; what was measured in a network that has an identity is remembered."""

    def __init__(self, networks: NetworkMemory) -> None:
        self.in_force: dict[tuple[str, IPv4Address | IPv6Address], int] = {}
        """Octets, by interface and care-of address, where it is less than the link's."""
        self._networks = networks
        self._present: dict[Place, Attachment] = {}
        self._measured: dict[Place, Learnt[int]] = {}
        self._before: dict[Place, int] = {}
        self._told: tuple[Place, int] | None = None

    def follow(self, attachments: Iterable[Attachment], now: float) -> None:
        """These are the links now. What was measured on others says nothing when they come back."""
        self._present = {place_of(attachment): attachment for attachment in attachments}
        self._measured = {place: fact for place, fact in self._measured.items() if place in self._present}
        self._before = {place: mtu for place, mtu in self._before.items() if place in self._present}
        known = {place: self.mtu_at(attachment, now) for place, attachment in self._present.items()}
        self.in_force = {
            place[:2]: mtu for place, mtu in known.items() if mtu < self._present[place].mtu
        }

    def present(self, attachment: Attachment) -> Attachment:
        """As it is now: a binding keeps it as it was, when perhaps nobody knew the network."""
        return self._present.get(place_of(attachment), attachment)

    def mtu_at(self, attachment: Attachment, now: float) -> int:
        """Octets of the largest outer packets that pass there, as far as is known."""
        known = self._known(attachment, now)
        return attachment.mtu if known is None else min(attachment.mtu, known.value)

    def source(self, attachment: Attachment, now: float) -> str:
        """Where that comes from: "link", "measured" (in this stay) or "remembered"."""
        known = self._known(attachment, now)
        if known is None or known.value >= attachment.mtu:
            return "link"
        return "measured" if place_of(attachment) in self._measured else "remembered"

    def has_grown(self, attachment: Attachment, now: float) -> bool:
        """Whether larger packets may pass there than when this was asked last."""
        place, mtu = place_of(attachment), self.mtu_at(attachment, now)
        before, self._before[place] = self._before.get(place, mtu), mtu
        return mtu > before

    def limited(self, path: TunnelPath, attachment: Attachment, now: float) -> TunnelPath:
        """`path`, which leads through `attachment`, as large as is known to pass."""
        mtu = self.mtu_at(attachment, now)
        return path if mtu >= path.link_mtu else replace(path, link_mtu=mtu)

    def measured(self, attachment: Attachment, mtu: int, now: float) -> None:
        """A test has shown that larger packets disappear."""
        attachment, fact = self.present(attachment), Learnt(mtu, now + KEPT)
        self._measured[place_of(attachment)] = fact
        if attachment.network is not None:
            self._networks.learn(attachment.network, path_mtu=fact)

    # ---- the home agent has to know ----------------------------------------------------------------
    def telling(self, packet: ControlPacket, target: Target, now: float) -> ControlPacket:
        """The Binding Update for `target`, which says how large packets may be, if that is not as usual."""
        update, mtu = packet.message, min(USUAL, self.mtu_at(self.present(target.attachment), now))
        self._told = (place_of(target.attachment), mtu)
        if mtu >= USUAL or target.at_home or not isinstance(update, BindingUpdate):
            return packet
        return replace(packet, message=replace(update, options=(*update.options, path_mtu_option(mtu))))

    def is_told(self, attachment: Attachment, now: float) -> bool:
        """Whether the last Binding Update from there has said what is known by now."""
        return self._told == (place_of(attachment), min(USUAL, self.mtu_at(attachment, now)))

    def _known(self, attachment: Attachment, now: float) -> Learnt[int] | None:
        measured = self._measured.get(place_of(attachment))
        if measured is not None and measured.until > now:
            return measured
        return self._networks.about(attachment.network, now).path_mtu
