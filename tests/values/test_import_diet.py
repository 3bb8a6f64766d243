"""What the daemons do not load: each of these costs megabytes that an idle agent would hold for nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

DEAR = {"email", "importlib.metadata", "numpy", "pyroute2", "rich", "scapy", "dns", "netifaces", "pydoc"}
DAEMONS = {
    "mn_agent.daemon": DEAR | {"sqlite3", "home_agent"},
    "home_agent.daemon": DEAR | {"mn_agent", "movement"},
}


@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_loads_nothing_dear_before_it_is_needed(daemon: str) -> None:
    script = f"import sys, {daemon}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert daemon in loaded
    assert not DAEMONS[daemon] & set(loaded)
