"""What can be said about every interface of this host as a way to the home agent, as plain values.

Pure. The shape of `mnctl/netcheck/1` in docs/control.md. What nobody has measured is null or "unknown":
a NAT is known from Binding Acknowledgements only (RFC 5555 section 2.3.2), be it that of the binding or one
that refuses a question (`way_check`), and no third party is asked.
"""

from __future__ import annotations

from typing import assert_never

from mn_agent.binding_update_list import Binding
from mn_agent.nat_kind import Mapping, Unknown
from mn_agent.node import MobileNode
from mn_agent.status import Clocks, encapsulation_name
from movement.opinion import Opinion, Verdict
from movement.policy import Attachment
from movement.snapshot import Link
from tunnel.path import Encapsulation

Shown = dict[str, object]

_USES = {
    "udp_4191": (Encapsulation.UDP, Encapsulation.UDP_TLV, Encapsulation.UDP_TLV_DRAFT),
    "udp_4500": (Encapsulation.ESP_UDP,),
    "ip_in_ip": (Encapsulation.IP_IN_IP,),
    "esp": (Encapsulation.ESP, Encapsulation.ESP_UDP),
}


def netcheck(node: MobileNode, clocks: Clocks) -> Shown:
    """`mnctl/netcheck/1`: what is known now; ask with a `Check` event, and wait for the answers, before."""
    node.ranking(clocks.now)
    links = node.surroundings().snapshot.links
    return {
        "schema": "mnctl/netcheck/1",
        "time": clocks.stamp(clocks.now),
        "interfaces": [_interface(node, link, clocks) for link in links],
    }


def places_to_go(node: MobileNode) -> tuple[str, ...]:
    """Every interface with a word on what it is good for, for who named a wrong one."""
    target = node.target
    found = []
    for link in node.surroundings().snapshot.links:
        places = [a for a in node.attachments if a.interface == link.name]
        active = target is not None and target.attachment.interface == link.name
        word = "active" if active else "ready" if places else _why_unusable(node, link)
        found.append(f"{link.name} ({word})")
    return tuple(found)


def _interface(node: MobileNode, link: Link, clocks: Clocks) -> Shown:
    places = [a for a in node.attachments if a.interface == link.name]
    binding = node.registration.binding
    if binding is not None and binding.target.attachment.interface != link.name:
        binding = None
    opinions = [o for o in node.choice.opinions if o.interface == link.name]
    verdict, text = _verdict(node, link, places, opinions, binding)
    uses = {name: _use(node, places, binding, kinds, clocks.now) for name, kinds in _USES.items()}
    unknown = [name for name, word in uses.items() if word == "unknown" and places]
    url = next((url for name, url, _ in node.portals.standing() if name == link.name), None)
    return {
        "interface": link.name,
        "verdict": verdict,
        "text": text,
        "ipv6": _family(node, places, 6, opinions),
        "ipv4": _family(node, places, 4, opinions),
        "nat": _nat(node, places, binding, clocks.now),
        **uses,
        "unknown_why": {name: _why_unknown(node, places, binding, name) for name in unknown},
        "mtu": _mtu(node, link, places, binding, clocks.now),
        "portal": node.portals.state(link.name),
        "portal_url": url,
        "remarks": [f"{o.by}: {o.why}" for o in opinions if o.verdict is not Verdict.GOOD],
    }


def _verdict(
    node: MobileNode,
    link: Link,
    places: list[Attachment],
    opinions: list[Opinion],
    binding: Binding | None,
) -> tuple[str, str]:
    bad = [o for o in opinions if o.verdict is not Verdict.GOOD]
    if not link.up:
        return "down", _why_unusable(node, link)
    if not places:
        return "unusable", _why_unusable(node, link)
    if any(o.verdict is Verdict.HELD for o in bad):
        return "held", next(o.why for o in bad if o.verdict is Verdict.HELD)
    if binding is not None:
        return "in-use", f"bound through it, {encapsulation_name(binding.path)}"
    poor = {o.care_of: o.why for o in bad if o.verdict is Verdict.POOR}
    if all(place.care_of in poor for place in places):
        return "poor", next(iter(poor.values()))
    if all(node.ways.is_silent(place) for place in places):
        return "poor", "the home agent does not answer updates that come this way"
    if any(node.ways.about(place) is not None for place in places):
        return "ready", "the home agent answers an update that changes nothing"
    if any(o.round_trip is not None for o in opinions):
        return "ready", "the home agent answers an echo"
    return "unknown", "nothing is known of the way to the home agent, which did not answer an echo"


def _why_unusable(node: MobileNode, link: Link) -> str:
    if not link.up:
        return "no carrier, or switched off"
    if not node.permits(link.name):
        return "excluded by [movement] or [router]"
    if not link.addresses:
        return "no address"
    if not link.routers:
        return "no default router"
    return "no address that can be a care-of address"


