"""What people see, golden: every state of the mobile node, a move, a home agent."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli import home_agent_screen, roam_screen, status_screen
from cli.exits import EXIT_OF, Exit
from cli.paint import Paint, paint_for_stdout
from cli.watch_commands import event_line
from cli.words import attachment, clean, columns, milliseconds, seconds, size
from runtime.client import ErrorKind
from tests.values.test_cli_schemas import documented

PLAIN = Paint()
EXAMPLES = documented()
BOUND = EXAMPLES["mnctl/status/1"]


def bare(state: str, **fields: Any) -> dict[str, Any]:
    return {"schema": "mnctl/status/1", "time": "2026-11-23T14:25:22.114Z", "state": state, **fields}


def test_bound_golden() -> None:
    assert status_screen.render_status(BOUND, PLAIN) == """\
● bound — home addresses reachable through wlan0 (IPv4 behind NAT), 41 ms to home agent

  Home       2001:db8:99::2/128  10.99.0.2/32   on mip0 (MTU 1400)
  Networks   2001:db8:77::/64  10.64.0.0/26   behind lan0
  Home agent ha1.example.net  203.0.113.2 · 2001:db8::1   (srv-cache)
  Care-of    192.168.7.2 on wlan0  →  seen by home agent as 198.51.100.7:10022   NAT: detected
  Tunnel     UDP/4191 over IPv4   rx 812 MB   tx 96 MB   keepalive 55 s   3 packets refused
  Data plane portable   (kernel: not permitted: CAP_BPF is needed)
  Binding    seq 4711, lifetime 420 s, refresh in 187 s, last BA 23 s ago   esp aes-cbc hmac-sha256-128
  Handover   12 s ago  eth0 (IPv6) → wlan0 (IPv4 behind NAT)  outage 38 ms, 0 packets lost
  Recognised wlan0: 192.168.7.2 set 12 s ago, when its router had answered
  Standby    wwan0 10.64.3.9 (ready, 62 ms)
  Uptime     3 d 4 h, 118 handovers, 0 failed, worst outage 612 ms

  Health     ! networkd-foreign-rules  systemd-networkd removed our rule 2x today; repaired
               → mnctl doctor --fix networkd"""


def test_bound_over_ipv6_without_nat_golden() -> None:
    status = bare(
        "bound",
        home={"v6": ["2001:db8:99::77/128"], "v4": [], "device": "mip0", "mtu": 1460},
        home_agent={"name": "2001:db8:99::2", "v6": "2001:db8:99::2", "v4": None, "source": "address"},
        path={
            "interface": "eth0",
            "care_of": "2001:db8:1::5",
            "observed": "2001:db8:1::5",
            "encap": "ipip6",
            "nat": "none",
        },
        binding={"sequence": 1, "lifetime_s": 420, "refresh_in_s": 336.0, "last_ba_ms_ago": 400.0},
        last_handover={"from": None, "to": "eth0/v6", "result": "ok", "outage_ms": None, "ago_s": 0.4},
    )
    assert status_screen.render_status(status, PLAIN) == """\
