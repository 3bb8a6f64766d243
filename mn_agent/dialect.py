"""Whether the home agent seems to have another wire profile than this node: counted and said, never guessed.

Pure. What is counted, wire.dialect recognises.
"""

from __future__ import annotations

from wire.dialect import in_ack
from wire.mobility import BindingAck
from wire.profile import Profile


class Dialect:
    """What the last acknowledgement spoke for since `since`, "" if that was our own profile."""

    def __init__(self, profile: Profile, tlv_asked: bool) -> None:
        self.mismatches = 0
        """Acknowledgements that spoke for another profile."""
        self.found = ""
        self.since = 0.0
        self._profile = profile
        self._tlv_asked = tlv_asked

    def heard(self, ack: BindingAck, now: float) -> None:
        """An authentic acknowledgement."""
        found = in_ack(ack, self._profile, self._tlv_asked)
        self.mismatches += bool(found)
        if found and not self.found:
            self.since = now
        self.found = found
