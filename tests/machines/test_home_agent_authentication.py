"""The authentication option at the home agent: who is believed, what the others are told, and how often."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from home_agent.actions import InstallTable, Remember, SendControl
from home_agent.config import Configuration
from home_agent.door import door_for
from home_agent.events import ControlReceived, SecondPortOpen, Start
from home_agent.node import HomeAgent
from home_agent.records import Record, from_document, to_document
from tests.machines.ha_script import (
    COA4,
    COA6,
    HA4,
    HA6,
    HOME,
    LAPTOP,
    NAT4,
    OTHER_COA6,
    PRIVATE4,
    START,
    HomeScript,
    configured,
    home4,
    keys_of,
    over_ipv4,
    over_ipv6,
)
from tunnel.authentication import (
    AuthenticationAssociation,
    Keys,
    as_care_of,
    claimed_care_of,
    evidence_in,
    names_its_sender,
    sign,
    timestamp_in,
)
from tunnel.envelope import ControlPacket, OpenedControl, open_control, seal_control
from tunnel.path import Arrival, Drop
from wire import ntp
from wire.icmp import MobilePrefixAdvertisement, MobilePrefixSolicitation
from wire.mobility import BindingAck, BindingStatus, BindingUpdate, Message, UpdateFlag
from wire.options import MessageIdentification, MobileNodeIdentifier, NatDetection, first
from wire.profile import RFC5555

KEYS = AuthenticationAssociation(0x3077, bytes(range(16)))
NAMED = replace(KEYS, identifier="laptop@example.net")
FORGED = replace(KEYS, key=bytes(16))
WALL = 1_800_000_000.0 - START
"""What the wall clock is ahead of CLOCK_BOOTTIME, so that it shows a round number at the start."""


class OptionScript(HomeScript):
    """The laptop has the authentication option, the others have ESP."""

    def __init__(
        self,
        configuration: Configuration | None = None,
        records: Iterable[Record] = (),
        now: float = START,
        keys: AuthenticationAssociation = KEYS,
        wall: float = WALL,
    ) -> None:
        super().__init__(configuration, (), now)
        self.keys, self.wall = keys, wall
        secrets: dict[IPv6Address, Keys] = {home: keys_of(home) for home in self._nodes}
        secrets[LAPTOP] = keys
        self.agent = HomeAgent(self.configuration, secrets, records, now, iv_source=bytes, wall_offset=wall)
        self.feed(Start())

    def again(self, after: float = 0.0, wall: float | None = None) -> OptionScript:
        """After a kill, with nothing but what was remembered on disk."""
        records = [from_document(to_document(record)) for record in self.records.values()]
        script = OptionScript(
            self.configuration, records, self.now + after, self.keys, self.wall if wall is None else wall
        )
        script.laptop = self.laptop
        script.records = dict(self.records)
        return script

    # ---- the mobile node's end --------------------------------------------------------------
    def clock(self, ahead: float = 0.0) -> int:
        return ntp.timestamp(self.now + self.wall + ahead)

    def signed(
        self,
        packet: ControlPacket,
        timestamp: int | None = -1,
        keys: AuthenticationAssociation | None = None,
    ) -> bytes:
        at = self.clock() if timestamp == -1 else timestamp
        return sign(packet, keys or self.keys, claimed_care_of(packet), at, RFC5555)

    def native(
        self,
        update: BindingUpdate | None = None,
        timestamp: int | None = -1,
        keys: AuthenticationAssociation | None = None,
        care_of: IPv6Address = COA6,
    ) -> ControlReceived:
        message = update or over_ipv6(self.laptop, care_of=care_of)
        packet = ControlPacket(care_of, HA6, message, home_address_option=LAPTOP)
        return ControlReceived(self.signed(packet, timestamp, keys), Arrival(HA6, care_of))

    def udp(
        self, update: BindingUpdate, outer: IPv4Address = COA4, timestamp: int | None = -1
    ) -> ControlReceived:
        packet = ControlPacket(LAPTOP, HA6, update)
        return ControlReceived(self.signed(packet, timestamp), Arrival(HA4, outer, 4191, 5000))

    def read(self, care_of: IPv4Address | IPv6Address = COA6) -> Message:
        """What was sent, which the laptop can verify."""
        opened = open_control(self.only(SendControl).packet, {}, RFC5555)
        assert isinstance(opened, OpenedControl)
        evidence = evidence_in(opened, RFC5555)
        assert evidence is not None
        assert evidence.spi == self.keys.spi
        assert evidence.proves(self.keys, as_care_of(care_of), LAPTOP)
        assert names_its_sender(opened.packet.message, self.keys)
        return opened.packet.message

    def acked(self, care_of: IPv4Address | IPv6Address = COA6) -> BindingAck:
        ack = self.read(care_of)
        assert isinstance(ack, BindingAck)
        return ack


@pytest.fixture
def ha() -> OptionScript:
    return OptionScript()


# ---- who is believed ------------------------------------------------------------------------
@pytest.mark.requirement("R096i")
def test_an_update_with_the_option_binds_and_the_answer_has_it_too(ha: OptionScript) -> None:
    ha.feed(ha.native())
    ack = ha.acked()
    assert (ack.status, timestamp_in(ack)) == (BindingStatus.ACCEPTED, ha.clock())
    assert ha.agent.books.cache.get(LAPTOP) is not None
    assert ha.only(Remember).record.memory.timestamp == ha.clock()


def test_behind_a_nat_the_claimed_care_of_address_is_the_protected_one(ha: OptionScript) -> None:
    ha.feed(ha.udp(over_ipv4(ha.laptop, home4(), care_of=PRIVATE4), NAT4))
    ack = ha.acked(PRIVATE4)
    assert ack.status == BindingStatus.ACCEPTED
    nat = first(ack.options, NatDetection)
    assert nat is not None
    assert nat.refresh == 110
    binding = ha.agent.books.cache.get(LAPTOP)
    assert binding is not None
    assert (binding.care_of, binding.nat) == (PRIVATE4, True)


def test_the_others_still_use_esp(ha: OptionScript) -> None:
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet)))
    assert ha.answer().status == BindingStatus.ACCEPTED


def test_no_bit_of_an_update_can_be_changed(ha: OptionScript) -> None:
    event = ha.udp(over_ipv4(ha.laptop, home4()))
    for position in range(40, len(event.packet)):
        ha.now += 0.001
        packet = event.packet[:position] + bytes([event.packet[position] ^ 1]) + event.packet[position + 1 :]
        ha.feed(ControlReceived(packet, event.arrival)).quiet()
    assert len(ha.agent.books.cache) == 0
    ha.feed(event)
    assert ha.acked(COA4).status == BindingStatus.ACCEPTED, "the genuine one was not used up"


@pytest.mark.parametrize(
    ("packet_of", "reason"),
    [
        (lambda ha: seal_control(_packet(ha), None, RFC5555), "control-unprotected"),
        (lambda ha: ha.signed(_packet(ha), keys=replace(KEYS, spi=0x3078)), "authentication-unknown-spi"),
        (lambda ha: ha.laptop.sealed(_packet(ha)), "esp-unknown-spi"),
        (
            lambda ha: ha.signed(replace(_packet(ha), home_address_option=ha.tablet.home_address)),
            "control-unprotected",
        ),
    ],
    ids=["no option", "unknown SPI", "ESP", "a mobile node that has ESP"],
)
def test_without_an_association_there_is_silence(ha: OptionScript, packet_of, reason: str) -> None:  # type: ignore[no-untyped-def]
    ha.feed(ControlReceived(packet_of(ha), Arrival(HA6, COA6))).silent()
    assert ha.agent.tally.strangers == {reason: 1}


def _packet(ha: OptionScript) -> ControlPacket:
    return ControlPacket(COA6, HA6, over_ipv6(ha.laptop), home_address_option=LAPTOP)


def test_the_identifier_is_asked_for_where_one_is_configured() -> None:
    ha = OptionScript(keys=NAMED)
    ha.feed(ha.native(keys=KEYS))
    assert ha.acked().status == BindingStatus.AUTHENTICATION_FAILED
    ha.feed(ha.native())
    ack = ha.acked()
    assert ack.status == BindingStatus.ACCEPTED
    assert first(ack.options, MobileNodeIdentifier) == MobileNodeIdentifier(1, b"laptop@example.net")


# ---- the wrong key --------------------------------------------------------------------------
def test_a_wrong_authenticator_is_answered_with_146_and_changes_nothing(ha: OptionScript) -> None:
    ha.feed(ha.native(keys=FORGED)).quiet()
    ack = ha.acked()
    assert (ack.status, ack.lifetime) == (BindingStatus.AUTHENTICATION_FAILED, 0)
    assert timestamp_in(ack) == ha.clock(), "so that only the one who wrote the update believes the answer"
    assert not [action for action in ha.actions if isinstance(action, Remember)], "no disk for strangers"
    assert ha.events() == [("rejected", 146)]
    assert ha.agent.tally.strangers == {"authentication-failed": 1}


def test_forgeries_are_answered_rarely_and_disturb_nobody(ha: OptionScript) -> None:
    answers = 0
    for _ in range(1000):
        ha.now += 0.001
        ha.feed(ha.native(keys=FORGED)).quiet()
        answers += any(isinstance(action, SendControl) for action in ha.actions)
    assert answers == 3
    ha.feed(ha.native())
    assert ha.acked().status == BindingStatus.ACCEPTED


def test_a_refusal_is_hardly_larger_than_what_it_answers(ha: OptionScript) -> None:
    packet = ControlPacket(LAPTOP, HA6, BindingUpdate(1, 420, HOME))
    data = sign(packet, FORGED, claimed_care_of(packet), None, RFC5555)
    ha.feed(ControlReceived(data, Arrival(HA4, COA4, 4191, 5000)))
    assert len(ha.only(SendControl).packet) <= len(data) + 8


def test_a_forgery_that_came_a_wrong_way_is_not_answered(ha: OptionScript) -> None:
    event = ha.native(keys=FORGED)
    ha.feed(ControlReceived(event.packet, Arrival(HA6, OTHER_COA6))).silent()


def test_a_forgery_at_the_second_port_is_never_answered(ha: OptionScript) -> None:
    ha.feed(SecondPortOpen(40191)).feed(ha.native())
    question = over_ipv4(ha.laptop, flags=UpdateFlag.ACKNOWLEDGE)
    packet = ControlPacket(LAPTOP, HA6, question)
    there = Arrival(HA4, COA4, 40191, 5000)
    ha.feed(ControlReceived(ha.signed(packet, keys=FORGED), there)).silent()
    ha.now += 0.1
    ha.feed(ControlReceived(ha.signed(packet), there))
    assert ha.only(SendControl).via == there


# ---- time -----------------------------------------------------------------------------------
def test_an_update_without_a_timestamp_is_answered_with_145(ha: OptionScript) -> None:
    ha.feed(ha.native(timestamp=None)).quiet()
    ack = ha.acked()
    assert (ack.status, timestamp_in(ack)) == (BindingStatus.MESSAGE_ID_REQUIRED, None)


@pytest.mark.parametrize(("ahead", "good"), [(-7.1, False), (-6.9, True), (6.9, True), (7.1, False)])
def test_a_timestamp_is_good_within_seven_seconds(ha: OptionScript, ahead: float, good: bool) -> None:
    ha.feed(ha.native(timestamp=ha.clock(ahead)))
    assert ha.acked().status == (BindingStatus.ACCEPTED if good else BindingStatus.ID_MISMATCH)


def test_a_wrong_clock_is_answered_with_144_and_the_time(ha: OptionScript) -> None:
    ha.feed(ha.native(timestamp=0x12345678_9ABCDEF0)).quiet()
    ack = ha.acked()
    assert ack.status == BindingStatus.ID_MISMATCH
    told = timestamp_in(ack)
    assert told is not None
    assert told & 0xFFFFFFFF == 0x9ABCDEF0, "the fraction is that of the update"
    assert told >> 32 == ha.clock() >> 32, "the seconds are those of the home agent"
    ha.now += 0.1
    ha.feed(ha.native(timestamp=told + 1))
    assert ha.acked().status == BindingStatus.ACCEPTED


def test_timestamps_only_ever_grow(ha: OptionScript) -> None:
    ha.feed(ha.native(timestamp=ha.clock(1.0)))
    for ahead, good in ((1.0, False), (0.9, False), (1.1, True)):
        ha.feed(ha.native(timestamp=ha.clock(ahead)))
        assert (ha.acked().status == BindingStatus.ACCEPTED) is good


def test_no_update_is_taken_twice_before_or_after_a_restart(ha: OptionScript) -> None:
    captured = []
    for number in range(300):
        ha.now += 1
        while (due := ha.agent.deadline()) is not None and due.at <= ha.now:
            ha.agent.tick(ha.now)
        care_of = IPv6Address(int(COA6) + (number % 3 << 64))
        captured.append(ha.native(care_of=care_of))
        ha.feed(captured[-1])
    random.Random(9).shuffle(captured)
    for script in (ha, ha.again(after=1.0)):
        before = script.agent.books.cache.get(LAPTOP)
        for event in captured:
            script.now += 0.001
            script.feed(event).quiet()
        assert script.agent.books.cache.get(LAPTOP) is before


def test_a_replay_within_the_window_is_refused_after_a_restart_too(ha: OptionScript) -> None:
    ha.feed(ha.native())
    released = ha.native(over_ipv6(ha.laptop, lifetime=0), timestamp=ha.clock(0.1))
    captured = ha.native(timestamp=ha.clock(0.05))
    ha.now += 0.2
    ha.feed(released)
    ha = ha.again(after=2.0)
    ha.feed(captured).quiet()
    assert ha.acked().status == BindingStatus.ID_MISMATCH
    assert len(ha.agent.books.cache) == 0


def test_replays_do_not_use_up_what_the_mobile_node_may_ask(ha: OptionScript) -> None:
    event = ha.native()
    ha.feed(event)
    for _ in range(200):
        ha.feed(event)
    ha.now += 0.1
    ha.feed(ha.native())
    assert ha.acked().status == BindingStatus.ACCEPTED


@pytest.mark.parametrize("back", [1.0, 3600.0, 10 * 365 * 86400.0])
def test_a_home_agent_whose_clock_was_set_back_still_serves(ha: OptionScript, back: float) -> None:
    """But takes nothing old: the last accepted timestamp counts as its time."""
    event = ha.native(timestamp=ha.clock(0.7))
    ha.feed(event)
    ha = ha.again(after=20.0, wall=ha.wall - back)
    ha.feed(event).quiet()
    assert ha.acked().status == BindingStatus.ID_MISMATCH
    ha.now += 5.0
    ha.feed(ha.native(timestamp=ntp.timestamp(ha.now + WALL)))
    ack = ha.acked()
    if ack.status == BindingStatus.ID_MISMATCH:
        told = timestamp_in(ack)
        assert told is not None
        ha.feed(ha.native(timestamp=told + 1))
        ack = ha.acked()
    assert ack.status == BindingStatus.ACCEPTED


def test_time_goes_on_in_2036() -> None:
    ha = OptionScript(wall=2_085_978_496.0 - START - 1.0)
    for _ in range(4):
        ha.now += 0.8
        ha.feed(ha.native())
        assert ha.acked().status == BindingStatus.ACCEPTED


# ---- what else the home agent says ----------------------------------------------------------
def test_a_refusal_to_force_udp_repeats_the_timestamp_so_that_it_is_not_taken_for_another(
    ha: OptionScript,
) -> None:
    ha = OptionScript(configured(laptop='force_udp = "deny"'))
    ha.feed(ha.udp(over_ipv4(ha.laptop, flags=HOME | UpdateFlag.FORCE_UDP)))
    ack = ha.acked(COA4)
    assert (ack.status, timestamp_in(ack)) == (BindingStatus.CANNOT_FORCE_UDP, ha.clock())


def test_an_answer_that_waits_for_a_probe_is_about_the_update_that_it_answers() -> None:
    ha = OptionScript(configured({"duplicate_address_detection = false": ""}))
    ha.feed(ha.udp(over_ipv4(ha.laptop, home4())))
    asked, ha.now = ha.clock(), ha.now + 1.0
    ha.probed(LAPTOP)
    ack = ha.acked(COA4)
    assert (ack.status, timestamp_in(ack)) == (BindingStatus.ACCEPTED, asked)


def test_a_refresh_request_is_signed_for_the_bound_care_of_address(ha: OptionScript) -> None:
    ha.feed(ha.udp(over_ipv4(ha.laptop, home4(), care_of=PRIVATE4), NAT4))
    ha.at(420 - 42).wakes("binding refresh request")
    assert timestamp_in(ha.read(PRIVATE4)) == ha.clock()  # type: ignore[arg-type]
    ha.revoked(LAPTOP)
    assert timestamp_in(ha.read(PRIVATE4)) == ha.clock()  # type: ignore[arg-type]


def test_what_esp_has_written_down_is_kept_for_the_day_it_comes_back(ha: OptionScript) -> None:
    esp = HomeScript()
    esp.feed(esp.laptop.native(over_ipv6(esp.laptop)))
    before = esp.records[LAPTOP].memory
    ha = OptionScript(records=esp.records.values(), now=esp.now + 1.0)
    ha.feed(ha.native())
    after = ha.records[LAPTOP].memory
    assert replace(after, timestamp=None) == before
    assert after.timestamp is not None


def test_the_last_timestamp_is_written_down_before_the_answer_leaves(ha: OptionScript) -> None:
    ha.feed(ha.native())
    kinds = [type(action) for action in ha.actions]
    assert kinds.index(InstallTable) < kinds.index(Remember) < kinds.index(SendControl)


def test_what_has_no_place_for_the_option_is_neither_believed_nor_sent(ha: OptionScript) -> None:
    solicitation = ControlPacket(COA6, HA6, MobilePrefixSolicitation(1), home_address_option=LAPTOP)
    ha.feed(ControlReceived(seal_control(solicitation, None, RFC5555), Arrival(HA6, COA6))).silent()
    assert ha.agent.tally.strangers == {"control-unprotected": 1}
    advertisement = ControlPacket(
        HA6, COA6, MobilePrefixAdvertisement(1, False, False, ()), routing_home_address=LAPTOP
    )
    sealed = ha.agent._associations.seal(LAPTOP, advertisement, COA6, ha.now)
    assert sealed == Drop("authentication-not-covered")


def test_the_key_shows_nowhere(ha: OptionScript) -> None:
    ha.feed(ha.native())
    for text in (repr(ha.actions), repr(ha.records), repr(ha.agent.__dict__)):
        assert KEYS.key.hex() not in text
        assert repr(KEYS.key)[2:-1] not in text


# ---- the door -------------------------------------------------------------------------------
def test_the_door_lets_in_who_may_have_the_option(ha: OptionScript) -> None:
    door = door_for([KEYS, keys_of(ha.tablet.home_address)])
    genuine, unknown = ha.native(), ha.native(keys=replace(KEYS, spi=0x3078))
    assert door.admits(genuine.packet, genuine.arrival, START)
    over4 = ha.udp(over_ipv4(ha.laptop))
    assert door.admits(over4.packet, over4.arrival, START)
    esp = ha.tablet.native(over_ipv6(ha.tablet))
    assert door.admits(esp.packet, esp.arrival, START)
    assert not door.admits(unknown.packet, unknown.arrival, START)
    plain = seal_control(_packet(ha), None, RFC5555)
    assert not door.admits(plain, Arrival(HA6, COA6), START)
    assert door.turned_away == {"control-unprotected": 2}


def test_a_door_of_esp_alone_stays_as_narrow_as_it_was(ha: OptionScript) -> None:
    door = door_for([keys_of(ha.tablet.home_address)])
    assert not door.admits(ha.native().packet, Arrival(HA6, COA6), START)


def test_an_option_elsewhere_opens_no_door(ha: OptionScript) -> None:
    padded = replace(over_ipv6(ha.laptop), options=(MessageIdentification(1),))
    data = seal_control(ControlPacket(COA6, HA6, padded, home_address_option=LAPTOP), None, RFC5555)
    assert not door_for([KEYS]).admits(data, Arrival(HA6, COA6), START)
