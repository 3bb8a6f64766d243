"""The handover benchmark: its walk over the networks, and the rows that are made of outages."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import benchmarks
from benchmarks.handover import (
    NETWORKS,
    START,
    Break,
    Outage,
    Signalling,
    Talk,
    kind_of,
    lap_from,
    rows,
    signalling_rows,
)
from lab.library import load_topology


def test_a_lap_has_every_kind_of_move_once_and_never_stays() -> None:
    walk = [START, *lap_from(START)]
    assert all(before != after for before, after in pairwise(walk))
    moves = Counter((kind_of(before), kind_of(after)) for before, after in pairwise(walk))
    assert moves == Counter(product(NETWORKS, NETWORKS))


def test_the_next_lap_goes_on_where_the_last_one_ended() -> None:
    end = list(lap_from(START))[-1]
    assert kind_of(end) == kind_of(START)
    assert next(lap_from(end)) != end


def test_the_networks_are_of_their_kinds_in_the_topology() -> None:
    topology = load_topology("roaming.toml", Path(benchmarks.__file__).parent)
    for kind, networks in NETWORKS.items():
        assert [topology.network[name].kind for name in networks] == [kind, kind]
    assert topology.host["rover"].interfaces


def test_who_speaks_has_a_stream() -> None:
    assert set(Talk.BIDIRECTIONAL.streams) == {"up", "down"}
    assert Talk.CLIENT_ONLY.streams == {"up": "client-only"}
    assert Talk.SERVER_ONLY.streams == {"down": "server-only"}


def _outage(milliseconds: float, peer: str = "", lost: int = 0, resumed: bool = True) -> Outage:
    return Outage(Break.HARD, "ipv6", "nat", "client-only", peer, milliseconds, lost, resumed)


def test_a_row_has_the_median_the_95th_percentile_and_all_that_was_lost() -> None:
    found = rows([_outage(ms, lost=ms % 2) for ms in range(1, 21)])
    assert found == [
        {
            "kind": "hard break", "from": "ipv6", "to": "nat", "stream": "client-only",
            "n": 20, "median_ms": 10.5, "p95_ms": 19, "lost": 10, "not_resumed": 0,
        }
    ]  # fmt: skip


def test_a_peer_has_rows_of_its_own_and_what_never_came_back_is_counted() -> None:
    ours, peer = rows([_outage(5), _outage(500, "wireguard-go", 250, resumed=False)])
    assert "peer" not in ours
    assert (peer["peer"], peer["not_resumed"], peer["lost"]) == ("wireguard-go", 1, 250)


def test_signalling_is_told_by_kind_of_move() -> None:
    moves = [Signalling(Break.HARD, "ipv4", "ipv6", float(ms), 4.0) for ms in (1, 2, 9)]
    (row,) = signalling_rows(moves)
    assert (row["n"], row["usable_to_update_median_ms"], row["usable_to_update_p95_ms"]) == (3, 2.0, 9.0)
    assert row["update_to_answer_median_ms"] == 4.0
