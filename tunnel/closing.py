"""Closes packet sockets without waiting for the kernel.

Performs I/O (a thread for each). The kernel closes one when no packet can still be on its way to it (RCU),
which often takes 20 ms: in the event loop they would be part of a handover.
"""

from __future__ import annotations

import socket
import threading


def close_aside(opened: socket.socket) -> None:
    """Closing twice does nothing."""
    if opened.fileno() >= 0:
        threading.Thread(target=opened.close, name="closing", daemon=True).start()
