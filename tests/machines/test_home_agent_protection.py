"""The home agent protects payload: keys by agreement, and nobody is served in the clear."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from home_agent.actions import ConfigureEndpoint, InstallTable, Report, SendControl
from home_agent.config import Configuration
from home_agent.daemon import load_payload_keys
from home_agent.status import Moment, bindings
from runtime.flight import plain
from tests.machines.ha_script import (
    COA4,
    COA6,
    HA4,
    HA6,
    LAPTOP,
    LAPTOP4,
    NAT4,
    OTHER_COA6,
    PRIVATE4,
    TABLET,
    HomeScript,
    configured,
    home4,
    over_ipv4,
    over_ipv6,
    payload_key_of,
)
from tunnel.endpoint import UNPROTECTED, Endpoint, EndpointConfig, Role
from tunnel.forwarding import peer_of
from tunnel.keys import KeyFileError, generate_keys
from tunnel.lane import Lane
from tunnel.path import Encapsulation, TunnelPath
from tunnel.payload_esp import PayloadOpener, PayloadSealer
from tunnel.protection import PayloadKeys, derive
from wire.ip import IPv4Header, IPv6Header
from wire.mobility import BindingAck, BindingRefreshRequest, BindingStatus, UpdateFlag
from wire.vendor import Protection, protection_in, protection_option

OFFER = Protection(0x5151_5151, b"mobile node 0001")
CN6, CN4 = IPv6Address("2001:db8:cc::1"), IPv4Address("192.0.2.80")
FROM_HOME6 = IPv6Header(LAPTOP, CN6, 6, 20).encode() + bytes(20)
TO_HOME4 = IPv4Header(CN4, LAPTOP4, 6, 40).encode() + bytes(20)


def protecting(**parts: str) -> Configuration:
    return configured(laptop="protect_payload = true", **parts)


def bound(script: HomeScript, share: Protection = OFFER, port: int = 5000) -> PayloadKeys:
    """The laptop registers behind a NAT; the keys that it computes from the answer."""
    update = over_ipv4(script.laptop, home4(), protection_option(share), care_of=PRIVATE4)
    answer = script.feed(script.laptop.udp(update, outer=NAT4, port=port)).answer()
    assert answer.status == BindingStatus.ACCEPTED
    return agreed(answer, share)


def agreed(answer: BindingAck, share: Protection) -> PayloadKeys:
    theirs = protection_in(answer.options)
    assert theirs is not None
    assert theirs.answers == share.spi
    return derive(payload_key_of(LAPTOP), LAPTOP, share, theirs)


def data_plane(script: HomeScript) -> Endpoint:
    config = EndpointConfig(home_agent=frozenset({HA4, HA6}), keyring=script.keyring)
    return Endpoint(Role.HOME_AGENT, config, script.table)


def path(script: HomeScript) -> TunnelPath:
    route = script.route(LAPTOP)
    assert route is not None
    return route.path


# ---- agreement --------------------------------------------------------------------------------------------
@pytest.mark.requirement("R135", "R136b")
def test_both_ends_compute_the_same_keys_from_one_exchange() -> None:
    script = HomeScript(protecting())
    keys = bound(script)
    endpoint = data_plane(script)
    esp = PayloadSealer(keys.to_home_agent).seal(FROM_HOME6)
    assert endpoint.inbound_protected(peer_of(NAT4, 4500), esp) == FROM_HOME6
    lane = endpoint.outbound(TO_HOME4, 0.0)
    assert isinstance(lane, Lane)
    session = endpoint.session(lane.path)
    assert session is not None
    assert PayloadOpener(keys.to_mobile_node).open(session.sealer.seal(TO_HOME4)) == (4, TO_HOME4)


@pytest.mark.requirement("R135", "R136b")
def test_on_an_ipv4_link_payload_goes_to_port_4500_of_the_address_that_the_update_came_from() -> None:
    script = HomeScript(protecting())
    keys = bound(script)
    spi = keys.to_home_agent.spi
    expected = TunnelPath(HA4, NAT4, Encapsulation.ESP_UDP, 0, 4500, spi=spi)
    for home in (LAPTOP, LAPTOP4):
        route = script.route(home)
        assert route is not None
        assert (route.path, route.accept) == (expected, ())
    assert script.via().remote_port == 5000, "signalling stays where it is"


@pytest.mark.requirement("R136b")
def test_on_an_ipv6_link_it_goes_without_udp() -> None:
    script = HomeScript(protecting())
    update = over_ipv6(script.laptop, home4(), protection_option(OFFER))
    keys = agreed(script.feed(script.laptop.native(update)).answer(), OFFER)
    assert path(script) == TunnelPath(HA6, COA6, Encapsulation.ESP, spi=keys.to_home_agent.spi)


@pytest.mark.requirement("R136b")
def test_a_move_changes_addresses_and_toggles_udp_but_not_the_keys() -> None:
    script = HomeScript(protecting())
    keys = bound(script)
    spi = keys.to_home_agent.spi
    for outer, kind in ((OTHER_COA6, Encapsulation.ESP), (COA4, Encapsulation.ESP_UDP)):
        laptop = script.laptop
        if isinstance(outer, IPv6Address):
            update = over_ipv6(laptop, home4(), protection_option(OFFER), care_of=outer)
            script.feed(laptop.native(update, outer))
        else:
            update = over_ipv4(laptop, home4(), protection_option(OFFER), care_of=outer)
            script.feed(laptop.udp(update, outer=outer))
        assert agreed(script.answer(), OFFER) == keys
        assert not [action for action in script.actions if isinstance(action, ConfigureEndpoint)]
        assert (path(script).remote, path(script).encapsulation, path(script).spi) == (outer, kind, spi)


def test_a_refresh_and_a_repeated_update_change_nothing() -> None:
    script = HomeScript(protecting())
    keys = bound(script)
    assert bound(script) == keys
    assert not [action for action in script.actions if isinstance(action, ConfigureEndpoint | InstallTable)]


def test_the_keys_are_there_before_the_table_that_needs_them_and_that_before_the_answer() -> None:
    script = HomeScript(protecting())
    bound(script)
    kinds = [type(action) for action in script.actions]
    assert kinds.index(ConfigureEndpoint) < kinds.index(InstallTable) < kinds.index(SendControl)


def test_new_keys_take_over_when_the_mobile_node_uses_them() -> None:
    """Its acknowledgement may be lost: until then the mobile node has only the old ones."""
    script = HomeScript(protecting())
    old = bound(script)
    endpoint = data_plane(script)
    endpoint.inbound_protected(peer_of(NAT4, 4711), PayloadSealer(old.to_home_agent).seal(b""))
    new = bound(script, replace(OFFER, spi=0x6161_6161, nonce=b"mobile node 0002"))
    endpoint.config = replace(endpoint.config, keyring=script.keyring)
    endpoint.table = script.table
    assert path(script).spi == new.to_home_agent.spi
    for sealing in (old, new):
        packet = PayloadSealer(sealing.to_home_agent)
        packet.next_sequence = 2
        session = endpoint.session(path(script))
        assert session is not None
        assert isinstance(PayloadOpener(old.to_mobile_node).open(session.sealer.seal(TO_HOME4)), tuple)
        assert endpoint.destination(path(script)).remote_port == 4711
        esp = packet.seal(FROM_HOME6)
        assert endpoint.inbound_protected(peer_of(NAT4, 4711), esp) == FROM_HOME6, "both are taken in"
    session = endpoint.session(path(script))
    assert session is not None
    assert isinstance(PayloadOpener(new.to_mobile_node).open(session.sealer.seal(TO_HOME4)), tuple)


def test_only_the_last_two_sessions_are_kept() -> None:
    script = HomeScript(protecting())
    for number in range(5):
        script.at(10.0 * number)
        last = bound(script, replace(OFFER, spi=0x7000 + number))
    assert len(script.keyring) == 2
    assert last.to_home_agent.spi in script.keyring


@pytest.mark.parametrize("how", ["deregistered", "revoked", "expired"])
def test_the_keys_end_with_the_binding(how: str) -> None:
    script = HomeScript(
        configured(laptop="protect_payload = true", more="[binding]\nrefresh_requests = false")
    )
    bound(script)
    match how:
        case "deregistered":
            update = over_ipv4(script.laptop, care_of=PRIVATE4, lifetime=0)
            assert script.feed(script.laptop.udp(update, outer=NAT4)).answer().status == 0
        case "revoked":
            script.revoked(LAPTOP)
        case _:
            script.at(420.0).wakes("binding expires")
    assert len(script.keyring) == 0
    assert script.route(LAPTOP) is None


# ---- fail closed ------------------------------------------------------------------------------------------
@pytest.mark.requirement("R135")
def test_an_update_that_offers_no_protection_is_refused() -> None:
    script = HomeScript(protecting())
    for number, options in enumerate(((), (protection_option(replace(OFFER, spi=255)),))):
        update = over_ipv4(script.at(float(number)).laptop, home4(), *options)
        assert script.feed(script.laptop.udp(update)).answer().status == BindingStatus.PROHIBITED
        assert script.route(LAPTOP) is None
        report = script.only(Report)
        assert "does not offer that (protect_payload)" in str(report.fields["text"])


@pytest.mark.requirement("R135")
def test_payload_in_the_clear_is_dropped_and_counted_whatever_it_comes_in() -> None:
    script = HomeScript(protecting())
    bound(script)
    endpoint = data_plane(script)
    for port in (5000, 4500, 0):
        assert endpoint.inbound(peer_of(NAT4, port), FROM_HOME6) is UNPROTECTED
    assert endpoint.drops == {"payload-unprotected": 3}


def test_who_is_not_protected_is_answered_without_keys() -> None:
    script = HomeScript(protecting())
    update = over_ipv4(script.tablet, protection_option(OFFER))
    answer = script.feed(script.tablet.udp(update)).answer()
    assert answer.status == BindingStatus.ACCEPTED
    assert protection_in(answer.options) is None
    assert len(script.keyring) == 0
    assert script.carries(TABLET, COA4, 5000)


def test_a_tlv_header_is_not_agreed_to_for_what_is_esp() -> None:
    script = HomeScript(protecting(more='[wire]\nprofile = "rfc5555+rfc5845-tlv"'))
    flags = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME | UpdateFlag.TLV
    update = over_ipv4(script.laptop, home4(), protection_option(OFFER), flags=flags)
    answer = script.feed(script.laptop.udp(update)).answer()
    assert answer.status == BindingStatus.ACCEPTED
    assert not answer.flags
    assert path(script).encapsulation is Encapsulation.ESP_UDP


# ---- restarts ---------------------------------------------------------------------------------------------
@pytest.mark.requirement("R136b")
def test_after_a_restart_nothing_passes_until_the_mobile_node_has_come_for_new_keys() -> None:
    script = HomeScript(protecting())
    old = bound(script)
    again = script.restarted(after=5.0)
    endpoint = data_plane(again)
    assert path(again).spi == 0
    esp = PayloadSealer(old.to_home_agent).seal(FROM_HOME6)
    assert endpoint.inbound_protected(peer_of(NAT4, 4500), esp) != FROM_HOME6
    assert endpoint.inbound(peer_of(NAT4, 5000), FROM_HOME6) is UNPROTECTED
    assert endpoint.session(path(again)) is None
    asked = again.answered()
    assert isinstance(asked.message, BindingRefreshRequest)
    assert again.via() == script.via()
    new = bound(again)
    assert new.to_home_agent.key != old.to_home_agent.key
    assert new.to_mobile_node.key != old.to_mobile_node.key, "though the mobile node offers the same"
    esp = PayloadSealer(new.to_home_agent).seal(FROM_HOME6)
    assert data_plane(again).inbound_protected(peer_of(NAT4, 4500), esp) == FROM_HOME6


def test_a_summons_is_repeated_a_few_times_and_ends_with_an_update() -> None:
    script = HomeScript(protecting())
    bound(script)
    again = script.restarted()
    for after in (1.0, 3.0, 7.0, 15.0, 31.0):
        again.at(after).wakes("mobile node is asked to register")
        assert isinstance(again.answered().message, BindingRefreshRequest)
    due = again.agent.deadline()
    assert due is not None
    assert due.reason == "binding refresh request"
    third = again.restarted()
    third.at(32.0).wakes("mobile node is asked to register")
    bound(third)
    due = third.agent.deadline()
    assert due is not None
    assert due.reason == "binding refresh request"


def test_a_binding_of_another_protection_is_not_remembered() -> None:
    script = HomeScript(protecting())
    bound(script)
    assert HomeScript(configured(), script.records.values(), script.now).route(LAPTOP) is None
    plain_script = HomeScript()
    plain_script.feed(plain_script.laptop.udp(over_ipv4(plain_script.laptop, home4())))
    assert plain_script.route(LAPTOP) is not None
    assert HomeScript(protecting(), plain_script.records.values(), script.now).route(LAPTOP) is None


# ---- what people see --------------------------------------------------------------------------------------
def test_status_says_how_payload_is_protected() -> None:
    script = HomeScript(protecting())
    bound(script)
    script.feed(script.tablet.native(over_ipv6(script.tablet)))
    told = {one["node"]: one for one in bindings(script.agent, Moment(script.now, 0.0))["bindings"]}
    assert (told["laptop"]["encap"], told["laptop"]["protection"]) == ("esp-udp4", "esp-aes256gcm")
    assert (told["tablet"]["encap"], told["tablet"]["protection"]) == ("ipip6", "none")
    update = over_ipv6(script.laptop, protection_option(OFFER))
    script.feed(script.laptop.native(update))
    told = {one["node"]: one for one in bindings(script.agent, Moment(script.now, 0.0))["bindings"]}
    assert told["laptop"]["encap"] == "esp6"


def test_neither_records_nor_the_flight_recorder_show_a_key() -> None:
    script = HomeScript(protecting())
    keys = bound(script)
    shown = str([plain(action) for action in script.actions]) + repr(script.actions) + repr(script.records)
    for association in (keys.to_home_agent, keys.to_mobile_node):
        assert association.key.hex() not in shown
        assert repr(association.key)[2:-1] not in shown
    assert payload_key_of(LAPTOP).octets.hex() not in shown


def test_a_home_agent_without_a_payload_key_does_not_start(tmp_path: Path) -> None:
    file = tmp_path / "laptop.toml"
    text = generate_keys()
    file.write_text(text[: text.index("[payload]")])
    file.chmod(0o600)
    configuration = configured(laptop="protect_payload = true", change={"laptop.toml": str(file)})
    with pytest.raises(KeyFileError, match=r"no \[payload\] section"):
        load_payload_keys(configuration)
    file.write_text(text)
    assert set(load_payload_keys(configuration)) == {LAPTOP}


def test_protection_is_for_one_mobile_node_or_for_all() -> None:
    everybody = configured(more="[tunnel]\nprotect_payload = true", tablet="protect_payload = false")
    protected = [node.label for node in everybody.mobile_node if everybody.protects_payload(node)]
    assert protected == ["laptop", "router"]
