"""Who is woken up by what the kernel tells of links, routes and nftables: the filters, a sentence each."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from tests.values.classic_bpf import run
from tunnel.alteration_filter import NEW_CONFIGURATION, NEW_GENERATION, accept_alterations, accept_generations
from tunnel.kernel import PROTOCOL
from wire.netlink import HEADER_SIZE
from wire.rtnetlink import ROUTE, Kind

OWN = 0x12345678
KINDS = [*map(int, Kind), NEW_CONFIGURATION, NEW_GENERATION, NEW_GENERATION - 1, 0x0A00, 0]
PROTOCOLS = st.sampled_from([PROTOCOL, 0, 4, PROTOCOL - 1, 255])


def told(kind: int, port: int, protocol: int) -> bytes:
    """A notification as far as the filters look."""
    header = struct.pack("=IHHII", HEADER_SIZE + ROUTE.size, kind, 0, 0, port)
    return header + ROUTE.pack(10, 128, 0, 0, 254, protocol, 0, 1, 0)


@given(st.sampled_from(KINDS), st.sampled_from([OWN, 0, 1, OWN ^ 1]), PROTOCOLS)
def test_links_settings_and_our_routes_are_heard_of_unless_we_changed_them(
    kind: int, port: int, protocol: int
) -> None:
    ours = kind in (Kind.NEW_ROUTE, Kind.DELETE_ROUTE) and protocol == PROTOCOL
    wanted = ours or kind in (Kind.NEW_LINK, Kind.DELETE_LINK, NEW_CONFIGURATION)
    heard = run(accept_alterations(OWN), told(kind, port, protocol))
    assert bool(heard) is (wanted and port != OWN)


@given(st.sampled_from(KINDS), PROTOCOLS)
def test_of_a_transaction_of_nftables_only_its_end_is_heard_of(kind: int, protocol: int) -> None:
    assert bool(run(accept_generations(), told(kind, 0, protocol))) is (kind == NEW_GENERATION)


@given(st.binary(max_size=HEADER_SIZE + ROUTE.size))
def test_what_is_too_short_wakes_nobody_and_breaks_nothing(message: bytes) -> None:
    for program in (accept_alterations(OWN), accept_generations()):
        if len(message) < 6:
            assert run(program, message) == 0
        run(program, message)
