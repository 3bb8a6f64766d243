"""Who may change a binding: nobody but its mobile node, nothing twice, and nobody more often than allowed."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address

import pytest

from home_agent.actions import InstallTable, Remember, SendControl
from home_agent.associations import BLOCK
from home_agent.door import Door
from home_agent.events import ControlReceived
from home_agent.limits import TokenBuckets
from tests.machines.ha_script import (
    COA4,
    COA6,
    HA4,
    HA6,
    LAPTOP,
    NAT4,
    OTHER_COA6,
    START,
    TABLET,
    HomeScript,
    home4,
    keys_of,
    over_ipv4,
    over_ipv6,
)
from tunnel.envelope import ControlPacket, seal_control
from tunnel.path import Arrival
from tunnel.security import Integrity, Sealer
from wire.mobility import BindingStatus
from wire.profile import RFC5555


@pytest.fixture
def ha() -> HomeScript:
    return HomeScript()


def at_ipv6(data: bytes, source: IPv6Address = COA6) -> ControlReceived:
    return ControlReceived(data, Arrival(HA6, source))


@pytest.mark.requirement("R134")
def test_an_unprotected_update_changes_nothing_and_is_not_answered(ha: HomeScript) -> None:
    packet = ControlPacket(COA6, HA6, over_ipv6(ha.laptop), home_address_option=LAPTOP)
    ha.feed(at_ipv6(seal_control(packet, None, RFC5555))).silent()
    assert ha.agent.tally.strangers == {"control-unprotected": 1}


@pytest.mark.requirement("R134")
def test_a_mobile_node_cannot_register_another_ones_home_address(ha: HomeScript) -> None:
    packet = ControlPacket(COA6, HA6, over_ipv6(ha.laptop), home_address_option=TABLET)
    ha.feed(at_ipv6(ha.laptop.sealed(packet))).silent()
    assert ha.agent.tally.strangers == {"control-wrong-home-address": 1}


def test_a_wrong_key_is_as_good_as_none(ha: HomeScript) -> None:
    keys = keys_of(LAPTOP)
    forger = Sealer(type(keys.update)(keys.update.spi, keys.update.integrity, b"x" * 20))
    packet = ControlPacket(COA6, HA6, over_ipv6(ha.laptop), home_address_option=LAPTOP)
    ha.feed(at_ipv6(seal_control(packet, forger, RFC5555))).silent()


def test_no_octet_of_an_update_can_be_changed(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    event = ha.laptop.udp(over_ipv4(ha.laptop, home4(), care_of=NAT4), NAT4)
    before = ha.table
    for position in range(40, len(event.packet)):
        ha.now += 0.01
        ha.feed(ControlReceived(changed(event.packet, position), event.arrival)).silent()
        assert ha.table is before
    ha.feed(event)
    assert ha.answer().status == BindingStatus.ACCEPTED, "the genuine one was not used up"


def test_no_octet_that_matters_in_front_of_the_protected_part_can_be_changed(ha: HomeScript) -> None:
    for position in (4, 5, 6, *range(8, 40)):  # not traffic class, flow label and hop limit
        event = ha.laptop.udp(over_ipv4(ha.laptop, home4()))
        ha.now += 1
        ha.feed(ControlReceived(changed(event.packet, position), event.arrival)).silent()
    assert len(ha.agent.books.cache) == 0


def changed(packet: bytes, position: int) -> bytes:
    return packet[:position] + bytes([packet[position] ^ 1]) + packet[position + 1 :]


def test_no_bytes_at_all_make_it_fail(ha: HomeScript) -> None:
    chance = random.Random(5555)
    genuine = ha.laptop.native(over_ipv6(ha.laptop, home4())).packet
    for number in range(3000):
        octets = bytearray(genuine[: chance.randrange(len(genuine) + 1)])
        for _ in range(chance.randrange(4)):
            if octets:
                octets[chance.randrange(len(octets))] = chance.randrange(256)
        source = IPv4Address(number)
        ha.feed(ControlReceived(bytes(octets), Arrival(HA4, source, 4191, 9)))
        assert ha.agent.books.cache.get(LAPTOP) is None or bytes(octets) == genuine


@pytest.mark.parametrize(
    ("event_of", "reason"),
    [
        (lambda ha: at_ipv6(_native(ha, destination=IPv6Address("2001:db8:99::3"))), "control-not-for-us"),
        (lambda ha: at_ipv6(_native(ha), OTHER_COA6), "control-tunnelled"),
        (lambda ha: ControlReceived(_native(ha), Arrival(HA4, COA4)), "control-outside-udp"),
        (lambda ha: ControlReceived(_native(ha), Arrival(HA4, COA4, 4191, 5)), "control-home-address-option"),
    ],
)
def test_an_authentic_update_that_came_a_wrong_way_is_ignored(ha: HomeScript, event_of, reason: str) -> None:  # type: ignore[no-untyped-def]
    ha.feed(event_of(ha)).silent()
    assert ha.agent.tally.accounts[LAPTOP].ignored == {reason: 1}


def _native(ha: HomeScript, destination: IPv6Address = HA6) -> bytes:
    packet = ControlPacket(COA6, destination, over_ipv6(ha.laptop), home_address_option=LAPTOP)
    return ha.laptop.sealed(packet)


def test_a_replayed_update_is_ignored(ha: HomeScript) -> None:
    event = ha.laptop.native(over_ipv6(ha.laptop))
    ha.feed(event)
    ha.feed(event).silent()
    assert ha.agent.tally.strangers == {"esp-replayed": 1}


def test_no_update_is_taken_twice_before_or_after_a_restart(ha: HomeScript) -> None:
    captured = []
    for number in range(300):
        care_of = IPv6Address(int(COA6) + (number % 3 << 64))
        captured.append(ha.laptop.native(over_ipv6(ha.laptop, care_of=care_of), care_of))
        ha.now += 1
        while (due := ha.agent.deadline()) is not None and due.at <= ha.now:
            ha.agent.tick(ha.now)
        ha.feed(captured[-1])
    random.Random(9).shuffle(captured)
    for script in (ha, ha.restarted(after=1.0)):
        for event in captured:
            script.now += 1
            assert script.feed(event).actions == []


def test_a_replay_is_refused_even_after_the_binding_was_released_and_the_home_agent_restarted(
    ha: HomeScript,
) -> None:
    captured = ha.laptop.native(over_ipv6(ha.laptop))
    ha.feed(captured)
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, lifetime=0)))
    ha = ha.restarted(after=60.0)
    ha.feed(captured).silent()


def test_a_stale_sequence_number_is_still_stale_after_a_restart(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=500)))
    ha = ha.restarted()
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=499)))
    ack = ha.answer()
    assert (ack.status, ack.sequence) == (BindingStatus.SEQUENCE_OUT_OF_WINDOW, 500)


def test_outbound_esp_numbers_never_repeat_over_restarts(ha: HomeScript) -> None:
    used: list[int] = []
    for _generation in range(4):
        for _ in range(3):
            ha.now += 1
            ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
            used.append(int.from_bytes(ha.only(SendControl).packet[68:72], "big"))
            assert ha.records[LAPTOP].memory.reserved >= used[-1], "written down before it was used"
        ha = ha.restarted()
    assert used == sorted(set(used))


def test_outbound_esp_numbers_follow_the_clock_when_the_memory_was_lost() -> None:
    fresh = HomeScript()
    fresh.agent._associations._sealers[LAPTOP].next_sequence = 200_000_000
    fresh.feed(fresh.laptop.native(over_ipv6(fresh.laptop)))
    assert int.from_bytes(fresh.only(SendControl).packet[68:72], "big") == 200_000_000
    assert fresh.records[LAPTOP].memory.reserved == 200_000_000 + BLOCK - 1


def test_everything_is_written_down_before_it_is_acknowledged(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    kinds = [type(action) for action in ha.actions]
    assert kinds.index(Remember) < kinds.index(SendControl)
    assert ha.only(Remember).record.binding == ha.agent.books.cache.get(LAPTOP)
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=1)))
    kinds = [type(action) for action in ha.actions]
    assert kinds.index(Remember) < kinds.index(SendControl), "a refusal moves the replay window, too"


def test_a_restart_puts_bindings_back_before_anything_else(ha: HomeScript) -> None:
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), care_of=IPv4Address("192.168.7.2")), NAT4, 61000))
    before = ha.route(LAPTOP)
    again = ha.restarted(after=5.0)
    assert isinstance(again.actions[0], InstallTable)
    assert again.route(LAPTOP) == before
    assert again.defended == ha.defended
    assert again.kernel == ha.kernel
    due = again.agent.deadline()
    assert due is not None
    assert due.at == START + 420 - 42, "the lifetime goes on where it was"


def test_a_binding_that_ended_while_nobody_was_there_is_not_put_back(ha: HomeScript) -> None:
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    again = ha.restarted(after=421.0)
    assert again.route(LAPTOP) is None
    assert again.defended == {}


def test_a_mobile_node_that_asks_too_often_is_not_answered_for_a_while(ha: HomeScript) -> None:
    answers = 0
    for _ in range(100):
        ha.feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=7)))
        answers += any(isinstance(action, SendControl) for action in ha.actions)
    assert answers == 20
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet)))
    assert ha.answer().status == BindingStatus.ACCEPTED, "others are not affected"
    ha.now += 1.0
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=300)))
    assert ha.answer().status == BindingStatus.ACCEPTED


def at_the_door() -> tuple[Door, HomeScript]:
    script = HomeScript()
    return Door(keys_of(node.home_address).update.spi for node in script.configuration.mobile_node), script


def test_the_door_lets_in_what_may_be_authentic_on_every_kind_of_link() -> None:
    door, ha = at_the_door()
    for event in (
        ha.laptop.udp(over_ipv4(ha.laptop)),
        ha.laptop.native(over_ipv6(ha.laptop)),
        ha.laptop.native(over_ipv6(ha.laptop), care_of=LAPTOP),
    ):
        assert door.admits(event.packet, event.arrival, 0.0)


def test_the_door_turns_away_what_cannot_be_authentic() -> None:
    door, ha = at_the_door()
    arrival = Arrival(HA4, COA4, 4191, 9)
    bare = seal_control(ControlPacket(LAPTOP, HA6, over_ipv4(ha.laptop)), None, RFC5555)
    strange = Sealer(type(keys_of(LAPTOP).ack)(0x7777, Integrity.HMAC_SHA1_96, b"x" * 20))
    other = seal_control(ControlPacket(LAPTOP, HA6, over_ipv4(ha.laptop)), strange, RFC5555)
    assert not door.admits(bare, arrival, 0.0)
    assert not door.admits(other, arrival, 0.0)
    assert door.turned_away == {"control-unprotected": 1, "control-unknown-spi": 1}
    genuine = ha.laptop.native(over_ipv6(ha.laptop)).packet
    chance = random.Random(3)
    for length in range(len(genuine)):
        octets = bytearray(genuine[:length])
        for _ in range(chance.randrange(3)):
            if octets:
                octets[chance.randrange(length)] = chance.randrange(256)
        door.admits(bytes(octets), arrival, 0.0)


def test_one_source_cannot_flood_through_the_door_and_shuts_nobody_else_out() -> None:
    door, ha = at_the_door()
    event = ha.laptop.udp(over_ipv4(ha.laptop))
    admitted = sum(door.admits(event.packet, event.arrival, 0.0) for _ in range(1000))
    assert (admitted, door.turned_away["control-too-many"]) == (400, 600)
    assert door.admits(event.packet, Arrival(HA4, NAT4, 4191, 9), 0.0)
    near = Arrival(HA6, IPv6Address("2001:db8:a::1"))
    admitted = sum(door.admits(event.packet, near, 0.0) for _ in range(1000))
    neighbour = Arrival(HA6, IPv6Address("2001:db8:a::2"))
    assert admitted == 400
    assert not door.admits(event.packet, neighbour, 0.0), "one /64 is one source"
    assert door.admits(event.packet, event.arrival, 1.0)


def test_strangers_leave_no_trace_but_counters() -> None:
    door, ha = at_the_door()
    honest = ha.laptop.udp(over_ipv4(ha.laptop)).packet
    forged = honest[:-1] + bytes((honest[-1] ^ 1,))
    for number in range(20_000):
        arrival = Arrival(HA4, IPv4Address(number), 4191, 9)
        if door.admits(forged, arrival, 0.0):
            ha.feed(ControlReceived(forged, arrival)).silent()
    assert len(door._sources._full_at) == 4096
    assert len(ha.agent.tally.accounts) == 3
    assert ha.agent.tally.strangers == {"esp-bad-icv": 20_000}


@pytest.mark.parametrize("requests", [0, 1, 30])
def test_an_answer_is_never_much_larger_than_the_question(ha: HomeScript, requests: int) -> None:
    event = ha.laptop.udp(over_ipv4(ha.laptop, *[home4()] * requests))
    ha.feed(event)
    assert len(ha.only(SendControl).packet) <= 1.5 * len(event.packet)


def test_keys_show_nowhere(ha: HomeScript) -> None:
    secret = keys_of(LAPTOP).update.integrity_key
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    for text in (repr(ha.actions), repr(ha.records), repr(ha.agent.__dict__)):
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text


def test_a_bucket_fills_again_and_never_overflows() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(rate=2.0, burst=3.0, capacity=2)
    assert [buckets.spend("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert [buckets.spend("a", 0.5), buckets.spend("a", 0.5)] == [True, False]
    assert [buckets.spend("a", 99.0) for _ in range(4)] == [True, True, True, False]
    assert buckets.spend("b", 99.0)
    assert buckets.spend("c", 99.0), "room is made by forgetting the one that was idle longest"
