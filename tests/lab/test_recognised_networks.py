"""Coming back to a network: the agent's own ARP against a DHCP server that is silent, and look-alikes.

The agent sets addresses here (`[movement] addresses = "agent"`), beside dhcpcd. When things happened is read
from the kernel's own words (`ip -ts monitor`), not from the agent's.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.lab.conftest import LabUnderTest, mnctl_lab, unique_name
from tests.lab.patience import wait_until

AGENT = "setsid mn-agent >/tmp/mn-agent.again.log 2>&1 &"
OURS = 191


@pytest.fixture(scope="module")
def lab() -> Iterator[LabUnderTest]:
    """A lab whose mobile node sets addresses itself, and has been to the cafe and to the hotel."""
    name = unique_name()
    done = mnctl_lab("up", "--name", name)
    assert done.returncode == 0, done.stderr
    try:
        under_test = LabUnderTest(name)
        key = '[movement]\\naddresses = "agent"\\n'
        wait = "while pidof -x mn-agent; do sleep 0.05; done"
        under_test.output(
            "mn", "sh", "-c", f"printf '{key}' >> /etc/mn-agent/mn-agent.toml; mn-agent --check"
        )
        under_test.output("mn", "sh", "-c", f"kill $(pidof -x mn-agent); {wait}; {AGENT}")
        for network, prefix in (("cafe", "192.168.7."), ("hotel", "10.20.0.")):
            under_test.plug("eth0", network)
            wait_until(partial(remembers, under_test, prefix), f"{network} is remembered")
        yield under_test
    finally:
        mnctl_lab("down", "--lab", name)


def remembers(lab: LabUnderTest, prefix: str) -> bool:
    return prefix in remembered(lab)


def remembered(lab: LabUnderTest) -> str:
    return lab.run("mn", "cat", "/var/lib/mn-agent/networks.json").stdout


def addresses(lab: LabUnderTest) -> dict[str, int]:
    """IPv4 address of eth0 -> the protocol number of whoever has set it; `ip` does not show that yet."""
    script = (
        "import json\nfrom pyroute2 import IPRoute\nwith IPRoute() as kernel:\n"
        "    (index,) = kernel.link_lookup(ifname='eth0')\n"
        "    found = kernel.get_addr(family=2, index=index)\n"
        "print(json.dumps({a.get_attr('IFA_LOCAL'): a.get_attr('IFA_PROTO') or 0 for a in found}))"
    )
    return dict(json.loads(lab.python("mn", script)))


def optimistic(lab: LabUnderTest) -> str:
    """Whether new IPv6 addresses are used while they are still being tested (RFC 4429)."""
    names = (f"net.ipv6.conf.eth0.{name}" for name in ("optimistic_dad", "use_optimistic"))
    return lab.output("mn", "sysctl", "-n", *names)


def default_routes(lab: LabUnderTest) -> list[dict[str, object]]:
    return list(json.loads(lab.output("mn", "ip", "-j", "-4", "route", "show", "default", "dev", "eth0")))


def watched_plug(lab: LabUnderTest, network: str, address: str) -> float:
    """Milliseconds from the carrier to `address`, by the kernel's clock."""
    monitor = "setsid ip -ts -o monitor link addr >/tmp/monitor 2>&1 & echo $! >/tmp/monitor.pid"
    begun = "until [ -s /tmp/monitor ]; do ip link set eth0 alias watched; sleep 0.05; done"
    lab.output("mn", "sh", "-c", f"rm -f /tmp/monitor; {monitor}; {begun}")
    lab.plug("eth0", network)
    wait_until(lambda: address in lab.output("mn", "ip", "-4", "addr", "show", "dev", "eth0"), address)
    told = f"until grep -q 'inet {address}/' /tmp/monitor; do sleep 0.05; done"
    text = lab.output("mn", "sh", "-c", f"{told}; kill $(cat /tmp/monitor.pid); cat /tmp/monitor")
    lines = [line for line in text.splitlines() if "eth0" in line and "Deleted" not in line]
    came = next(line for line in lines if f"inet {address}/" in line)
    before = lines[: lines.index(came)]
    # A short absence of the carrier is not always told (the kernel merges what happens within a second).
    unplugged = max((n for n, line in enumerate(before) if "NO-CARRIER" in line), default=None)
    carriers = [line for line in before[unplugged:] if "LOWER_UP" in line]
    carrier = carriers[-1] if unplugged is None else carriers[0]
    return (_seconds(came) - _seconds(carrier)) * 1000


