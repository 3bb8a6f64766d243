"""A timed script for the home agent: mobile nodes that write Binding Updates, and what comes of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from random import Random
from typing import TypeVar

from home_agent.actions import (
    Action,
    ConfigureEndpoint,
    ConfigureKernel,
    Defend,
    InstallTable,
    ProbeAddresses,
    Remember,
    Report,
    SendControl,
)
from home_agent.config import Configuration, parse_configuration
from home_agent.events import ControlReceived, Event, Probed, Revoke, Start
from home_agent.node import HomeAgent
from home_agent.records import Record
from tunnel.census import Census
from tunnel.endpoint import Endpoint, EndpointConfig, Role
from tunnel.envelope import ControlPacket, open_control, seal_control
from tunnel.forwarding import ForwardingTable, Network, Way, peer_of
from tunnel.kernel import KernelConfig
from tunnel.keyring import NO_KEYS
from tunnel.lane import CONTROL
from tunnel.path import Arrival, Drop
from tunnel.protection import PayloadKey
from tunnel.replay import ReplayWindow
from tunnel.security import Encryption, Integrity, KeyPair, Opener, Sealer, SecurityAssociation
from wire.ip import IPv4Header, IPv6Header
from wire.mobility import BindingAck, BindingUpdate, Message, UpdateFlag
from wire.options import AlternateCareOfAddress, Ipv4CareOfAddress, Ipv4HomeAddress, Option
from wire.profile import Profile, profile_named

HA6 = IPv6Address("2001:db8:99::2")
HA4 = IPv4Address("203.0.113.2")
LAPTOP, TABLET, ROUTER = (IPv6Address(f"2001:db8:99::{n}") for n in ("77", "78", "79"))
LAPTOP4 = IPv4Address("203.0.113.77")
FIRST_DYNAMIC = IPv4Address("203.0.113.128")
COA6 = IPv6Address("2001:db8:a::1")
OTHER_COA6 = IPv6Address("2001:db8:b::1")
COA4 = IPv4Address("198.51.100.7")
PRIVATE4 = IPv4Address("192.168.7.2")
NAT4 = IPv4Address("198.51.100.99")
DYNAMIC = IPv4Address("0.0.0.0")

ActionT = TypeVar("ActionT", bound=Action)
HOME = UpdateFlag.ACKNOWLEDGE | UpdateFlag.HOME
START = 1000.0

CONFIGURATION = """
[home_agent]
interface = "eth0"
ipv6 = "2001:db8:99::2"
ipv4 = "203.0.113.2"
{home_agent}
[home_link]
ipv6_prefix = "2001:db8:99::/64"
ipv4_prefix = "203.0.113.0/24"
ipv4_pool = "203.0.113.128/30"
ipv4_prefix_pool = "10.64.0.0/16"
duplicate_address_detection = false
{home_link}
[[mobile_node]]
name = "laptop"
home_address = "2001:db8:99::77"
ipv4 = "203.0.113.77"
key_file = "laptop.toml"
{laptop}
[[mobile_node]]
name = "tablet"
home_address = "2001:db8:99::78"
key_file = "tablet.toml"
{tablet}
[[mobile_node]]
name = "router"
home_address = "2001:db8:99::79"
key_file = "router.toml"
prefixes = ["2001:db8:7700::/40"]
ipv4_prefixes = ["10.77.0.0/16"]
{router}
{more}
"""


def configured(change: Mapping[str, str] | None = None, **parts: str) -> Configuration:
    """The configuration above with lines added to its tables, or `{old: new}` replaced by way of `change`."""
    names = ("home_agent", "home_link", "laptop", "tablet", "router", "more")
    text = CONFIGURATION.format(**{name: parts.pop(name, "") for name in names})
    assert not parts
    for old, new in (change or {}).items():
        assert old in text
        text = text.replace(old, new)
    return parse_configuration(text)


def keys_of(home_address: IPv6Address) -> KeyPair:
    number = int(home_address) & 0xFFFF
    return KeyPair(
        SecurityAssociation(0x1000 + number, Integrity.HMAC_SHA1_96, bytes([number & 0xFF, 1]) * 10),
        SecurityAssociation(
            0x2000 + number,
            Integrity.HMAC_SHA256_128,
            bytes([number & 0xFF, 2]) * 16,
            Encryption.AES_CBC,
            bytes([number & 0xFF, 3]) * 8,
        ),
    )


def payload_key_of(home_address: IPv6Address) -> PayloadKey:
    return PayloadKey(bytes([int(home_address) & 0xFF, 4]) * 16)


class MobileNode:
    """The mobile node's end of the security associations, and ways to write a Binding Update."""

    def __init__(self, home_address: IPv6Address, profile: Profile) -> None:
        keys = keys_of(home_address)
        self.home_address = home_address
        self.profile = profile
        self.sealer = Sealer(keys.update)
        self.opener = Opener(keys.ack, ReplayWindow())
        self._sequences = count(100)

    def update(
        self,
        *options: Option,
        sequence: int | None = None,
        lifetime: int = 420,
        flags: UpdateFlag = HOME,
        unknown_flags: int = 0,
    ) -> BindingUpdate:
        number = next(self._sequences) if sequence is None else sequence
        return BindingUpdate(number, lifetime, flags, options, unknown_flags)

    def native(self, message: Message, care_of: IPv6Address = COA6) -> ControlReceived:
        """As sent on an IPv6 link: with a home address option, unless at home."""
        option = None if care_of == self.home_address else self.home_address
        packet = ControlPacket(care_of, HA6, message, home_address_option=option)
        return ControlReceived(self.sealed(packet), Arrival(HA6, care_of, interface="eth0"))

    def udp(self, message: Message, outer: IPv4Address = COA4, port: int = 5000) -> ControlReceived:
        """As sent on an IPv4 link: `outer` is the source that the home agent sees."""
        packet = ControlPacket(self.home_address, HA6, message)
        return ControlReceived(self.sealed(packet), Arrival(HA4, outer, 4191, port))

    def sealed(self, packet: ControlPacket) -> bytes:
        return seal_control(packet, self.sealer, self.profile)

    def read(self, packet: bytes) -> ControlPacket:
        opened = open_control(packet, {self.opener.association.spi: self.opener}, self.profile)
        assert not isinstance(opened, Drop), opened
        assert opened.spi is not None, "an answer must be protected"
        return opened.packet


