"""Does what one step of a scenario says.

Performs I/O.
"""

from __future__ import annotations

import contextlib
import signal
import time
from typing import assert_never

from lab.namespaces import LabError
from lab.plan import UPLINK
from lab.running import RunningLab
from lab.scenario import Action, Scenario, Step

_LOSS = "mn-lab-loss"


def perform(lab: RunningLab, scenario: Scenario, step: Step) -> None:
    """Carry out a step; raises LabError when it cannot be done."""
    node = lab.topology.roles.mobile_node
    host = step.on or node
    match step.action:
        case Action.MOVE:
            assert step.move is not None
            interface = cable_of(lab, step)
            lab.unplug(node, interface)
            time.sleep(scenario.dark_ms / 1e3)
            lab.plug(node, interface, step.move)
        case Action.PLUG:
            assert step.plug is not None
            lab.plug(node, cable_of(lab, step), step.plug)
        case Action.UNPLUG:
            assert step.unplug is not None
            lab.unplug(node, step.unplug)
        case Action.ROAM:
            assert step.roam is not None
            lab.machines[node].run(["mnctl", "roam", "--to", step.roam])
        case Action.RUN:
            assert step.run is not None
            lab.machines[host].run(step.run)
        case Action.FLUSH_NAT:
            assert step.flush_nat is not None
            lab.machines[step.flush_nat].run(["conntrack", "-F"])
        case Action.LOSE:
            assert step.lose is not None
            assert step.on is not None
            _lose(lab, step.on, step.lose)
        case Action.STOP:
            assert step.stop is not None
            lab.stop(host, step.stop, signal.Signals[f"SIG{step.signal}"])
        case Action.START:
            assert step.start is not None
            lab.start(host, lab.declared_service(host, step.start))
        case Action.WAIT:
            assert step.wait is not None
            time.sleep(step.wait)
        case _ as never:
            assert_never(never)


def cable_of(lab: RunningLab, step: Step) -> str:
    """The interface whose cable a step takes: the named one, else the first plugged in, else the first."""
    if step.interface is not None:
        return step.interface
    interfaces = lab.topology.mobile_node.interfaces
    node = lab.topology.roles.mobile_node
    return next((i for i in interfaces if lab.cables[node, i] is not None), interfaces[0])


def _lose(lab: RunningLab, network: str, percent: int) -> None:
    """Drop so many packets of a hundred on the router of a network, in both directions; 0 ends it."""
    router = lab.machines[network]
    with contextlib.suppress(LabError):  # when there is none yet
        router.run(["nft", "delete", "table", "inet", _LOSS])
    if percent:
        rule = f"numgen random mod 100 < {percent} drop"
        router.run(
            ["nft", "-f", "-"],
            f"table inet {_LOSS} {{\n chain forward {{\n type filter hook forward priority raw\n"
            f' iifname "{UPLINK}" {rule}\n oifname "{UPLINK}" {rule}\n }}\n}}\n',
        )
