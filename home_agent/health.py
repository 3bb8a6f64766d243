"""What of the home agent's experience an operator should look at: `health` of `hactl status`.

Pure. docs/control.md describes the fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from home_agent.node import HomeAgent
from home_agent.status import Json, Moment

_TLV_DROPS = ("tlv-not-negotiated", "tlv-length", "tlv-type")
_ALIKE = "set [wire] profile alike at both ends"


def findings(agent: HomeAgent, drops: Mapping[str, int], now: Moment) -> list[Json]:
    """Everything that is noticed, most telling first."""
    return [*_dialects(agent, now), *_tlv(agent, drops), *_payload(agent, drops)]


def _dialects(agent: HomeAgent, now: Moment) -> Iterator[Json]:
    ours = agent.configuration.wire.profile
    for home, account in agent.tally.accounts.items():
        if account.dialect:
            label = agent.nodes[home].label
            text = f"{label} seems to have {account.dialect}, while this home agent has {ours}"
            yield _item("wire-profile", "medium", text, _ALIKE, now.text(account.dialect_since))


def _tlv(agent: HomeAgent, drops: Mapping[str, int]) -> Iterator[Json]:
    number = sum(drops.get(reason, 0) for reason in _TLV_DROPS)
    if number:
        profile = agent.configuration.wire.profile
        text = f"{number} packets had a TLV header that wire profile {profile} does not know"
        yield _item("tlv-format", "medium", text, _ALIKE)


def _payload(agent: HomeAgent, drops: Mapping[str, int]) -> Iterator[Json]:
    if agent.payload.missing:
        text = f"{agent.payload.missing} mobile nodes have yet to come for new keys for their payload"
        yield _item("payload-keys", "medium", text, "wait; `mnctl refresh` there does it at once")
    number = drops.get("payload-unprotected", 0)
    if number:
        text = f"{number} packets of protected home addresses came in the clear and were dropped"
        yield _item("payload-unprotected", "medium", text, "set protect_payload = true at the mobile node")


def _item(code: str, severity: str, text: str, fix: str, since: str | None = None) -> Json:
    return {
        "code": code,
        "severity": severity,
        "impacts_connectivity": severity == "high",
        "since": since,
        "text": text,
        "fix": fix,
    }
