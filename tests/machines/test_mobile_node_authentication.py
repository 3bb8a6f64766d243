"""The authentication option at the mobile node: what it sends, what it believes, how it learns the time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from random import Random

import pytest

from mn_agent.actions import Remember, SendControl
from mn_agent.authentication import AuthenticationOption
from mn_agent.events import Refresh, Stop
from mn_agent.memory import Memory, Seen
from mn_agent.node import MobileNode
from mn_agent.status import Clocks, status
from tests.machines.mobile_node_script import (
    AGENT6,
    CAFE4,
    HOME4,
    HOME6,
    MOBILE4,
    OFFICE6,
    Script,
    Sent,
    configuration,
    link,
)
from tunnel.authentication import (
    AuthenticationAssociation,
    claimed_care_of,
    evidence_in,
    names_its_sender,
    sign,
    timestamp_in,
)
from tunnel.envelope import ControlPacket, OpenedControl, open_control, seal_control
from tunnel.path import Drop
from tunnel.plane import Counters
from wire import ntp
from wire.icmp import MobilePrefixAdvertisement, MobilePrefixSolicitation
from wire.mobility import BindingAck, BindingError, BindingRefreshRequest, BindingStatus, UpdateFlag
from wire.options import (
    Authentication,
    Ipv4AddressAck,
    MessageIdentification,
    MobileNodeIdentifier,
    NatDetection,
    Option,
)
from wire.profile import RFC5555

KEYS = AuthenticationAssociation(0x3077, bytes(range(16)))
OTHERS = replace(KEYS, key=bytes(16))
WALL = 1_800_000_000.0
ECHO = -1


@dataclass
class OptionScript(Script):
    """A mobile node with the authentication option; `wall` is its wall clock at instant 0."""

    secret: AuthenticationAssociation = field(default=KEYS)
    wall: float = WALL

    def __post_init__(self) -> None:
        super().__post_init__()
        self.node = MobileNode(self.config, self.secret, self.memory, Random(7), 0.0, self.wall)

    def read(self, action: SendControl) -> Sent:
        opened = open_control(action.packet, {}, self.config.profile)
        assert isinstance(opened, OpenedControl), opened
        evidence = evidence_in(opened, RFC5555)
        proven = (
            evidence is not None
            and evidence.spi == self.secret.spi
            and evidence.proves(self.secret, claimed_care_of(opened.packet), HOME6)
            and names_its_sender(opened.packet.message, self.secret)
        )
        return Sent(action, opened.packet, proven)

    def ack(
        self,
        to: Sent,
        status: int = 0,
        *,
        timestamp: int | None = ECHO,
        keys: AuthenticationAssociation | None = None,
        care_of: IPv6Address | None = None,
        sequence: int | None = None,
    ) -> OptionScript:
        """The answer of a home agent that follows RFC 4285."""
        at = timestamp_of(to) if timestamp == ECHO else timestamp
        options: list[Option] = [Ipv4AddressAck(0, HOME4)]
        in_udp = to.packet.home_address_option is None
        options += [NatDetection(False, 0xFFFFFFFF)] if in_udp else []
        number = to.update.sequence if sequence is None else sequence
        lifetime = to.update.lifetime if status < 128 else 0
        message = BindingAck(status, number, lifetime, options=tuple(options))
        back = ControlPacket(AGENT6, HOME6, message)
        if not in_udp:
            back = ControlPacket(AGENT6, to.packet.source, message, routing_home_address=HOME6)
        place = care_of or claimed_care_of(to.packet)
        self.receive(sign(back, keys or self.secret, place, at, RFC5555), to)
        return self

    def told(self, to: Sent, message: BindingRefreshRequest | BindingError, ahead: float = 0.0) -> None:
        """A message of the home agent that answers nothing."""
        packet = ControlPacket(AGENT6, HOME6, message)
        clock = ntp.timestamp(self.now + self.wall + ahead)
        self.receive(sign(packet, self.secret, claimed_care_of(to.packet), clock, RFC5555), to)

    def clock(self) -> int:
        return ntp.timestamp(self.now + self.wall)


def timestamp_of(sent: Sent) -> int:
    timestamp = timestamp_in(sent.update)
    assert timestamp is not None
    return timestamp


def later(sent: Sent, seconds: int) -> int:
    return ntp.later(timestamp_of(sent), seconds * ntp.SECOND)


@pytest.fixture
def mn() -> OptionScript:
    return OptionScript()


# ---- what it sends --------------------------------------------------------------------------
@pytest.mark.requirement("R096i")
@pytest.mark.parametrize("address", [OFFICE6, MOBILE4, CAFE4], ids=["IPv6", "IPv4", "NAT"])
def test_every_update_proves_its_sender_and_carries_the_time(mn: OptionScript, address) -> None:  # type: ignore[no-untyped-def]
    sent = mn.links(link("eth0", address)).one()
    assert sent.protected
    assert abs(ntp.distance(timestamp_of(sent), mn.clock())) < ntp.SECOND // 1000
    mn.ack(sent)
    assert mn.state == "bound"


def test_the_options_stand_in_the_order_that_the_rfc_wants() -> None:
    mn = OptionScript(secret=replace(KEYS, identifier="laptop@example.net"))
    sent = mn.links(link("eth0", OFFICE6)).one()
    kinds = [type(option) for option in sent.update.options[-3:]]
    assert kinds == [MobileNodeIdentifier, MessageIdentification, Authentication]
    assert sent.protected


def test_no_two_updates_have_the_same_timestamp_and_each_is_later(mn: OptionScript) -> None:
    stamps = [timestamp_of(mn.links(link("eth0", OFFICE6)).one())]
    for _ in range(5):
        mn.sleep()
        stamps += [timestamp_of(sent) for sent in mn.sent]
    assert len(stamps) == 6
    assert stamps == sorted(set(stamps))


def test_updates_of_one_instant_have_growing_timestamps(mn: OptionScript) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    bare = replace(sent.packet, message=replace(sent.update, options=sent.update.options[:-2]))
    option = AuthenticationOption(KEYS, RFC5555, HOME6, WALL, Random(7))
    stamps = []
    for _ in range(50):
        sealed = option.seal(bare, 1.0)
        assert isinstance(sealed, bytes)
        opened = open_control(sealed, {}, RFC5555)
        assert isinstance(opened, OpenedControl)
        stamps.append(timestamp_in(opened.packet.message))
    assert stamps == sorted(set(stamps))  # type: ignore[type-var]


def test_what_it_remembers_of_esp_is_left_alone() -> None:
    mn = OptionScript(memory=Memory(100, 5000, (Seen(AGENT6, 7, 3),)))
    mn.links(link("eth0", OFFICE6))
    remembered = [action.state for action in mn.all_actions if isinstance(action, Remember)]
    assert remembered[-1]["next_esp_sequence"] == 5000
    assert remembered[-1]["seen"] == [[str(AGENT6), 7, 3]]


# ---- what it believes -----------------------------------------------------------------------
def test_an_answer_is_believed_for_its_authenticator_alone(mn: OptionScript) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(sent, keys=OTHERS)
    mn.ack(sent, keys=replace(KEYS, spi=0x3078))
    mn.ack(sent, care_of=HOME6)
    mn.ack(sent, timestamp=timestamp_of(sent) + 1)
    mn.ack(sent, timestamp=None)
    unsigned = BindingAck(0, sent.update.sequence, 420)
    plain = ControlPacket(AGENT6, OFFICE6, unsigned, routing_home_address=HOME6)
    mn.receive(seal_control(plain, None, RFC5555), sent)
    assert mn.state == "registering"
    assert mn.node.drops == {"authentication-failed": 3, "authentication-not-an-answer": 3}
    mn.ack(sent)
    assert mn.state == "bound"


def test_an_answer_counts_for_the_update_with_its_timestamp_even_if_a_later_one_has_left(
    mn: OptionScript,
) -> None:
    first = mn.links(link("eth0", OFFICE6)).one()
    mn.at(1.5).wakes("binding update retry")
    mn.ack(first)
    assert mn.state == "bound"


def test_an_old_answer_is_no_answer_to_a_later_update(mn: OptionScript) -> None:
    first = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(first)
    mn.at(10.0).feed(Refresh())
    second = mn.one()
    mn.ack(first, sequence=second.update.sequence)
    assert mn.node.registration.binding is not None
    assert mn.node.registration.binding.sequence == first.update.sequence
    mn.ack(second)
    assert mn.node.registration.binding.sequence == second.update.sequence


def test_an_unverifiable_146_is_not_obeyed_but_shown(mn: OptionScript) -> None:
    """Everybody can write one; but if the key files differ, it is all that ever arrives."""
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(sent, BindingStatus.AUTHENTICATION_FAILED, keys=OTHERS)
    assert mn.state == "registering"
    health = status(mn.node, Counters(0, 0, 0, 0, {}), "", "", Clocks(mn.now, WALL))["health"]
    assert [item["code"] for item in health] == ["keys"]  # type: ignore[attr-defined]
    mn.at(1.5).wakes("binding update retry")
    mn.ack(mn.one())
    assert mn.node.key_problem is None


def test_a_verified_146_makes_it_stop(mn: OptionScript) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(sent, BindingStatus.AUTHENTICATION_FAILED)
    assert mn.state == "rejected"
    assert mn.node.deadline() is None


def test_a_146_without_its_timestamp_could_have_been_made_for_another_update(mn: OptionScript) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(sent, BindingStatus.AUTHENTICATION_FAILED, timestamp=None)
    assert mn.state == "registering"


def test_a_home_agent_that_cannot_read_the_time_is_left_for_a_while(mn: OptionScript) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(sent, BindingStatus.MESSAGE_ID_REQUIRED, timestamp=None)
    assert mn.state == "rejected"
    due = mn.node.deadline()
    assert due is not None
    assert "message identification option required (145)" in str(mn.node.summary()[1])


# ---- the time -------------------------------------------------------------------------------
@pytest.mark.parametrize("seconds", [-315_360_000, -3600, -8, 8, 3600, 315_360_000])
def test_a_wrong_clock_is_corrected_once_and_the_update_is_said_again_at_once(
    mn: OptionScript, seconds: int
) -> None:
    wrong = mn.links(link("eth0", OFFICE6)).one()
    mn.at(0.02).ack(wrong, BindingStatus.ID_MISMATCH, timestamp=later(wrong, seconds))
    right = mn.one()
    assert mn.reports("clock")[0].fields == {"corrected_s": seconds}
    expected = ntp.later(mn.clock(), seconds * ntp.SECOND)
    assert abs(ntp.distance(timestamp_of(right), expected)) < ntp.SECOND // 1000
    mn.ack(right)
    assert mn.state == "bound"
    mn.at(100.0).feed(Refresh())
    assert abs(ntp.distance(timestamp_of(mn.one()), ntp.later(mn.clock(), seconds * ntp.SECOND))) < ntp.SECOND


def test_the_time_is_taken_from_the_home_agent_only(mn: OptionScript) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(sent, BindingStatus.ID_MISMATCH, timestamp=later(sent, 3600), keys=OTHERS).nothing()
    mn.ack(sent, BindingStatus.ID_MISMATCH, timestamp=later(sent, 3600) ^ 1).nothing()
    mn.ack(sent, BindingStatus.ID_MISMATCH, timestamp=later(sent, 3600), sequence=9).nothing()
    assert mn.state == "registering"


def test_a_home_agent_that_is_never_content_with_the_time_has_refused(mn: OptionScript) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    tries = 1
    while mn.state == "registering":
        mn.now += 1.0
        mn.ack(sent, BindingStatus.ID_MISMATCH, timestamp=later(sent, 60))
        sent, tries = (mn.sent or [sent])[0], tries + len(mn.sent)
    assert tries == 4
    assert mn.state == "rejected"
    due = mn.node.deadline()
    assert due is not None
    mn.now = due.at
    mn.wakes(due.reason)
    while not mn.sent:
        mn.sleep()
    mn.ack(mn.one(), BindingStatus.ID_MISMATCH, timestamp=later(mn.one(), 60))
    mn.ack(mn.one())
    assert mn.state == "bound", "it was told the time again, and believed it"


def test_an_old_correction_is_believed_once(mn: OptionScript) -> None:
    wrong = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(wrong, BindingStatus.ID_MISMATCH, timestamp=later(wrong, 3600))
    right = mn.one()
    for _ in range(3):
        mn.ack(wrong, BindingStatus.ID_MISMATCH, timestamp=later(wrong, 3600)).nothing()
    mn.ack(right)
    mn.at(10.0).feed(Refresh())
    assert abs(ntp.distance(timestamp_of(mn.one()), ntp.later(mn.clock(), 3600 * ntp.SECOND))) < ntp.SECOND


def test_an_update_that_was_held_up_on_the_way_does_not_set_the_clock(mn: OptionScript) -> None:
    """The home agent refuses it for its age, but its time is ours."""
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.at(1.5).wakes("binding update retry")
    mn.at(4.5).wakes("binding update retry")
    mn.at(10.5).wakes("binding update retry")
    mn.at(10.6).ack(sent, BindingStatus.ID_MISMATCH, timestamp=later(sent, 10))
    assert mn.reports("clock")[0].fields == {"corrected_s": 0}
    assert abs(ntp.distance(timestamp_of(mn.one()), mn.clock())) < ntp.SECOND // 1000


def test_neither_does_an_answer_that_was_held_up(mn: OptionScript) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.at(1.5).wakes("binding update retry")
    mn.at(4.5).wakes("binding update retry")
    mn.at(10.4).ack(sent, BindingStatus.ID_MISMATCH, timestamp=timestamp_of(sent))
    assert mn.reports("clock")[0].fields == {"corrected_s": 0}


def test_144_with_the_same_seconds_means_that_udp_cannot_be_forced() -> None:
    mn = OptionScript(config=configuration(more="[tunnel]\nforce_udp = true"))
    sent = mn.links(link("eth0", MOBILE4)).one()
    assert UpdateFlag.FORCE_UDP in sent.update.flags
    mn.ack(sent, BindingStatus.CANNOT_FORCE_UDP)
    assert UpdateFlag.FORCE_UDP not in mn.one().update.flags
    assert mn.reports("clock") == []


def test_144_with_other_seconds_means_the_clock_although_udp_was_to_be_forced() -> None:
    mn = OptionScript(config=configuration(more="[tunnel]\nforce_udp = true"))
    sent = mn.links(link("eth0", MOBILE4)).one()
    mn.ack(sent, BindingStatus.ID_MISMATCH, timestamp=later(sent, -3600))
    assert UpdateFlag.FORCE_UDP in mn.one().update.flags
    assert mn.reports("clock") != []


def test_144_with_the_same_seconds_asks_for_a_later_timestamp_where_udp_is_not_forced(
    mn: OptionScript,
) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(sent, BindingStatus.ID_MISMATCH)
    assert timestamp_of(mn.one()) > timestamp_of(sent)


def test_a_deregistration_is_said_again_too(mn: OptionScript) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(sent)
    mn.at(10.0).feed(Stop())
    leaving = mn.one()
    mn.ack(leaving, BindingStatus.ID_MISMATCH, timestamp=later(leaving, 60))
    again = mn.one()
    assert again.update.lifetime == 0
    mn.ack(again)
    assert mn.reports("deregistered")[0].fields == {"confirmed": True}


# ---- messages that answer nothing -----------------------------------------------------------
def test_a_signed_refresh_request_is_followed_once(mn: OptionScript) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(sent)
    mn.at(10.0).told(sent, BindingRefreshRequest(), ahead=0.5)
    refresh = mn.one()
    mn.ack(refresh)
    mn.at(12.0).told(sent, BindingRefreshRequest(), ahead=-1.5)
    mn.nothing()
    assert mn.node.drops == {"authentication-wrong-time": 1}


def test_a_prefix_advertisement_is_not_believed(mn: OptionScript) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(sent)
    packet = ControlPacket(
        AGENT6, OFFICE6, MobilePrefixAdvertisement(1, False, False, ()), routing_home_address=HOME6
    )
    mn.at(10.0).receive(seal_control(packet, None, RFC5555), sent)
    assert mn.node.drops == {"control-unprotected": 1}


@pytest.mark.parametrize("message", [BindingRefreshRequest(), BindingError(1, HOME6)])
def test_other_messages_are_not_believed_without_the_option(
    mn: OptionScript, message: BindingRefreshRequest | BindingError
) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    mn.ack(sent)
    mn.at(10.0).receive(seal_control(ControlPacket(AGENT6, HOME6, message), None, RFC5555), sent)
    mn.nothing()
    mn.told(sent, message, ahead=60.0)
    mn.nothing()
    mn.told(sent, message)
    assert mn.one().protected


def test_what_has_no_place_for_the_option_is_not_sent() -> None:
    option = AuthenticationOption(KEYS, RFC5555, HOME6, WALL, Random(7))
    solicitation = ControlPacket(OFFICE6, AGENT6, MobilePrefixSolicitation(1), home_address_option=HOME6)
    assert option.seal(solicitation, 1.0) == Drop("authentication-not-covered")


def test_the_size_of_an_update_is_known_before_it_is_sent(mn: OptionScript) -> None:
    sent = mn.links(link("eth0", OFFICE6)).one()
    bare = tuple(
        option
        for option in sent.update.options
        if not isinstance(option, Authentication | MessageIdentification)
    )
    packet = replace(sent.packet, message=replace(sent.update, options=bare))
    assert mn.node.sealed_size(packet) == len(sent.action.packet)