● bound — home addresses reachable through eth0 (IPv6)

  Home       2001:db8:99::77/128   on mip0 (MTU 1460)
  Home agent 2001:db8:99::2   (address)
  Care-of    2001:db8:1::5 on eth0   NAT: none
  Tunnel     IP-in-IP over IPv6
  Binding    seq 1, lifetime 420 s, refresh in 336 s, last BA 0.4 s ago
  Handover   0.4 s ago  no network → eth0 (IPv6)"""


VERDICTS: list[tuple[dict[str, Any], str, Exit]] = [
    (bare("starting"), "◌ starting — reading the network", Exit.NOT_BOUND),
    (bare("no-network"), "○ no network — no link with an address and a default router", Exit.NOT_BOUND),
    (bare("no-network", reason="eth0 has no carrier"), "○ no network — eth0 has no carrier", Exit.NOT_BOUND),
    (
        bare("resolving", home_agent={"name": "ha.example.net"}),
        "◌ resolving — asking DNS for ha.example.net",
        Exit.NOT_BOUND,
    ),
    (bare("resolving", reason="DNS does not answer"), "◌ resolving — DNS does not answer", Exit.NOT_BOUND),
    (
        bare(
            "registering",
            reason="no answer from ha.example.net to 2 updates",
            path={"interface": "wlan0"},
            binding={"attempts": 3, "next_try_in_s": 5.9},
        ),
        "◌ registering — no answer from ha.example.net to 2 updates through wlan0, try 3, next try in 5.9 s",
        Exit.NOT_BOUND,
    ),
    (
        bare("rejected", binding={"ba_status": 129, "ba_text": "prohibited", "next_try_in_s": 60}),
        "✘ rejected — the home agent refused: prohibited (129), next try in 60 s",
        Exit.NOT_BOUND,
    ),
    (bare("rejected"), "✘ rejected — the home agent refused: no reason given", Exit.NOT_BOUND),
    (
        bare("home", at_home=True, path={"interface": "eth0"}),
        "● at home — home addresses reachable directly through eth0, nothing tunnelled",
        Exit.OK,
    ),
    (bare("stopped"), "○ stopped — deregistered; the home addresses are not reachable", Exit.NOT_BOUND),
    (bare("teleporting"), "? teleporting — a state that this mnctl does not know", Exit.NOT_BOUND),
    (bare("bound"), "● bound — home addresses reachable through an unknown link", Exit.OK),
    (
        bare("bound", path={"interface": "eth0", "care_of": "192.0.2.1", "nat": "none"}),
        "● bound — home addresses reachable through eth0 (IPv4)",
        Exit.OK,
    ),
]


@pytest.mark.parametrize(("status", "verdict", "code"), VERDICTS, ids=lambda value: str(value)[:40])
def test_each_state_has_a_verdict_and_an_exit_code(status: dict[str, Any], verdict: str, code: Exit) -> None:
    assert status_screen.render_status(status, PLAIN).splitlines()[0] == verdict
    assert status_screen.exit_of(status) is code


def test_trouble_with_connectivity_changes_verdict_and_exit_code() -> None:
    ill = {**BOUND, "health": [{"code": "mtu", "impacts_connectivity": True, "text": "large packets vanish"}]}
    assert status_screen.render_status(ill, PLAIN).startswith("◐ bound, with a problem — ")
    assert status_screen.exit_of(ill) is Exit.NOT_BOUND
    assert status_screen.exit_of(BOUND) is Exit.OK


def test_a_narrow_path_is_said_with_where_that_is_known_from() -> None:
    narrow = copy.deepcopy(BOUND)
    narrow["path"] |= {"pmtu_bytes": 1400, "pmtu_source": "remembered"}
    assert "keepalive 55 s   path MTU 1400 remembered   3" in status_screen.render_status(narrow, PLAIN)


def test_a_failed_handover_says_why() -> None:
    last = {"from": "eth0/v6", "to": "wlan0/v4", "result": "failed", "message": "no BA"}
    status = {**BOUND, "last_handover": last}
    assert "eth0 (IPv6) → wlan0 (IPv4)  failed: no BA" in status_screen.render_status(status, PLAIN)
    last |= {"to": "eth0/v6", "message": "wlan0/v4: no BA"}
    assert "stayed on eth0 (IPv6)  failed: wlan0/v4: no BA" in status_screen.render_status(status, PLAIN)


def test_a_move_on_one_interface_names_the_families() -> None:
    roam = {"result": "ok", "from": "eth0", "to": "eth0"}
    roam |= {"from_attachment": "eth0/v6", "to_attachment": "eth0/v4-nat"}
    assert roam_screen.render_roam(roam, PLAIN) == "✔ roamed eth0 (IPv6) → eth0 (IPv4 behind NAT)"


def test_colour_is_added_to_the_same_words() -> None:
    coloured = status_screen.render_status(BOUND, Paint(True))
    assert "\x1b[" in coloured
    assert click.unstyle(coloured) == status_screen.render_status(BOUND, PLAIN)


@pytest.mark.parametrize(
    ("no_color", "terminal", "colour"), [("", True, True), ("1", True, False), ("", False, False)]
)
def test_colour_only_on_a_terminal_and_never_with_no_color(
    monkeypatch: pytest.MonkeyPatch, no_color: str, terminal: bool, colour: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    assert paint_for_stdout().enabled is colour


def test_roam_golden() -> None:
    roam = EXAMPLES["mnctl/roam/1"]
    assert roam_screen.render_roam(roam, PLAIN) == """\
   0 ms  probe     HA answers on wwan0 (62 ms)   make-before-break
  63 ms  BU ->     seq 4712, IPv4-CoA 10.64.3.9
