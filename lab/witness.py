"""What the witness on the mobile node wrote -> when an interface could be used.

Pure. An interface can be used in a family once it has a carrier, a global address that is not tentative (or
is optimistic, RFC 4429), and a default route.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal


@dataclass(frozen=True, slots=True)
class Witnessed:
    """One change; `detail` is the address of an address, the family of a route."""

    at_ns: int
    interface: str
    what: Literal["carrier", "address", "route"]
    present: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Usable:
    """When a link came up and when its first family could be used; None for what did not happen."""

    link_ns: int | None
    usable_ns: int | None


def read_witness(lines: Iterable[str]) -> Iterator[Witnessed]:
    """The lines that lab.monitor wrote; a last line that is not complete yet is left out."""
    for line in lines:
        if not line.endswith("\n"):
            return
        said = json.loads(line)
        detail = str(said.get("address", said.get("family", "")))
        yield Witnessed(round(said["at"] * 1e9), said["interface"], said["what"], said["present"], detail)


def first_usable(
    witnessed: Sequence[Witnessed], interface: str, since_ns: int, until_ns: int, cut: str | None
) -> Usable:
    """When `interface` was first usable from `since_ns` on.

    When its own cable was pulled at that instant (`cut`), nothing that was known of it before counts.
    """
    state = _State()
    link: int | None = None
    for one in witnessed:
        if one.interface != interface or one.at_ns >= until_ns:
            continue
        if one.at_ns < since_ns:
            if cut != interface:
                state.apply(one)
            continue
        if state.usable:
            break
        state.apply(one)
        if one.what == "carrier":
            link = one.at_ns if one.present else None
        if state.usable:
            return Usable(link, one.at_ns)
    return Usable(link, since_ns if state.usable else None)


@dataclass(slots=True)
class _State:
    """What one interface has now."""

    carrier: bool = False
    addresses: set[str] = field(default_factory=set)
    routes: set[int] = field(default_factory=set)

    def apply(self, one: Witnessed) -> None:
        match one.what:
            case "carrier":
                self.carrier = one.present
                if not one.present:
                    # The kernel tells of some routes that go with the carrier and is silent on others.
                    self.addresses.clear()
                    self.routes.clear()
            case "address":
                self.addresses.add(one.detail) if one.present else self.addresses.discard(one.detail)
            case "route":
                self.routes.add(int(one.detail)) if one.present else self.routes.discard(int(one.detail))

    @property
    def usable(self) -> bool:
        families = {ip_address(address).version for address in self.addresses}
        return self.carrier and bool(families & self.routes)
