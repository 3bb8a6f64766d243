"""Home agent discovery against a real DNS server (dnsmasq) on loopback of a namespace of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ZONE = [
    "--srv-host=_mip6._ipv6.example.net,ha2.example.net,4192,20",
    "--srv-host=_mip6._ipv6.example.net,ha1.example.net,4191,10",
    "--host-record=ha1.example.net,203.0.113.2,2001:db8:99::2",
    "--host-record=ha2.example.net,203.0.113.3,2001:db8:99::3",
    "--host-record=only6.example.net,2001:db8:99::4",
    "--host-record=only4.example.net,203.0.113.5",
]

# Runs in a namespace with a private /etc/resolv.conf; prints what the resolver found, as JSON.
INSIDE = textwrap.dedent(
    """
    import asyncio, contextlib, json, socket, subprocess, sys, time
    from mn_agent.discovery import ByName, ByService
    from mn_agent.resolver import ResolutionError, Resolver

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "--bind", sys.argv[1], "/etc/resolv.conf"], check=True)
    alone = ["--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--pid-file"]
    there = ["--user=root", "--listen-address=127.0.0.1", "--bind-interfaces"]
    server = subprocess.Popen(["dnsmasq", *alone, *there, *json.loads(sys.argv[2])])
    questions = {
        "service": ByService("example.net", ("mip6ha.ipv6", "_mip6._ipv6"), 4191),
        "only6": ByName("only6.example.net", 4191),
        "only4": ByName("only4.example.net", 4191),
        "missing": ByName("nobody.example.net", 4191),
    }

    async def ask(question):
        try:
            found = await Resolver(0x4D4E).find(question)
            return [[a.name, str(a.ipv6), str(a.ipv4), a.port] for a in found]
        except ResolutionError as error:
            return str(error)

    def until_it_serves():
        for _ in range(600):
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", 53)):
                return
            time.sleep(0.05)

    async def main():
        return {name: await ask(question) for name, question in questions.items()}

    try:
        until_it_serves()
        print(json.dumps(asyncio.run(main())))
    finally:
        server.terminate()
        server.wait()
    """
)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    resolv = tmp_path_factory.mktemp("dns") / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\n", encoding="ascii")
    run = subprocess.run(
        ["unshare", "--net", "--mount", sys.executable, "-c", INSIDE, str(resolv), json.dumps(ZONE)],
        capture_output=True, text=True, timeout=60, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    return dict(json.loads(run.stdout))


@pytest.mark.requirement("R006", "R012", "R013", "R014", "R015")
def test_srv_targets_come_in_order_each_with_the_two_addresses_of_its_own_name(
    answers: dict[str, object],
) -> None:
    assert answers["service"] == [
        ["ha1.example.net", "2001:db8:99::2", "203.0.113.2", 4191],
        ["ha2.example.net", "2001:db8:99::3", "203.0.113.3", 4192],
    ]


@pytest.mark.requirement("R011")
def test_a_name_without_ipv4_address_is_a_home_agent_for_ipv6_links(answers: dict[str, object]) -> None:
    assert answers["only6"] == [["only6.example.net", "2001:db8:99::4", "None", 4191]]


def test_a_name_without_ipv6_address_or_without_any_is_an_error_that_says_so(
    answers: dict[str, object],
) -> None:
    assert "only4.example.net" in str(answers["only4"])
    assert "nobody.example.net" in str(answers["missing"])
