"""The tiers of the data plane: the fastest that this host can have, its TUN device, and why not a faster one.

Performs I/O. Each tier wants its TUN device opened in its own way, so device and plane are opened together.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from tunnel.bpf.declined import PartingPlane
from tunnel.bpf.plane import KernelPlane
from tunnel.bpf.probe import demand_kernel, explained
from tunnel.endpoint import Endpoint, Role
from tunnel.kernel import KernelError
from tunnel.offload.plane import OffloadPlane
from tunnel.plane import DataPlane, DataPlaneChoice, OnControl, OnFault, OnSilence, Tier, TierReport
from tunnel.portable import PortablePlane
from tunnel.rtmessages import limit_super_packets
from tunnel.rtnetlink import Rtnetlink
from tunnel.tun import NoOffloads, TunDevice

_FITS_A_TRAIN = 60 << 10
"""Octets of a super-packet whose segments leave as one train: what is left over of one would have to leave
with the next, and be joined by itself. TCP of this host keeps to the limit at no cost; what is forwarded the
kernel would cut into single packets."""


class TierUnavailable(Exception):
    """This host cannot have the tier; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a data plane is given: its endpoint, and whom it tells what."""

    endpoint: Endpoint
    on_control: OnControl
    on_fault: OnFault
    on_silence: OnSilence | None = None
    protected: bool = False
    """All payload is to be protected."""
    tlv: bool = False
    """Payload may have a TLV header, and its length with it."""
    forwards: bool = False
    """Payload is not only this host's own."""


class Tunnel:
    """A TUN device and the data plane on it."""

    def __init__(
        self, device: TunDevice, plane: DataPlane, reopen: Callable[[], TunDevice], report: TierReport
    ) -> None:
        self.device = device
        self.plane = plane
        self.report = report
        self._reopen = reopen

    def renew_device(self) -> None:
        """Go on with a new device of the same name, since somebody deleted the old one. OSError if not."""
        self.device.close()
        self.device = self._reopen()
        self.plane.renew(self.device)

    def close(self) -> None:
        """Stop the plane and delete the device. Closing twice does nothing."""
        self.plane.close()
        self.device.close()


@dataclass(frozen=True, slots=True)
class _Way:
    """How a tier is brought up. Either function raises TierUnavailable if this host cannot have it."""

    open_device: Callable[[str, int, Wiring], TunDevice]
    open_plane: Callable[[TunDevice, Wiring], DataPlane]


def _plain_device(name: str, mtu: int, wiring: Wiring) -> TunDevice:
    return TunDevice.open(name, mtu)


def _portable_plane(device: TunDevice, wiring: Wiring) -> DataPlane:
    return PortablePlane(device, wiring.endpoint, wiring.on_control, wiring.on_fault, wiring.on_silence)


def _offloading_device(name: str, mtu: int, wiring: Wiring) -> TunDevice:
    try:
        device = TunDevice.open(name, mtu, offload=True)
    except NoOffloads as error:
        raise TierUnavailable(str(error)) from None
    if wiring.endpoint.role is Role.MOBILE_NODE and not wiring.forwards:
        with contextlib.suppress(KernelError), contextlib.closing(Rtnetlink()) as kernel:
            kernel.execute([limit_super_packets(socket.if_nametoindex(device.name), _FITS_A_TRAIN)])
    return device


def _offload_plane(device: TunDevice, wiring: Wiring) -> DataPlane:
    return OffloadPlane(device, wiring.endpoint, wiring.on_control, wiring.on_fault, wiring.on_silence)


def _device_of_programs(name: str, mtu: int, wiring: Wiring) -> TunDevice:
    """Programs see super-packets whatever the device has; those with a TLV header are often declined."""
    with contextlib.suppress(NoOffloads):
        return TunDevice.open(name, mtu, offload=wiring.tlv)
    return TunDevice.open(name, mtu)


def _kernel_plane(device: TunDevice, wiring: Wiring) -> DataPlane:
    def slow(on_fault: OnFault, on_silence: OnSilence | None) -> DataPlane:
        behind = PartingPlane if device.vnet_header else PortablePlane
        return behind(device, wiring.endpoint, wiring.on_control, on_fault, on_silence)

    if wiring.protected:
        raise TierUnavailable("payload is protected, which is done in user space")
    try:
        demand_kernel()
        return KernelPlane(device, wiring.endpoint, wiring.on_fault, wiring.on_silence, slow)
    except OSError as error:
        raise TierUnavailable(explained(error)) from None


_WAYS: Mapping[Tier, _Way] = {
    Tier.KERNEL: _Way(_device_of_programs, _kernel_plane),
    Tier.OFFLOAD: _Way(_offloading_device, _offload_plane),
    Tier.PORTABLE: _Way(_plain_device, _portable_plane),
}


def open_tunnel(choice: DataPlaneChoice, name: str, mtu: int, wiring: Wiring) -> Tunnel:
    """Open TUN device `name` and the tier of `choice`, or the next slower one that works.

    OSError, with a message for a person, if there is no TUN device to be had at all.
    """
    reasons = [] if choice == "auto" else [f"{choice} is configured"]
    for tier in _candidates(choice):
        try:
            device, plane = _open(tier, name, mtu, wiring)
        except TierUnavailable as unavailable:
            reasons.append(f"{tier.value}: {unavailable}")
            continue
        report = TierReport(tier, choice, None if tier is Tier.KERNEL else "; ".join(reasons))
        return Tunnel(device, plane, partial(_WAYS[tier].open_device, name, mtu, wiring), report)
    raise AssertionError("the portable tier is always available")


def _open(tier: Tier, name: str, mtu: int, wiring: Wiring) -> tuple[TunDevice, DataPlane]:
    way = _WAYS.get(tier)
    if way is None:
        raise TierUnavailable("not in this version")
    device = way.open_device(name, mtu, wiring)
    try:
        return device, way.open_plane(device, wiring)
    except TierUnavailable:
        device.close()
        raise


def _candidates(choice: DataPlaneChoice) -> Iterator[Tier]:
    """The tier that was chosen and those below it, which replace it where it cannot be had."""
    chosen = choice == "auto"
    for tier in Tier:
        chosen = chosen or tier.value == choice
        if chosen:
            yield tier
