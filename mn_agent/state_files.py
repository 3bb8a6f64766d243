"""The files in the state directory: what the agent remembers from one start to the next.

Performs I/O.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from movement.known_networks import MAX_OCTETS, KnownNetworks, recall_networks
from runtime.log import Log

MEMORY = "memory.json"
NETWORKS = "networks.json"


class StateFiles:
    """Reads and replaces files of `directory`. What goes wrong is a warning, never the end of the agent."""

    def __init__(self, directory: Path, log: Log) -> None:
        self._directory = directory
        self._log = log

    def write(self, name: str, document: bytes) -> None:
        """Replace the file in one step. No fsync: a crash of this process loses nothing, and after one of the
        machine the sequence numbers start from the wall clock (see mn_agent.memory)."""
        path = self._directory / name
        temporary = path.with_suffix(".new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as file:
                file.write(document)
            os.replace(temporary, path)
        except OSError as error:
            self._log.warning("memory", f"cannot write {path}: {error.strerror}")

    def settle(self) -> None:
        """See to it that what was written is on the disk: the host is about to sleep, and may not wake up."""
        for path in (self._directory / MEMORY, self._directory / NETWORKS):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            except OSError as error:
                self._log.warning("memory", f"cannot open {path}: {error.strerror}")
                continue
            try:
                os.fsync(descriptor)
            except OSError as error:
                self._log.warning("memory", f"cannot settle {path}: {error.strerror}")
            finally:
                os.close(descriptor)

    def memory(self) -> Mapping[str, object]:
        """What `mn_agent.memory` recalls from; empty when there is nothing, or nothing readable."""
        path = self._directory / MEMORY
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            self._ignored(path, error)
            return {}
        return document if isinstance(document, dict) else {}

    def networks(self, now: float, wall_offset: float) -> KnownNetworks:
        """The networks that were met; none when there is nothing, or nothing readable."""
        path = self._directory / NETWORKS
        try:
            with open(path, "rb") as file:
                return recall_networks(file.read(MAX_OCTETS + 1), now, wall_offset)
        except FileNotFoundError:
            return KnownNetworks()
        except (OSError, ValueError) as error:
            self._ignored(path, error)
            return KnownNetworks()

    def _ignored(self, path: Path, error: Exception) -> None:
        self._log.warning("memory", f"{path} is not readable and is ignored: {error}")
