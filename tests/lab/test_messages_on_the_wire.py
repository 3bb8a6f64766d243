"""Every Binding Update and Acknowledgement that the daemons emit, read by tshark with the keys."""

from __future__ import annotations

import pytest

from tests.lab.conftest import LabUnderTest, mnctl_lab, unique_name
from tests.lab.dissection import Frame, dissect

FIELDS = (
    "frame.protocols", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "udp.srcport", "udp.dstport", "esp.spi",
    "esp.icv_good", "mip6.mhtype", "mip6.bu.seqnr", "mip6.bu.a_flag", "mip6.bu.h_flag", "mip6.bu.lifetime",
    "mip6.ipv4ha.ha", "mip6.ipv4coa.addr", "mip6.acoa.acoa", "mip6.ba.status", "mip6.ba.seqnr",
    "mip6.natd.refresh_t", "mip6.ipv4aa.sts", "ipv6.routing.type", "ipv6.opt.mipv6.home_address",
    "ipv6.routing.mipv6.home_address",
)  # fmt: skip
HOME6, HOME4 = "2001:db8:99::77", "203.0.113.77"
AGENT6, AGENT4 = "2001:db8:99::2", "203.0.113.2"


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Frame]:
    """The mobility messages on the mobile node's link: IPv6, public IPv4, NAT, IPv6, and a clean stop."""
    name, pcap = unique_name(), tmp_path_factory.mktemp("wire") / "mn.pcap"
    done = mnctl_lab("up", "--name", name)
    assert done.returncode == 0, done.stderr
    lab = LabUnderTest(name)
    try:
        keys = lab.output("mn", "cat", "/etc/mn-agent/keys.toml")
        lab.wait_until_bound_from("office")
        with lab.capturing("mn", "eth0", pcap):
            for network in ("mobile", "cafe", "office"):
                lab.move(network)
            ended = "while pidof -x mn-agent; do sleep 0.05; done"
            lab.output("mn", "sh", "-c", f"kill $(pidof -x mn-agent); {ended}")
    finally:
        mnctl_lab("down", "--lab", name)
    return dissect(pcap, keys, "mipv6", FIELDS)


def updates(frames: list[Frame], protocols: str) -> list[Frame]:
    return [f for f in frames if f["mip6.mhtype"][-1] == "5" and protocols in f["frame.protocols"][0]]


def acks(frames: list[Frame], protocols: str) -> list[Frame]:
    return [f for f in frames if f["mip6.mhtype"][-1] == "6" and protocols in f["frame.protocols"][0]]


@pytest.mark.requirement("R134", "R096i")
def test_every_message_is_inside_esp_with_a_correct_integrity_value(frames: list[Frame]) -> None:
    assert len(frames) >= 8
    for frame in frames:
        assert frame["esp.spi"]
        assert set(frame["esp.icv_good"]) == {"True"} or set(frame["esp.icv_good"]) == {"1"}


@pytest.mark.requirement("R020", "R135", "R097")
def test_on_ipv6_the_update_has_a_home_address_option_and_no_udp(frames: list[Frame]) -> None:
    found = updates(frames, "ipv6.dstopts:esp:mipv6")
    assert found
    for frame in found:
        assert "udp" not in frame["frame.protocols"][0]
        assert frame["ipv6.src"][0].startswith("2001:db8:1:"), frame
        assert frame["ipv6.dst"][0] == AGENT6
        assert frame["ipv6.opt.mipv6.home_address"] == [HOME6]
        assert frame["mip6.acoa.acoa"] == [frame["ipv6.src"][0]]
        assert frame["mip6.ipv4ha.ha"] == [HOME4]


@pytest.mark.requirement("R027", "R128", "R023", "R024")
def test_on_ipv6_the_answer_has_a_type_2_routing_header_with_the_home_address(frames: list[Frame]) -> None:
    found = acks(frames, "ipv6.routing:esp:mipv6")
    assert found
    for frame in found:
        assert frame["ipv6.routing.type"] == ["2"]
        assert frame["ipv6.routing.mipv6.home_address"] == [HOME6]
        assert frame["mip6.ba.status"] == ["0"]


@pytest.mark.requirement("R033", "R034", "R035", "R036", "R044", "R045", "R084", "R087a")
@pytest.mark.requirement("R090c", "R090f", "R096b")
@pytest.mark.parametrize("network", ["198.51.100.", "192.168.7."])
def test_on_ipv4_the_update_is_in_vanilla_udp_and_names_its_care_of_address(
    frames: list[Frame], network: str
) -> None:
    found = [f for f in updates(frames, "ip:udp:ip:ipv6:esp:mipv6") if f["ip.src"][0].startswith(network)]
    assert found
    for frame in found:
        assert frame["ip.dst"] == [AGENT4]
        assert frame["udp.dstport"] == ["4191"]
        assert (frame["ipv6.src"], frame["ipv6.dst"]) == ([HOME6], [AGENT6])
        assert frame["mip6.ipv4coa.addr"] == frame["ip.src"]
        assert frame["mip6.ipv4ha.ha"] == [HOME4]
        assert (frame["mip6.bu.a_flag"], frame["mip6.bu.h_flag"]) == (["1"], ["1"]) or (
            frame["mip6.bu.a_flag"], frame["mip6.bu.h_flag"]) == (["True"], ["True"])  # fmt: skip


@pytest.mark.requirement("R041", "R043", "R051", "R090b", "R090d", "R114", "R118", "R129")
@pytest.mark.parametrize(("network", "refresh"), [("198.51.100.", "4294967295"), ("192.168.7.", "110")])
def test_on_ipv4_the_answer_is_in_udp_without_routing_header_and_says_whether_there_is_a_nat(
    frames: list[Frame], network: str, refresh: str
) -> None:
    found = [f for f in acks(frames, "ip:udp:ip:ipv6:esp:mipv6") if f["ip.dst"][0].startswith(network)]
    assert found
    for frame in found:
        assert frame["udp.srcport"] == ["4191"]
        assert (frame["ipv6.src"], frame["ipv6.dst"]) == ([AGENT6], [HOME6])
        assert frame["mip6.natd.refresh_t"] == [refresh]
        assert frame["mip6.ipv4aa.sts"] == ["0"]


@pytest.mark.requirement("R054", "R055")
def test_nothing_but_home_registration_is_signalled(frames: list[Frame]) -> None:
    """No return routability on IPv4 links, nor for IPv4 traffic: everything goes by the home agent."""
    assert {frame["mip6.mhtype"][-1] for frame in frames} == {"5", "6"}


def test_every_update_is_answered_with_its_own_sequence_number(frames: list[Frame]) -> None:
    """One that is repeated may be answered once."""
    sent = {f["mip6.bu.seqnr"][0]: (f["mip6.bu.lifetime"][0], *source(f)) for f in updates(frames, "")}
    answered = {f["mip6.ba.seqnr"][0] for f in acks(frames, "")}
    assert answered <= sent.keys()
    assert {sent[number] for number in answered} == set(sent.values())
    assert len(answered) >= 4, "three moves and a goodbye"


def source(frame: Frame) -> list[str]:
    """Of the outermost packet."""
    return frame.get("ip.src", frame["ipv6.src"])[:1]


def test_the_last_message_of_a_clean_stop_deregisters(frames: list[Frame]) -> None:
    last = [f for f in frames if "mip6.bu.lifetime" in f][-1]
    assert last["mip6.bu.lifetime"] == ["0"]
