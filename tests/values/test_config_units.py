"""The service units: what they allow is what the daemons need, and the sandbox holds."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).resolve().parents[2] / "packaging" / "systemd"
UNITS = {"mn-agent": SYSTEMD / "mn-agent.service", "home-agent": SYSTEMD / "home-agent.service"}
EVERY_UNIT = pytest.mark.parametrize("name", UNITS)

PR_SET_MDWE = 65
PR_MDWE_REFUSE_EXEC_GAIN = 1


def settings_of(path: Path) -> dict[str, list[str]]:
    """`Section.Key` -> values, as systemd.syntax(7) reads them."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith(("#", ";")) or not line.strip():
            continue
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
            continue
        key, separator, value = line.partition("=")
        assert separator, line
        found.setdefault(f"{section}.{key}", []).append(value)
    return found


@EVERY_UNIT
def test_a_unit_starts_an_installed_command_and_cleans_up_after_it(name: str) -> None:
    unit = settings_of(UNITS[name])
    assert unit["Service.ExecStart"] == [f"/usr/bin/{name}"]
    assert unit["Service.ExecStopPost"] == [f"+/usr/bin/{name} --cleanup"]
    assert name in {script.name for script in entry_points(group="console_scripts")}


@EVERY_UNIT
def test_a_unit_waits_for_readiness_watches_and_restarts(name: str) -> None:
    unit = settings_of(UNITS[name])
    assert unit["Service.Type"] == ["notify"]
    assert unit["Service.NotifyAccess"] == ["main"]
    assert unit["Service.WatchdogSec"] == ["20s"]
    assert unit["Service.Restart"] == ["on-failure"]
    assert unit["Service.RestartPreventExitStatus"] == ["7"]


@EVERY_UNIT
def test_anyone_can_reach_the_control_socket_and_nobody_the_state(name: str) -> None:
    unit = settings_of(UNITS[name])
    assert unit["Service.RuntimeDirectory"] == [name]
    assert unit["Service.RuntimeDirectoryMode"] == ["0755"]
    assert unit["Service.StateDirectory"] == [name]
    assert unit["Service.StateDirectoryMode"] == ["0700"]
    assert unit["Service.UMask"] == ["0077"]


@EVERY_UNIT
def test_three_capabilities_and_one_device_are_all(name: str) -> None:
    unit = settings_of(UNITS[name])
    assert unit["Service.User"] == [name]
    for key in ("AmbientCapabilities", "CapabilityBoundingSet"):
        assert unit[f"Service.{key}"] == ["CAP_NET_ADMIN CAP_NET_RAW CAP_BPF"]
    assert unit["Service.NoNewPrivileges"] == ["yes"]
    assert unit["Service.DevicePolicy"] == ["closed"]
    assert unit["Service.DeviceAllow"] == ["/dev/net/tun rw"]
    assert unit["Service.LimitCORE"] == ["0"]
    assert "Service.ProtectKernelTunables" not in unit


@EVERY_UNIT
def test_every_protection_of_the_sandbox_is_on(name: str) -> None:
    unit = settings_of(UNITS[name])
    assert unit["Service.ProtectSystem"] == ["strict"]
    assert unit["Service.ProtectProc"] == ["invisible"]
    assert unit["Service.SystemCallFilter"] == ["@system-service", "~@privileged @resources", "bpf"]
    assert unit["Service.RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET"]
    for key in (
        "ProtectHome", "PrivateTmp", "ProtectClock", "ProtectHostname", "ProtectKernelLogs",
        "ProtectKernelModules", "ProtectControlGroups", "RestrictNamespaces", "RestrictRealtime",
        "RestrictSUIDSGID", "LockPersonality", "MemoryDenyWriteExecute",
    ):  # fmt: skip
        assert unit[f"Service.{key}"] == ["yes"], key


@EVERY_UNIT
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_rates_the_exposure_at_most_2_5(name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(UNITS[name])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "exposure level" in done.stdout
    assert done.returncode == 0, done.stdout.splitlines()[-1]


@EVERY_UNIT
def test_the_daemon_loads_where_memory_is_never_writable_and_executable(name: str) -> None:
    """MemoryDenyWriteExecute, by the prctl that newer systemd uses for it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(66, 0, 0, 0, 0) < 0:
        pytest.skip("this kernel has no PR_SET_MDWE")
    code = (
        "import asyncio, importlib, mmap, sys\n"
        "try: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
        "except PermissionError: pass\n"
        "else: sys.exit('nothing is denied')\n"
        "importlib.import_module(sys.argv[1])\n"
        "from runtime.clock import KernelTimer\n"
        "async def main():\n"
        "    KernelTimer(asyncio.get_running_loop(), print).arm(1e9)\n"
        "asyncio.run(main())\n"
    )

    def deny() -> None:
        libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)

    module = f"{name.replace('-', '_')}.daemon"
    command = [sys.executable, "-c", code, module]
    done = subprocess.run(command, preexec_fn=deny, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_both_users_and_the_group_of_the_control_socket_are_made() -> None:
    from runtime.control_server import GROUP

    lines = (SYSTEMD / "sysusers.conf").read_text().splitlines()
    made = {tuple(line.split()[:2]) for line in lines if not line.startswith("#")}
    assert {("g", GROUP), ("u", "mn-agent"), ("u", "home-agent")} <= made


def test_networkd_is_told_to_leave_our_rules_routes_and_devices_alone() -> None:
    rules = settings_of(SYSTEMD / "networkd.conf")
    assert rules["Network.ManageForeignRoutingPolicyRules"] == ["no"]
    assert rules["Network.ManageForeignRoutes"] == ["no"]
    device = settings_of(SYSTEMD / "mip.network")
    assert device == {"Match.Name": ["mip*"], "Link.Unmanaged": ["yes"]}