✔ roamed wlan0 → wwan0 in 190 ms, outage 0 ms, 0 packets lost   [handover 119]"""
    assert roam_screen.render_roam({**roam, "steps": None}, PLAIN).splitlines()[:2] == [
        "  63 ms  probe",
        "  63 ms  register",
    ]


def test_roam_dry_run_golden() -> None:
    assert roam_screen.render_roam(EXAMPLES["mnctl/roam/1 dry"], PLAIN) == """\
Would move care-of 192.168.7.2 (wlan0, udp4 via NAT) → 10.64.3.9 (wwan0, udp4)
  BU   seq 4712  flags A H K  lifetime 420  IPv4-HoA 10.99.0.2  IPv4-CoA 10.64.3.9  96 bytes
  run  ip route replace ...
  mtu  1400 → 1400 (path 1500, overhead 28)
Nothing changed. Run without --dry-run to do it."""


def test_a_failed_move_says_what_it_left_alone_and_exits_5() -> None:
    roam = {"result": "failed", "from": "wlan0", "to": "hotel0", "message": "no answer after 3 tries"}
    assert roam_screen.render_roam(roam, PLAIN) == (
        "✘ no answer after 3 tries\n  stayed on wlan0: nothing was interrupted"
    )
    assert roam_screen.exit_of(roam) is Exit.HANDOVER_FAILED
    assert roam_screen.render_roam({"result": "failed", "to": "hotel0"}, PLAIN) == (
        "✘ no answer from the home agent through hotel0\n  still without a network"
    )


def test_a_move_to_where_one_is_already_is_no_failure() -> None:
    roam = {"result": "unchanged", "from": "wlan0", "to": "wlan0"}
    assert roam_screen.render_roam(roam, PLAIN) == "already on wlan0: nothing to do"
    assert roam_screen.exit_of(roam) is Exit.OK


def test_home_agent_status_golden() -> None:
    assert home_agent_screen.render_status(EXAMPLES["hactl/status/1"], PLAIN) == """\
● running — 2 bindings

  Home agent 2001:db8:99::2 · 203.0.113.2   on eth0, UDP/4191, questions about NATs at UDP/4192
  Home link  2001:db8:99::/64  203.0.113.0/24  pool 203.0.113.128/26
  Nodes      3 configured, 2 bound, 1 of 62 pool addresses in use
  Updates    812 accepted, 2 rejected (sequence out of window: 2), 9 ignored (bad ICV: 9)
  Tunnel     rx 1 B   tx 1 B   4 packets refused
  Data plane kernel
  Uptime     5 s"""


def test_bindings_and_leases_golden() -> None:
    bindings = EXAMPLES["hactl/bindings/1"]["bindings"]
    assert home_agent_screen.render_bindings(bindings) == """\
NODE    HOME ADDRESSES                            CARE-OF                           ENCAP  SEQ   EXPIRES   UPDATED
laptop  2001:db8:99::77  203.0.113.77  +1 prefix  192.168.7.2 → 198.51.100.7:10022  udp4   4711  in 397 s  23 s ago
1 binding"""  # noqa: E501
    assert home_agent_screen.render_bindings([]) == "no bindings"
    leases = EXAMPLES["hactl/leases/1"]
    assert home_agent_screen.render_leases(leases, leases["leases"]) == """\
NODE    IPV4           HOME ADDRESS     KIND     STATE  EXPIRES
laptop  203.0.113.129  2001:db8:99::77  dynamic  bound  in 397 s
pool 203.0.113.128/26: 1 of 62 used"""


def test_one_node_golden() -> None:
    node = {
        **EXAMPLES["hactl/show/1"],
        "home": {"v6": "2001:db8:99::77", "v4": "203.0.113.77"},
        "binding": EXAMPLES["hactl/bindings/1"]["bindings"][0],
        "lease": EXAMPLES["hactl/leases/1"]["leases"][0],
    }
    assert home_agent_screen.render_node(node, PLAIN) == """\
