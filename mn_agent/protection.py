"""Protected payload at the mobile node: its share of the keys, the home agent's answer, and signs of life.

Pure. RFC 5555 section 5, RFC 4303, RFC 3948 section 4 (keepalives); the derivation is in tunnel.protection.
Nothing of it is on disk: a mobile node that starts again offers another share and so begins under other keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv6Address

from mn_agent.actions import Action, AnnouncePath
from mn_agent.binding_update_list import Binding
from runtime.node import Deadline, earliest
from tunnel.envelope import ControlPacket
from tunnel.forwarding import Route
from tunnel.keyring import NO_KEYS, Keyring, PayloadPair
from tunnel.path import TunnelPath
from tunnel.protection import PayloadKey, derive, is_usable
from tunnel.security import FIRST_FREE_SPI
from wire.mobility import BindingUpdate
from wire.options import Option
from wire.vendor import NONCE_SIZE, Protection, protection_in, protection_option

RENEWAL = 3600.0
"""Seconds after which other keys are asked for: well before 2**32 packets, when a session ends. Ours."""
KEEPALIVE = 20.0
"""Seconds without a packet on UDP port 4500 after which a NAT may forget it (RFC 3948 section 4)."""


@dataclass(frozen=True, slots=True)
class PayloadState:
    """What the desired state depends on: all keys, and the sessions by their name there, latest first."""

    keyring: Keyring = NO_KEYS
    spis: tuple[int, ...] = ()

    def over(self, path: TunnelPath) -> TunnelPath:
        """`path` with the latest session; one that is not protected as it is."""
        return replace(path, spi=self.spis[0]) if self.spis and path.encapsulation.protected else path

    def route(self, route: Route) -> Route:
        """The same for a route: what the session before has sealed is taken in as well."""
        if not route.path.encapsulation.protected:
            return route
        earlier = tuple(replace(route.path, spi=spi) for spi in self.spis[1:])
        return Route(route.prefix, self.over(route.path), earlier)


UNPROTECTED = PayloadState()


class PayloadProtection:
    """The sessions of this mobile node: the latest, and the one before. Without a key there are none."""

    def __init__(
        self,
        key: PayloadKey | None,
        home_address: IPv6Address,
        random_bytes: Callable[[int], bytes],
        *,
        reachable: bool = True,
    ) -> None:
        self.state = UNPROTECTED
        self._key = key
        self._home_address = home_address
        self._random_bytes = random_bytes
        self._reachable = reachable
        self._renew_at: float | None = None
        self._checked_at = 0.0
        self._seen: set[bytes] = set()
        """Nonces of the home agent that belong to the present share; none of them may come back."""
        if key is not None:
            self._share = self._new_share()

    def offering(self, packet: ControlPacket) -> ControlPacket:
        """A Binding Update with this node's share of the keys; nothing is offered for a deregistration."""
        update = packet.message
        if self._key is None or not isinstance(update, BindingUpdate) or not update.lifetime:
            return packet
        options = (*update.options, protection_option(self._share))
        return replace(packet, message=replace(update, options=options))

    def answered(self, options: Iterable[Option], now: float) -> bool:
        """The options of an accepted acknowledgement: whether there are other keys now.

        An answer that does not belong to the present share changes nothing: a later one will.
        """
        answer = protection_in(options)
        if self._key is None or answer is None or answer.answers != self._share.spi:
            return False
        if answer.nonce in self._seen or not is_usable(answer):
            return False
        self._seen.add(answer.nonce)
        agreed = derive(self._key, self._home_address, self._share, answer)
        pair = PayloadPair(agreed.to_home_agent, agreed.to_mobile_node)
        # A home agent that has lost its keys answers the same share with other ones, under the same SPI here.
        kept = tuple(spi for spi in self.state.spis[:1] if spi != self._share.spi)
        gone = tuple(spi for spi in self.state.spis if spi not in kept)
        self.state = PayloadState(self.state.keyring.changed(gone, pair), (self._share.spi, *kept))
        self._renew_at = now + RENEWAL
        return True

    def accepted(
        self, paths: Sequence[TunnelPath], options: Iterable[Option], now: float
    ) -> list[Action]:
        """An acknowledgement; `paths` of the binding, if it made one. New keys are shown to be here."""
        return self.announcement(paths) if paths and self.answered(options, now) else []

    def announcement(self, paths: Iterable[TunnelPath]) -> list[Action]:
        """Show the home agent where this node is, or will be, on `paths`. Needs keys."""
        protected = (path for path in paths if self.state.spis and path.encapsulation.protected)
        return [AnnouncePath(self.state.over(path)) for path in protected]

    # ---- timers -------------------------------------------------------------------------------
    def deadline(self, binding: Binding | None) -> Deadline | None:
        renewal = None if self._renew_at is None else Deadline(self._renew_at, "renewal of payload keys")
        period = self._keepalive(binding)
        if period is None:
            return renewal
        return earliest((renewal, Deadline(self._checked_at + period, "NAT keepalive of payload")))

    def wants_renewal(self, now: float) -> bool:
        """Whether it is time for a Binding Update with a new share."""
        if self._renew_at is None or self._renew_at > now:
            return False
        self._share = self._new_share()
        self._seen.clear()
        self._renew_at = None
        return True

    def tick(self, binding: Binding | None, now: float) -> list[Action]:
        """From time to time have the data plane look whether the NAT needs a packet."""
        period = self._keepalive(binding)
        if binding is None or period is None or self._checked_at + period > now:
            return []
        self._checked_at = now
        return [AnnouncePath(self.state.over(binding.path), period)]

    def _keepalive(self, binding: Binding | None) -> float | None:
        """Half the time that a NAT is trusted with, since a look finds what was idle for less than one."""
        if binding is None or not self._reachable or not self.state.spis:
            return None
        path = binding.path.encapsulation
        if binding.keepalive is None or not (path.protected and path.in_udp):
            return None
        return min(KEEPALIVE, binding.keepalive) / 2

    # ---- shares -------------------------------------------------------------------------------
    def _new_share(self) -> Protection:
        while True:
            spi = int.from_bytes(self._random_bytes(4), "big")
            if spi >= FIRST_FREE_SPI and spi not in self.state.spis:
                return Protection(spi, self._random_bytes(NONCE_SIZE))
