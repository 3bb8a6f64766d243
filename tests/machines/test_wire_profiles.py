"""Two ends with different wire profiles: each says what it sees, and neither guesses."""

from __future__ import annotations

import pytest

from home_agent.health import findings
from home_agent.status import Moment, show
from mn_agent.status import Clocks, status
from tests.machines.ha_script import LAPTOP, HomeScript, configured, home4, over_ipv4
from tests.machines.mobile_node_script import CAFE4, Script, configuration, link
from tunnel.path import Encapsulation
from tunnel.plane import Counters
from wire.mobility import AckFlag, BindingStatus, UpdateFlag
from wire.profile import DRAFT_00, RFC5555, RFC5555_TLV

HOME = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME
NO_COUNTERS = Counters(0, 0, 0, 0, {})


def home_agent_of(profile: str) -> HomeScript:
    return HomeScript(configured(more=f'[wire]\nprofile = "{profile}"'))


def told_by(script: HomeScript, **drops: int) -> dict[str, str]:
    named = {name.replace("_", "-"): number for name, number in drops.items()}
    found = findings(script.agent, named, Moment(script.now, 0.0))
    return {item["code"]: item["text"] for item in found}


def test_a_mobile_node_with_the_draft_profile_is_recognised_by_its_f() -> None:
    script = home_agent_of("rfc5555")
    script.laptop.profile = DRAFT_00
    update = over_ipv4(script.laptop, home4(), flags=HOME | UpdateFlag.FORCE_UDP)
    assert script.feed(script.laptop.udp(update)).answer().status == BindingStatus.ACCEPTED
    route = script.route(LAPTOP)
    assert route is not None
    assert route.path.encapsulation is Encapsulation.IP_IN_IP, "what F means in the draft is not guessed"
    text = told_by(script)["wire-profile"]
    assert text.startswith("laptop seems to have wire profile draft-00 (0x0200")
    assert text.endswith("while this home agent has rfc5555")


def test_it_is_counted_and_ends_with_the_first_update_of_the_right_profile() -> None:
    script = home_agent_of("rfc5555")
    script.laptop.profile = RFC5555_TLV
    for number in range(3):
        update = over_ipv4(script.at(float(number)).laptop, home4(), flags=HOME | UpdateFlag.TLV)
        script.feed(script.laptop.udp(update))
    account = script.agent.tally.accounts[LAPTOP]
    assert (account.mismatches, account.dialect_since) == (3, 1000.0)
    assert "rfc5555+rfc5845-tlv" in told_by(script)["wire-profile"]
    script.laptop.profile = RFC5555
    script.feed(script.at(4.0).laptop.udp(over_ipv4(script.laptop, home4())))
    assert "wire-profile" not in told_by(script)
    told = show(script.agent, script.agent.nodes[LAPTOP], Moment(script.now, 0.0))
    assert told["totals"]["profile_mismatches"] == 3


def test_nobody_without_keys_can_raise_that_alarm() -> None:
    script = home_agent_of("rfc5555")
    script.tablet.profile = DRAFT_00
    forged = script.tablet.udp(over_ipv4(script.laptop, home4(), flags=HOME | UpdateFlag.FORCE_UDP))
    octets = bytearray(forged.packet)
    octets[-1] ^= 1
    script.feed(type(forged)(bytes(octets), forged.arrival))
    assert told_by(script) == {}


def test_packets_in_a_tlv_header_of_another_profile_are_said() -> None:
    script = home_agent_of("draft-00")
    assert told_by(script, tlv_length=2, tlv_type=1)["tlv-format"].startswith("3 packets had a TLV header")
    assert told_by(script, tlv_length=0) == {}


def test_packets_of_protected_addresses_in_the_clear_are_said() -> None:
    assert "7 packets" in told_by(HomeScript(), payload_unprotected=7)["payload-unprotected"]


def test_keys_that_are_waited_for_are_said() -> None:
    from tests.machines.test_home_agent_protection import bound, protecting

    script = HomeScript(protecting())
    bound(script)
    assert told_by(script) == {}
    assert "1 mobile nodes have yet to come" in told_by(script.restarted())["payload-keys"]


@pytest.mark.parametrize(
    ("theirs", "ours", "named"),
    [
        (DRAFT_00, "rfc5555", "draft-00"),
        (RFC5555_TLV, "rfc5555", "rfc5555+rfc5845-tlv"),
        (RFC5555_TLV, "draft-00", "rfc5555+rfc5845-tlv"),
    ],
)
def test_the_mobile_node_says_it_of_its_home_agent(theirs: object, ours: str, named: str) -> None:
    tlv = "[tunnel]\ntlv = true" if ours == "draft-00" else ""
    script = Script(configuration(more=f'[wire]\nprofile = "{ours}"\n{tlv}'))
    sent = script.links(link("eth0", CAFE4)).one()
    script.answer(sent, flags=AckFlag.TLV, profile=theirs)  # type: ignore[arg-type]
    assert script.state == "bound"
    told = status(script.node, NO_COUNTERS, "esp", "1", Clocks(script.now, 0.0))
    health, totals = told["health"], told["totals"]
    assert isinstance(health, list)
    assert isinstance(totals, dict)
    (item,) = (one for one in health if one["code"] == "wire-profile")
    assert item["text"].startswith(f"the home agent seems to have wire profile {named} (0x")
    assert item["text"].endswith(f"while this node has {ours}")
    assert totals["profile_mismatches"] == 1
    assert script.path.encapsulation in (Encapsulation.IP_IN_IP, Encapsulation.UDP), "not guessed"


def test_the_mobile_node_says_what_its_data_plane_refuses() -> None:
    script = Script(configuration())
    script.bind(link("eth0", CAFE4))
    counters = Counters(0, 0, 0, 0, {"tlv-not-negotiated": 4, "payload-unprotected": 2})
    told = status(script.node, counters, "esp", "1", Clocks(script.now, 0.0))
    health = told["health"]
    assert isinstance(health, list)
    assert {one["code"] for one in health} == {"tlv-format", "payload-unprotected"}
