"""The mobile router as `mnctl status` shows it: the networks behind it, and what is wrong with them.

Pure. The shapes are in docs/control.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from mn_agent.binding_update_list import RefusedPrefix
from mn_agent.node import MobileNode
from wire.mobility import BindingUpdate, status_text
from wire.options import Ipv4AckStatus, Ipv4HomeAddress, MobileNetworkPrefix, every

Problem = tuple[str, str, str]
"""Code, what it means to people, and what they can do."""


def router_status(node: MobileNode) -> dict[str, object] | None:
    """`router` of `mnctl/status/1`; None for an ordinary mobile node."""
    section, binding = node.configuration.router, node.registration.binding
    if section is None:
        return None
    registered = binding is not None and binding.router
    networks = node.registration.router.behind.networks
    return {
        "mode": section.mode,
        "interfaces": list(_present(node)),
        "registered": registered,
        "prefixes": [str(prefix) for prefix in (binding.prefixes if binding and registered else networks)],
        "refused": [
            {"prefix": _prefix(one), "status": one.status, "text": _why(one)}
            for one in (binding.refused_prefixes if binding is not None else ())
        ],
        "not_taken_by": dict(node.registration.router.refusals),
    }


def router_problems(node: MobileNode) -> Iterator[Problem]:
    """What keeps hosts behind this node from being reached."""
    section, binding = node.configuration.router, node.registration.binding
    if section is None:
        return
    for name, status in node.registration.router.refusals.items():
        text = f"{name} takes this node as a host only: {status_text(status)} ({status})"
        served = binding is not None and binding.router
        if not served:
            fix = "allow it in home-agent.toml, then systemctl restart mn-agent"
            yield "not-a-mobile-router", f"the networks behind this node are cut off: {text}", fix
    if not _present(node):
        wanted = ", ".join(section.interfaces)
        yield "no-ingress-interface", f"there is no interface {wanted} to the networks behind", "ip link"
    for one in binding.refused_prefixes if binding is not None else ():
        text = f"the IPv4 prefix {_prefix(one)} is not routed: {_why(one)}"
        yield "no-ipv4-prefix", text, "hactl leases"


def router_option_texts(update: BindingUpdate) -> list[str]:
    """What a Binding Update says about networks, for people."""
    asked = (one for one in every(update.options, Ipv4HomeAddress) if one.prefix_length < 32)
    texts = [
        f"IPv4-prefix {one.address}/{one.prefix_length}{' (P)' if one.prefix_request else ''}"
        for one in asked
    ]
    return texts + [f"MNP {one.prefix}" for one in every(update.options, MobileNetworkPrefix)]


def _present(node: MobileNode) -> tuple[str, ...]:
    names = (link.name for link in node.surroundings().snapshot.links)
    return tuple(n for n in names if any(fnmatchcase(n, pattern) for pattern in node.configuration.ingress))


def _prefix(refused: RefusedPrefix) -> str:
    return (
        f"any /{refused.length}" if refused.address.is_unspecified else f"{refused.address}/{refused.length}"
    )


def _why(refused: RefusedPrefix) -> str:
    match refused.status:
        case None:
            return "the home agent did not answer"
        case Ipv4AckStatus.PREFIX_NOT_AUTHORISED:
            return "the home agent does not grant it (133)"
        case status if status < 128:
            return "what the home agent granted cannot be used here"
        case status:
            return f"the home agent refused it ({int(status)})"
