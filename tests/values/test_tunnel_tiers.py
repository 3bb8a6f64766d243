"""Which tier of the data plane is chosen, and what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mn_agent.config import parse_configuration
from runtime.settings import ConfigError
from tunnel import tiers
from tunnel.endpoint import Endpoint, Role
from tunnel.plane import DataPlaneChoice, Tier
from tunnel.tiers import TierUnavailable, Wiring, open_tunnel

WIRING = Wiring(Endpoint(Role.MOBILE_NODE), lambda packet, arrival: None, lambda reason: None)
CONFIGURATION = """
[home]
ipv6 = "2001:db8:99::77"
[home_agent]
name = "ha.example.net"
[security]
key_file = "keys.toml"
[tunnel]
data_plane = {}
"""


class Opened:
    """A device or a plane that remembers whether it is open."""

    def __init__(self, *of: object) -> None:
        self.of = of
        self.closed = False

    def close(self) -> None:
        self.closed = True


def way(*, works: bool, devices: list[Any]) -> Any:
    def open_device(name: str, mtu: int, wiring: Wiring) -> Any:
        devices.append(Opened(name, mtu))
        return devices[-1]

    def open_plane(device: Any, wiring: Wiring) -> Any:
        if not works:
            raise TierUnavailable("this test has none")
        return Opened(device)

    return tiers._Way(open_device, open_plane)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """A host that has the tiers which are named."""

    def with_tiers(*works: Tier) -> list[Any]:
        devices: list[Any] = []
        ways = {tier: way(works=tier in works, devices=devices) for tier in Tier}
        monkeypatch.setattr(tiers, "_WAYS", ways)
        return devices

    return with_tiers


def test_the_fastest_is_taken_and_nothing_has_to_be_explained(host: Callable[..., list[Any]]) -> None:
    host(*Tier)
    tunnel = open_tunnel("auto", "mip0", 1400, WIRING)
    assert tunnel.report.describe() == {"tier": "kernel", "configured": "auto", "why": None}


def test_what_cannot_be_had_is_replaced_and_said_and_its_device_is_closed(
    host: Callable[..., list[Any]],
) -> None:
    devices = host(Tier.PORTABLE)
    tunnel = open_tunnel("auto", "mip0", 1400, WIRING)
    assert tunnel.report.tier is Tier.PORTABLE
    assert tunnel.report.why == "kernel: this test has none; offload: this test has none"
    assert [device.closed for device in devices] == [True, True, False]
    tunnel.close()
    assert devices[-1].closed


@pytest.mark.parametrize(
    ("choice", "tier", "why"),
    [
        ("kernel", Tier.KERNEL, None),
        ("offload", Tier.PORTABLE, "offload is configured; offload: this test has none"),
        ("portable", Tier.PORTABLE, "portable is configured"),
    ],
)
def test_a_choice_is_obeyed_downwards_only(
    host: Callable[..., list[Any]], choice: DataPlaneChoice, tier: Tier, why: str | None
) -> None:
    host(Tier.KERNEL, Tier.PORTABLE)
    report = open_tunnel(choice, "mip0", 1400, WIRING).report
    assert (report.tier, report.why) == (tier, why)


def test_the_configuration_knows_the_tiers_and_no_others() -> None:
    assert parse_configuration(CONFIGURATION.format('"offload"')).tunnel.data_plane == "offload"
    with pytest.raises(ConfigError) as caught:
        parse_configuration(CONFIGURATION.format('"kernal"'), "mn.toml")
    assert "mn.toml:9: " in str(caught.value)
    assert '"kernel"' in str(caught.value)
