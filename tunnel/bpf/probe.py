"""Whether this kernel can have the kernel tier at all, and if not, why, in words.

Performs I/O (loads a small program and runs it on a packet that goes nowhere).
"""

from __future__ import annotations

import errno
import os

from tunnel.bpf.assembler import R2, R3, R4, R10, Assembler, Helper
from tunnel.bpf.egress import FIB_MARK, FIB_SIZE
from tunnel.bpf.system import Program, VerifierError

_FRAME = bytes(12) + b"\x08\x00" + bytes(20)
_LOOPBACK = 1


def demand_kernel() -> None:
    """OSError if routes cannot be looked up by mark (Linux 6.10), or programs cannot be loaded."""
    a = Assembler()
    for offset in range(0, FIB_SIZE, 8):
        a.store(8, R10, offset - FIB_SIZE, 0)
    a.store(1, R10, -FIB_SIZE, 2)  # AF_INET
    a.store(4, R10, 8 - FIB_SIZE, _LOOPBACK)
    a.address(R2, R10, -FIB_SIZE)
    a.move(R3, FIB_SIZE)
    a.move(R4, FIB_MARK)
    a.call(Helper.FIB_LOOKUP)
    a.exit()
    program = Program("mip_probe", a.assemble())
    try:
        if program.test(_FRAME).verdict == 2**32 - errno.EINVAL:
            raise OSError(errno.EOPNOTSUPP, "routes cannot be looked up by mark")
    finally:
        program.close()


def explained(error: OSError) -> str:
    """For a person: what is missing."""
    if isinstance(error, VerifierError):
        return str(error.strerror)
    release = os.uname().release
    return {
        errno.EPERM: "not permitted: CAP_BPF and CAP_NET_ADMIN are needed",
        errno.EACCES: "not permitted: CAP_BPF and CAP_NET_ADMIN are needed",
        errno.ENOSYS: "this kernel has no bpf(2)",
        errno.EINVAL: f"Linux {release} cannot do it: 6.10 is needed",
        errno.EOPNOTSUPP: f"Linux {release} cannot do it: 6.10 is needed",
    }.get(error.errno or 0, error.strerror or str(error))
