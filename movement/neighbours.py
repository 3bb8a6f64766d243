"""The routers in the kernel's neighbour table: how to ask for them, what the answer says, whom to hear of.

Pure. RFC 826, RFC 4861 section 7.3, rtnetlink(7).
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from movement.snapshot import Address
from wire.classic_bpf import Instruction, assembled
from wire.netlink import HEADER_SIZE, REQUEST, attributes, message
from wire.rtnetlink import NEIGHBOUR, Kind, NeighbourAttribute

MAX_ROUTERS = 16
"""Routers that are asked about; anybody can advertise more."""

Place = tuple[int, Address]
"""Interface index and address of a neighbour."""

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_INCOMPLETE, _DELAY, _PROBE, _FAILED, _WITHOUT_ARP = 0x01, 0x08, 0x10, 0x20, 0x40
_NOT_RESOLVED = _INCOMPLETE | _FAILED | _WITHOUT_ARP


@dataclass(frozen=True, slots=True)
class Neighbour:
    """`hardware` None: not resolved, or a link without link-layer addresses. `silent`: it did not answer."""

    place: Place
    hardware: bytes | None
    silent: bool
    undecided: bool = False
    """The kernel is asking: word of the outcome follows."""


def query(place: Place) -> bytes:
    """RTM_GETNEIGH for one neighbour; where there is no entry the kernel says ENOENT."""
    index, address = place
    fixed = NEIGHBOUR.pack(_FAMILIES[address.version], index, 0, 0, 0)
    return message(Kind.GET_NEIGHBOUR, REQUEST, fixed, [(NeighbourAttribute.DESTINATION, address.packed)])


def neighbour_in(body: bytes) -> Neighbour | None:
    """What the body of RTM_NEWNEIGH says; None if it is about something else than an IP neighbour."""
    if len(body) < NEIGHBOUR.size:
        return None
    _, index, state, _, _ = NEIGHBOUR.unpack_from(body)
    found = attributes(body, NEIGHBOUR.size)
    packed = found.get(NeighbourAttribute.DESTINATION, b"")
    if len(packed) not in (4, 16):
        return None
    hardware = found.get(NeighbourAttribute.HARDWARE, b"")
    known = hardware if any(hardware) and not state & _NOT_RESOLVED else None
    asking = bool(state & (_INCOMPLETE | _DELAY | _PROBE))
    return Neighbour((index, ip_address(packed)), known, bool(state & _FAILED), asking)


def filter_for(places: Iterable[Place]) -> bytes:
    """Classic BPF for a netlink socket: only word of these neighbours passes, whatever else the LAN does.

    Interface and last four octets of the address are compared; the kernel puts the address into the first
    attribute. Loads are big-endian, while netlink is in the order of this machine.
    """
    index_at = HEADER_SIZE + 4
    address_at = HEADER_SIZE + NEIGHBOUR.size + 4
    program: list[Instruction] = []
    for index, address in sorted(set(places), key=str)[:MAX_ROUTERS]:
        swapped = int.from_bytes(index.to_bytes(4, sys.byteorder), "big")
        packed = address.packed
        program += [
            (0x20, 0, 0, index_at),  # ld [index]
            (0x15, 0, 3, swapped),  # jeq, else to the next neighbour
            (0x20, 0, 0, address_at + len(packed) - 4),  # ld [end of the address]
            (0x15, 0, 1, int.from_bytes(packed[-4:], "big")),  # jeq, else to the next neighbour
            (0x06, 0, 0, 0x40000),  # accept
        ]
    program.append((0x06, 0, 0, 0))  # drop
    return assembled(program)
