"""Access networks around a core that routes by destination address.

Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from random import Random

from movement.snapshot import DefaultRouter, Link, LinkAddress
from tests.internet.nat import Nat
from tests.internet.timeline import Timeline
from tests.internet.weather import FAIR, Address, Datagram, Weather

Receive = Callable[[Datagram], None]

CORE_DELAY = 0.004
RECORDED = 4000
LEASE = 30 * 86400.0
"""When every lease ends, in virtual time."""


class Internet:
    """The core: whoever holds an address gets what is sent to it."""

    def __init__(self, timeline: Timeline, rng: Random) -> None:
        self.timeline = timeline
        self.rng = rng
        self.recorded: deque[Datagram] = deque(maxlen=RECORDED)
        """What an eavesdropper in the core has seen lately."""
        self._holders: dict[Address, Receive] = {}

    def hold(self, address: Address, receive: Receive) -> None:
        self._holders[address] = receive

    def release(self, address: Address) -> None:
        self._holders.pop(address, None)

    def rewrite_next(self, address: Address, rewrite: Callable[[Datagram], Datagram | None]) -> None:
        """Somebody on the way to `address` changes the first datagram of which `rewrite` makes another."""
        receive = self._holders[address]

        def on_the_way(datagram: Datagram) -> None:
            changed = rewrite(datagram)
            if changed is not None:
                self.hold(address, receive)
            receive(changed or datagram)

        self.hold(address, on_the_way)

    def carry(self, datagram: Datagram) -> None:
        """From anywhere: nobody in the core asks whether the source address is true."""
        self.recorded.append(datagram)
        self.timeline.after(CORE_DELAY, lambda: self._arrive(datagram))

    def _arrive(self, datagram: Datagram) -> None:
        holder = self._holders.get(datagram.destination)
        if holder is not None:
            holder(datagram)


class AccessNetwork:
    """A network to plug into: IPv6, IPv4 with public addresses, IPv4 behind a NAT, or two of them.

    `lease_delay`: seconds until an IPv4 address is there; the IPv6 one is there at once.
    `forged`: its prefixes are somebody else's, so nothing that is sent to them ever comes here.
    """

    def __init__(
        self,
        internet: Internet,
        name: str,
        *,
        ipv6: str | None = None,
        ipv4: str | None = None,
        nat: Nat | None = None,
        mtu: int = 1500,
        lease_delay: float = 0.0,
        forged: bool = False,
    ) -> None:
        self.name = name
        self.nat = nat
        self.mtu = mtu
        self.lease_delay = lease_delay
        self.forged = forged
        self.up = self.down = FAIR
        self._internet = internet
        self._ipv6 = None if ipv6 is None else IPv6Network(ipv6)
        self._ipv4 = None if ipv4 is None else IPv4Network(ipv4)
        self._numbers: dict[str, int] = {}
        self._stations: dict[Address, Receive] = {}
        if nat is not None:
            internet.hold(nat.public, self._from_outside)

    def set_weather(self, up: Weather, down: Weather | None = None) -> None:
        """Both directions alike unless `down` is given."""
        self.up, self.down = up, up if down is None else down

    def renumber(self, station: str) -> None:
        """The next addresses that `station` gets here are others."""
        self._numbers[station] = len(self._numbers) + 0x10 + self._numbers.get(station, 0)

    def addresses(self, station: str) -> tuple[Address, ...]:
        """What `station` gets, IPv6 first."""
        number = self._numbers.setdefault(station, len(self._numbers) + 0x10)
        found: list[Address] = []
        if self._ipv6 is not None:
            found.append(self._ipv6[number])
        if self._ipv4 is not None:
            found.append(self._ipv4[number % (self._ipv4.num_addresses - 2) + 1])
        return tuple(found)

    @property
    def advertises(self) -> bool:
        """Whether a router of it answers solicitations."""
        return self._ipv6 is not None

    @property
    def hardware(self) -> bytes:
        """Of its router."""
        return b"\x02" + self.name.encode().ljust(5)[:5]

    @property
    def present(self) -> set[Address]:
        """The addresses of all stations."""
        return set(self._stations)

    def link(
        self, index: int, name: str, addresses: tuple[Address, ...], others: tuple[Address, ...] = ()
    ) -> Link:
        """The link as the host's kernel shows it, with the addresses that it has from this network by now,
        and with `others`, which it has given itself."""
        prefixes = {net.version: net for net in (self._ipv6, self._ipv4) if net is not None}
        own = tuple(LinkAddress(a, prefixes[a.version].prefixlen, valid_until=LEASE) for a in addresses)
        gateways = ((a.version, prefixes[a.version][1]) for a in addresses)
        routers = tuple(DefaultRouter(family, gateway, 100, self.hardware) for family, gateway in gateways)
        more = tuple(LinkAddress(a, a.max_prefixlen) for a in others)
        return Link(index, name, True, self.mtu, own + more, routers)

    def join(self, address: Address, receive: Receive) -> None:
        self._stations[address] = receive
        if not self.forged and (self.nat is None or address.version == 6):
            self._internet.hold(address, self._from_outside)

    def leave(self, address: Address) -> None:
        joined = self._stations.pop(address, None) is not None
        if joined and not self.forged and (self.nat is None or address.version == 6):
            self._internet.release(address)

    def move_nat(self, public: IPv4Address) -> None:
        """The provider gives the NAT another public address."""
        assert self.nat is not None
        self._internet.release(self.nat.public)
        self.nat.flush()
        self.nat.public = public
        self._internet.hold(public, self._from_outside)

    def send(self, datagram: Datagram) -> None:
        """From a station of this network to the Internet."""
        if datagram.source not in self._stations:
            return  # ingress filtering (BCP 38)
        for delay, copy in self.up.fate(datagram, self._internet.rng):
            self._internet.timeline.after(delay, lambda copy=copy: self._leave(copy))  # type: ignore[misc]

    def _leave(self, datagram: Datagram) -> None:
        if self.nat is not None and datagram.source.version == 4:
            translated = self.nat.outbound(datagram, self._internet.timeline.now)
            if translated is None:
                return
            datagram = translated
        self._internet.carry(datagram)

    def _from_outside(self, datagram: Datagram) -> None:
        if self.nat is not None and datagram.destination == self.nat.public:
            translated = self.nat.inbound(datagram, self._internet.timeline.now)
            if translated is None:
                return
            datagram = translated
        for delay, copy in self.down.fate(datagram, self._internet.rng):
            self._internet.timeline.after(delay, lambda copy=copy: self._deliver(copy))  # type: ignore[misc]

    def _deliver(self, datagram: Datagram) -> None:
        receive = self._stations.get(datagram.destination)
        if receive is not None:
            receive(datagram)
