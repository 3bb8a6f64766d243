"""One word for what the mobile node is doing, and one sentence why where it is not obvious.

Pure. The words are the states of `mnctl status` (docs/control.md).
"""

from __future__ import annotations

from typing import assert_never

from mn_agent.discovery import Discovery
from mn_agent.registration import HomeRegistration
from mn_agent.registration_states import AtHome, Deregistering, Idle, Refusing, Registered, Registering
from wire.mobility import status_text

Summary = tuple[str, str | None]


def summarise(
    registration: HomeRegistration,
    discovery: Discovery,
    attached: bool,
    stopping: bool,
    held: str | None = None,
) -> Summary:
    """(state, why). `held` says why nothing may leave through a link, if that is so."""
    if stopping:
        return "stopped", "deregistered on request"
    if registration.binding is not None:
        return "bound", "reached only after it has sent something" if registration.held else None
    match registration.state:
        case Refusing(why=str() as why):
            return "rejected", why
        case Refusing(status=status):
            return "rejected", f"the home agent refused: {status_text(status)} ({status})"
        case Registering(target=target, unanswered=0):
            return "registering", f"waiting for {target.home_agent.name}"
        case Registering(target=target, unanswered=unanswered):
            return "registering", f"no answer from {target.home_agent.name} to {unanswered} updates"
        case AtHome():
            return "home", None
        case Deregistering(target=target):
            return "registering", f"ending another registration at {target.home_agent.name} first"
        case Idle() | Registered():
            return _why_idle(discovery, attached, held)
        case _:
            assert_never(registration.state)


def _why_idle(discovery: Discovery, attached: bool, held: str | None) -> Summary:
    if not attached:
        return "no-network", "no link with an address and a default router"
    if held is not None:
        return "no-network", held
    if not discovery.home_agents:
        return "resolving", discovery.problem or discovery.question
    return "no-network", "no home agent can be reached from the addresses of the present links"
