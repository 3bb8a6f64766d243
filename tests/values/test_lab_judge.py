"""The judge on made-up evidence: outages, losses, phases and verdicts are what one would count by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from xml.etree import ElementTree

import msgspec

from lab.evidence import SLOT_NS, Kind, Seen, Sighting
from lab.judge import Evidence, Handover, Stream, Window, busiest_second, judge_window
from lab.report import report
from lab.scenario import Expectation
from lab.timeline import timeline
from lab.verdict import Session, verdict
from lab.witness import Witnessed
from tunnel.path import Encapsulation

MS = 1_000_000
PULLED, LINK, USABLE, UPDATE, ACK = (at * MS for at in (1000, 1100, 1115, 1120, 1128))
UNTIL = 3000 * MS
MOVE = Window(1, "move cafe", PULLED, UNTIL, cut="eth0", before={"eth0": "office"}, after={"eth0": "cafe"})


def signal(at: int, kind: Kind, care_of: str = "192.168.7.36") -> Sighting:
    return Sighting(at, kind, kind is Kind.UPDATE, Encapsulation.UDP, ip_address(care_of), 40000)


def payload(seen: Seen, begin: int, end: int, version: int, encapsulation: Encapsulation) -> Seen:
    for slot in range(begin // SLOT_NS, end // SLOT_NS):
        seen.payload[slot, version, encapsulation] += 20
    return seen


def steady(begin: int, end: int, interval: int = 10 * MS) -> list[tuple[int, int]]:
    return [(at, at // interval) for at in range(begin, end, interval)]


def stream(silent_from: int, silent_to: int, told: bool = True) -> Stream:
    """A packet every 10 ms from 0 to 3.2 s, of which those of the silence never arrive."""
    sent = steady(0, 3200 * MS)
    received = [(at + MS // 2, n) for at, n in sent if not silent_from <= at < silent_to]
    return Stream(10 * MS, received, sent if told else None)


def evidence(
    streams: dict[str, Stream], signals: Sequence[Sighting] | None = None, at_agent: str = "192.0.2.150"
) -> Evidence:
    if signals is None:
        signals = [
            signal(100 * MS, Kind.ACK, "2001:db8:1::5"),
            signal(UPDATE, Kind.UPDATE),
            signal(ACK, Kind.ACK),
        ]
    eth0 = payload(Seen(list(signals)), ACK, UNTIL, 4, Encapsulation.UDP)
    witnessed = [
        Witnessed(PULLED + MS, "eth0", "carrier", False),
        Witnessed(LINK, "eth0", "carrier", True),
        Witnessed(USABLE - MS, "eth0", "address", True, "192.168.7.36"),
        Witnessed(USABLE, "eth0", "route", True, "4"),
    ]
    agent = Seen([signal(UPDATE + MS, Kind.UPDATE, at_agent)])
    return Evidence(witnessed, {"eth0": eth0, "wlan0": Seen()}, agent, streams)


def judged(window: Window, shown: Evidence) -> Handover:
    handover = judge_window(window, shown)
    assert handover is not None
    return handover


def test_a_move_is_measured_from_the_instant_the_address_is_usable() -> None:
    handover = judged(MOVE, evidence({"down-v4": stream(PULLED, 1140 * MS)}))
    assert (handover.origin, handover.target) == ("office", "cafe")
    assert (handover.family_from, handover.family_to) == ("ipv6", "ipv4")
    assert (handover.encapsulation, handover.nat) == ("udp", True)
    assert (handover.link_ns, handover.usable_ns) == (LINK, USABLE)
    assert (handover.update_ns, handover.ack_ns, handover.updates) == (UPDATE, ACK, 1)
    assert handover.first_packet_ns == 1140 * MS + MS // 2
    silence = handover.silences["down-v4"]
    assert silence.outage_ns == 1140 * MS + MS // 2 - USABLE
    assert silence.gap_ns == 150 * MS
    assert handover.lost["down-v4"] == 14


def test_an_acknowledgement_sent_to_a_home_address_says_that_its_owner_is_at_home() -> None:
    home = "2001:db8:99::77"
    plain = [
        replace(signal(at, kind, care_of), encapsulation=None)
        for at, kind, care_of in (
            (100 * MS, Kind.ACK, "2001:db8:1::5"),
            (UPDATE, Kind.UPDATE, home),
            (ACK, Kind.ACK, home),
        )
    ]
    shown = replace(evidence({}, plain), homes=frozenset({ip_address(home)}))
    handover = judged(MOVE, shown)
    assert (handover.family_from, handover.family_to, handover.encapsulation) == ("ipv6", "home", "direct")
    later = replace(MOVE, started_ns=UNTIL, until_ns=2 * UNTIL)
    away = replace(
        shown,
        seen={"eth0": Seen([*plain, signal(UNTIL + MS, Kind.UPDATE), signal(UNTIL + 2 * MS, Kind.ACK)])},
    )
    assert judged(later, away).family_from == "home"
    assert "home" in timeline("there", [handover], [MOVE], shown)


def test_another_family_on_the_same_link_is_a_move_too() -> None:
    """As when IPv6 is broken and the mobile node takes IPv4; a refresh in the old family before is not."""
    still = Window(1, "block family ipv6", PULLED, UNTIL, None, {"eth0": "campus"}, {"eth0": "campus"})
    early = ((PULLED + MS, Kind.UPDATE), (PULLED + 2 * MS, Kind.ACK))
    refresh = [signal(at, kind, "2001:db8:1::5") for at, kind in early]
    stays = [signal(100 * MS, Kind.ACK, "2001:db8:1::5"), *refresh]
    assert judge_window(still, evidence({}, stays)) is None
    handover = judged(still, evidence({}, [*stays, signal(UPDATE, Kind.UPDATE), signal(ACK, Kind.ACK)]))
    assert (handover.family_from, handover.family_to, handover.ack_ns) == ("ipv6", "ipv4", ACK)


def test_without_translation_there_is_no_nat() -> None:
    assert not judged(MOVE, evidence({}, at_agent="192.168.7.36")).nat


def test_when_packets_go_on_over_the_old_path_only_the_lateness_counts() -> None:
    both = replace(MOVE, cut="wlan0", before={"eth0": "office", "wlan0": "cafe"}, after={"eth0": "office"})
    signals = [signal(UPDATE, Kind.UPDATE), signal(ACK, Kind.ACK)]
    shown = evidence({"down-v4": stream(PULLED, 1030 * MS)}, signals)
    shown = replace(
        shown,
        witnessed=[replace(one, at_ns=one.at_ns - 900 * MS) for one in shown.witnessed[1:]],
        seen={"wlan0": Seen([signal(50 * MS, Kind.ACK)]), "eth0": shown.seen["eth0"]},
    )
    handover = judged(both, shown)
    assert (handover.origin, handover.target, handover.usable_ns) == ("cafe", "office", PULLED)
    silence = handover.silences["down-v4"]
    # The last packet came at 990.5 ms and the next at 1030.5 ms, when it was due at 1000.5 ms.
    assert silence.outage_ns == 30 * MS
    assert silence.gap_ns == 40 * MS


def test_a_steady_stream_has_no_outage() -> None:
    handover = judged(MOVE, evidence({"up-v6": stream(0, 0)}))
    assert handover.silences["up-v6"].outage_ns == 0
    assert handover.lost["up-v6"] == 0
    assert handover.worst == ("up-v6", 0)


def test_a_second_silence_soon_after_the_move_counts_too() -> None:
    handover = judged(MOVE, evidence({"down-v4": stream(1300 * MS, 1550 * MS)}))
    assert handover.silences["down-v4"].outage_ns == 250 * MS


def test_a_silence_long_after_the_move_is_a_gap_but_no_outage_of_it() -> None:
    silence = judged(MOVE, evidence({"down-v4": stream(2000 * MS, 2250 * MS)})).silences["down-v4"]
    assert (silence.outage_ns, silence.gap_ns) == (0, 260 * MS)


def test_a_stream_that_never_comes_back_is_out_until_the_end() -> None:
    handover = judged(MOVE, evidence({"down-v4": stream(PULLED, 9000 * MS)}))
    assert handover.silences["down-v4"].outage_ns == UNTIL - USABLE


def test_packets_in_flight_when_the_cable_is_pulled_are_lost_by_this_move() -> None:
    handover = judged(MOVE, evidence({"down-v4": stream(970 * MS, PULLED)}))
    assert handover.lost["down-v4"] == 3


def test_a_stream_without_a_sender_journal_cannot_lose() -> None:
    assert judged(MOVE, evidence({"bulk-up-v6": stream(0, 0, told=False)})).lost == {}


def test_a_second_cable_is_no_handover_unless_the_binding_moves() -> None:
    second = replace(MOVE, cut="wlan0", after={"eth0": "office", "wlan0": "cafe"})
    signals = [signal(50 * MS, Kind.ACK), signal(1500 * MS, Kind.UPDATE), signal(1510 * MS, Kind.ACK)]
    assert judge_window(second, evidence({}, signals)) is None
    assert judge_window(second, evidence({}, signals[:1])) is None


def test_a_move_without_an_acknowledgement_fails() -> None:
    handover = judged(MOVE, evidence({}, [signal(100 * MS, Kind.ACK)]))
    assert not handover.registered
    assert handover.first_packet_ns is None
    assert verdict([handover], [], 1, Expectation()).reasons == (
        "move 1 (office to cafe): no Binding Acknowledgement was seen",
    )


def test_an_acknowledgement_from_before_the_move_does_not_count() -> None:
    signals = [signal(PULLED + MS, Kind.ACK), signal(UPDATE, Kind.UPDATE), signal(ACK, Kind.ACK)]
    assert judged(MOVE, evidence({}, signals)).ack_ns == ACK


def test_a_round_trip_is_what_the_way_took_without_the_home_agents_own_time() -> None:
    shown = evidence({"down-v4": stream(PULLED, 1140 * MS)})
    agent = Seen([signal(UPDATE + MS, Kind.UPDATE), signal(ACK - 2 * MS, Kind.ACK)])
    handover = judged(MOVE, replace(shown, at_home_agent=agent))
    assert (handover.round_trip_ns, handover.two_links) == (3 * MS, False)
    strict = Expectation(outage_beyond_round_trip_ms=20, update_ms=4, bound_ms=12)
    assert list(verdict([handover], [], 1, strict).reasons) == [
        "move 1 (office to cafe): the Binding Update left 5 ms after the address could be used (allowed 4)",
        "move 1 (office to cafe): the acknowledgement came 13 ms after the address could be used"
        " (allowed 12)",
        "move 1 (office to cafe): down-v4 was silent for 26 ms (allowed 23)",
    ]
    assert verdict([handover], [], 1, replace_limits(strict)).passed
    assert handover.round_trip_ns is not None
    said = report("s", [handover], [], verdict([handover], [], 1, strict))["handovers"][0]
    assert (said["round_trip_ms"], said["beyond_round_trip_ms"]) == (3.0, 22.5)


def replace_limits(expected: Expectation) -> Expectation:
    """A little more than what the made-up move took."""
    return msgspec.structs.replace(expected, outage_beyond_round_trip_ms=23, update_ms=5, bound_ms=13)


def test_what_is_lost_between_two_links_has_a_limit_of_its_own() -> None:
    handover = judged(MOVE, evidence({"down-v4": stream(PULLED, 1140 * MS)}))
    none_between_links = Expectation(lost_with_two_links=0)
    assert verdict([handover], [], 1, none_between_links).passed
    beside = replace(handover, two_links=True)
    assert verdict([beside], [], 1, none_between_links).reasons == (
        "move 1 (office to cafe): down-v4 lost 14 packets (allowed 0)",
    )


def test_updates_are_counted_in_the_busiest_second() -> None:
    at = [0, 400, 900, 1300, 1399, 2500]
    shown = evidence({}, [signal(ms * MS, Kind.UPDATE) for ms in at])
    assert busiest_second(shown) == 4
    assert verdict([], [], 4, Expectation(updates_a_second=3)).reasons == (
        "4 Binding Updates within a second (allowed 3)",
    )
    families = [signal(MS, Kind.UPDATE), signal(MS, Kind.UPDATE, "2001:db8::1")]
    assert busiest_second(evidence({}, families)) == 1, "two addresses of the home agent"


def test_the_verdict_names_every_reason() -> None:
    handover = judged(MOVE, evidence({"down-v4": stream(PULLED, 1300 * MS)}))
    sessions = [Session("bulk-v6", True, 10, False), Session("ping-v4", False, 0, None)]
    found = verdict([handover], sessions, 1, Expectation(outage_ms=100, handovers=2, lost_packets=5))
    assert not found.passed
    assert list(found.reasons) == [
        "1 handovers instead of 2",
        "move 1 (office to cafe): down-v4 was silent for 186 ms (allowed 100)",
        "move 1 (office to cafe): down-v4 lost 30 packets (allowed 5)",
        "session ping-v4 did not survive",
        "session bulk-v6: the checksums differ",
    ]
    fine = judged(MOVE, evidence({"down-v4": stream(PULLED, 1130 * MS)}))
    kept = [Session("bulk-v6", True, 10, True)]
    assert verdict([fine], kept, 1, Expectation(outage_ms=100, handovers=1)).passed


def test_the_report_has_the_promised_keys() -> None:
    handover = judged(MOVE, evidence({"down-v4": stream(PULLED, 1130 * MS)}))
    sessions = [Session("bulk-v6", True, 10, True), Session("ping-v4", True, 0, None)]
    said = report("tour", [handover], sessions, verdict([handover], sessions, 1, Expectation()))
    assert said["schema"] == "mn-lab/report/1"
    assert said["verdict"] == "pass"
    (one,) = said["handovers"]
    assert {"index", "from", "to", "family_from", "family_to", "nat", "encapsulation"} <= one.keys()
    assert one["phases_ms"] == {"detect": 5.0, "register": 8.0, "resume": 2.5}
    assert one["outage_ms"] == {"down-v4": 15.5}
    assert one["lost_packets"] == {"down-v4": 13}
    assert said["sessions"][0] == {"name": "bulk-v6", "survived": True, "bytes": 10, "sha256_ok": True}
    assert said["sessions"][1]["sha256_ok"] is None


def test_the_picture_is_well_formed_and_shows_every_stream_and_move() -> None:
    shown = evidence({"down-v4": stream(PULLED, 1130 * MS), "up-v6": stream(0, 0)})
    picture = timeline("tour", [judged(MOVE, shown)], [MOVE], shown)
    words = [element.text for element in ElementTree.fromstring(picture).iter() if element.text]
    assert {"down-v4", "up-v6", "1  office → cafe", "BU", "BA"} <= set(words)


def test_a_picture_without_moves_is_still_a_picture() -> None:
    ElementTree.fromstring(timeline("nothing", [], [], evidence({})))
