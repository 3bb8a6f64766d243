"""The judge: what was seen and received, move by move -> phases, outages and losses.

Pure. It knows captures, the witness's lines and the receivers' journals; it never hears the agent. All
instants are nanoseconds of CLOCK_BOOTTIME.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from lab.evidence import SLOT_NS, Kind, Seen, Sighting
from lab.witness import Witnessed, first_usable

IN_FLIGHT_NS = 50_000_000
"""Packets sent this long before a move can still be lost by it."""
_SETTLED_NS = 500_000_000
"""A silence that begins later than this after the address was usable has another cause than the move."""
_SECOND_NS = 1_000_000_000
_AT_REST_SLOTS = 5
"""How far back from the last payload of a move one looks to see how packets travel now."""

HOME = "home"
"""In place of a family: nothing is tunnelled."""


@dataclass(frozen=True, slots=True)
class Window:
    """One step of a scenario, from its first touch of a cable until the next step."""

    index: int
    text: str
    started_ns: int
    until_ns: int
    cut: str | None
    """The interface whose cable was pulled, so that nothing of its past counts."""
    before: Mapping[str, str]
    after: Mapping[str, str]
    """Which interface is plugged in which network."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One direction of one stream: what arrived (instant, sequence number) and what was sent, if told."""

    interval_ns: int
    received: Sequence[tuple[int, int]]
    sent: Sequence[tuple[int, int]] | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the judge is shown."""

    witnessed: Sequence[Witnessed]
    seen: Mapping[str, Seen]
    """By interface of the mobile node."""
    at_home_agent: Seen
    streams: Mapping[str, Stream]
    homes: frozenset[IPv4Address | IPv6Address] = frozenset()
    """The home addresses: an acknowledgement sent to one of them says that its owner is at home."""


@dataclass(frozen=True, slots=True)
class Silence:
    """The longest time in which a stream delivered nothing although it could have, and the whole gap."""

    outage_ns: int
    gap_ns: int
    begin_ns: int
    end_ns: int
    """The outage on the clock, for the picture."""


@dataclass(frozen=True, slots=True)
class Handover:
    """One move as it was seen from outside. Instants are None for what was not seen."""

    window: Window
    origin: str
    target: str
    interface: str
    family_from: str
    family_to: str
    nat: bool
    encapsulation: str
    link_ns: int | None
    usable_ns: int | None
    update_ns: int | None
    ack_ns: int | None
    first_packet_ns: int | None
    silences: Mapping[str, Silence]
    lost: Mapping[str, int]
    updates: int
    """Binding Updates until the acknowledgement."""
    round_trip_ns: int | None
    """From the mobile node to the home agent and back, without what the home agent did in between."""
    two_links: bool
    """There was a usable link all the time: the one that was left, or the one that was taken."""

    @property
    def registered(self) -> bool:
        return self.ack_ns is not None

    @property
    def worst(self) -> tuple[str, int]:
        """The stream with the longest outage, and that outage."""
        name = max(self.silences, key=lambda stream: self.silences[stream].outage_ns, default="")
        return name, self.silences[name].outage_ns if name else 0


def judge_window(window: Window, evidence: Evidence) -> Handover | None:
    """What happened in one window; None when the mobile node stayed where it was, and rightly so."""
    old = _last_acknowledged(evidence, window.started_ns)
    may_stay = old is not None and old[0] != window.cut
    interface, ack = _first_acknowledged(window, evidence, old if may_stay else None)
    if may_stay and interface is None:
        return None
    if interface is None:
        interface = _expected_interface(window)
    usable = first_usable(evidence.witnessed, interface, window.started_ns, window.until_ns, window.cut)
    cut = interface == window.cut
    since = usable.link_ns if cut and usable.link_ns is not None else window.started_ns
    seen = evidence.seen.get(interface, Seen())
    updates = _between(seen, since, window.until_ns, Kind.UPDATE)
    silences = {name: silence(stream, window, usable.usable_ns) for name, stream in evidence.streams.items()}
    origin_interface = old[0] if old is not None else window.cut or interface
    acks = _between(seen, window.started_ns, window.until_ns, Kind.ACK)
    came_home = ack is not None and _family(acks[-1], evidence) == HOME
    rest = (HOME, "direct") if came_home else _at_rest(seen, window)
    return Handover(
        window=window,
        origin=window.before.get(origin_interface, "nowhere"),
        target=window.after.get(interface, "nowhere"),
        interface=interface,
        family_from=old[1] if old is not None else "none",
        family_to=rest[0],
        nat=_translated(evidence, interface, window),
        encapsulation=rest[1],
        link_ns=usable.link_ns if cut else window.started_ns,
        usable_ns=usable.usable_ns,
        update_ns=updates[0].at_ns if updates else None,
        ack_ns=ack.at_ns if ack is not None else None,
        first_packet_ns=_first_packet(evidence, window, ack),
        silences=silences,
        lost={name: n for name, s in evidence.streams.items() if (n := lost(s, window)) is not None},
        updates=sum(1 for update in updates if ack is None or update.at_ns <= ack.at_ns),
        round_trip_ns=None if ack is None else _round_trip(updates, ack, evidence.at_home_agent),
        two_links=may_stay or (not cut and usable.usable_ns == window.started_ns),
    )


def busiest_second(evidence: Evidence) -> int:
    """The most Binding Updates that left for one address of the home agent within one second."""
    sent = sorted((one for seen in evidence.seen.values() for one in seen.signals), key=lambda one: one.at_ns)
    most = 0
    for version in (4, 6):
        recent: deque[int] = deque()
        for one in sent:
            if one.kind is Kind.UPDATE and one.care_of.version == version:
                recent.append(one.at_ns)
                while recent[0] <= one.at_ns - _SECOND_NS:
                    recent.popleft()
                most = max(most, len(recent))
    return most


def _round_trip(updates: Sequence[Sighting], ack: Sighting, at_home_agent: Seen) -> int | None:
    """What was answered is seen to leave and arrive at both ends."""
    answered = [one.at_ns for one in at_home_agent.signals if one.kind is Kind.ACK]
    asked = [one.at_ns for one in at_home_agent.signals if one.kind is Kind.UPDATE]
    answer = _last(answered, ack.at_ns)
    question = _last(asked, answer)
    left = _last((update.at_ns for update in updates), question)
    return (question - left) + (ack.at_ns - answer) if left else None


def _last(instants: Iterable[int], until_ns: int) -> int:
    return max((at_ns for at_ns in instants if at_ns <= until_ns), default=0)


def silence(stream: Stream, window: Window, usable_ns: int | None) -> Silence:
    """How late the next packet was: later than it was due, and later than it had a way to come."""
    possible = window.started_ns if usable_ns is None else usable_ns
    instants = [at for at, _ in stream.received]
    first = bisect_left(instants, window.started_ns)
    previous = instants[first - 1] if first else window.started_ns
    worst = Silence(0, 0, window.started_ns, window.started_ns)
    longest = 0
    for at in (*instants[first : bisect_left(instants, window.until_ns)], window.until_ns):
        begin = max(previous + stream.interval_ns, possible)
        longest = max(longest, at - previous)
        # At the end of the window nothing is missing yet if the stream is merely between two packets.
        between = at == window.until_ns and at - previous < 3 * stream.interval_ns
        if at - begin > worst.outage_ns and begin < possible + _SETTLED_NS and not between:
            worst = Silence(at - begin, 0, begin, at)
        previous = at
    return Silence(worst.outage_ns, longest, worst.begin_ns, worst.end_ns)


def lost(stream: Stream, window: Window) -> int | None:
    """Packets sent in this window that never arrived; None for streams that cannot lose any."""
    if stream.sent is None:
        return None
    arrived = {sequence for _, sequence in stream.received}
    begin, end = window.started_ns - IN_FLIGHT_NS, window.until_ns - IN_FLIGHT_NS
    return sum(1 for at, sequence in stream.sent if begin <= at < end and sequence not in arrived)


def _first_packet(evidence: Evidence, window: Window, ack: Sighting | None) -> int | None:
    """The first packet of any stream that arrived after the acknowledgement."""
    if ack is None:
        return None
    firsts = []
    for stream in evidence.streams.values():
        instants = [at for at, _ in stream.received]
        index = bisect_left(instants, ack.at_ns)
        if index < len(instants) and instants[index] < window.until_ns:
            firsts.append(instants[index])
    return min(firsts, default=None)


def _last_acknowledged(evidence: Evidence, before_ns: int) -> tuple[str, str] | None:
    """Where the mobile node was registered: interface and outer family of the last acknowledgement."""
    last: tuple[int, str, str] | None = None
    for interface, seen in evidence.seen.items():
        for ack in _between(seen, 0, before_ns, Kind.ACK):
            if last is None or ack.at_ns > last[0]:
                last = (ack.at_ns, interface, _family(ack, evidence))
    return None if last is None else last[1:]


def _first_acknowledged(
    window: Window, evidence: Evidence, stayed: tuple[str, str] | None
) -> tuple[str | None, Sighting | None]:
    """The first acknowledgement that answers an update of this window, and on which interface.

    Those of where the mobile node `stayed` (interface and family) are of no interest.
    """
    best: tuple[str | None, Sighting | None] = (None, None)
    for interface, seen in evidence.seen.items():
        updates = _between(seen, window.started_ns, window.until_ns, Kind.UPDATE)
        if not updates:
            continue
        for ack in _between(seen, updates[0].at_ns, window.until_ns, Kind.ACK):
            elsewhere = (interface, _family(ack, evidence)) != stayed
            if elsewhere and (best[1] is None or ack.at_ns < best[1].at_ns):
                best = (interface, ack)
    return best


def _expected_interface(window: Window) -> str:
    if window.cut is not None and window.cut in window.after:
        return window.cut
    return next(iter(window.after), window.cut or "")


def _at_rest(seen: Seen, window: Window) -> tuple[str, str]:
    """How packets travel once the move is over: outer family and encapsulation of the last payload."""
    first, last = window.started_ns // SLOT_NS + 1, window.until_ns // SLOT_NS
    payload = {key: packets for key, packets in seen.payload.items() if first <= key[0] < last}
    late = max((slot for slot, _, _ in payload), default=0) - _AT_REST_SLOTS
    travelled: Counter[tuple[str, str]] = Counter()
    for (slot, version, encapsulation), packets in payload.items():
        if slot > late:
            travelled[f"ipv{version}", encapsulation.value] += packets
    return travelled.most_common(1)[0][0] if travelled else ("none", "none")


def _translated(evidence: Evidence, interface: str, window: Window) -> bool:
    """Whether the home agent saw the updates of this move come from another address than they left from."""
    sent = _between(evidence.seen.get(interface, Seen()), window.started_ns, window.until_ns, Kind.UPDATE)
    arrived = _between(evidence.at_home_agent, window.started_ns, window.until_ns, Kind.UPDATE)
    own = {update.care_of for update in sent}
    return bool(sent) and any(update.care_of not in own for update in arrived)


def _between(seen: Seen, begin_ns: int, end_ns: int, kind: Kind) -> list[Sighting]:
    return [one for one in seen.signals if one.kind is kind and begin_ns <= one.at_ns < end_ns]


def _family(sighting: Sighting, evidence: Evidence) -> str:
    at_home = sighting.encapsulation is None and sighting.care_of in evidence.homes
    return HOME if at_home else f"ipv{sighting.care_of.version}"
