"""PartingPlane: the offload plane behind programs that know headers of one length only.

Performs I/O. Of a super-packet that programs have declined for its shorter last segment
they take both parts: these go through the TUN device again, and user space cuts nothing.
"""

from __future__ import annotations

from tunnel.bpf.device_sender import DeviceSender
from tunnel.carriers import reason_not_sent
from tunnel.endpoint import Endpoint
from tunnel.lane import Lane
from tunnel.offload.parting import parted
from tunnel.offload.plane import OffloadPlane
from tunnel.offload.slots import PACKET, Slot
from tunnel.offload.vnet import SuperPacket
from tunnel.path import Encapsulation
from tunnel.plane import Device, OnControl, OnFault, OnSilence


class PartingPlane(OffloadPlane):
    """A DataPlane on a TUN device with offloads and a program at its egress."""

    def __init__(
        self,
        device: Device,
        endpoint: Endpoint,
        on_control: OnControl,
        on_fault: OnFault,
        on_silence: OnSilence | None = None,
    ) -> None:
        self._again = DeviceSender()
        super().__init__(device, endpoint, on_control, on_fault, on_silence)

    def close(self) -> None:
        super().close()
        self._again.close()

    def _passes_on(self, slot: Slot, head: bytes, packet: SuperPacket, lane: Lane) -> bool:
        """A part that is declined as well comes back, and goes by train: it has no shorter segment."""
        if lane.path.encapsulation is not Encapsulation.UDP_TLV or packet.last == packet.size:
            return False
        whole, rest = parted(head, packet)
        begin, end = PACKET + packet.headers, PACKET + packet.length
        part = end - packet.last
        version = head[0] >> 4
        self._send_through_device(version, whole, slot.view[begin:part], packet.segments - 1)
        self._send_through_device(version, rest, slot.view[part:end], 1)
        return True

    def _send_through_device(self, version: int, headers: bytes, payload: memoryview, segments: int) -> None:
        try:
            self._again.send(self._tun_name, version, headers, payload)
        except OSError as error:
            self._endpoint.drop(reason_not_sent(error), segments)
