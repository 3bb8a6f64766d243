"""Mobile prefix discovery: how long the home prefix is good, asked of the home agent when that matters.

Pure. RFC 6275 sections 11.4.2 and 11.4.3, draft section 2.2. Nothing but lifetimes is taken from an
advertisement: the home address is configured, and stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from random import Random
from typing import assert_never

from runtime.node import Deadline
from wire.icmp import MobilePrefixAdvertisement, PrefixInformation

INITIAL_TIMEOUT = 3.0
"""Seconds, RFC 6275 section 12 INITIAL_SOLICIT_TIMER; doubled after each solicitation."""
MAX_TIMEOUT = 600.0
"""Seconds, RFC 6275 section 12 MinMobPfxAdvInterval: nobody asks more rarely than that. Ours."""
AGAIN_FRACTION = 0.8
"""Part of the preferred lifetime after which is asked again. Ours."""
FOR_EVER = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class HomePrefix:
    """What the home agent says of the prefix of the home address; instants may be infinite."""

    prefix: IPv6Network
    valid_until: float
    preferred_until: float


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing to ask before `ask_at`, never if that is None."""

    ask_at: float | None


@dataclass(frozen=True, slots=True)
class Soliciting:
    """`identifier` has been asked, and is asked again at `retry_at`."""

    identifier: int
    timeout: float
    retry_at: float


State = Quiet | Soliciting


class PrefixDiscovery:
    """`home` is what is known; None before the first advertisement."""

    def __init__(self, home_address: IPv6Address, rng: Random) -> None:
        self._home_address = home_address
        self._rng = rng
        self.home: HomePrefix | None = None
        self.state: State = Quiet(None)

    def needed(self, now: float) -> None:
        """The home agent says that prefixes are about to change. One question at a time is enough."""
        if isinstance(self.state, Quiet):
            self.state = Soliciting(self._rng.getrandbits(16), INITIAL_TIMEOUT, now)

    def tick(self, bound: bool, now: float) -> int | None:
        """The identifier of the solicitation that is due; it can be sent only while there is a binding."""
        match self.state:
            case Quiet(ask_at=ask_at) if ask_at is not None and ask_at <= now:
                self.needed(now)
            case _:
                pass
        match self.state:
            case Soliciting(identifier, timeout, retry_at) if retry_at <= now:
                self.state = Soliciting(identifier, min(2 * timeout, MAX_TIMEOUT), now + timeout)
                return identifier if bound else None
            case _:
                return None

    def deadline(self) -> Deadline | None:
        """The next timer."""
        match self.state:
            case Quiet(ask_at=at):
                return None if at is None else Deadline(at, "mobile prefix solicitation")
            case Soliciting(retry_at=retry_at):
                return Deadline(retry_at, "mobile prefix solicitation")
            case _:
                assert_never(self.state)

    def describe(self, now: float) -> dict[str, object] | None:
        """For `mnctl status` and events: seconds, null for ever."""
        if self.home is None:
            return None
        return {
            "prefix": str(self.home.prefix),
            "valid_s": _seconds(self.home.valid_until, now),
            "preferred_s": _seconds(self.home.preferred_until, now),
        }

    def advertised(self, advertisement: MobilePrefixAdvertisement, now: float) -> bool:
        """Whether an authenticated advertisement answers what was asked.

        One that answers nothing is thrown away, and makes this node ask (RFC 6275 section 11.4.3).
        """
        if not isinstance(self.state, Soliciting) or advertisement.identifier != self.state.identifier:
            self.needed(now)
            return False
        known = (self._home_prefix(information, now) for information in advertisement.prefixes)
        self.home = next((home for home in known if home is not None), None)
        self.state = Quiet(None if self.home is None else _ask_again(self.home, now))
        return True

    def _home_prefix(self, information: PrefixInformation, now: float) -> HomePrefix | None:
        prefix = IPv6Network((information.prefix, information.prefix_length), strict=False)
        if self._home_address not in prefix or prefix.prefixlen == 0:
            return None
        valid, preferred = information.valid_lifetime, information.preferred_lifetime
        return HomePrefix(prefix, _until(valid, now), _until(min(valid, preferred), now))


def _until(lifetime: int, now: float) -> float:
    return math.inf if lifetime == FOR_EVER else now + lifetime


def _seconds(until: float, now: float) -> float | None:
    return None if math.isinf(until) else round(max(0.0, until - now), 1)


def _ask_again(home: HomePrefix, now: float) -> float | None:
    """Before the prefix is deprecated; where it is already, before it is no longer valid."""
    end = home.preferred_until if home.preferred_until > now else home.valid_until
    if math.isinf(end):
        return None
    return now + max(AGAIN_FRACTION * (end - now), MAX_TIMEOUT)
