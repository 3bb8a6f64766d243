"""What was decided about the last Binding Update of each mobile node, for the next one that says the same.

Pure. RFC 6275 sections 9.5.1 and 10.3.1. Most updates are refreshes, and a refresh repeats the update before
it but for the sequence number: so the decision about it can be repeated as well, and need not be found again.

That is only done where the decision depends on nothing that could be other by now: on the configuration, the
message, where it came from, and the binding that the last decision made. Whoever has a lease out of a pool,
was refused something, or does not use ESP is decided about anew each time. Authenticity and replay come
before all of this, and are judged for every packet.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from home_agent.binding_cache import Binding, renewed
from home_agent.requests import Probes, Request
from home_agent.updates import Accepted
from tunnel.envelope import ControlPacket, Unsealed
from tunnel.path import Arrival
from wire.ip import PROTOCOL_MOBILITY
from wire.repetition import ack_like, behind_checksum, is_intact, is_one_update, update_apart
from wire.serial import is_newer16


@dataclass(frozen=True, slots=True)
class Precedent:
    """`update` made `binding` and was answered with `answer`."""

    binding: Binding
    """As long as this very value is in the binding cache, nothing has happened to the mobile node since."""
    update: bytes
    """The mobility header, without checksum and sequence number."""
    answer: bytes
    """What follows the checksum of the acknowledgement."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """An authentic Binding Update that has a precedent."""

    precedent: Precedent
    sequence: int
    own: IPv6Address
    source: IPv6Address

    @property
    def home_address(self) -> IPv6Address:
        return self.precedent.binding.home_address

    @property
    def status(self) -> int:
        """Of the answer."""
        return self.precedent.answer[0]

    def binding_at(self, now: float) -> Binding:
        """The binding that it makes."""
        return renewed(self.precedent.binding, self.sequence, now)

    def reply(self) -> ControlPacket:
        """As `home_agent.replies.reply_to` would address it."""
        home = self.precedent.binding.home_address
        routed = None if self.precedent.binding.in_udp else home
        message = ack_like(self.precedent.answer, self.sequence)
        return ControlPacket(self.own, self.source, message, routing_home_address=routed)


class Precedents:
    """One for each mobile node, at most."""

    def __init__(self, own: IPv6Address) -> None:
        """`own`: the home agent's address, to which updates go."""
        self._own = own
        self._of: dict[IPv6Address, Precedent] = {}

    def find(self, unsealed: Unsealed, arrival: Arrival, bound: Binding | None) -> Repetition | None:
        """What `unsealed` repeats; None if it says anything new.

        `bound` is the present binding of the mobile node whose keys have opened it.
        """
        precedent = self._of.get(bound.home_address) if bound is not None else None
        if precedent is None or bound is not precedent.binding or arrival != bound.arrival:
            return None
        payload, home = unsealed.payload, bound.home_address
        if unsealed.next_header != PROTOCOL_MOBILITY or len(payload) != len(precedent.update) + 4:
            return None
        says, sequence = update_apart(payload)
        if says != precedent.update or not is_newer16(sequence, bound.sequence):
            return None
        if not self._is_addressed_alike(unsealed, bound) or not is_intact(payload, home, self._own):
            return None
        return Repetition(precedent, sequence, self._own, unsealed.header.source)

    def note(self, request: Request, verdict: Accepted, probes: Probes, answer: bytes) -> None:
        """`request` was decided like that, and answered with the mobility header `answer`."""
        home = request.home_address
        if _stands_for_itself(verdict, probes) and is_one_update(request.octets):
            says, _ = update_apart(request.octets)
            self._of[home] = Precedent(verdict.binding, says, behind_checksum(answer))
        else:
            self._of.pop(home, None)

    def follow(self, repetition: Repetition, binding: Binding) -> None:
        """`repetition` has made `binding`, and is the precedent of the next one."""
        before = repetition.precedent
        self._of[binding.home_address] = Precedent(binding, before.update, before.answer)

    def forget(self, home_address: IPv6Address) -> None:
        """The binding has ended."""
        self._of.pop(home_address, None)

    def _is_addressed_alike(self, unsealed: Unsealed, bound: Binding) -> bool:
        """As updates of `bound` come: from the home address in UDP, else from where the mobile node is."""
        header, extensions = unsealed.header, unsealed.extensions
        if header.destination != self._own or extensions.routing_home_address is not None:
            return False
        if bound.in_udp:
            return header.source == bound.home_address and extensions.home_address is None
        away = header.source == bound.arrival.remote != bound.home_address
        return away and extensions.home_address == bound.home_address


def _stands_for_itself(verdict: Accepted, probes: Probes) -> bool:
    """Whether the same message, with the binding that it made, would be decided alike."""
    leased = verdict.address_lease is not None or verdict.prefix_lease is not None
    return not (leased or verdict.remark or probes.in_use) and all(ack.accepted for ack in verdict.acks)
