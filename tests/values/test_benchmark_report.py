"""What is written of results: tables, goals, pictures, and the blocks of documents that they fill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import (
    costs,
    data_plane,
    goals,
    handover,
    home_agent,
    idle,
    path_swap,
    plots,
    report,
    tables,
)

HEAD = {
    "time": "2026-11-25T12:00:00Z",
    "kernel": "6.18",
    "python": "3.11.7",
    "cpus": 2,
    "load_average": {"before": [0.1, 0, 0], "after": [1.5, 0, 0]},
}


def row(tier: str, form: str, direction: str, ratio: float, **more: Any) -> dict[str, Any]:
    figures = {
        "tier": tier, "format": form, "inner": 4, "direction": direction, "flows": 1,
        "gbps": ratio * 20, "raw_gbps": 20.0, "ratio_raw": ratio, "kpps": 100.0, "added_rtt_us": 5.0,
        "cpu_s_per_gb": 1.0, "rss_mib": 30.0,
    }  # fmt: skip
    return {**figures, **more}


def document(*rows: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {**HEAD, "peers": {"peer:fastd": "22-4"}, "rows": list(rows), "machine_cpu": [], **more}


def cells(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_line_of_the_data_plane_has_both_directions_and_every_kind_of_figure() -> None:
    table = tables.data_plane(
        document(
            row("kernel", "udp/ipv4", "up", 0.8),
            row("kernel", "udp/ipv4", "down", 0.75),
            row("kernel", "udp/ipv4", "up", 0.5, inner=6),
            row("kernel", "udp/ipv4", "up", 0.4, flows=4, kpps=None, added_rtt_us=None),
            row("kernel", "udp/ipv4", "up", 0.9, profile="wire"),
            raw=[{"inner": 4, "direction": "up", "rtt_us": 20.0, "kpps": 400.0}],
            unavailable={"offload, udp/ipv4": "no vnet header"},
        )
    )
    assert cells(table)[2] == [
        "kernel, udp/ipv4", "16.00 / 15.00", "0.800 / 0.750", "0.500", "0.400",
        "+5 us", "100 / 100", "1.00 / 1.00", "30",
    ]  # fmt: skip
    assert len(cells(table)) == 3, "other profiles have a table of their own"
    assert "load 0.1 before and 1.5 after; fastd 22-4" in table
    assert "Not measured: offload, udp/ipv4 (no vnet header)." in table


def test_profiles_show_the_work_of_the_whole_machine_beside_that_of_the_processes() -> None:
    machine = {
        "tier": "kernel", "format": "udp/ipv4", "inner": 4, "direction": "up", "flows": 1, "profile": "wire",
        "machine_cpu_s_per_gb": 1.5, "raw_machine_cpu_s_per_gb": 1.25,
    }  # fmt: skip
    found = row("kernel", "udp/ipv4", "up", 0.9, profile="wire", cpu_s_per_gb=0.0)
    table = tables.profiles(document(found, machine_cpu=[machine, {**machine, "profile": ""}]))
    assert cells(table)[2] == ["wire, kernel", "18.000", "0.900", "0.00", "1.50", "1.25"]


def goal(found: Mapping[str, Any], what: str) -> goals.Goal:
    (one,) = (goal for goal in goals.of_data_plane(found) if goal.what == what)
    return one


def test_a_goal_is_met_only_if_the_worst_row_meets_it() -> None:
    good, bad = row("kernel", "udp/ipv4", "up", 0.9), row("kernel", "ipip/ipv4", "down", 0.69)
    assert goal(document(good), "kernel: TCP of the raw path").met
    assert not goal(document(good, bad), "kernel: TCP of the raw path").met
    assert goal(document(good, bad), "kernel: TCP of the raw path").found == 0.69
    slow = row("kernel", "udp/ipv4", "up", 0.9, added_rtt_us=11.0)
    assert not goal(document(good, slow), "kernel: round trip added, us").met


def test_a_goal_beside_a_peer_compares_the_same_direction_and_the_slowest_format_with_the_fastest_peer() -> (
    None
):
    found = document(
        row("portable", "udp/ipv4", "up", 0.06),
        row("portable", "udp/ipv4", "down", 0.04),
        row("portable", "esp/ipv6", "up", 0.001),
        row("peer:openvpn", "udp-plaintext/ipv4", "up", 0.03),
        row("peer:fastd", "udp-null/ipv4", "down", 0.05),
        row("peer:wireguard-go", "wireguard/ipv4", "up", 0.5),
    )
    one = goal(found, "portable: TCP of openvpn, fastd, vtun")
    assert one.found == pytest.approx(0.8)
    assert not one.met


def test_what_was_not_measured_is_not_met() -> None:
    one = goal(document(), "offload: TCP of wireguard-go")
    assert (one.found, one.met) == (None, False)
    assert ["offload: TCP of wireguard-go", "at least 1.5", "not measured", "no"] in cells(
        goals.table(goals.of_data_plane(document()))
    )


def test_swaps_may_lose_and_misorder_nothing() -> None:
    counts = {"lost_up": 0, "lost_down": 1, "misordered_up": 0, "misordered_down": 0}
    swaps = {"tier": "kernel", "with_swaps": counts, "answer_to_swapped_median_ms": 0.4}
    lost, misordered, swapped = goals.of_path_swap({"rows": [swaps]})
    assert (lost.met, misordered.met, swapped.met) == (False, True, True)


def test_a_home_agent_is_judged_at_two_thousand_updates_a_second() -> None:
    updates = [
        {"offered_per_s": None, "lost": 0},
        {"offered_per_s": 2000, "p99_ms": 49.0, "lost": 0},
        {"offered_per_s": 3000, "p99_ms": 900.0, "lost": 7},
    ]
    found = goals.of_home_agent(
        {"updates": updates, "throughput": [{"ratio_to_one": 0.89}], "memory": {"kib_per_binding": 1.9}}
    )
    assert [one.met for one in found] == [False, True, True, True]


def test_idle_means_fewer_wake_ups_than_wireguard() -> None:
    rows = [
        {"process": "mn-agent", "end": "mobile node", "wakeups": 10, "rss_mib": 45.1},
        {"process": "peer:wireguard-go", "end": "mobile node", "wakeups": 10, "rss_mib": 7.0},
    ]
    memory, wakeups = goals.of_idle({"rows": rows})
    assert (memory.met, wakeups.met, wakeups.found) == (False, False, 1.0)


HANDOVER = {
    **HEAD,
    "rows": [
        {"kind": "hard break", "from": "ipv6", "to": "nat", "stream": "bidirectional, up", **figures}
        for figures in (
            {"n": 20, "median_ms": 12.0, "p95_ms": 20.0, "lost": 0, "not_resumed": 0},
            {"n": 20, "median_ms": 2.0, "p95_ms": 3.0, "lost": 9, "not_resumed": 0, "peer": "floor"},
            {"n": 20, "median_ms": 490.0, "p95_ms": 495.0, "lost": 99, "not_resumed": 18, "peer": "wg"},
        )
    ],
}


def test_handovers_stand_beside_floor_and_peer_and_lasting_silence_is_no_number() -> None:
    header, _, line = cells(tables.handover(HANDOVER))
    assert header[1::2] == ["mn-agent, ms (p95)", "floor, ms (p95)", "wg, ms (p95)"]
    assert line == [
        "bidirectional, up: ipv6 to nat", "12.0 (20.0)", "0", "2.0 (3.0)", "9", "silent in 18 of 20", "99",
    ]  # fmt: skip


def test_the_control_plane_has_three_milliseconds_and_a_hard_break_twenty() -> None:
    signalling = [{"usable_to_update_median_ms": 2.5}, {"usable_to_update_median_ms": 3.5}]
    usual, rare, update, lost = goals.of_handover({**HANDOVER, "signalling": signalling})
    assert (usual.found, usual.met, rare.found, rare.met) == (12.0, True, 20.0, True), "ours alone"
    assert (update.found, update.met) == (3.5, False)
    assert lost.found is None, "there was no move with both links up"


def test_a_result_of_an_older_schema_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "idle.json").write_text('{"schema": "mn-bench/idle/0"}')
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    with pytest.raises(ValueError, match="measure again"):
        report.write_report("idle")


def test_pictures_are_svg_with_a_bar_for_each_figure() -> None:
    plane = document(row("kernel", "udp/ipv4", "up", 0.8), row("peer:vtun", "udp/ipv4", "down", 0.02))
    for picture, bars in ((plots.data_plane(plane), 2), (plots.handover(HANDOVER), 3)):
        rectangles = ElementTree.fromstring(picture).findall("{http://www.w3.org/2000/svg}rect")
        assert len(rectangles) == bars + 1, "and the paper"


def test_a_longer_bar_is_a_larger_figure() -> None:
    plane = document(row("kernel", "udp/ipv4", "up", 0.8), row("portable", "udp/ipv4", "up", 0.05))
    _, first, second = ElementTree.fromstring(plots.data_plane(plane)).iter(
        "{http://www.w3.org/2000/svg}rect"
    )
    assert float(first.attrib["width"]) > float(second.attrib["width"]) > 0


def test_a_block_is_replaced_and_what_is_around_it_stays() -> None:
    text = "above\n<!-- begin idle -->\nold\n\\1 $x\n<!-- end idle -->\nbelow\n"
    assert report.fill(text, "idle", "new \\2\n") == (
        "above\n<!-- begin idle -->\nnew \\2\n<!-- end idle -->\nbelow\n"
    )
    assert report.fill(report.fill(text, "idle", "a"), "idle", "b") == report.fill(text, "idle", "b")


def test_a_block_that_is_missing_is_said() -> None:
    with pytest.raises(ValueError, match="0 blocks are called idle"):
        report.fill("no blocks here", "idle", "new")


def test_the_document_has_every_block() -> None:
    text = report.PERFORMANCE.read_text()
    for blocks in report.TABLES.values():
        for block in blocks:
            report.fill(text, block, "")


def test_costs_show_lines_of_source_in_cells_of_their_own() -> None:
    line = {"tier": "portable", "end": "home agent", "place": "tunnel/a.py:7", "source": "a | b", "us": 1.5}
    rest = {**line, "place": "", "source": "everything else", "us": 0.25}
    end = {"tier": "portable", "end": "home agent", "process_us": 1.75, "machine_added_us": 9.0}
    program = {"tier": "kernel", "program": "wrap", "runs": 9, "us_a_run": 0.5}
    table = tables.costs({**HEAD, "ends": [end], "rows": [line, rest], "programs": [program]})
    assert "| portable, home agent | 1.75 us | 9.00 us |" in table
    assert "| `a \\| b` | tunnel/a.py:7 | 1.50 us |" in table
    assert "| everything else |  | 0.25 us |" in table
    assert "| kernel: `wrap` | 9 | 0.50 us |" in table


def test_stacks_are_counted_by_their_last_frame() -> None:
    stacks = ["run (x.py:1);send (tunnel/a.py:7) 3", "run (x.py:1) 1", "go (y.py:2);send (tunnel/a.py:7) 2"]
    assert costs.leaves(stacks) == {("tunnel/a.py", 7): 5, ("x.py", 1): 1}


def test_the_tables_are_of_the_schemas_that_the_benchmarks_write() -> None:
    writers = {
        "data_plane": data_plane, "costs": costs, "path_swap": path_swap,
        "home_agent": home_agent, "idle": idle, "handover": handover,
    }  # fmt: skip
    assert {name: module.SCHEMA for name, module in writers.items()} == report.SCHEMAS
    assert report.TABLES.keys() == report.SCHEMAS.keys()
