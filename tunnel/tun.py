"""The TUN device: where the host's packets become ours and ours become the host's.

Performs I/O (python-pytun creates the device; packets are read and written on its descriptor). With offloads
each packet has a header before it, and large ones of TCP and UDP come whole: see `tunnel.offload.vnet`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import Self

import pytun

from tunnel.offload.vnet import Offload

_TUNSETOFFLOAD = 0x400454D0  # linux/if_tun.h
_OFFLOADS = Offload.CHECKSUM | Offload.TCP4 | Offload.TCP6
_OFFLOADS_OF_UDP = Offload.UDP4 | Offload.UDP6  # Linux 6.2
_NO_ADDRESSES = "1"  # addr_gen_mode: no link-local address, hence no router solicitation into the tunnel


class NoOffloads(OSError):
    """TUN devices work here, but offloads of theirs do not."""


class TunDevice:
    """A TUN device without packet information, non-blocking and closed on exec. It vanishes when closed."""

    __slots__ = ("_device", "name", "vnet_header")

    def __init__(self, device: pytun.TunTapDevice, vnet_header: bool = False) -> None:
        self._device = device
        self.name: str = device.name
        self.vnet_header = vnet_header

    @classmethod
    def open(cls, name: str, mtu: int, offload: bool = False) -> Self:
        """Create the device and bring it up. OSError with a message for a person if the kernel refuses."""
        flags = pytun.IFF_TUN | pytun.IFF_NO_PI | (pytun.IFF_VNET_HDR if offload else 0)
        try:
            device = pytun.TunTapDevice(name=name, flags=flags)
        except (pytun.Error, OSError) as error:
            raise _explained(error, name) from None
        try:
            os.set_blocking(device.fileno(), False)
            os.set_inheritable(device.fileno(), False)
            if offload:
                _take_offloads(device.fileno())
            with contextlib.suppress(OSError):  # a host without IPv6 has no such file, and needs none
                Path(f"/proc/sys/net/ipv6/conf/{device.name}/addr_gen_mode").write_text(_NO_ADDRESSES)
            device.mtu = mtu
            device.up()
        except NoOffloads:
            device.close()
            raise
        except (pytun.Error, OSError) as error:
            device.close()
            raise _explained(error, name) from None
        return cls(device, offload)

    def fileno(self) -> int:
        descriptor: int = self._device.fileno()
        return descriptor

    def close(self) -> None:
        """Delete the device. Closing twice does nothing."""
        with contextlib.suppress(pytun.Error, OSError):
            self._device.close()


def _take_offloads(descriptor: int) -> None:
    for offloads in (_OFFLOADS | _OFFLOADS_OF_UDP, _OFFLOADS):
        try:
            fcntl.ioctl(descriptor, _TUNSETOFFLOAD, offloads)
        except OSError as error:
            refused = error
        else:
            return
    raise NoOffloads(refused.errno, f"this kernel's TUN devices have no offloads: {refused.strerror}")


def _explained(error: Exception, name: str) -> OSError:
    """pytun's own error has a number and a text, like OSError, or a text alone when it refuses the name."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else errno.EINVAL
    reason = {
        errno.ENOENT: "/dev/net/tun is missing: load the tun module, or give the container the device",
        errno.EPERM: "not permitted: CAP_NET_ADMIN is needed",
        errno.EACCES: "not permitted: /dev/net/tun must be readable and writable",
        errno.EBUSY: "another process uses a device of this name",
        errno.EINVAL: "the name is not usable, or belongs to a device of another kind",
    }.get(number, os.strerror(number))
    return OSError(number, f"TUN device {name}: {reason}")
