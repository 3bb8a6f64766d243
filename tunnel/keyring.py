"""The keys of protected payload as the data plane gets them, and what it makes of them.

Pure. RFC 4303 section 4.4 (a security association belongs to what is inside), RFC 3948, RFC 7296 section 2.23
(where a peer behind a NAT is heard from); docs/security.md: spoofed-payload.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunnel.forwarding import Peer
from tunnel.path import TunnelPath
from tunnel.payload_esp import PayloadAssociation, PayloadOpener, PayloadSealer
from tunnel.persistent import PersistentMap

if TYPE_CHECKING:
    from tunnel.lane import Lane

ADDRESSES_HEARD = 4
"""From how many outer addresses of one mobile node the port is kept in mind: old and new path of a move."""


@dataclass(frozen=True, slots=True)
class PayloadPair:
    """Both directions of one session. It is known by the SPI of `inbound`, which this end has chosen.

    `stand_in` is the SPI of the pair that seals in its place until the other end has proven to have these
    keys by using them; 0 when there is none.
    """

    outbound: PayloadAssociation
    inbound: PayloadAssociation
    stand_in: int = 0


class Keyring:
    """An immutable set of pairs, by the SPI under which this end receives. Its repr shows no key."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Iterable[PayloadPair] = ()) -> None:
        self._pairs = PersistentMap((pair.inbound.spi, pair) for pair in pairs)

    def find(self, spi: int) -> PayloadPair | None:
        return self._pairs.get(spi)

    def changed(self, without: Iterable[int], *pairs: PayloadPair) -> Keyring:
        """This keyring without some SPIs, with `pairs` added."""
        keyring = Keyring.__new__(Keyring)
        keyring._pairs = self._pairs.changed(without, {pair.inbound.spi: pair for pair in pairs})
        return keyring

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, spi: object) -> bool:
        return spi in self._pairs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keyring) and self._pairs == other._pairs

    def __hash__(self) -> int:
        return hash(frozenset(self._pairs))

    def __repr__(self) -> str:
        return f"Keyring({', '.join(f'{spi:#010x}' for spi in self._pairs)})"


NO_KEYS = Keyring()


class Session:
    """A pair in use. `ports` has the UDP port of the newest authentic packet from each outer address.

    `lanes` are connected by what was known of the other end: they have to ask again when that changes.
    """

    __slots__ = ("heard", "lanes", "opener", "pair", "ports", "sealer")

    def __init__(self, pair: PayloadPair, random_bytes: Callable[[int], bytes]) -> None:
        self.pair = pair
        self.sealer = PayloadSealer(pair.outbound, random_bytes)
        self.opener = PayloadOpener(pair.inbound)
        self.ports: dict[str, int] = {}
        self.lanes: set[Lane] = set()
        self.heard = False
        """Whether the other end has proven to have the keys."""

    def hear(self, peer: Peer) -> None:
        """An authentic packet came from `peer`: perhaps that changes how to send to the other end."""
        if self._learns_from(peer):
            for lane in self.lanes:
                lane.send = lane.send_fragmented = None
            self.lanes.clear()

    def _learns_from(self, peer: Peer) -> bool:
        first, self.heard = not self.heard, True
        address, port = peer[0], peer[1]
        if not self.opener.newest or self.ports.get(address) == port:
            return first
        self.ports.pop(address, None)
        self.ports[address] = port
        if len(self.ports) > ADDRESSES_HEARD:
            del self.ports[next(iter(self.ports))]
        return True


class Sessions:
    """Sealers and openers for a keyring, each made when it is first needed and kept while its pair is."""

    __slots__ = ("_random_bytes", "_used", "keyring")

    def __init__(self, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self.keyring = NO_KEYS
        """Assigned from another thread; everything else belongs to the thread of the data plane."""
        self._random_bytes = random_bytes
        self._used: dict[int, Session] = {}

    def find(self, spi: int) -> Session | None:
        """The session that receives under `spi`."""
        pair = self.keyring.find(spi)
        if pair is None:
            return None
        session = self._used.get(spi)
        if session is None or (session.pair is not pair and session.pair != pair):
            session = self._begin(pair)
        return session

    def sender(self, spi: int) -> Session | None:
        """The session whose sealer the other end surely can open: the one of `spi`, or its stand-in."""
        session = self.find(spi)
        if session is None or session.heard or not session.pair.stand_in:
            return session
        return self.find(session.pair.stand_in) or session

    def connected(self, lane: Lane) -> None:
        """`lane` sends as `sender` and `port_of` say now; it has to ask again when they say otherwise."""
        for session in {self.find(lane.path.spi), self.sender(lane.path.spi)}:
            if session is not None:
                session.lanes.add(lane)

    def port_of(self, path: TunnelPath) -> int:
        """The UDP port at `path.remote`: as heard from there, else the path's own.

        Only the port is ever learnt this way. Which address a mobile node has, its Binding Update says.
        """
        session, address = self.find(path.spi), str(path.remote)
        if session is None:
            return path.remote_port
        port = session.ports.get(address)
        if port is None and session.pair.stand_in:
            before = self.find(session.pair.stand_in)
            port = before.ports.get(address) if before is not None else None
        return port or path.remote_port

    def _begin(self, pair: PayloadPair) -> Session:
        if len(self._used) > 2 * len(self.keyring) + 16:
            keyring = self.keyring
            self._used = {spi: used for spi, used in self._used.items() if keyring.find(spi) == used.pair}
        session = self._used[pair.inbound.spi] = Session(pair, self._random_bytes)
        return session
