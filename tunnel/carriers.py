"""Which underlay carries the packets of a lane, and what seals them before.

Pure. RFC 5555 section 4.1; fail closed: what should be protected and cannot be goes nowhere.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from tunnel.endpoint import Endpoint
from tunnel.lane import Lane
from tunnel.path import Drop, TunnelPath
from tunnel.plane import Carrier, Send

NO_CARRIER = Drop("no-underlay")
NO_KEYS = Drop("no-payload-keys")
KEYS_USED_UP = Drop("payload-keys-used-up")
QUEUE_FULL = Drop("send-queue-full")


class Carriers(list[Carrier]):
    """The underlays that are attached. With `trains`, lanes are also given a way to send many at once."""

    def __init__(self, carriers: Iterable[Carrier] = (), trains: bool = False) -> None:
        super().__init__(carriers)
        self._trains = trains

    def of(self, path: TunnelPath) -> Carrier | None:
        """The one through which packets leave by `path`."""
        for carrier in self:
            other_port = path.local_port not in (0, carrier.port)
            if carrier.local != path.local or (path.encapsulation.in_udp and other_port):
                continue
            if not path.interface or not carrier.interface or path.interface == carrier.interface:
                return carrier
        return None

    def connect(self, lane: Lane, endpoint: Endpoint) -> Send:
        """Give `lane` its ways to send; a refusal, asked anew for every packet, while there is none."""
        carrier = self.of(lane.path)
        if carrier is None:
            return _refuse_without_underlay
        seal = None
        if lane.path.encapsulation.protected:
            session = endpoint.session(lane.path)
            if session is None:
                return _refuse_without_keys
            seal = session.sealer
            endpoint.connected(lane)
        path = endpoint.destination(lane.path)
        lane.send_fragmented = carrier.fragmenting_sender(path, seal)
        lane.train = carrier.train_sender(path, seal) if self._trains else None
        lane.send = carrier.sender(path, seal)
        return lane.send


def _refuse_without_underlay(packet: bytes) -> None:
    raise OSError(errno.EADDRNOTAVAIL, "no underlay has the local address of the path")


def _refuse_without_keys(packet: bytes) -> None:
    raise OSError(errno.ENOKEY, "no keys have been agreed for the path")


def reason_not_sent(error: OSError) -> Drop:
    """Why a packet went no further, as it is counted."""
    match error.errno:
        case errno.EAGAIN | errno.ENOBUFS:
            return QUEUE_FULL
        case errno.EADDRNOTAVAIL:
            return NO_CARRIER
        case errno.ENOKEY:
            return NO_KEYS
        case errno.EKEYEXPIRED:
            return KEYS_USED_UP
        case _:
            return Drop(f"send-{error_name(error)}")


def error_name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, "unknown").lower()