laptop  ● bound

  Home         2001:db8:99::77  203.0.113.77
  Care-of      192.168.7.2 → 198.51.100.7:10022   udp4
  Binding      seq 4711, lifetime 420 s, expires in 397 s, since 2026-11-23T14:25:22.114Z
  Prefixes     2001:db8:99:7700::/56
  IPv4         203.0.113.129 (dynamic, bound, expires in 397 s)
  Last update  23 s ago  from 198.51.100.7:10022  accepted (0)
  Updates      1 accepted
  Protection   esp aes-cbc hmac-sha256-128"""
    assert "○ not bound" in home_agent_screen.render_node({**node, "binding": None}, PLAIN)


def test_an_event_is_one_line_in_local_time() -> None:
    moment = "2026-11-23T14:25:10.059Z"
    event = {"schema": "mnctl/event/1", "t": moment, "event": "ba", "seq": 4711, "why": None}
    local = datetime.fromisoformat(moment).astimezone().strftime("%H:%M:%S")
    assert event_line(event) == f"{local}.059 ba          seq=4711"
    assert event_line({"event": "x\n\x1b[2J"}) == "--:--:--.--- x\\n\\x1b[2J"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (seconds(0.4), "0.4 s"),
        (seconds(5.0), "5 s"),
        (seconds(187.2), "187 s"),
        (seconds(1000), "16 min"),
        (seconds(11100), "3 h 5 min"),
        (seconds(273600), "3 d 4 h"),
        (seconds(-2.0), "-2 s"),
        (milliseconds(0.42), "0.4 ms"),
        (milliseconds(41.2), "41 ms"),
        (milliseconds(1250), "1.25 s"),
        (size(0), "0 B"),
        (size(999), "999 B"),
        (size(1500), "1.5 kB"),
        (size(999_600), "1.0 MB"),
        (size(96_110_233), "96 MB"),
        (size(10**18), "1000 PB"),
        (attachment("wlan0/v4-nat"), "wlan0 (IPv4 behind NAT)"),
        (attachment("eth0"), "eth0"),
        (clean("a\x1b[31m\nb\u202e"), "a\\x1b[31m\\nb\\u202e"),
    ],
)
def test_numbers_and_names_read_well(shown: str, expected: str) -> None:
    assert shown == expected


def test_columns_are_as_wide_as_they_need_and_end_without_blanks() -> None:
    assert columns(("A", "B"), [("xxx", "")]) == ["A    B", "xxx"]


def test_every_kind_of_error_has_an_exit_code_and_the_codes_are_the_published_ones() -> None:
    assert set(EXIT_OF) == set(ErrorKind)
    assert [int(code) for code in Exit] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]


SCREENS: dict[str, Callable[[Any], str]] = {
    "mnctl/status/1": lambda value: status_screen.render_status(value, PLAIN),
    "mnctl/roam/1": lambda value: roam_screen.render_roam(value, PLAIN),
    "mnctl/roam/1 dry": lambda value: roam_screen.render_roam(value, PLAIN),
    "hactl/status/1": lambda value: home_agent_screen.render_status(value, PLAIN),
    "hactl/bindings/1": lambda value: home_agent_screen.render_bindings(value["bindings"] or []),
    "hactl/leases/1": lambda value: home_agent_screen.render_leases(value, value["leases"] or []),
    "hactl/show/1": lambda value: home_agent_screen.render_node(value, PLAIN),
}
KEPT = {"schema", "time", "state", "bindings", "leases"}


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places inside `value` that may be null."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    places = [] if not path or path[-1] in KEPT or isinstance(path[-1], int) else [path]
    return places + list(itertools.chain.from_iterable(_paths(one, (*path, key)) for key, one in below))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(SCREENS)), st.data())
def test_any_fields_may_be_unknown_without_breaking_a_screen(name: str, data: st.DataObject) -> None:
    value = copy.deepcopy(EXAMPLES[name])
    for *steps, last in data.draw(st.lists(st.sampled_from(_paths(value)), max_size=12)):
        inside: Any = value
        for step in steps:
            inside = inside.get(step) if isinstance(inside, dict) else inside[step]
            if inside is None:
                break
        if isinstance(inside, dict):
            if data.draw(st.booleans()):
                inside[last] = None
            else:
                inside.pop(last, None)
    shown = SCREENS[name](value)
    assert shown
    assert "None" not in shown
    assert all(line == line.rstrip() for line in shown.splitlines())


@pytest.mark.parametrize("name", sorted(SCREENS))
def test_no_name_from_the_network_can_move_the_cursor(name: str) -> None:
    def poisoned(value: Any, key: object = "") -> Any:
        if isinstance(value, dict):
            return {inner: poisoned(one, inner) for inner, one in value.items()}
        if isinstance(value, list):
            return [poisoned(one, key) for one in value]
        return f"{value}\x1b[2J\x07" if isinstance(value, str) and key not in ("state", "result") else value

    shown = SCREENS[name](poisoned(EXAMPLES[name]))
    assert "\x1b" not in shown
    assert "\x07" not in shown
