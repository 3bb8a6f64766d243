"""Whether the path of the binding carries payload, and how large; and where to turn if it does not.

Pure. RFC 8899 (path MTU), RFC 5555 section 4.1 (forced UDP, where IP in IP is filtered). This is a measured
fact about a path, and no decision of security. It is judged relative to other ways only: UDP, the other
family, another link. What was learnt is kept for each network until the better way gets another chance.
Nothing is asked while all is well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from mn_agent.actions import Action, Report, SendProbe
from mn_agent.binding_update_list import Binding, HomeAgent, Target
from mn_agent.demands import Demands
from mn_agent.desired import Surroundings
from mn_agent.events import Event, PathSilent, ProbeAnswered
from mn_agent.network_memory import NetworkMemory
from mn_agent.path_limits import PathLimits, Place, place_of
from mn_agent.path_probe import Blocked, Passes, PathProbe
from movement.known_networks import Learnt
from movement.opinion import Opinion, Verdict
from movement.policy import Attachment
from runtime.node import Deadline, earliest

KEPT = 86400.0
"""Seconds for which it is believed that a way is blocked; then the better way gets another chance. Ours."""
DOUBT_INTERVAL = 2.0
"""Seconds between two tests for the same reason: nothing has come back for a while."""
CALM, MOST_CALM = 30.0, 600.0
"""Seconds after which a path that does not answer, and has no alternative, is tested again; doubles. Ours."""
ROUNDS_IN_VAIN = 3
"""Rounds of questions without an answer, after which the home agent hears again where this node is. Ours."""
DEAF = 2
"""Situations in which no way was answered, after which a home agent that never answered counts as deaf."""


@dataclass(frozen=True, slots=True)
class Way:
    """What a test is about: a place, the home agent, and whether payload is in UDP."""

    place: Place
    home_agent: HomeAgent
    in_udp: bool


class PathWatch:
    """A thinker; `wants_udp` is asked by whoever writes Binding Updates, `wants_update` by the node."""

    def __init__(
        self, networks: NetworkMemory, limits: PathLimits, demands: Demands, rng: Random
    ) -> None:
        self.found: Passes | Blocked | None = None
        """What the last test of the present way has found; None before its end."""
        self.resigned = False
        """No way is left that could be tried: the present one is used, and tested from time to time."""
        self._networks = networks
        self._limits = limits
        self._rng = rng
        self._demands = demands
        # The encapsulation of protected payload is not the home agent's to choose.
        self._may_force_udp = not demands.wish.protect_payload
        self._attachments: tuple[Attachment, ...] = ()
        self._way: Way | None = None
        self._probe: PathProbe | None = None
        self._failed: set[Way] = set()
        """Ways that have failed since the set of places changed."""
        self._heard: set[HomeAgent] = set()
        """Home agents that have ever answered a test."""
        self._unheard = 0
        """Situations in which none did."""
        self._doubted_at = -DOUBT_INTERVAL
        self._again_at: float | None = None
        self._calm = CALM
        self._asked: tuple[Way, bool, int] | None = None
        """What the last update of ours on the present way was about: the way, UDP or not, and the MTU."""
        self._update_at: float | None = None
        self._now = 0.0

    # ---- for people ------------------------------------------------------------------------------
    @property
    def verified(self) -> bool | None:
        """Whether payload passes by the present way; None while that is not known."""
        return None if self.found is None else isinstance(self.found, Passes)

    @property
    def round_trip(self) -> float | None:
        """Seconds through the tunnel and back by the present way, as its test has shown."""
        return self.found.round_trip if isinstance(self.found, Passes) else None

    def is_dead(self, target: Target) -> bool:
        """Whether payload does not pass by the binding to `target`, and there is another way to try."""
        present = self._way is not None and self._way.place == place_of(target.attachment)
        return present and isinstance(self.found, Blocked) and not self.resigned

    def problems(self) -> Iterator[tuple[str, str, str, str]]:
        """Code, severity, text, and what a person can do."""
        if self.resigned:
            text = "nothing that is sent to the home agent through the tunnel is answered, by any way"
            yield "payload-unanswered", "medium", text, "mnctl netcheck, or hactl status at the home agent"
        elif isinstance(self.found, Blocked):
            text = "Binding Updates pass and payload does not; another way is being tried"
            yield "payload-blocked", "medium", text, "mnctl why"
        elif isinstance(self.found, Passes) and self.found.cramped:
            text = "packets of 1280 octets do not pass: large ones are lost"
            yield "path-cramped", "medium", text, "tell whoever runs this network"

    # ---- what follows for Binding Updates --------------------------------------------------------
    def wants_udp(self, target: Target) -> bool:
        """Whether the home agent shall be asked for UDP, because IP in IP does not come through here."""
        if not self._may_force_udp or target.care_of.version == 6 or target.at_home:
            return False
        if Way(place_of(target.attachment), target.home_agent, False) in self._failed:
            return True
        here = self._limits.present(target.attachment)
        return self._networks.about(here.network, self._now).needs_udp is not None

    def wants_update(self, now: float) -> bool:
        """Whether the home agent has to hear of something now; asking settles it."""
        due = self._update_at is not None and self._update_at <= now
        if due:
            self._update_at = None
        return due

    # ---- a thinker -------------------------------------------------------------------------------
    def handle(self, event: Event, around: Surroundings, now: float) -> list[Action]:
        match event:
            case ProbeAnswered(probe=probe, whole=whole) if self._probe is not None and self._way is not None:
                if self._probe.answered(probe, whole, now):
                    self._heard.add(self._way.home_agent)
            case PathSilent() if around.binding is not None and not around.held:
                # Else it is no doubt, but payload that waits for an update to leave, or to be answered.
                self._doubt(around, now)
            case _:
                pass
        return self.tick(around, now)

    def tick(self, around: Surroundings, now: float) -> list[Action]:
        self._now = now
        self._look(around, now)
        probe, binding = self._probe, around.binding
        if probe is None or binding is None or binding.target.home_agent.ipv6 is None:
            return []
        here, there = around.configuration.home.ipv6, binding.target.home_agent.ipv6
        questions = probe.tick(now)
        actions: list[Action] = [SendProbe(here, there, question) for question in questions]
        if probe.outcome is not None:
            actions += self._conclude(probe, probe.outcome, binding, now)
        elif questions and binding.path.encapsulation.in_udp and probe.rounds_in_vain == ROUNDS_IN_VAIN:
            # A NAT may have a mapping for payload that the last update did not go by: the next one does.
            self._update_at = now
        self._tell(binding, around, now)
        return actions

    def deadline(self) -> Deadline | None:
        update = None if self._update_at is None else Deadline(self._update_at, "news of the path")
        again = None if self._again_at is None else Deadline(self._again_at, "path test again")
        return earliest((update, again, None if self._probe is None else self._probe.deadline()))

    def opinions(self) -> Iterator[Opinion]:
        """Places where payload does not pass come last."""
        for attachment in self._attachments:
            if self._is_shut(attachment):
                why = "payload does not pass"
                yield Opinion(attachment.interface, attachment.care_of, Verdict.POOR, "path", why)

    # ---- tests -----------------------------------------------------------------------------------
    def _look(self, around: Surroundings, now: float) -> None:
        """Follow the binding: a way that it takes anew is tested, and so is one whose MTU may have grown."""
        self._follow_places(around.attachments, now)
        binding = around.binding
        if binding is None or (binding.path.encapsulation.protected and not around.payload.spis):
            self._way = self._probe = self.found = self._again_at = None
            return
        way = _way_of(binding)
        grown = self._limits.has_grown(self._limits.present(binding.target.attachment), now)
        due = self._again_at is not None and self._again_at <= now
        if way != self._way:
            self._way, self._probe, self.found, self._asked = way, None, None, None
            if not self.resigned:
                self._test(around, now)
            elif due:
                self._again_at = now + self._calm
        elif grown or due:
            self._test(around, now)
        elif isinstance(self.found, Blocked) and self._probe is None and not self.resigned:
            self._turn(way)
        self._tell(binding, around, now)

    def _follow_places(self, attachments: tuple[Attachment, ...], now: float) -> None:
        """Another set of places is another situation: what has failed before may work there."""
        before, self._attachments = {place_of(one) for one in self._attachments}, attachments
        self._limits.follow(attachments, now)
        present = {place_of(one) for one in attachments}
        if present != before:
            self._failed = {way for way in self._failed if way.place in present}
            self.resigned, self._calm = False, CALM

    def _test(self, around: Surroundings, now: float, hurried: bool = False) -> None:
        binding = around.binding
        if binding is None or self._way is None:
            return
        self._again_at = None
        path = self._limits.limited(binding.path, self._limits.present(binding.target.attachment), now)
        measured = self.round_trip
        round_trip = binding.accepted_at - binding.sent_at if measured is None else measured
        self._probe = PathProbe(path, round_trip, self._rng, now, hurried=hurried)

    def _doubt(self, around: Surroundings, now: float) -> None:
        if self._probe is None and now >= self._doubted_at + DOUBT_INTERVAL:
            self._doubted_at = now
            self._test(around, now, hurried=True)

    def _tell(self, binding: Binding, around: Surroundings, now: float) -> None:
        """The home agent hears once of what has become known since its last Binding Update."""
        if around.target is None or not around.target.same_as(binding.target):
            return  # it is about to be left
        way, here = _way_of(binding), self._limits.present(binding.target.attachment)
        udp = way.in_udp or (self.wants_udp(binding.target) and not self._demands.refuses_udp(way.home_agent))
        wanted = (way, udp, self._limits.mtu_at(here, now))
        as_told = udp == way.in_udp and self._limits.is_told(here, now)
        if not as_told and self._asked != wanted:
            self._asked, self._update_at = wanted, now

    # ---- conclusions -----------------------------------------------------------------------------
    def _conclude(
        self, probe: PathProbe, outcome: Passes | Blocked, binding: Binding, now: float
    ) -> list[Action]:
        way, here = _way_of(binding), self._limits.present(binding.target.attachment)
        self._probe, self.found = None, outcome
        fields = {"interface": here.interface, "encap": binding.path.encapsulation.value}
        if isinstance(outcome, Blocked):
            self._again_at = now + self._calm
            self._calm = min(2 * self._calm, MOST_CALM)
            if not self.resigned:
                self._failed.add(way)
                self._turn(way)
            return [Report("path", {**fields, "payload": "blocked", "mtu": None})]
        self.resigned, self._calm, self._unheard = False, CALM, 0
        self._failed.discard(way)
        self._remember(here, now)
        if outcome.mtu < probe.path.link_mtu:
            self._limits.measured(here, outcome.mtu, now)
        return [Report("path", {**fields, "payload": "passes", "mtu": outcome.mtu})]

    def _turn(self, way: Way) -> None:
        """To another way, while there is one. If none is answered, nothing is wrong with this one."""
        deaf = way.home_agent not in self._heard and self._unheard >= DEAF
        left = (
            one
            for one in self._attachments
            if way.home_agent.serves(one.care_of) and not self._is_shut(one)
        )
        if not deaf and any(left):
            return
        self._unheard += 1
        self._failed.clear()
        self.resigned = True

    def _is_shut(self, attachment: Attachment) -> bool:
        """Whether no way is left there that has not failed."""
        place = place_of(attachment)
        if any(way.place == place and self._is_last(way) for way in self._failed):
            return True
        return self._networks.about(attachment.network, self._now).no_payload is not None

    def _is_last(self, way: Way) -> bool:
        """UDP is what remains after IP in IP, on IPv4 links only."""
        if way.in_udp or not self._may_force_udp or way.place[1].version == 6:
            return True
        return self._demands.refuses_udp(way.home_agent)

    def _remember(self, works: Attachment, now: float) -> None:
        """One way works where others have failed: now it is known that those are at fault."""
        fact = Learnt(True, now + KEPT)
        if works.network is not None and self._networks.about(works.network, now).no_payload is not None:
            self._networks.learn(works.network, no_payload=None)
        for attachment in self._attachments:
            failed = any(way.place == place_of(attachment) for way in self._failed)
            if not failed or attachment.network is None:
                continue
            if self._is_shut(attachment):
                self._networks.learn(attachment.network, no_payload=fact)
            else:
                self._networks.learn(attachment.network, needs_udp=fact)


def _way_of(binding: Binding) -> Way:
    in_udp = binding.path.encapsulation.in_udp
    return Way(place_of(binding.target.attachment), binding.target.home_agent, in_udp)
