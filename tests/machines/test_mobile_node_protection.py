"""The mobile node protects payload: what it offers, when it uses which keys, and what it never does."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from mn_agent.actions import AnnouncePath, ConfigureEndpoint, ConfigureKernel, InstallRoutes
from mn_agent.config import Configuration
from mn_agent.events import Refresh, Stop
from mn_agent.protection import RENEWAL
from mn_agent.status import Clocks, plan, status
from runtime.flight import plain
from runtime.settings import ConfigError
from tests.machines.mobile_node_script import (
    AGENT4,
    AGENT6,
    CAFE4,
    CAMPUS6,
    HOME4,
    HOME6,
    MOBILE4,
    OFFICE6,
    PAYLOAD_KEY,
    Script,
    Sent,
    configuration,
    link,
)
from tunnel.endpoint import UNPROTECTED, Endpoint, Role
from tunnel.envelope import ControlPacket, seal_control
from tunnel.forwarding import ForwardingTable, peer_of
from tunnel.lane import Lane
from tunnel.path import Encapsulation, TunnelPath
from tunnel.payload_esp import PayloadOpener, PayloadSealer
from tunnel.plane import Counters
from tunnel.protection import PayloadKeys, derive
from wire.ip import IPv4Header, IPv6Header
from wire.mobility import BindingRefreshRequest
from wire.options import NO_KEEPALIVE
from wire.vendor import Protection, protection_in, protection_option

OFFICE, CAMPUS = link("eth0", OFFICE6), link("eth0", CAMPUS6)
MOBILE, CAFE = link("eth0", MOBILE4), link("eth0", CAFE4)
WLAN = link("wlan0", CAFE4, index=3)
CN6, CN4 = IPv6Address("2001:db8:cc::1"), IPv4Address("192.0.2.80")
TO_HOME = IPv6Header(CN6, HOME6, 6, 20).encode() + bytes(20)
FROM_HOME = IPv4Header(HOME4, CN4, 6, 40).encode() + bytes(20)
ANSWER = Protection(0x2222_2222, b"home agent  0001")
OTHER_ANSWER = Protection(0x3333_3333, b"home agent  0002")


def protecting(more: str = "") -> Configuration:
    return configuration(more=f"[tunnel]\nprotect_payload = true\n{more}")


def share(sent: Sent) -> Protection:
    found = protection_in(sent.update.options)
    assert found is not None
    return found


def accept(
    script: Script, sent: Sent, answer: Protection = ANSWER, refresh: int = NO_KEEPALIVE
) -> PayloadKeys:
    """The home agent accepts; the keys that it computes."""
    offered = share(sent)
    answer = replace(answer, answers=offered.spi)
    script.answer(sent, refresh=refresh, options=(protection_option(answer),))
    return derive(PAYLOAD_KEY, HOME6, offered, answer)


def bound(*links: object, refresh: int = NO_KEEPALIVE, more: str = "") -> tuple[Script, PayloadKeys]:
    script = Script(protecting(more))
    script.links(*links)  # type: ignore[arg-type]
    keys = accept(script, script.one(), refresh=refresh)
    assert script.state == "bound"
    return script, keys


def data_plane(script: Script) -> Endpoint:
    keyring = script.node.payload.state.keyring
    endpoint = Endpoint(Role.MOBILE_NODE, table=ForwardingTable(script.routes))
    endpoint.config = replace(endpoint.config, keyring=keyring)
    return endpoint


def announced(script: Script) -> list[AnnouncePath]:
    return [action for action in script.actions if isinstance(action, AnnouncePath)]


def in_cafe(spi: int, local: IPv4Address = CAFE4, interface: str = "eth0") -> TunnelPath:
    return TunnelPath(local, AGENT4, Encapsulation.ESP_UDP, 0, 4500, interface, spi=spi)


# ---- agreement ----------------------------------------------------------------------------------
@pytest.mark.requirement("R135", "R136g")
def test_both_ends_compute_the_same_keys_from_one_exchange() -> None:
    script, keys = bound(CAFE, refresh=110)
    endpoint = data_plane(script)
    esp = PayloadSealer(keys.to_mobile_node).seal(TO_HOME)
    assert endpoint.inbound_4500(peer_of(AGENT4, 4500), esp) == TO_HOME
    lane = endpoint.outbound(FROM_HOME, 0.0)
    assert isinstance(lane, Lane)
    session = endpoint.session(lane.path)
    assert session is not None
    assert PayloadOpener(keys.to_home_agent).open(session.sealer.seal(FROM_HOME)) == (4, FROM_HOME)


@pytest.mark.requirement("R135", "R136g")
def test_the_answer_toggles_udp_and_changes_addresses_but_not_the_keys() -> None:
    script, keys = bound(OFFICE)
    spi = keys.to_mobile_node.spi
    expected = TunnelPath(OFFICE6, AGENT6, Encapsulation.ESP, interface="eth0", spi=spi)
    assert script.path == expected
    for at, here, address in ((10.0, CAFE, CAFE4), (20.0, MOBILE, MOBILE4)):
        script.at(at).links(here)
        assert accept(script, script.one()) == keys
        assert script.path == in_cafe(spi, address)
    script.at(30.0).links(CAMPUS)
    accept(script, script.one())
    assert script.path == replace(expected, local=CAMPUS6)


@pytest.mark.requirement("R135")
def test_signalling_stays_where_it_is() -> None:
    script, _ = bound(CAFE)
    script.at(5.0).feed(Refresh())
    assert script.one().action.port == 4191
    assert script.one().packet.source == HOME6


def test_refreshes_offer_the_same_share_and_change_nothing() -> None:
    script, _ = bound(CAFE)
    first = share(script.at(1.0).feed(Refresh()).one())
    accept(script, script.one())
    assert not [a for a in script.actions if isinstance(a, ConfigureEndpoint | InstallRoutes)]
    assert share(script.at(2.0).feed(Refresh()).one()) == first


def test_the_keys_are_there_before_the_routes_that_need_them() -> None:
    script, _ = bound(CAFE)
    kinds = [type(action) for action in script.actions]
    assert kinds.index(ConfigureEndpoint) < kinds.index(AnnouncePath)
    assert kinds.index(InstallRoutes) < kinds.index(AnnouncePath)


def test_an_answer_to_another_share_is_not_used() -> None:
    script = Script(protecting())
    sent = script.links(CAFE).one()
    stale = replace(ANSWER, answers=share(sent).spi ^ 1)
    script.answer(sent, options=(protection_option(stale),))
    assert script.path.spi == 0
    low = Protection(255, ANSWER.nonce, share(sent).spi)
    script.at(1.0).feed(Refresh())
    script.answer(script.one(), options=(protection_option(low),))
    assert script.path.spi == 0, "SPIs below 256 are reserved"


def test_every_start_offers_another_share() -> None:
    offers = {share(Script(protecting(), seed=seed).links(CAFE).one()) for seed in range(20)}
    assert len({one.nonce for one in offers}) == len({one.spi for one in offers}) == 20


# ---- when keys change -----------------------------------------------------------------------------
@pytest.mark.requirement("R136g")
def test_a_home_agent_that_has_lost_its_keys_gives_others_for_the_same_share() -> None:
    script, old = bound(CAFE)
    script.at(5.0)
    new = accept(script, script.feed(Refresh()).one(), OTHER_ANSWER)
    assert new.to_home_agent.key != old.to_home_agent.key
    endpoint = data_plane(script)
    session = endpoint.session(script.path)
    assert session is not None
    assert PayloadOpener(new.to_home_agent).open(session.sealer.seal(FROM_HOME)) == (4, FROM_HOME)
    assert len(announced(script)) == 1
    # And if somebody manages to bring the old answer back, keys that were used are not used again.
    accept(script, script.at(6.0).feed(Refresh()).one(), ANSWER)
    assert data_plane(script).session(script.path) is not None
    assert script.node.payload.state.keyring.find(script.path.spi) is not None
    pair = script.node.payload.state.keyring.find(script.path.spi)
    assert pair is not None
    assert pair.outbound == new.to_home_agent


def test_keys_are_renewed_in_time_and_the_old_ones_still_taken_in() -> None:
    script, old = bound(CAFE)
    while script.sleep() != "renewal of payload keys":
        for sent in script.sent:
            accept(script, sent)
    assert script.now == pytest.approx(RENEWAL, abs=1.0)
    sent = script.one()
    assert share(sent).spi != old.to_mobile_node.spi
    assert script.path.spi == old.to_mobile_node.spi, "until the answer is here"
    new = accept(script, sent, OTHER_ANSWER)
    assert script.path.spi == new.to_mobile_node.spi
    assert [path.spi for path in script.routes[0].accept] == [old.to_mobile_node.spi]
    assert announced(script)[-1].path.spi == new.to_mobile_node.spi, "so that the home agent changes, too"
    endpoint = data_plane(script)
    for keys in (old, new):
        esp = PayloadSealer(keys.to_mobile_node).seal(TO_HOME)
        assert endpoint.inbound_4500(peer_of(AGENT4, 4500), esp) == TO_HOME


def test_a_renewal_without_a_network_waits_for_one_and_does_not_spin() -> None:
    script, _ = bound(CAFE)
    script.at(1.0).links()
    assert script.sleep() == "renewal of payload keys"
    due = script.node.deadline()
    assert due is None or due.at > script.now


def test_a_refresh_request_brings_the_share_at_once() -> None:
    script = Script(protecting())
    sent = script.links(CAFE).one()
    accept(script, sent)
    asked = ControlPacket(AGENT6, HOME6, BindingRefreshRequest())
    sealed = seal_control(asked, script.agent_sealer, script.config.profile)
    script.at(5.0).receive(sealed, sent)
    assert share(script.one()) == share(sent)


# ---- fail closed -----------------------------------------------------------------------------------
@pytest.mark.requirement("R135")
def test_before_there_are_keys_payload_has_a_path_and_no_way() -> None:
    script = Script(protecting())
    script.links(CAFE).one()
    assert script.path == in_cafe(0)
    assert announced(script) == []
    endpoint = data_plane(script)
    assert endpoint.session(script.path) is None
    assert endpoint.inbound(peer_of(AGENT4, 4191), TO_HOME) is UNPROTECTED


@pytest.mark.requirement("R135")
def test_no_path_in_the_clear_is_ever_accepted() -> None:
    script, _ = bound(CAFE, refresh=110)
    script.at(5.0).links(WLAN, CAFE)
    script.at(8.0).links(OFFICE)
    accept(script, script.one())
    for action in script.all_actions:
        if isinstance(action, InstallRoutes):
            for route in action.routes:
                assert all(path.encapsulation.protected for path in (route.path, *route.accept))


@pytest.mark.requirement("R135")
def test_a_home_agent_that_does_not_protect_payload_is_left() -> None:
    """It would send on in the clear: so it is asked to forget the binding, and asked again later."""
    script = Script(protecting())
    script.answer(script.links(CAFE).one())
    farewell = script.one()
    assert farewell.update.lifetime == 0
    assert protection_in(farewell.update.options) is None
    script.at(0.1).answer(farewell)
    assert script.node.summary() == ("rejected", "the home agent does not protect payload")
    assert script.sleep() == "retry after refusal"
    assert script.now == pytest.approx(30.1)
    keys = accept(script, script.one())
    assert script.state == "bound"
    assert script.path.spi == keys.to_mobile_node.spi


# ---- signs of life --------------------------------------------------------------------------------
def test_with_every_update_goes_a_sign_of_life_on_the_path_to_come() -> None:
    """So that the home agent knows the port of a NAT before it switches."""
    script, keys = bound(MOBILE, more='[movement]\ninterfaces = ["wlan0", "eth0"]')
    script.at(10.0).links(MOBILE, WLAN)
    assert script.path.local == MOBILE4, "the old path carries until the answer"
    expected = AnnouncePath(in_cafe(keys.to_mobile_node.spi, interface="wlan0"))
    assert announced(script) == [expected]
    assert [a for a in script.all_actions if isinstance(a, AnnouncePath)][-1] == expected


def test_behind_a_nat_the_path_is_kept_open_whatever_signalling_does() -> None:
    script, keys = bound(CAFE, refresh=110)
    looks = []
    while script.now < 70.0:
        if script.sleep() == "NAT keepalive of payload":
            looks.append(script.now)
            assert announced(script) == [AnnouncePath(in_cafe(keys.to_mobile_node.spi), 10.0)]
            script.nothing()
    assert [round(at) for at in looks] == [10, 20, 30, 40, 50, 60, 70]


def test_a_shorter_period_of_the_home_agent_holds_for_payload_as_well() -> None:
    script, _ = bound(CAFE, refresh=8)
    script.sleep()
    assert announced(script)[0].idle <= 4.0


@pytest.mark.parametrize("here", [MOBILE, OFFICE])
def test_without_a_nat_there_is_nothing_to_keep_open(here: object) -> None:
    script, _ = bound(here)
    assert script.sleep() == "binding refresh"


def test_who_need_not_be_reached_keeps_nothing_open() -> None:
    script, _ = bound(CAFE, refresh=110, more="[binding]\nreachable = false")
    assert script.sleep() == "NAT keepalive"
    script.nothing()
    assert script.sleep() == "binding refresh"


def test_traffic_of_payload_does_not_defer_the_keepalive_of_signalling() -> None:
    """They have different ports, hence different mappings."""
    script, _ = bound(CAFE, refresh=110)
    while (reason := script.sleep()) == "NAT keepalive of payload":
        pass
    assert reason == "NAT keepalive"
    assert script.one().update.lifetime > 0
    assert 90.0 < script.now <= 110.0


# ---- the rest -------------------------------------------------------------------------------------
def test_nothing_is_offered_without_the_configuration_and_for_a_farewell() -> None:
    plain_script = Script()
    assert protection_in(plain_script.links(CAFE).one().update.options) is None
    script, _ = bound(CAFE)
    assert protection_in(script.at(1.0).feed(Stop()).one().update.options) is None


def test_the_mtu_of_the_host_leaves_room_for_esp() -> None:
    script, _ = bound(CAFE)
    kernels = [action for action in script.all_actions if isinstance(action, ConfigureKernel)]
    assert kernels[-1].config.mtu == 1438


def test_status_and_plan_say_how_payload_is_protected() -> None:
    script, _ = bound(CAFE, refresh=110)
    now = Clocks(script.now, 0.0)
    told = status(script.node, Counters(0, 0, 0, 0, {}), "esp", "1", now)
    path = told["path"]
    assert isinstance(path, dict)
    assert (path["encap"], path["protection"]) == ("esp-udp4", "esp-aes256gcm")
    target = script.node.target
    assert target is not None
    planned = plan(script.node, target)
    mtu, update = planned["mtu"], planned["binding_update"]
    assert isinstance(mtu, dict)
    assert isinstance(update, dict)
    assert (mtu["to"], mtu["overhead_bytes"]) == (1438, 62)
    script.at(1.0).feed(Refresh())
    assert update["size_bytes"] == len(script.one().action.packet)


def test_the_flight_recorder_shows_no_key() -> None:
    script, keys = bound(CAFE)
    shown = str([plain(action) for action in script.all_actions]) + repr(script.all_actions)
    for association in (keys.to_home_agent, keys.to_mobile_node):
        assert association.key.hex() not in shown
        assert repr(association.key)[2:-1] not in shown


def test_tlv_and_protection_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        configuration(more='[wire]\nprofile = "draft-00"\n[tunnel]\ntlv = true\nprotect_payload = true')


@pytest.mark.requirement("R102")
def test_strict_presence_takes_the_option_for_an_order() -> None:
    """For peers that mean the draft's sections 4.2 and 4.4 literally."""
    for more, kind in (("", Encapsulation.IP_IN_IP), ("[wire]\nstrict_presence = true", Encapsulation.UDP)):
        script = Script(configuration(more=more))
        script.bind(MOBILE, refresh=NO_KEEPALIVE)
        assert script.path.encapsulation is kind
    script = Script(configuration(more="[wire]\nstrict_presence = true"))
    script.bind(MOBILE, refresh=None)
    assert script.path.encapsulation is Encapsulation.IP_IN_IP, "no option, no order"
    binding = script.node.registration.binding
    assert binding is not None
    assert binding.keepalive is None
