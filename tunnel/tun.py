"""The TUN device: where the host's packets become ours and ours become the host's.

Performs I/O (python-pytun creates the device; packets are read and written on its descriptor).
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Self

import pytun

_NO_ADDRESSES = "1"  # addr_gen_mode: no link-local address, hence no router solicitation into the tunnel


class TunDevice:
    """A TUN device without packet information, non-blocking and closed on exec. It vanishes when closed."""

    __slots__ = ("_device", "name")

    def __init__(self, device: pytun.TunTapDevice) -> None:
        self._device = device
        self.name: str = device.name

    @classmethod
    def open(cls, name: str, mtu: int) -> Self:
        """Create the device and bring it up. OSError with a message for a person if the kernel refuses."""
        try:
            device = pytun.TunTapDevice(name=name, flags=pytun.IFF_TUN | pytun.IFF_NO_PI)
        except (pytun.Error, OSError) as error:
            raise _explained(error, name) from None
        try:
            os.set_blocking(device.fileno(), False)
            os.set_inheritable(device.fileno(), False)
            with contextlib.suppress(OSError):  # a host without IPv6 has no such file, and needs none
                Path(f"/proc/sys/net/ipv6/conf/{device.name}/addr_gen_mode").write_text(_NO_ADDRESSES)
            device.mtu = mtu
            device.up()
        except (pytun.Error, OSError) as error:
            device.close()
            raise _explained(error, name) from None
        return cls(device)

    def fileno(self) -> int:
        descriptor: int = self._device.fileno()
        return descriptor

    def close(self) -> None:
        """Delete the device. Closing twice does nothing."""
        with contextlib.suppress(pytun.Error, OSError):
            self._device.close()


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
