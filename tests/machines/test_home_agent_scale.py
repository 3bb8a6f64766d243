"""What a Binding Update costs beside many other bindings: counted in calls and copies, not in time."""

from __future__ import annotations

import sys
from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from types import FrameType

from home_agent.actions import ConfigureKernel, Defend, InstallTable
from home_agent.binding_cache import OLD_PATH_GRACE
from tests.machines.ha_script import (
    COA4,
    LAPTOP,
    HomeScript,
    MobileNode,
    configured,
    home4,
    over_ipv4,
)
from tunnel.persistent import FAN
from wire.profile import RFC5555

FEW, MANY = 8, 200
ELSEWHERE = IPv4Address("198.51.100.8")


def crowded(number: int) -> HomeScript:
    """A home agent with `number` bindings beside those of the script."""
    homes = [IPv6Address(f"2001:db8:99::{0x4000 + one:x}") for one in range(number)]
    more = "\n".join(f'[[mobile_node]]\nhome_address = "{home}"\nkey_file = "x"' for home in homes)
    ha = HomeScript(configured(more=more))
    for home in homes:
        node = MobileNode(home, RFC5555)
        ha.feed(node.udp(over_ipv4(node)))
    assert len(ha.agent.books.cache) == number
    return ha


def calls_of_one_life(ha: HomeScript) -> Counter[str]:
    """How often what is called while one mobile node is new, refreshes, moves, and leaves."""
    laptop = ha.laptop
    events = [
        laptop.udp(over_ipv4(laptop, home4())),
        laptop.udp(over_ipv4(laptop, home4())),
        laptop.udp(over_ipv4(laptop, home4(), care_of=ELSEWHERE), outer=ELSEWHERE),
        laptop.udp(over_ipv4(laptop, home4(), lifetime=0), outer=ELSEWHERE),
    ]
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls[f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"] += 1

    for event in events:
        sys.setprofile(note)
        try:
            ha.agent.handle(event, ha.now)
            ha.agent.deadline()
        finally:
            sys.setprofile(None)
    return calls


def test_a_binding_update_calls_nothing_more_often_because_there_are_many_bindings() -> None:
    few, many = (calls_of_one_life(crowded(number)) for number in (FEW, MANY))
    # The agenda compares a few more entries, by the logarithm; anything that walks calls 200 times more.
    more = {name: (few[name], number) for name, number in many.items() if number > few[name] + 32}
    assert not more
    assert sum(many.values()) > 200


def test_a_binding_update_copies_little_of_what_is_known_of_all_others() -> None:
    ha = crowded(MANY)
    table, kernel = ha.table, ha.kernel
    assert kernel is not None
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    copied = [at for at in range(FAN) if ha.table._hosts.root[at] is not table._hosts.root[at]]
    assert 1 <= len(copied) <= 2, "one for each home address"
    assert {str(prefix) for prefix, _, _ in ha.table.changed_since(table)} == {
        f"{LAPTOP}/128",
        "203.0.113.77/32",
    }
    assert ha.kernel is not None
    assert [home for home, _, _ in ha.kernel.guests.differences(kernel.guests)] == [LAPTOP]
    before, kernel = ha.table, ha.kernel
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    assert (ha.table, ha.kernel) == (before, kernel)
    assert ha.table is before, "a refresh changes nothing there"
    assert ha.route(LAPTOP) is not None
    assert ha.carries(LAPTOP, COA4, 5000)


def test_a_refresh_is_written_down_answered_and_told_and_changes_nothing_else() -> None:
    ha = HomeScript()
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    assert {InstallTable, ConfigureKernel, Defend} <= set(map(type, ha.actions))
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4())))
    assert sorted(type(action).__name__ for action in ha.actions) == ["Remember", "Report", "SendControl"]


def test_old_paths_that_end_together_make_one_table() -> None:
    ha = HomeScript()
    for node in (ha.laptop, ha.tablet):
        ha.feed(node.udp(over_ipv4(node)))
    for node in (ha.laptop, ha.tablet):
        ha.feed(node.udp(over_ipv4(node, care_of=ELSEWHERE), outer=ELSEWHERE))
    actions = ha.agent.tick(ha.now + OLD_PATH_GRACE)
    assert [type(action) for action in actions] == [InstallTable]
    assert all(len(route.accept) == 1 for route in ha.agent.books.cache.table.routes), "of the present place"
