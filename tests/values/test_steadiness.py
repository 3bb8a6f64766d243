"""A link that comes and goes is no reason to leave a path that works."""

from __future__ import annotations

from ipaddress import ip_address

from movement.opinion import Verdict
from movement.policy import Attachment
from movement.steadiness import MOST, WINDOW, Steadiness

CABLE = Attachment("eth0", 2, ip_address("2001:db8:a::10"), 64, ip_address("fe80::1"), 1500, 100)


def flap(steadiness: Steadiness, times: int, every: float) -> float:
    """The cable appears and goes `times` over, and stays in the end; the instant at which it stays."""
    now = 0.0
    steadiness.seen((CABLE,), now)
    for _ in range(times):
        steadiness.seen((), now + every / 2)
        now += every
        steadiness.seen((CABLE,), now)
    return now


def test_one_change_of_network_is_not_held_against_a_link() -> None:
    steadiness = Steadiness(1.0)
    now = flap(steadiness, 1, 1.0)
    assert not list(steadiness.opinions(now))
    assert steadiness.steady_at(now) is None


def test_each_loss_too_many_doubles_the_wait() -> None:
    waits = []
    for losses in (2, 3, 4):
        steadiness = Steadiness(1.0)
        now = flap(steadiness, losses, 0.1)
        (opinion,) = steadiness.opinions(now)
        assert opinion.verdict is Verdict.UNSTEADY
        assert opinion.concerns(CABLE)
        steady_at = steadiness.steady_at(now)
        assert steady_at is not None
        assert not list(steadiness.opinions(steady_at))
        waits.append(round(steady_at - now, 6))
    assert waits == [1.0, 2.0, 4.0]


def test_the_wait_is_bounded_and_what_was_long_ago_is_forgotten() -> None:
    steadiness = Steadiness(1.0)
    now = flap(steadiness, 200, 0.1)
    steady_at = steadiness.steady_at(now)
    assert steady_at is not None
    assert steady_at - now <= 32.0
    later = now + WINDOW + 40.0
    steadiness.seen((), later)
    steadiness.seen((CABLE,), later + WINDOW + 40.0)
    assert not list(steadiness.opinions(later + WINDOW + 40.0))


def test_without_hysteresis_nothing_waits() -> None:
    steadiness = Steadiness(0.0)
    assert not list(steadiness.opinions(flap(steadiness, 9, 0.1)))


def test_another_carrier_between_two_looks_counts_as_a_loss() -> None:
    steadiness = Steadiness(1.0)
    for losses in range(4):
        again = Attachment("eth0", 2, CABLE.care_of, 64, CABLE.router, 1500, 100, carrier_losses=losses)
        steadiness.seen((again,), float(losses))
    assert list(steadiness.opinions(3.0))


def test_links_that_never_come_back_are_forgotten() -> None:
    steadiness = Steadiness(1.0)
    for number in range(3 * MOST):
        steadiness.seen((Attachment(f"usb{number}", number, CABLE.care_of, 64, None, 1500, 1),), number)
    assert len(steadiness._records) <= MOST
