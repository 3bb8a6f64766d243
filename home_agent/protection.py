"""Protected payload at the home agent: which keys each mobile node has now, and who must come for new ones.

Pure. RFC 5555 section 5, RFC 4303; the derivation is in tunnel.protection. Nothing of it is on disk: a home
agent that has started again has lost all keys, asks the mobile nodes whose bindings it remembers to register
(Binding Refresh Request), and until then carries nothing for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address

from home_agent.agenda import Agenda
from runtime.node import Deadline
from tunnel.keyring import NO_KEYS, PayloadPair
from tunnel.protection import PayloadKey, derive, is_usable
from tunnel.security import FIRST_FREE_SPI
from wire.options import Option
from wire.vendor import NONCE_SIZE, Protection, protection_in, protection_option

SUMMONS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between one summons and the next, should it be lost. Ours."""
SUMMONS_PER_SECOND = 500.0
"""Mobile nodes that are asked for the first time after a start: each of them answers. Ours."""


@dataclass(frozen=True, slots=True)
class _Session:
    """What a mobile node offered, and what it was answered."""

    offer: Protection
    answer: Protection


class PayloadProtection:
    """The sessions of all mobile nodes whose payload is protected: of each the latest, and the one before.

    The one before still opens what was under way, and seals until the mobile node has used the latest.
    """

    def __init__(
        self,
        keys: Mapping[IPv6Address, PayloadKey],
        taken: Iterable[int],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """`taken`: the SPIs that messages of the mobile nodes have."""
        self.keyring = NO_KEYS
        """The whole desired state of the data plane, always in step with the sessions."""
        self._keys = keys
        self._taken = frozenset(taken)
        self._random_bytes = random_bytes
        self._sessions: dict[IPv6Address, tuple[_Session, ...]] = {}
        self._summons = Agenda()
        self._tries: dict[IPv6Address, int] = {}

    def agree(self, home_address: IPv6Address, options: Iterable[Option]) -> tuple[Option, ...]:
        """Take up what an accepted Binding Update offers; the option for its answer.

        The same offer again, as in every refresh and retransmission, has the same answer and changes nothing.
        """
        offer = protection_in(options)
        key = self._keys.get(home_address)
        if key is None or offer is None:
            return ()
        self._release_from_summons(home_address)
        sessions = self._sessions.get(home_address, ())
        if not sessions or sessions[0].offer != offer:
            sessions = self._begin(home_address, key, offer, sessions)
        return (protection_option(sessions[0].answer),)

    def forget(self, home_address: IPv6Address) -> None:
        """The binding has ended, and its keys with it."""
        self._release_from_summons(home_address)
        sessions = self._sessions.pop(home_address, ())
        if sessions:
            self.keyring = self.keyring.changed(session.answer.spi for session in sessions)

    def spis(self, home_address: IPv6Address) -> tuple[int, ...]:
        """The sessions of a mobile node, latest first, by their name in the keyring. None: nothing passes."""
        return tuple(session.answer.spi for session in self._sessions.get(home_address, ()))

    # ---- those whose keys are lost ------------------------------------------------------------
    @property
    def missing(self) -> int:
        """How many mobile nodes have been asked to register and have not come yet."""
        return len(self._tries)

    def summon(self, home_address: IPv6Address, at: float) -> None:
        """`home_address` is bound, but its keys are lost: it is to be asked, the first time at `at`."""
        if home_address in self._keys:
            self._tries[home_address] = 0
            self._summons.set(home_address, at)

    def due(self, now: float) -> list[IPv6Address]:
        """Whom to ask for a Binding Update now."""
        homes = []
        while (home := self._summons.pop_due(now)) is not None:
            homes.append(home)
            tries = self._tries[home]
            if tries < len(SUMMONS):
                self._summons.set(home, now + SUMMONS[tries])
                self._tries[home] = tries + 1
        return homes

    def deadline(self) -> Deadline | None:
        first = self._summons.first()
        return None if first is None else Deadline(first[0], "mobile node is asked to register")

    def _release_from_summons(self, home_address: IPv6Address) -> None:
        if self._tries.pop(home_address, None) is not None:
            self._summons.cancel(home_address)

    # ---- keys ---------------------------------------------------------------------------------
    def _begin(
        self, home_address: IPv6Address, key: PayloadKey, offer: Protection, sessions: tuple[_Session, ...]
    ) -> tuple[_Session, ...]:
        answer = Protection(self._free_spi(), self._random_bytes(NONCE_SIZE), offer.spi)
        keys = derive(key, home_address, offer, answer)
        stand_in = sessions[0].answer.spi if sessions else 0
        pair = PayloadPair(keys.to_mobile_node, keys.to_home_agent, stand_in)
        self.keyring = self.keyring.changed((session.answer.spi for session in sessions[1:]), pair)
        self._sessions[home_address] = (_Session(offer, answer), *sessions[:1])
        return self._sessions[home_address]

    def _free_spi(self) -> int:
        while True:
            spi = int.from_bytes(self._random_bytes(4), "big")
            if spi >= FIRST_FREE_SPI and spi not in self._taken and spi not in self.keyring:
                return spi


def offers_protection(options: Iterable[Option]) -> bool:
    """Whether a Binding Update holds what is needed to protect payload."""
    offer = protection_in(options)
    return offer is not None and is_usable(offer)
