"""What the home agent tells people and scripts: one event of `hactl events` each.

Pure. docs/control.md describes the fields.
"""

from __future__ import annotations

from home_agent.actions import Report
from home_agent.binding_cache import Binding
from wire.mobility import BindingStatus, status_text
from wire.text import text_of


def rejected(label: str, status: BindingStatus, remark: str = "") -> Report:
    """The mobile node called `label` got an answer that it did not hope for."""
    text = status_text(status)
    fields = {"node": label, "status": int(status), "text": f"{text}: {remark}" if remark else text}
    return Report("rejected", fields)


def changed(label: str, binding: Binding, change: str, remark: str = "") -> Report:
    """What became of a binding of the mobile node called `label`."""
    fields: dict[str, object] = {
        "node": label,
        "change": change,
        "care_of": text_of(binding.care_of),
        "sequence": binding.sequence,
    }
    return Report("binding", {**fields, "remark": remark} if remark else fields)