def _family(
    node: MobileNode, places: list[Attachment], version: int, opinions: list[Opinion]
) -> Shown | None:
    """None without an address of this family that can be used."""
    place = next((a for a in places if a.care_of.version == version), None)
    if place is None:
        return None
    about = [o for o in opinions if o.concerns(place)]
    measured = [o.round_trip for o in about if o.round_trip is not None]
    told = node.ways.about(place)
    measured += [] if told is None else [told.round_trip]
    silent = any(o.verdict is Verdict.POOR and o.by == "race" for o in about)
    return {
        "care_of": str(place.care_of),
        "nat64": None if place.through is None else str(place.through.prefix),
        "router": None if place.router is None else str(place.router),
        "answers": True if measured else False if silent else None,
        "rtt_ms": round(min(measured) * 1000, 1) if measured else None,
        "serves": any(agent.serves(place.care_of) for agent in node.discovery.home_agents),
    }


def _nat(node: MobileNode, places: list[Attachment], binding: Binding | None, now: float) -> Shown | None:
    """As the last acknowledgement shows it. None where none has come back over IPv4."""
    if binding is not None and binding.nat is not None:
        there, observed, place = binding.nat, binding.observed, binding.target.attachment
    else:
        told = ((place, node.ways.about(place)) for place in places)
        found = next(((p, t) for p, t in told if t is not None and t.nat is not None), None)
        if found is None:
            return None
        place, answer = found
        there, observed = bool(answer.nat), answer.observed
        binding = None
    learnt = node.networks.about(place.network, now).keepalive
    mapping = node.ways.mapping(place) if there else None
    return {
        "kind": "address and port translation" if there else "none",
        "mapping": _mapping_name(mapping),
        "mapping_unknown_why": mapping.value if isinstance(mapping, Unknown) else None,
        "observed": observed,
        "keepalive_s": None if binding is None else binding.keepalive,
        "keepalive_learnt_s": None if learnt is None else learnt.value,
    }


def _mapping_name(mapping: Mapping | Unknown | None) -> str:
    """As in docs/control.md; None where there is no NAT."""
    match mapping:
        case None:
            return "none"
        case Mapping():
            return mapping.value
        case Unknown():
            return "unknown"
        case _:
            assert_never(mapping)


def _use(
    node: MobileNode,
    places: list[Attachment],
    binding: Binding | None,
    kinds: tuple[Encapsulation, ...],
    now: float,
) -> str:
    """carries: payload was tested through it; in-use: not yet; blocked: tested, now or here before.

    answers, silent: no payload, but an update or a question, which goes to the home agent in UDP or bare ESP.
    """
    if binding is not None and binding.path.encapsulation in kinds:
        return {True: "carries", False: "blocked", None: "in-use"}[node.paths.verified]
    facts = [node.networks.about(place.network, now) for place in places]
    shut = any(fact.no_payload is not None for fact in facts)
    if shut or (Encapsulation.IP_IN_IP in kinds and any(fact.needs_udp is not None for fact in facts)):
        return "blocked"
    asked = [place for place in places if node.question_goes_by(place) in kinds]
    if binding is not None and binding.target.attachment in asked:
        return "answers"  # the Binding Update
    if any(node.ways.about(place) is not None for place in asked):
        return "answers"
    return "silent" if asked and all(node.ways.is_silent(place) for place in asked) else "unknown"


def _why_unknown(node: MobileNode, places: list[Attachment], binding: Binding | None, name: str) -> str:
    """One sentence. What carries payload alone is known after a move only."""
    protects = node.configuration.tunnel.protect_payload
    asked = [place for place in places if node.question_goes_by(place) in _USES[name]]
    if name in ("udp_4191", "udp_4500") and all(place.care_of.version == 6 for place in places):
        return "there is no IPv4 address"
    if asked:
        return "nothing has been asked yet"
    if name == "udp_4500" and not protects:
        return "it carries protected payload only (protect_payload)"
    if name == "esp" and not protects:
        option = any(place.care_of.version == 6 for place in places)
        return "updates carry the authentication option instead" if option else "over IPv4 updates go in UDP"
    if name == "ip_in_ip" and protects:
        return "payload is protected (protect_payload)"
    if binding is not None:
        return "payload goes by another way here"
    return "it carries payload only, which the home agent takes from the place of the binding alone"


def _mtu(
    node: MobileNode, link: Link, places: list[Attachment], binding: Binding | None, now: float
) -> Shown:
    """`path`: of outer packets, as far as is known: measured here, or remembered, or the link's."""
    place = places[0] if places else None
    place = place if binding is None else binding.target.attachment
    return {
        "link": link.mtu,
        "path": None if place is None else node.limits.mtu_at(place, now),
        "source": None if place is None else node.limits.source(place, now),
        "tested": binding is not None and node.paths.verified is True,
        "inner": None if binding is None else binding.path.inner_mtu,
    }
