"""Result files -> the tables of docs/performance.md and docs/handover.md, as Markdown.

Pure. A table leaves nothing out that would change what one thinks of a figure: the load of the machine stands
above each, and what could not be measured below.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
Row = Mapping[str, Any]


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table; the first column is text, all others are figures."""
    ruler = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ruler, *lines)) + "\n"


def occasion(document: Document) -> str:
    """When, where, and how busy the machine was."""
    before, after = document["load_average"]["before"][0], document["load_average"]["after"][0]
    peers = ", ".join(f"{name.removeprefix('peer:')} {value}" for name, value in _versions(document))
    return (
        f"{document['time'][:10]}, Linux {document['kernel']}, Python {document['python']},"
        f" {document['cpus']} processors, load {before} before and {after} after"
        f"{'; ' + peers if peers else ''}.\n"
    )


def _versions(document: Document) -> Iterable[tuple[str, str]]:
    return ((name, value) for name, value in document.get("peers", {}).items() if isinstance(value, str))


def data_plane(document: Document) -> str:
    """One line for each tier and format; up / down."""
    header = (
        "tier, format", "Gbit/s", "of raw", "of raw, IPv6 inside", "of raw, 4 flows", "round trip",
        "64-octet kpps", "CPU s/GB", "MiB",
    )  # fmt: skip
    plain = [row for row in document["rows"] if "profile" not in row]
    lines = [_data_plane_line(name, rows) for name, rows in _grouped(plain, "tier", "format").items()]
    raw = [row for row in document.get("raw", ()) if row["inner"] == 4]
    text = occasion(document) + "\n" + markdown(header, lines)
    if raw:
        text += f"\nThe raw path carries {_both(raw, 'kpps', '.0f')} kpps of these generators"
        text += f" and has a round trip of {raw[0]['rtt_us']:.0f} us.\n"
    for name, why in document.get("unavailable", {}).items():
        text += f"\nNot measured: {name} ({why}).\n"
    return text


def _data_plane_line(name: tuple[str, ...], rows: Sequence[Row]) -> Sequence[str]:
    def of(inner: int, flows: int) -> list[Row]:
        return [row for row in rows if row["inner"] == inner and row["flows"] == flows]

    single = of(4, 1)
    trips = [row["added_rtt_us"] for row in single if row["added_rtt_us"] is not None]
    return (
        ", ".join(name),
        _both(single, "gbps", ".2f"),
        _both(single, "ratio_raw", ".3f"),
        _both(of(6, 1), "ratio_raw", ".3f"),
        _both(of(4, 4), "ratio_raw", ".3f"),
        f"+{trips[0]:.0f} us" if trips else "",
        _both(single, "kpps", ".0f"),
        _both(single, "cpu_s_per_gb", ".2f"),
        f"{single[0]['rss_mib']:.0f}" if single else "",
    )


def profiles(document: Document) -> str:
    """The same tunnels on other links: single packets only, or a rate that is easily reached."""
    header = ("links, tier", "Gbit/s", "of raw", "CPU s/GB", "machine s/GB", "raw machine s/GB")
    limited = [row for row in document["rows"] if "profile" in row]
    lines = []
    for (profile, tier, form), rows in _grouped(limited, "profile", "tier", "format").items():
        machine = [
            row
            for row in document["machine_cpu"]
            if (row["profile"], row["tier"], row["format"]) == (profile, tier, form)
        ]
        lines.append(
            (
                f"{profile}, {tier}",
                _both(rows, "gbps", ".3f"),
                _both(rows, "ratio_raw", ".3f"),
                _both(rows, "cpu_s_per_gb", ".2f"),
                _both(machine, "machine_cpu_s_per_gb", ".2f"),
                _both(machine, "raw_machine_cpu_s_per_gb", ".2f"),
            )
        )
    return markdown(header, sorted(lines))


def costs(document: Document) -> str:
    """For each end what a segment costs, then its dearest lines; then the programs in the kernel."""
    ends = markdown(
        ("tier, end", "own process", "whole machine, beyond the raw path"),
        [
            (
                f"{row['tier']}, {row['end']}",
                f"{row['process_us']:.2f} us",
                f"{row['machine_added_us']:.2f} us",
            )
            for row in document["ends"]
        ],
    )
    parts = [occasion(document), ends]
    for (tier, end), rows in _grouped(document["rows"], "tier", "end").items():
        lines = [(_code(row), row["place"], f"{row['us']:.2f} us") for row in rows]
        parts.append(markdown((f"{tier}, {end}", "where", "a segment"), lines))
    if document["programs"]:
        lines = [
            (f"{row['tier']}: `{row['program']}`", str(row["runs"]), f"{row['us_a_run']:.2f} us")
            for row in document["programs"]
        ]
        parts.append(markdown(("program in the kernel", "runs in a second", "a run"), lines))
    return "\n".join(parts)


def _code(row: Row) -> str:
    """The line of source, in a cell."""
    source = str(row["source"]).replace("|", "\\|")
    return f"`{source}`" if row["place"] else source