class HomeScript:
    """Drives one home agent through time. What it decided last is in `actions`, by kind below."""

    def __init__(
        self,
        configuration: Configuration | None = None,
        records: Iterable[Record] = (),
        now: float = START,
    ) -> None:
        self.configuration = configuration or configured()
        homes = [node.home_address for node in self.configuration.mobile_node]
        profile = profile_named(self.configuration.wire.profile)
        self.laptop, self.tablet, self.router = (MobileNode(home, profile) for home in homes[:3])
        self._nodes = {node.home_address: node for node in (self.laptop, self.tablet, self.router)}
        protects = self.configuration.protects_payload
        protected = [node.home_address for node in self.configuration.mobile_node if protects(node)]
        self.agent = HomeAgent(
            self.configuration,
            {home: keys_of(home) for home in homes},
            records,
            now,
            iv_source=Random(int(now)).randbytes,
            payload_keys={home: payload_key_of(home) for home in protected},
        )
        self.now = now
        self.actions: list[Action] = []
        self.records: dict[IPv6Address, Record] = {}
        self.table = ForwardingTable()
        self.keyring = NO_KEYS
        self.kernel: KernelConfig | None = None
        self.defended: dict[IPv4Address | IPv6Address, bool] = {}
        self.feed(Start())

    # ---- time and events --------------------------------------------------------------------
    def at(self, seconds: float) -> HomeScript:
        """`seconds` after the start; sleeping past a deadline is the script's mistake."""
        now = START + seconds
        due = self.agent.deadline()
        assert now >= self.now, "time does not run backwards"
        assert due is None or now <= due.at + 1e-9, f"slept past {due}"
        self.now = now
        return self

    def wakes(self, reason: str) -> HomeScript:
        due = self.agent.deadline()
        assert due is not None
        assert (round(due.at, 6), due.reason) == (round(self.now, 6), reason)
        self._take(self.agent.tick(max(self.now, due.at)))
        return self

    def feed(self, event: Event) -> HomeScript:
        self._take(self.agent.handle(event, self.now))
        return self

    def probed(self, home: IPv6Address, *in_use: IPv4Address | IPv6Address) -> HomeScript:
        asked = self.only(ProbeAddresses).addresses
        return self.feed(Probed(home, asked, frozenset(in_use)))

    def revoked(self, home: IPv6Address) -> HomeScript:
        return self.feed(Revoke(home))

    def restarted(self, after: float = 0.0) -> HomeScript:
        """The same home agent after a kill, with nothing but what was remembered."""
        again = HomeScript(self.configuration, self.records.values(), self.now + after)
        again.laptop, again.tablet, again.router = self.laptop, self.tablet, self.router
        again._nodes = self._nodes
        again.records = {**self.records, **again.records}
        return again

    # ---- what was decided -------------------------------------------------------------------
    def only(self, kind: type[ActionT]) -> ActionT:
        found = [action for action in self.actions if isinstance(action, kind)]
        assert len(found) == 1, self.actions
        return found[0]

    def answer(self) -> BindingAck:
        """The one Binding Acknowledgement that was sent."""
        message = self.answered().message
        assert isinstance(message, BindingAck), message
        return message

    def answered(self) -> ControlPacket:
        sent = self.only(SendControl)
        for node in self._nodes.values():
            if int(node.opener.association.spi).to_bytes(4, "big") in sent.packet[40:72]:
                return node.read(sent.packet)
        raise AssertionError("sealed for nobody")

    def via(self) -> Arrival:
        return self.only(SendControl).via

    def silent(self) -> HomeScript:
        """Not answered, and nothing has changed; what was authentic is remembered all the same."""
        assert [action for action in self.actions if not isinstance(action, Remember)] == []
        return self

    def quiet(self) -> HomeScript:
        """Answered perhaps, but nothing about bindings, kernel, home link or data plane has changed."""
        changing = (InstallTable, ConfigureKernel, Defend)
        assert not [action for action in self.actions if isinstance(action, changing)]
        return self

    def events(self) -> list[tuple[str, object]]:
        reports = [action for action in self.actions if isinstance(action, Report)]
        return [
            (report.event, report.fields.get("change", report.fields.get("status"))) for report in reports
        ]

    @property
    def routed(self) -> set[Network]:
        """What the kernel is to lead into the tunnel."""
        assert self.kernel is not None
        return {route.destination for route in Census(self.kernel).missing_routes()}

    @property
    def proxied(self) -> set[tuple[IPv4Address | IPv6Address, str]]:
        """Whom the kernel is to answer for, and on which link."""
        assert self.kernel is not None
        return {(proxy.address, proxy.device) for proxy in Census(self.kernel).missing_proxies()}

    def route(self, address: IPv4Address | IPv6Address) -> Way | None:
        return self.table.find(address.packed)

    def carries(self, home: IPv4Address | IPv6Address, remote: IPv4Address | IPv6Address, port: int) -> bool:
        """Whether the data plane takes in a packet of `home` from this outer address and port."""
        endpoint = Endpoint(Role.HOME_AGENT, EndpointConfig(home_agent=frozenset({HA4, HA6})), self.table)
        verdict = endpoint.inbound(peer_of(remote, port), _packet_from(home))
        return verdict is not CONTROL and isinstance(verdict, bytes)

    def _take(self, actions: list[Action]) -> None:
        self.actions = actions
        for action in actions:
            match action:
                case Remember(record):
                    self.records[record.home_address] = record
                case InstallTable(table):
                    self.table = table
                case ConfigureEndpoint(config):
                    self.keyring = config.keyring
                case ConfigureKernel(kernel):
                    self.kernel = kernel
                case Defend(addresses):
                    self.defended = dict(addresses.items())


def _packet_from(home: IPv4Address | IPv6Address) -> bytes:
    if isinstance(home, IPv4Address):
        return IPv4Header(home, IPv4Address("192.0.2.80"), 17, 28).encode() + bytes(8)
    return IPv6Header(home, IPv6Address("2001:db8:cc::1"), 17, 8).encode() + bytes(8)


def over_ipv4(
    node: MobileNode, *options: Option, care_of: IPv4Address = COA4, **fields: object
) -> BindingUpdate:
    return node.update(Ipv4CareOfAddress(care_of), *options, **fields)  # type: ignore[arg-type]


def over_ipv6(
    node: MobileNode, *options: Option, care_of: IPv6Address = COA6, **fields: object
) -> BindingUpdate:
    return node.update(AlternateCareOfAddress(care_of), *options, **fields)  # type: ignore[arg-type]


def home4(address: IPv4Address = LAPTOP4, prefix_length: int = 32, prefix: bool = False) -> Ipv4HomeAddress:
    return Ipv4HomeAddress(address, prefix_length, prefix)
