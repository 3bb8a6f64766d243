"""What the mobile node remembers on disk: for its owner only, replaced as a whole, never worth a crash."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from mn_agent.state_files import MEMORY, StateFiles
from runtime.log import Log


def test_a_file_is_for_its_owner_only_and_replaced_as_a_whole(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        files = StateFiles(tmp_path, Log(io.StringIO()))
        files.write(MEMORY, b'{"next_sequence": 1000}')
        files.write(MEMORY, b'{"next_sequence": 2}')
    finally:
        os.umask(umask)
    assert files.memory() == {"next_sequence": 2}
    assert [(path.name, path.stat().st_mode & 0o777) for path in tmp_path.iterdir()] == [(MEMORY, 0o600)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_on_a_full_disk_there_is_a_warning_and_the_old_file_stays(tmp_path: Path) -> None:
    told = io.StringIO()
    files = StateFiles(tmp_path, Log(told))
    files.write(MEMORY, b'{"next_sequence": 7}')
    (tmp_path / MEMORY).with_suffix(".new").symlink_to("/dev/full")
    files.write(MEMORY, b'{"next_sequence": 8}')
    assert "No space left" in told.getvalue()
    assert files.memory() == {"next_sequence": 7}
