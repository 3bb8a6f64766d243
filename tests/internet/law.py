"""What must hold at every instant, whatever the network, an attacker or a user does.

Pure. The law knows the truth that no node knows: which octets were written by whom, and what has been
delivered. docs/security.md: open-tunnel, spoofed-payload, binding-replay, forged-message, reflection; faults.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from home_agent.binding_cache import OLD_PATH_GRACE, Binding
from mn_agent.actions import SendControl
from mn_agent.registration import MAX_OUTSTANDING
from mn_agent.registration_states import AtHome, Registered, State
from tests.internet.payload import addresses_of, number_of
from tests.internet.places import leads_to, peers_of, place_of
from tests.internet.timeline import Timeline
from tests.internet.weather import Address, Datagram
from tunnel.authentication import AuthenticationAssociation, evidence_in, timestamp_in
from tunnel.envelope import OpenedControl, open_control
from tunnel.forwarding import Peer, Route, peer_of
from tunnel.path import Arrival, Drop, TunnelPath
from tunnel.replay import ReplayWindow
from tunnel.security import Opener
from wire.esp import UDP_PORT_NAT_TRAVERSAL
from wire.ip import IPV6_HEADER, PROTOCOL_ESP, PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_MOBILITY
from wire.mobility import BindingUpdate
from wire.serial import is_newer16

if TYPE_CHECKING:
    from tests.internet.home_host import HomeHost
    from tests.internet.mobile_host import MobileHost

UPDATES_A_SECOND = 3
QUESTIONS_A_SECOND = 20
"""DNS questions; a link that flaps before the first answer causes one each time."""
BUSY = 8
"""Times that a timer may ring at one instant before it is called a busy loop."""
KEPT = 8192
_SOON = 1e-6

Bindings = dict[IPv6Address, Binding]


@dataclass(frozen=True, slots=True)
class Update:
    """A Binding Update that a mobile node really wrote."""

    home: IPv6Address
    care_of: Address
    sequence: int
    lifetime: int


@dataclass(slots=True)
class _Sender:
    """What a mobile node has sent since it started."""

    sequence: int | None = None
    recent: deque[int] = field(default_factory=lambda: deque(maxlen=1024))
    corrections: int = 0
    """How often it has been told, by status 135, which number to go on from."""
    number: int = 0
    """The ESP sequence number, or the timestamp, of the last update."""
    sent_at: deque[float] = field(default_factory=lambda: deque(maxlen=UPDATES_A_SECOND))


@dataclass(slots=True)
class _Receiver:
    """What a home agent has learnt from authentic updates since it last lost its memory."""

    arrivals: dict[IPv6Address, deque[tuple[Update, Arrival]]] = field(default_factory=dict)
    handled: set[bytes] = field(default_factory=set)
    doors: set[tuple[Address, int]] = field(default_factory=set)
    previous: dict[IPv6Address, list[tuple[TunnelPath, bool, float]]] = field(default_factory=dict)
    """Home address -> the places that were left lately: where, whether behind a NAT, until when it counts."""
    bindings: Bindings = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Broken:
    """One breach: which article, and how."""

    article: str
    text: str
    at: float
    error: Exception | None = None


class Law:
    """Watches every host. What is broken is kept in `breaches`."""

    def __init__(self, timeline: Timeline) -> None:
        self.breaches: list[Broken] = []
        self.forged: set[int] = set()
        """Numbers of payload packets that no honest host has sent."""
        self.receivers: dict[int, str] = {}
        """Number of a payload packet to a mobile node -> who must be the one to get it."""
        self.refused: Counter[tuple[str, object]] = Counter()
        """(mobile node, status) -> how often a home agent has refused so."""
        self.refusals_to_anybody = False
        self.payload_is_protected = False
        self._timeline = timeline
        self._updates: dict[bytes, Update] = {}
        self._answers: set[bytes] = set()
        self._senders: dict[str, _Sender] = {}
        self._home_agents: dict[str, _Receiver] = {}
        self._questions: deque[float] = deque(maxlen=QUESTIONS_A_SECOND)
        self._at_home: dict[str, bool] = {}
        self._rings: dict[str, tuple[float, int]] = {}
        self.home_agent_addresses: set[Address] = set()

    def broken(self, article: str, text: str, error: Exception | None = None) -> None:
        self.breaches.append(Broken(article, text, self._timeline.now, error))

    # ---- time ------------------------------------------------------------------------------
    def rang(self, name: str) -> None:
        """No timer rings again and again at one instant: that would be a busy loop."""
        now = self._timeline.now
        at, count = self._rings.get(name, (now, 0))
        count = count + 1 if at == now else 1
        self._rings[name] = (now, count)
        if count == BUSY:
            self.broken("no-busy-loop", f"{name} was woken {count} times at once")

    def dns_asked(self, name: str) -> None:
        now, asked = self._timeline.now, self._questions
        if len(asked) == QUESTIONS_A_SECOND and now < asked[0] + 1.0:
            self.broken("modest-questions", f"{name} asks DNS {len(asked)} times in {now - asked[0]:.3f} s")
            asked.clear()
        asked.append(now)

    def left(self, name: str, datagram: Datagram) -> None:
        """Where payload is to be protected, nothing else than messages leaves readable."""
        if not self.payload_is_protected or datagram.protocol == PROTOCOL_ESP:
            return
        in_clear = datagram.protocol in (PROTOCOL_IPV4, PROTOCOL_IPV6)
        ports = (datagram.source_port, datagram.destination_port)
        if datagram.in_udp and UDP_PORT_NAT_TRAVERSAL not in ports:
            in_clear = datagram.payload[6] not in (PROTOCOL_ESP, PROTOCOL_MOBILITY)
        if in_clear:
            self.broken("payload-is-protected", f"{name} sends {datagram}")

    # ---- the mobile node sends -------------------------------------------------------------
    def mobile_node_started(self, host: MobileHost, forgetful: bool) -> None:
        sender = self._senders.setdefault(host.name, _Sender())
        sender.sent_at.clear()
        if forgetful:
            sender.sequence, sender.number = None, 0
            sender.recent.clear()

    def update_sent(self, host: MobileHost, action: SendControl) -> None:
        now, name = self._timeline.now, host.name
        sender = self._senders[name]
        opened, number = self._open(host, action.packet)
        message = opened.packet.message if isinstance(opened, OpenedControl) else None
        if not isinstance(opened, OpenedControl) or number is None or not isinstance(message, BindingUpdate):
            self.broken("updates-are-protected", f"{name} sent {action.packet.hex()}")
            return
        self._check_sequence(name, sender, message.sequence)
        if number <= sender.number and not isinstance(host.keys, AuthenticationAssociation):
            self.broken("numbers-are-newer", f"{name}: {number} after {sender.number}")
        sent_at = sender.sent_at
        if len(sent_at) == UPDATES_A_SECOND and now < sent_at[0] + 1.0 - _SOON:
            self.broken("three-updates-a-second", f"{name}: 4 updates in {now - sent_at[0]:.3f} s")
        sender.sequence, sender.number = message.sequence, number
        sender.recent.append(message.sequence)
        sent_at.append(now)
        _keep(self._updates)
        home = opened.packet.home_side_source
        update = Update(home, action.care_of, message.sequence, message.lifetime)
        self._updates[_heart(action.packet)] = update

    def _open(self, host: MobileHost, packet: bytes) -> tuple[OpenedControl | Drop, int | None]:
        """The update, and the number against its replay; None for that if nothing protects it."""
        keys, profile = host.keys, host.configuration.profile
        if isinstance(keys, AuthenticationAssociation):
            opened = open_control(packet, {}, profile)
            if isinstance(opened, Drop) or evidence_in(opened, profile) is None:
                return opened, None
            return opened, timestamp_in(opened.packet.message)
        opener = Opener(keys.update, ReplayWindow())
        opened = open_control(packet, {keys.update.spi: opener}, profile)
        return opened, opener.window.highest or None

    def _check_sequence(self, name: str, sender: _Sender, sequence: int) -> None:
        """Every number is newer than the last; but status 135 may set it to anything not used lately."""
        corrections = self.refused[name, 135]
        corrected, sender.corrections = corrections > sender.corrections, corrections
        if sender.sequence is None:
            return
        if sequence in sender.recent or not (corrected or is_newer16(sequence, sender.sequence)):
            self.broken("sequences-are-newer", f"{name}: {sequence} after {sender.sequence}")

    def vouch(self, update: BindingUpdate, home: IPv6Address, care_of: Address, packet: bytes) -> None:
        """A test has written `packet` with the keys of a mobile node: it is authentic."""
        self._updates[_heart(packet)] = Update(home, care_of, update.sequence, update.lifetime)

    def routes_installed(self, host: MobileHost, routes: tuple[Route, ...]) -> None:
        if len({route.path for route in routes}) > 1:
            self.broken("one-path-for-all", f"{host.name} sends by {sorted({str(r.path) for r in routes})}")
        for path in {path for route in routes for path in (route.path, *route.accept)}:
            if path.remote not in self.home_agent_addresses:
                self.broken("only-the-home-agent", f"{host.name} uses {path}")

    def sent_in_clear(self, host: MobileHost) -> None:
        """Only on the true home link, however much another network looks like it."""
        network = host.network(host.home_interface)
        if network is None or network.name != "home":
            self.broken("in-clear-only-at-home", f"{host.name} on {network and network.name}")

    # ---- the home agent hears --------------------------------------------------------------
    def home_agent_started(self, host: HomeHost, forgetful: bool) -> None:
        """With its memory a home agent may go on with what it knew; without, it knows nothing."""
        old = self._home_agents.get(host.name)
        if old is None or forgetful:
            self._home_agents[host.name] = _Receiver()
        else:
            old.previous.clear()
            old.bindings = {home: host.node.books.cache.get(home) or b for home, b in old.bindings.items()}

    def before_update(self, host: HomeHost) -> tuple[Bindings, int]:
        """With the option, RFC 4285 wants refusals of what nobody has authenticated: those do not count."""
        return _bindings(host), 0 if self.refusals_to_anybody else host.answers

    def update_arrived(self, host: HomeHost, packet: bytes, arrival: Arrival) -> None:
        heart = _heart(packet)
        update = self._updates.get(heart)
        known = self._home_agents[host.name]
        if update is None or heart in known.handled:
            return
        known.arrivals.setdefault(update.home, deque(maxlen=64)).append((update, arrival))
        known.doors.add((arrival.remote, arrival.remote_port))

    def update_handled(self, host: HomeHost, packet: bytes, before: tuple[Bindings, int]) -> None:
        """Only authentic octets do anything, and those only once."""
        known, heart = self._home_agents[host.name], _heart(packet)
        effect = self.before_update(host) != before
        if heart not in self._updates and effect:
            self.broken("only-authentic-updates", f"{host.name} obeyed a forgery: {packet.hex()}")
        if heart in known.handled and effect:
            self.broken("no-replays", f"{host.name} obeyed a replay of {self._updates.get(heart)}")
        update = self._updates.get(heart)
        if update is not None and (effect or update.home in host.node._pending):
            known.handled.add(heart)  # what was damaged outside of its protection has not been used up

    def answer_sent(self, host: HomeHost, packet: bytes, via: Arrival) -> None:
        doors = self._home_agents[host.name].doors
        if (via.remote, via.remote_port) not in doors and not self.refusals_to_anybody:
            self.broken("no-reflection", f"{host.name} answers to {via}")
        if len(self._answers) > KEPT:
            self._answers.clear()
        self._answers.add(_heart(packet))

    def home_agent_stepped(self, host: HomeHost) -> None:
        """Every binding comes from an authentic update, and the table says what the bindings say."""
        known = self._home_agents[host.name]
        bindings = _bindings(host)
        for home, binding in bindings.items():
            old = known.bindings.get(home)
            if old is not binding:
                self._binding_changed(host, known, old, binding)
        for home in known.bindings.keys() - bindings.keys():
            known.previous.pop(home, None)
        known.bindings = bindings
        self._check_table(host, known)
        if len(host.node._pending) > len(host.node.nodes) or len(host.door._sources._full_at) > 4096:
            self.broken("bounded-memory", f"{host.name} holds too much")

    def _binding_changed(self, host: HomeHost, known: _Receiver, old: Binding | None, new: Binding) -> None:
        cause = (new.sequence, new.care_of, new.arrival)
        arrived = known.arrivals.get(new.home_address, ())
        if cause not in [(update.sequence, update.care_of, arrival) for update, arrival in arrived]:
            self.broken("only-authentic-updates", f"{host.name} bound {cause}")
        if old is None:
            return
        if not is_newer16(new.sequence, old.sequence) and new.updated_at != old.updated_at:
            self.broken("sequences-are-newer", f"{host.name} took {new.sequence} after {old.sequence}")
        if (old.arrival, old.care_of) != (new.arrival, new.care_of):
            now = self._timeline.now
            left = [one for one in known.previous.get(new.home_address, ()) if one[2] >= now]
            known.previous[new.home_address] = [*left, (place_of(old), old.nat, now + OLD_PATH_GRACE)]

    def _check_table(self, host: HomeHost, known: _Receiver) -> None:
        routes = host.plane.endpoint.table.routes
        owners = {net: b for b in known.bindings.values() for net in b.home_networks}
        if {route.prefix for route in routes} != owners.keys():
            self.broken("table-is-bindings", f"{host.name}: {routes} for {known.bindings}")
            return
        for route in routes:
            binding = owners[route.prefix]
            if not leads_to(route.path, binding):
                self.broken("paths-are-authentic", f"{host.name}: {route.path} for {binding}")
            for path in route.accept:
                leads = leads_to(path, binding)
                if leads and binding.nat and path.local.version == 4 and path.remote_port == 0:
                    self.broken("paths-are-authentic", f"{host.name} takes {path} from behind a NAT")
                if not leads and not self._was_recent(known, binding, path):
                    self.broken("paths-are-authentic", f"{host.name} still takes {path} for {binding}")

    def _was_recent(self, known: _Receiver, binding: Binding, path: TunnelPath) -> bool:
        now = self._timeline.now
        left = known.previous.get(binding.home_address, ())
        return any(path.remote == old.remote and now <= until + _SOON for old, _, until in left)

    # ---- the mobile node hears -------------------------------------------------------------
    def before_answer(self, host: MobileHost) -> tuple[State, int]:
        return host.node.registration.state, host.node.registration.next_sequence

    def answer_handled(self, host: MobileHost, packet: bytes, before: tuple[State, int]) -> None:
        """A forged answer changes nothing. (Timers that are due at this very instant may.)"""
        if _heart(packet) not in self._answers and self.before_answer(host) != before:
            self.broken("only-authentic-answers", f"{host.name} obeyed a forgery: {packet.hex()}")

    def mobile_node_stepped(self, host: MobileHost) -> None:
        node = host.node
        outstanding = getattr(node.registration.state, "outstanding", ())
        sizes = (len(outstanding), len(node._old_paths.paths), len(node.choice._aside), len(node.drops))
        if any(size > most for size, most in zip(sizes, (MAX_OUTSTANDING, 4, 64, 32), strict=True)):
            self.broken("bounded-memory", f"{host.name} holds too much")
        state = node.registration.state
        if isinstance(state, AtHome) and not self._at_home.get(host.name):
            self._check_homecoming(host)
        self._at_home[host.name] = isinstance(state, AtHome)
        if isinstance(state, Registered) and state.binding.accepted_at == self._timeline.now:
            self._check_lifetime(host, state)

    def _check_homecoming(self, host: MobileHost) -> None:
        """Nobody is at home before the home agent has let go."""
        home = host.configuration.home.ipv6
        if any(home in known.bindings for known in self._home_agents.values()):
            self.broken("home-when-released", f"{host.name} is at home, but a home agent has a binding")

    def _check_lifetime(self, host: MobileHost, state: Registered) -> None:
        """The mobile node never believes in a binding longer than the home agent keeps it."""
        mine = state.binding
        for known in self._home_agents.values():
            theirs = known.bindings.get(mine.home_address)
            if theirs is None or (theirs.sequence, theirs.care_of) != (mine.sequence, mine.target.care_of):
                continue
            if mine.expires_at > theirs.expires_at + _SOON:
                self.broken("lifetimes-agree", f"{host.name}: {mine.expires_at} > {theirs.expires_at}")

    # ---- payload ---------------------------------------------------------------------------
    def delivered_to_mobile_node(self, host: MobileHost, packet: bytes, datagram: Datagram) -> None:
        if datagram.source not in self.home_agent_addresses:
            self.broken("only-bound-peers", f"{host.name} took {datagram}")
        if datagram.damaged:
            return
        number, destination = number_of(packet), addresses_of(packet)[1]
        if destination not in (host.configuration.home.ipv6, host.ipv4_home):
            self.broken("payload-to-its-owner", f"{host.name} got a packet for {destination}")
        if number in self.forged or self.receivers.get(number, host.name) != host.name:
            self.broken("payload-to-its-owner", f"{host.name} got packet {number} in {datagram}")

    def delivered_to_home_agent(self, host: HomeHost, packet: bytes, datagram: Datagram) -> None:
        known = self._home_agents[host.name]
        source = addresses_of(packet)[0]
        owner = next(
            (b for b in known.bindings.values() if any(source in net for net in b.home_networks)), None
        )
        port = datagram.source_port if datagram.in_udp else 0
        if owner is not None and owner.encapsulation.protected:
            if datagram.protocol != PROTOCOL_ESP and datagram.destination_port != UDP_PORT_NAT_TRAVERSAL:
                self.broken("payload-is-protected", f"{host.name} took {datagram}")
        elif owner is None or peer_of(datagram.source, port) not in self._peers(known, owner):
            self.broken("only-bound-peers", f"{host.name} took {datagram} for {owner}")
        if not datagram.damaged and number_of(packet) in self.forged:
            self.broken("only-bound-peers", f"{host.name} took the forged {datagram}")

    def _peers(self, known: _Receiver, binding: Binding) -> set[Peer]:
        """Who may send for the home addresses of `binding` now."""
        peers = peers_of(place_of(binding), binding.nat, binding.arrival)
        for old, nat, until in known.previous.get(binding.home_address, ()):
            if self._timeline.now <= until + _SOON:
                peers |= {peer_of(old.remote, old.remote_port)} | (set() if nat else {peer_of(old.remote)})
        return peers


def _heart(packet: bytes) -> bytes:
    """What is protected: the headers before it may be damaged, or the hop limit count down, all the same."""
    at_once = packet[6:7] in (bytes((PROTOCOL_ESP,)), bytes((PROTOCOL_MOBILITY,)))
    return packet[IPV6_HEADER if at_once else IPV6_HEADER + 24 :]


def _bindings(host: HomeHost) -> Bindings:
    return {binding.home_address: binding for binding in host.node.books.cache}


def _keep(updates: dict[bytes, Update]) -> None:
    if len(updates) > KEPT:
        for key in list(updates)[: KEPT // 2]:
            del updates[key]
