"""What `hactl` is told, field by field as docs/control.md has it."""

from __future__ import annotations

import dataclasses
import json

from home_agent import status
from home_agent.status import Moment
from tests.machines.ha_script import (
    COA6,
    DYNAMIC,
    NAT4,
    PRIVATE4,
    START,
    HomeScript,
    configured,
    home4,
    over_ipv4,
    over_ipv6,
)
from tunnel.plane import Counters

COUNTERS = Counters(1, 2, 3, 4, {"no-home": 5})


def moment(seconds: float) -> Moment:
    return Moment(START + seconds, 1_700_000_000.0 + seconds)


def test_a_binding_behind_a_nat_tells_what_is_claimed_and_what_is_seen() -> None:
    ha = HomeScript()
    ha.feed(ha.laptop.udp(over_ipv4(ha.laptop, home4(), care_of=PRIVATE4, sequence=7), NAT4, 61000))
    told = status.bindings(ha.agent, moment(20))
    json.dumps(told)
    assert told["schema"] == "hactl/bindings/1"
    assert told["next"] is None
    assert told["bindings"] == [
        {
            "node": "laptop",
            "home": {"v6": "2001:db8:99::77", "v4": "203.0.113.77"},
            "prefixes": [],
            "care_of": "192.168.7.2",
            "observed": "198.51.100.99:61000",
            "encap": "udp4",
            "nat": True,
        "path_mtu": None,
            "protection": "none",
            "router": False,
            "sequence": 7,
            "lifetime_s": 420,
            "expires_in_s": 400.0,
            "registered_at": "2023-11-14T22:13:20.000Z",
            "updated_ago_s": 20.0,
        }
    ]


def test_encapsulations_have_the_names_that_mnctl_uses() -> None:
    ha = HomeScript()
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    ha.feed(ha.tablet.udp(over_ipv4(ha.tablet)))
    names = {one["node"]: one["encap"] for one in status.bindings(ha.agent, moment(0))["bindings"]}
    assert names == {"laptop": "ipip6", "tablet": "ipip4"}


def test_status_counts_what_was_accepted_refused_and_ignored() -> None:
    ha = HomeScript()
    event = ha.laptop.native(over_ipv6(ha.laptop, sequence=9))
    ha.feed(event).feed(event)
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, sequence=9)))
    told = status.status(ha.agent, moment(5), "running", "1.2", COUNTERS, [])
    json.dumps(told)
    assert (told["schema"], told["state"], told["bindings"], told["uptime_s"]) == (
        "hactl/status/1",
        "running",
        1,
        5.0,
    )
    assert told["totals"] == {
        "updates_accepted": 1,
        "updates_rejected": {"sequence number out of window": 1},
        "updates_ignored": {"esp-replayed": 1},
        "profile_mismatches": 0,
        "rx_bytes": 2,
        "tx_bytes": 4,
        "rx_packets": 1,
        "tx_packets": 3,
        "drops": {"no-home": 5},
    }
    assert told["leases"] == {"used": 0, "size": 4}


def test_leases_show_static_and_dynamic_addresses_and_prefixes() -> None:
    ha = HomeScript(configured(tablet="ipv4_prefix_requests = true"))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC), home4(DYNAMIC, 26, prefix=True))))
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, lifetime=0)))
    told = status.leases(ha.agent, moment(0))
    json.dumps(told)
    shown = [(one["node"], one["v4"], one["kind"], one["state"]) for one in told["leases"]]
    assert shown == [
        ("laptop", "203.0.113.77", "static", "reserved"),
        ("tablet", "203.0.113.128", "dynamic", "reserved"),
        ("tablet", "10.64.0.0/26", "dynamic", "reserved"),
    ]
    assert (told["used"], told["size"]) == (1, 4)
    later = status.leases(ha.agent, moment(90_000))
    assert [one["state"] for one in later["leases"]] == ["reserved", "invalid", "invalid"]


def test_one_mobile_node_is_shown_with_its_last_update() -> None:
    ha = HomeScript()
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop, home4())))
    node = status.find_node(ha.agent, "203.0.113.77")
    assert node is not None
    told = status.show(ha.agent, node, moment(3))
    json.dumps(told)
    assert told["last_update"] == {
        "at": "2023-11-14T22:13:20.000Z",
        "ago_s": 3.0,
        "status": 0,
        "text": "binding accepted",
        "from": str(COA6),
    }
    assert told["binding"]["home"] == told["home"]
    assert told["lease"]["state"] == "bound"


def test_a_mobile_node_is_found_by_name_and_by_either_home_address() -> None:
    ha = HomeScript()
    ha.feed(ha.tablet.native(over_ipv6(ha.tablet, home4(DYNAMIC))))
    for name in ("tablet", "2001:db8:99::78", "2001:0db8:99:0::78", "203.0.113.128"):
        node = status.find_node(ha.agent, name)
        assert node is not None
        assert node.label == "tablet"
    for name in ("nobody", "", "::", "203.0.113.1", "1.2.3"):
        assert status.find_node(ha.agent, name) is None


def test_thousands_of_bindings_come_in_parts_and_none_twice() -> None:
    more = "\n".join(
        f'[[mobile_node]]\nhome_address = "2001:db8:99::{0x1000 + number:x}"\nkey_file = "x"'
        for number in range(2500)
    )
    ha = HomeScript(configured(more=more))
    ha.feed(ha.laptop.native(over_ipv6(ha.laptop)))
    binding = next(iter(ha.agent.books.cache))
    for home in ha.agent.nodes:
        ha.agent.books.cache.put(dataclasses.replace(binding, home_address=home), START)
    seen: list[str] = []
    after = None
    while True:
        told = status.bindings(ha.agent, moment(0), after)
        assert len(json.dumps(told)) < 1 << 20
        seen += [one["home"]["v6"] for one in told["bindings"]]
        after = told["next"]
        if after is None:
            break
    assert len(seen) == len(set(seen)) == 2503
