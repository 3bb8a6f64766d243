"""Snapshots over time: what the detector reports, when, and above all when not."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address

from movement.detector import Detector
from movement.policy import Policy, rank
from movement.snapshot import DefaultRouter, Link, LinkAddress, Snapshot

OFFICE = Link(
    2, "eth0", True, 1500,
    (LinkAddress(ip_address("2001:db8:1::2"), 64), LinkAddress(ip_address("fe80::2"), 64)),
    (DefaultRouter(6, ip_address("fe80::1"), 1024),),
)  # fmt: skip
CAFE = Link(
    3, "wlan0", True, 1500,
    (LinkAddress(ip_address("192.168.7.2"), 24),),
    (DefaultRouter(4, ip_address("192.168.7.1"), 600),),
)  # fmt: skip


def without(link: Link, *, addresses: bool = False, routers: bool = False, up: bool = True) -> Link:
    return replace(
        link, up=up, addresses=() if addresses else link.addresses, routers=() if routers else link.routers
    )


def interfaces(detector: Detector) -> list[str]:
    return [attachment.interface for attachment in detector.attachments]


def test_nothing_is_said_while_nothing_is_usable() -> None:
    detector = Detector(Policy())
    assert detector.handle(Snapshot()) is None
    assert detector.handle(Snapshot((without(OFFICE, up=False),))) is None
    assert detector.current is None


def test_a_link_is_reported_once_when_it_becomes_usable_however_its_parts_arrive() -> None:
    tentative = replace(OFFICE, addresses=(replace(OFFICE.addresses[0], tentative=True),))
    steps = [
        without(OFFICE, addresses=True, routers=True, up=False),
        without(OFFICE, addresses=True, routers=True),
        without(tentative, routers=True),
        tentative,
        OFFICE,
        OFFICE,
        replace(OFFICE, addresses=OFFICE.addresses[::-1]),
    ]
    detector = Detector(Policy())
    said = [detector.handle(Snapshot((step,))) for step in steps]
    assert [answer is not None for answer in said] == [False, False, False, False, True, False, False]


def test_losing_the_current_link_is_reported_at_once_and_the_other_takes_over() -> None:
    for loss in (
        without(OFFICE, up=False),
        without(OFFICE, addresses=True),
        without(OFFICE, routers=True),
        None,
    ):
        detector = Detector(Policy())
        assert detector.handle(Snapshot((OFFICE, CAFE))) is not None
        assert interfaces(detector) == ["eth0", "wlan0"]
        left = detector.handle(Snapshot((loss, CAFE) if loss is not None else (CAFE,)))
        assert left is not None
        assert interfaces(detector) == ["wlan0"]
    nowhere = detector.handle(Snapshot())
    assert nowhere == ()


def test_an_equal_link_does_not_take_over_and_a_better_one_does() -> None:
    wired = replace(CAFE, index=4, name="eth1", addresses=(LinkAddress(ip_address("10.1.1.2"), 24),))
    detector = Detector(Policy())
    detector.handle(Snapshot((CAFE,)))
    detector.handle(Snapshot((CAFE, wired)))
    assert interfaces(detector) == ["wlan0", "eth1"], "eth1 comes first in the alphabet, but not here"
    better = replace(wired, routers=(DefaultRouter(4, ip_address("10.1.1.1"), 100),))
    detector.handle(Snapshot((CAFE, better)))
    assert interfaces(detector) == ["eth1", "wlan0"]
    detector.handle(Snapshot((CAFE, wired)))
    assert interfaces(detector) == ["eth1", "wlan0"], "no way back without a reason"


def test_ipv6_that_appears_later_on_the_same_link_is_an_upgrade() -> None:
    dual = replace(
        CAFE,
        addresses=(*CAFE.addresses, LinkAddress(ip_address("2001:db8:7::2"), 64)),
        routers=(*CAFE.routers, DefaultRouter(6, ip_address("fe80::1"), 1024)),
    )
    detector = Detector(Policy())
    detector.handle(Snapshot((CAFE,)))
    upgraded = detector.handle(Snapshot((dual,)))
    assert upgraded is not None
    assert [attachment.care_of.version for attachment in upgraded] == [6, 4]


def test_a_new_privacy_address_is_no_movement_until_the_old_one_is_deprecated() -> None:
    old = LinkAddress(ip_address("2001:db8:1::aaaa"), 64, temporary=True)
    new = LinkAddress(ip_address("2001:db8:1::1"), 64, temporary=True)
    detector = Detector(Policy())
    detector.handle(Snapshot((replace(OFFICE, addresses=(old,)),)))
    assert detector.handle(Snapshot((replace(OFFICE, addresses=(old, new)),))) is None
    moved = detector.handle(Snapshot((replace(OFFICE, addresses=(replace(old, deprecated=True), new)),)))
    assert moved is not None
    assert moved[0].care_of == new.address


def test_a_changed_mtu_is_reported_since_the_tunnel_depends_on_it() -> None:
    detector = Detector(Policy())
    detector.handle(Snapshot((OFFICE,)))
    changed = detector.handle(Snapshot((replace(OFFICE, mtu=1280),)))
    assert changed is not None
    assert changed[0].mtu == 1280


def test_over_random_histories_it_speaks_exactly_when_the_list_changes_and_never_moves_in_vain() -> None:
    """The current attachment is left only when it is gone or a better class is there."""
    chance = random.Random(2718)
    for _ in range(100):
        detector = Detector(Policy())
        for _ in range(40):
            links = []
            for number, name in enumerate(("eth0", "eth1", "wlan0"), 2):
                base = replace(chance.choice((OFFICE, CAFE)), index=number, name=name)
                links.append(
                    replace(
                        base,
                        up=chance.random() < 0.8,
                        addresses=tuple(a for a in base.addresses if chance.random() < 0.9),
                        routers=tuple(r for r in base.routers if chance.random() < 0.9),
                    )
                )
            before, current = detector.attachments, detector.current
            said = detector.handle(Snapshot(tuple(links)))
            assert (said is None) == (detector.attachments == before)
            assert sorted(map(str, detector.attachments)) == sorted(
                map(str, rank(detector.snapshot, Policy()))
            )
            still = next((a for a in detector.attachments if current and a.care_of == current.care_of
                          and a.index == current.index), None)  # fmt: skip
            if still is not None and detector.current != still:
                alone = rank(detector.snapshot, Policy())[0]
                assert (still.metric % 1024, -still.care_of.version) > (
                    alone.metric % 1024,
                    -alone.care_of.version,
                )
