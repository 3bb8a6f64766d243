"""What the registration machine can be in, and what it asks of the node.

Pure. RFC 6275 sections 11.7 and 11.8, draft section 4.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from mn_agent.binding_update_list import Binding, Target
from mn_agent.messages import Reaction
from runtime.node import Deadline
from tunnel.envelope import ControlPacket
from wire.mobility import BindingAck, BindingStatus, BindingUpdate


# ---- effects: what the machine asks of the node ------------------------------------------------
@dataclass(frozen=True, slots=True)
class SendUpdate:
    """Send `packet` through `target`."""

    target: Target
    packet: ControlPacket


@dataclass(frozen=True, slots=True)
class Bound:
    """The home agent accepted; `binding` replaces `previous`. Payload waits since `woken_at`, if at all."""

    binding: Binding
    previous: Binding | None
    woken_at: float | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """`count` Binding Updates to `target` have had no answer."""

    target: Target
    count: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The home agent said no to `target`."""

    target: Target
    status: int
    reaction: Reaction


@dataclass(frozen=True, slots=True)
class Expired:
    """The lifetime of `binding` has run out without a refresh."""

    binding: Binding


@dataclass(frozen=True, slots=True)
class AskLastSent:
    """Tell the machine by `path_used` when datagrams last passed the binding's path."""

    binding: Binding


@dataclass(frozen=True, slots=True)
class Deregistered:
    """No binding is left at the home agent; `confirmed` by it, or given up after some tries."""

    confirmed: bool


@dataclass(frozen=True, slots=True)
class CameHome:
    """The home agent has let go: nothing is tunnelled any more. `previous` carried the data until now."""

    target: Target
    previous: Binding | None


Effect = SendUpdate | Bound | CameHome | Unanswered | Refused | Expired | AskLastSent | Deregistered


# ---- states: each one carries exactly the data it needs ----------------------------------------
@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to register through, `since` then. `binding` is what the home agent may still believe.

    `left` is the home link, if the mobile node was at home until then.
    """

    binding: Binding | None
    since: float
    left: Target | None = None


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A Binding Update that may still be answered."""

    update: BindingUpdate
    sent_at: float


@dataclass(frozen=True, slots=True)
class Registering:
    """Waiting for an acknowledgement. `previous` carries the data meanwhile, while it lasts.

    With a target on the home link it is the deregistration of who returns home that waits.
    """

    target: Target
    previous: Binding | None
    outstanding: tuple[Outstanding, ...]
    timeout: float
    retry_at: float
    unanswered: int
    bound: bool = False
    """The home agent has a binding already, as far as is known."""
    woken_at: float | None = None
    """Since when payload waits for the acknowledgement, as the mapping may be gone; None if it does not."""


@dataclass(frozen=True, slots=True)
class Registered:
    """Bound. `keepalive_at` is None when the mapping needs no keepalive.

    `asleep`: nobody has to reach this node, so the mapping was given up. The next payload waits for a Binding
    Update (R095).
    """

    binding: Binding
    keepalive_at: float | None
    asleep: bool = False


@dataclass(frozen=True, slots=True)
class AtHome:
    """No binding, and the home agent has said so: the home addresses are on the home link."""

    target: Target
    since: float


@dataclass(frozen=True, slots=True)
class Refusing:
    """The home agent refused; the next try is at `retry_at`, never if that is None.

    `why` says more than the status does, if it is given.
    """

    target: Target
    previous: Binding | None
    status: int
    retry_at: float | None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Deregistering:
    """Asking the home agent to forget us: for good, or because of what it `refused` before."""

    target: Target
    outstanding: tuple[Outstanding, ...]
    timeout: float
    retry_at: float
    refused: Refused | None = None


State = Idle | Registering | Registered | AtHome | Refusing | Deregistering


def carrying(state: State) -> Binding | None:
    """The binding that carries data."""
    match state:
        case Registered(binding=binding):
            return binding
        case Registering(previous=previous) | Refusing(previous=previous):
            return previous
        case Idle() | AtHome() | Deregistering():
            return None
        case _:
            assert_never(state)


def aim_of(state: State) -> Target | None:
    """Where the binding is, or is being made or ended."""
    match state:
        case Registering(target=target) | Refusing(target=target) | Deregistering(target=target):
            return target
        case AtHome(target=target):
            return target
        case Registered(binding=binding):
            return binding.target
        case Idle():
            return None
        case _:
            assert_never(state)


def payload_waits(state: State) -> bool:
    """Whether payload has to wait for a Binding Update."""
    match state:
        case Registered(asleep=asleep):
            return asleep
        case Registering(previous=Binding(), woken_at=woken_at):
            return woken_at is not None
        case _:
            return False


def unanswered(state: State) -> int:
    """Binding Updates to the present target that have had no answer."""
    return state.unanswered if isinstance(state, Registering) else 0


def answered_by(ack: BindingAck, outstanding: tuple[Outstanding, ...]) -> Outstanding | None:
    """The update that `ack` answers. Status 135 is exempt from the match (RFC 6275 11.7.3)."""
    if ack.status == BindingStatus.SEQUENCE_OUT_OF_WINDOW and outstanding:
        return outstanding[-1]
    return next((sent for sent in outstanding if sent.update.sequence == ack.sequence), None)


def expiry_of(binding: Binding) -> Deadline:
    """When `binding` ends if nothing refreshes it."""
    return Deadline(binding.expires_at, "binding expiry")
