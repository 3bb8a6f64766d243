"""From an ordinary process to a supervisor in a PID namespace of its own, in front or in the background.

Performs I/O.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from lab.namespaces import LabError, become_first_process, environment, unshare_processes

SUPERVISOR = ("-m", "lab.supervisor")
PATIENCE = 5
"""Whole seconds that a supervisor has to end by itself; the kernel takes down what it leaves."""


def run_in_front(arguments: Sequence[str], supervisor: Sequence[str] = SUPERVISOR) -> int:
    """Run a supervisor in the foreground and return its exit code. It dies with this process.

    `supervisor` is the module that is one, as python takes it.
    """
    unshare_processes()
    child = os.fork()
    if child == 0:
        _become_supervisor([*supervisor, *arguments], die_with_parent=True)
    # Ctrl-C reaches the supervisor from the terminal; it takes the lab down, and this process waits for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end(number: int, _: object) -> None:
        """The first process of a PID namespace does not hear a signal before it has a handler for it."""
        os.kill(child, number)
        signal.alarm(PATIENCE)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def run_behind(arguments: Sequence[str]) -> None:
    """Start a supervisor that goes on without this process; returns when its lab is ready.

    Raises LabError with what the supervisor said when it could not make the lab.
    """
    said, say = os.pipe()
    starter = os.fork()
    if starter == 0:
        os.close(said)
        _detach(arguments, say)
    os.close(say)
    os.waitpid(starter, 0)
    with os.fdopen(said) as pipe:
        answer = pipe.read()
    if answer != READY:
        raise LabError(answer.strip() or "the supervisor ended without a word")


READY = "ready"
"""What a background supervisor writes to the pipe it was given once its lab can be used."""


def _detach(arguments: Sequence[str], say: int) -> None:
    """In the starter: its child is the supervisor, and nobody waits for it."""
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        unshare_processes()
        if os.fork() == 0:
            os.set_inheritable(say, True)
            command = [*SUPERVISOR, *arguments, f"--ready={say}"]
            _become_supervisor(command, die_with_parent=False, complain_to=say)
    except LabError as error:
        os.write(say, str(error).encode())
    os._exit(0)


def _become_supervisor(command: Sequence[str], die_with_parent: bool, complain_to: int = 2) -> None:
    """In the first process of a new PID namespace; never returns."""
    try:
        become_first_process(die_with_parent)
        os.execve(sys.executable, [sys.executable, *command], environment())
    except (LabError, OSError) as error:
        os.write(complain_to, f"{error}\n".encode())
    os._exit(1)