def _seconds(line: str) -> float:
    hours, minutes, seconds = line[12:27].split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


@pytest.mark.requirement("R112")
def test_a_known_network_gives_its_address_back_without_dhcp_which_takes_it_over_later(
    lab: LabUnderTest,
) -> None:
    mnctl_lab("do", "--lab", lab.name, 'silence_dhcp = "cafe"')
    lease = re.search(r"192\.168\.7\.\d+(?=\",\"client_id)", remembered(lab))
    assert lease is not None
    took = watched_plug(lab, "cafe", lease[0])
    assert took < 10_000, "it takes one ARP round trip; from the silent server there would be none at all"
    assert addresses(lab) == {lease[0]: OURS}
    assert optimistic(lab) == "1\n1\n"
    (route,) = default_routes(lab)
    assert (route["gateway"], route["protocol"]) == ("192.168.7.1", str(OURS))
    lab.wait_for("mn", "mnctl", "wait", "--for", "bound", "--timeout", "1")
    (shown,) = json.loads(lab.output("mn", "mnctl", "status", "--json"))["networks"]
    assert (shown["interface"], shown["by"], shown["address_set"]) == ("eth0", "arp", lease[0])

    mnctl_lab("do", "--lab", lab.name, 'mend = "cafe"')
    lab.output("mn", "sh", "-c", "dhcpcd -n eth0 || true")
    wait_until(lambda: [r["protocol"] for r in default_routes(lab)] == ["dhcp"], "dhcpcd has taken over")
    assert list(addresses(lab)) == [lease[0]]
    assert OURS not in addresses(lab).values(), "it is dhcpcd's now"
    assert json.loads(lab.output("mn", "mnctl", "status", "--json"))["networks"] != []


@pytest.mark.requirement("R112")
def test_another_network_that_looks_alike_gets_no_address_and_a_stop_leaves_none_behind(
    lab: LabUnderTest,
) -> None:
    """The gateway has the address that is known, and other hardware."""
    lab.plug("eth0", "hotel")
    wait_until(lambda: any(one.startswith("10.20.0.") for one in addresses(lab)), "an address in the hotel")
    mnctl_lab("do", "--lab", lab.name, 'silence_dhcp = "cafe"')
    hardware = lab.output("cafe", "cat", "/sys/class/net/lan/address").strip()
    lab.output("cafe", "ip", "link", "set", "lan", "address", "02:00:00:00:00:66")
    lab.plug("eth0", "cafe")
    wait_until(lambda: addresses(lab) == {}, "the address of the hotel is gone")
    time.sleep(1.2)
    assert addresses(lab) == {}
    lab.output("cafe", "ip", "link", "set", "lan", "address", hardware)
    lab.plug("eth0", "hotel")
    wait_until(lambda: any(one.startswith("10.20.0.") for one in addresses(lab)), "an address in the hotel")
    time.sleep(1.0)
    lab.plug("eth0", "cafe")
    wait_until(lambda: OURS in addresses(lab).values(), "the address of the cafe")
    wait = "while pidof -x mn-agent; do sleep 0.05; done"
    lab.output("mn", "sh", "-c", f"kill $(pidof -x mn-agent); {wait}")
    assert addresses(lab) == {}
    assert default_routes(lab) == []
    assert optimistic(lab) == "0\n0\n"
    lab.output("mn", "sh", "-c", AGENT)
    wait_until(lambda: OURS in addresses(lab).values(), "memory outlives the agent")
    lab.output("mn", "sh", "-c", f"kill -9 $(pidof -x mn-agent); {wait}; mn-agent --cleanup")
    assert addresses(lab) == {}
    assert default_routes(lab) == []