def path_swap(document: Document) -> str:
    """A line for each tier that could be measured."""
    header = (
        "tier", "swaps", "lost", "misordered", "TCP sent again", "without swaps",
        "answer to swapped", "p95", "`install()`", "p95",
    )  # fmt: skip
    installs = {row["tier"]: row for row in document["installs"]}
    lines = []
    for row in document["rows"]:
        counts, install = row["with_swaps"], installs[row["tier"]]
        lines.append(
            (
                row["tier"],
                str(row["n"]),
                f"{counts['lost_up']} / {counts['lost_down']}",
                f"{counts['misordered_up']} / {counts['misordered_down']}",
                str(row["tcp_retransmitted"]),
                str(row["tcp_retransmitted_without_swaps"]),
                _milliseconds(row["answer_to_swapped_median_ms"]),
                _milliseconds(row["answer_to_swapped_p95_ms"]),
                f"{install['median_us']:.0f} us",
                f"{install['p95_us']:.0f} us",
            )
        )
    text = occasion(document) + "\n" + markdown(header, lines)
    for tier, why in document.get("unavailable", {}).items():
        text += f"\nNot measured: {tier} ({why}).\n"
    return text


def home_agent(document: Document) -> str:
    """Binding Updates, then throughput, then memory."""
    updates = markdown(
        ("updates", "offered a second", "accepted a second", "lost", "median", "p99", "CPU each"),
        [
            (
                row["kind"],
                "as answered" if row["offered_per_s"] is None else str(row["offered_per_s"]),
                str(row["accepted_per_s"]),
                str(row["sent"] - row["accepted"]),
                _milliseconds(row.get("p50_ms")),
                _milliseconds(row.get("p99_ms")),
                _milliseconds(row["cpu_ms_per_update"]),
            )
            for row in document["updates"]
        ],
    )
    throughput = markdown(
        ("one TCP flow", "of one binding", "Gbit/s", "Gbit/s beside one", "datagrams of the others lost"),
        [
            (
                f"IPv{row['inner']}, {row['direction']}",
                f"{row['ratio_to_one']:.3f}",
                f"{row['gbps']:.3f}",
                f"{row['gbps_of_one']:.3f}",
                f"{row['trickle_lost']} of {row['trickle_sent']}",
            )
            for row in document["throughput"]
        ],
    )
    memory, plan = document["memory"], document["plan"]
    said = (
        f"{plan['bindings']} bindings, data plane {document['data_plane']['home_agent']}, on one processor;"
        f" memory {memory['configured_mib']} MiB with all of them configured and"
        f" {memory['bound_mib']} MiB when they are bound: **{memory['kib_per_binding']} KiB for each**"
        f" ({memory['of_one_mib']} MiB with one). Serves {document['start_s']} s after its start.\n"
    )
    return "\n".join((occasion(document), said, updates, throughput))


def idle(document: Document) -> str:
    """A line for each process that was left alone."""
    lines = [
        (
            f"{row['process']}, {row['end']}",
            str(row["wakeups"]),
            str(row["wakeups_per_hour"]),
            f"{row['cpu_s_per_hour']:.2f}",
            f"{row['rss_mib']:.1f}",
        )
        for row in document["rows"]
    ]
    seconds = document["plan"]["seconds"]
    header = ("process", f"wake-ups in {seconds} s", "an hour", "CPU s an hour", "MiB")
    return occasion(document) + "\n" + markdown(header, lines)


def handover(document: Document) -> str:
    """For each stream a line per kind of move: ours, the floor, wireguard-go; median (95th percentile)."""
    parts = [occasion(document)]
    for kind in _in_order(row["kind"] for row in document["rows"]):
        mine = [row for row in document["rows"] if row["kind"] == kind]
        peers = _in_order(row.get("peer", "") for row in mine)
        lines = []
        for (stream, origin, target), rows in _grouped(mine, "stream", "from", "to").items():
            found = {row.get("peer", ""): row for row in rows}
            cells = [cell for peer in peers for cell in _outage(found.get(peer))]
            lines.append((f"{stream}: {origin} to {target}", *cells))
        titles = [cell for peer in peers for cell in (f"{peer or 'mn-agent'}, ms (p95)", "lost")]
        parts.append(markdown((kind, *titles), lines))
    return "\n".join(parts)


def signalling(document: Document) -> str:
    """From the usable link to the update, and from the update to its answer."""
    header = ("hard break", "moves", "usable to update", "p95", "update to answer")
    lines = [
        (
            f"{row['from']} to {row['to']}",
            str(row["n"]),
            _milliseconds(row["usable_to_update_median_ms"]),
            _milliseconds(row["usable_to_update_p95_ms"]),
            _milliseconds(row["update_to_answer_median_ms"]),
        )
        for row in document["signalling"]
    ]
    return markdown(header, lines)


def _outage(row: Row | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    never = row["not_resumed"]
    silent = f"{row['median_ms']:.1f} ({row['p95_ms']:.1f})"
    return (f"silent in {never} of {row['n']}" if never * 2 > row["n"] else silent), str(row["lost"])


def _both(rows: Sequence[Row], key: str, form: str) -> str:
    """up / down; empty where there is no figure."""
    found = {row["direction"]: row[key] for row in rows if row.get(key) is not None}
    return " / ".join(format(found[way], form) for way in ("up", "down") if way in found)


def _grouped(rows: Iterable[Row], *keys: str) -> dict[tuple[str, ...], list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row[key]) for key in keys), []).append(row)
    return groups


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} ms"
