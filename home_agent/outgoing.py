"""What the home agent sends: sealed, and only after what it depends on has been written down.

Pure. RFC 4303 section 3.3.3, RFC 6275 section 10.3.1; docs/security.md: binding-replay, reflection.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address

from home_agent.actions import Action, Remember, Report, SendControl
from home_agent.associations import Associations
from home_agent.authentication import About
from home_agent.binding_cache import Binding
from home_agent.config import MobileNode
from home_agent.records import Record
from home_agent.replies import unasked
from home_agent.requests import Books
from home_agent.tally import Tally
from tunnel.envelope import ControlPacket
from tunnel.path import Arrival, Drop
from tunnel.security import SequenceExhausted
from wire.mobility import Message


class Outgoing:
    """Makes the actions by which a message leaves."""

    def __init__(
        self,
        associations: Associations,
        books: Books,
        nodes: Mapping[IPv6Address, MobileNode],
        tally: Tally,
    ) -> None:
        self._associations = associations
        self._books = books
        self._nodes = nodes
        self._tally = tally

    def send(
        self,
        home: IPv6Address,
        packet: ControlPacket,
        via: Arrival,
        about: About,
        now: float,
        *,
        remember: bool,
        octets: bytes = b"",
    ) -> list[Action]:
        """Seal and send, after the sequence number and the replay window have been written down.

        `octets` are those of the message, where they are there already.
        """
        reserved = self._associations.reserve(home)
        actions: list[Action] = [Remember(self.record(home))] if reserved or remember else []
        try:
            sealed = self._associations.seal(home, packet, about, now, octets)
        except SequenceExhausted as error:
            return [*actions, Report("fault", {"node": self._nodes[home].label, "text": str(error)})]
        if isinstance(sealed, Drop):
            self._tally.accounts[home].ignored[sealed.reason] += 1
            return actions
        return [*actions, SendControl(sealed, via)]

    def tell(self, binding: Binding, message: Message, now: float) -> list[Action]:
        """Send what nobody has asked for, to where a mobile node is."""
        packet = unasked(binding, self._books.configuration.home_agent.ipv6, message)
        return self.send(binding.home_address, packet, binding.arrival, binding.care_of, now, remember=False)

    def record(self, home_address: IPv6Address) -> Record:
        """Everything worth remembering about one mobile node, as it is now."""
        pools = (self._books.addresses, self._books.prefixes)
        leases = (pool.lease_of(home_address) for pool in pools)
        return Record(
            home_address,
            self._books.cache.get(home_address),
            tuple(lease for lease in leases if lease is not None),
            self._associations.memory(home_address),
        )
