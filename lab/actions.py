"""Does what one step of a scenario says.

Performs I/O.
"""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import assert_never

from lab import captivity
from lab.access import LAN
from lab.faults import Faults, ruleset
from lab.plan import far_end
from lab.running import RunningLab
from lab.step import Action, Flap, Step
from lab.streams.journal import now_ns


def perform(lab: RunningLab, step: Step, dark_ms: float) -> int:
    """Carry out a step, and wait `until` it has had its effect; raises LabError when it cannot be done.

    Returns the instant from which its effect is watched: the beginning, or the last of many flaps.
    """
    began = _act(lab, step, dark_ms)
    if step.until is not None:
        lab.machines[lab.topology.roles.mobile_node].run(step.until)
    return began


def _act(lab: RunningLab, step: Step, dark_ms: float) -> int:
    began = now_ns()
    node = lab.topology.roles.mobile_node
    host = step.on or node
    match step.action:
        case Action.MOVE:
            assert step.move is not None
            interface = cable_of(lab, step)
            lab.unplug(node, interface)
            time.sleep(dark_ms / 1e3)
            lab.plug(node, interface, step.move)
        case Action.PLUG:
            assert step.plug is not None
            lab.plug(node, cable_of(lab, step), step.plug)
        case Action.UNPLUG:
            assert step.unplug is not None
            lab.unplug(node, step.unplug)
        case Action.FLAP:
            assert step.flap is not None
            return _flap(lab, cable_of(lab, step), step.flap)
        case Action.SUSPEND:
            assert step.suspend is not None
            return _suspend(lab, step.suspend)
        case Action.ROAM:
            assert step.roam is not None
            lab.machines[node].run(["mnctl", "roam", "--to", step.roam])
        case Action.RUN:
            assert step.run is not None
            lab.machines[host].run(step.run)
        case Action.STOP:
            assert step.stop is not None
            lab.stop(host, step.stop, signal.Signals[f"SIG{step.signal}"])
        case Action.START:
            assert step.start is not None
            lab.start(host, lab.declared_service(host, step.start))
        case Action.WAIT:
            assert step.wait is not None
            time.sleep(step.wait)
        case Action.FLUSH_NAT:
            assert step.flush_nat is not None
            lab.machines[step.flush_nat].run(["conntrack", "-F"])
        case Action.LOSE | Action.BLOCK | Action.BLACK_HOLE | Action.SILENCE_DHCP:
            _worsen(lab, step)
        case Action.CAPTIVE:
            assert step.captive is not None
            lab.machines[step.captive].write(captivity.MARK, "")
            lab.machines[step.captive].run(["nft", "-f", "-"], captivity.closed(LAN))
        case Action.LOGIN:
            assert step.login is not None
            lab.machines[step.login].run(["rm", "-f", captivity.MARK])
            lab.machines[step.login].run(["nft", "-f", "-"], captivity.OPEN)
        case Action.MEND:
            assert step.mend is not None
            _make(lab, step.mend, Faults())
        case _ as never:
            assert_never(never)
    return began


def cable_of(lab: RunningLab, step: Step) -> str:
    """The interface whose cable a step takes: the named one, else the first plugged in, else the first."""
    if step.interface is not None:
        return step.interface
    interfaces = lab.topology.mobile_node.interfaces
    node = lab.topology.roles.mobile_node
    return next((i for i in interfaces if lab.cables[node, i] is not None), interfaces[0])


def _worsen(lab: RunningLab, step: Step) -> None:
    """One more thing is wrong with a network, beside what is already."""
    network = step.silence_dhcp or step.on
    assert network is not None
    faults = lab.faults.get(network, Faults())
    if step.lose is not None:
        faults = replace(faults, lose=step.lose)
    if step.block is not None:
        faults = replace(faults, blocks=(*faults.blocks, step.block))
    if step.black_hole is not None:
        faults = replace(faults, black_hole=step.black_hole)
        lab.send_single_packets(network)
    if step.silence_dhcp is not None:
        faults = replace(faults, silent_dhcp=True)
    _make(lab, network, faults)


def _make(lab: RunningLab, network: str, faults: Faults) -> None:
    lab.machines[network].run(["nft", "-f", "-"], ruleset(faults))
    lab.faults[network] = faults


def _flap(lab: RunningLab, interface: str, flap: Flap) -> int:
    """The carrier goes and comes so many times; the instant at which it went last."""
    node = lab.topology.roles.mobile_node
    network = lab.cables[node, interface]
    end = far_end(node, interface)
    machine = None if network is None else lab.machines[network]
    half = 0.5 / flap.times_a_second
    began, went = time.monotonic(), now_ns()
    for turn in range(round(flap.times_a_second * flap.seconds)):
        went = now_ns()
        for late, state in ((0, "down"), (1, "up")):
            time.sleep(max(0.0, began + (2 * turn + late) * half - time.monotonic()))
            if machine is not None:
                machine.run(["ip", "link", "set", end, state])
    return went


def _suspend(lab: RunningLab, seconds: float) -> int:
    """The mobile node sleeps: its programs stand still, its links are gone. On waking the links come first.

    Both clocks of the kernel go on meanwhile, since the kernel itself is awake.
    """
    node = lab.topology.roles.mobile_node
    plugged = {i: network for (host, i), network in lab.cables.items() if host == node and network}
    frozen = lab.signal_all(node, signal.SIGSTOP)
    for interface in plugged:
        lab.unplug(node, interface)
    time.sleep(seconds)
    woke = now_ns()
    for interface, network in plugged.items():
        lab.plug(node, interface, network)
    lab.signal_all(node, signal.SIGCONT, frozen)
    return woke
