"""The picture of a run: above the whole of it, below each move under a magnifying glass.

Pure. A lane per stream: a green tick for each packet that arrived, a red one where one was sent and never
did, the outage shaded; above the lanes what was seen of link, address, Binding Update and acknowledgement.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from lab.judge import Evidence, Handover, Stream, Window
from lab.svg import Drawing

_STYLE = """
text{font:11px system-ui,sans-serif;fill:#24292f}
.paper{fill:#fff}.title{font-size:18px;font-weight:600}.head{font-size:13px;font-weight:600}
.dim{fill:#6e7781}.small{font-size:10px;fill:#6e7781}.mark{font-size:10px;font-weight:600}
.lane{fill:#f6f8fa}.got{stroke:#2da44e;stroke-width:.9}.lost{stroke:#cf222e;stroke-width:1.1}
.outage{fill:#cf222e;fill-opacity:.22}.network6{fill:#ddf4ff}.network4{fill:#fff1c2}.networkN{fill:#ffd8b5}
.move{stroke:#8c959f;stroke-dasharray:3 2}.link{stroke:#8250df}.address{stroke:#8250df;stroke-dasharray:2 2}
.update{stroke:#0969da;stroke-width:1.6}.ack{stroke:#1a7f37;stroke-width:1.6}
.updateHead{fill:#0969da}.ackHead{fill:#1a7f37}.axis{stroke:#d0d7de}
"""
_WIDTH, _MARGIN, _LABELS = 1440.0, 24.0, 92.0
_LANE, _GAP = 11.0, 3.0
_COLUMNS = 3
_BEFORE_NS, _AFTER_NS = 60_000_000, 340_000_000


@dataclass(frozen=True, slots=True)
class _Scale:
    """Instants -> places on the paper."""

    begin_ns: int
    end_ns: int
    left: float
    right: float

    def x(self, at_ns: int) -> float:
        share = (at_ns - self.begin_ns) / max(1, self.end_ns - self.begin_ns)
        return self.left + share * (self.right - self.left)

    def inside(self, instants: Sequence[int]) -> Sequence[int]:
        """Those of sorted `instants` that are on the paper."""
        return instants[bisect_left(instants, self.begin_ns) : bisect_left(instants, self.end_ns)]


def timeline(name: str, handovers: Sequence[Handover], windows: Sequence[Window], evidence: Evidence) -> str:
    """The SVG text of a run."""
    lanes = len(evidence.streams)
    overview = 92 + lanes * (_LANE + _GAP)
    panel = 86 + lanes * (_LANE + _GAP)
    rows = -(-len(handovers) // _COLUMNS)
    drawing = Drawing(_WIDTH, _MARGIN + overview + rows * panel + 30)
    drawing.text(_MARGIN, _MARGIN + 12, f"{name}: {len(handovers)} moves", "title")
    _legend(drawing, _MARGIN + 12)
    if windows:
        _overview(drawing, handovers, windows, evidence, _MARGIN + 32)
    width = (_WIDTH - 2 * _MARGIN) / _COLUMNS
    for place, handover in enumerate(handovers):
        left, top = _MARGIN + (place % _COLUMNS) * width, _MARGIN + overview + (place // _COLUMNS) * panel
        _panel(drawing, handover, evidence, left, width - 18, top)
    return drawing.document(_STYLE)


def _legend(drawing: Drawing, y: float) -> None:
    x = _WIDTH - _MARGIN - 800
    for style, words, width in (("got", "received", 70), ("lost", "lost", 50)):
        drawing.ticks([x + 2, x + 5, x + 8], y - 9, 10, style)
        drawing.text(x + 14, y, words)
        x += width + 14
    drawing.rectangle(x, y - 9, 12, 10, "outage")
    drawing.text(x + 17, y, "outage after the new address can be used")
    x += 290
    for style, words in (("move", "cable"), ("link", "link up"), ("address", "address")):
        drawing.line(x + 3, y - 10, x + 3, y + 2, style)
        drawing.text(x + 10, y, words)
        x += 64
    for style, words in (("network6", "IPv6"), ("network4", "IPv4"), ("networkN", "NAT")):
        drawing.rectangle(x, y - 9, 12, 10, style)
        drawing.text(x + 16, y, words)
        x += 54


def _overview(
    drawing: Drawing, handovers: Sequence[Handover], windows: Sequence[Window], evidence: Evidence, top: float
) -> None:
    begin, end = windows[0].started_ns - 500_000_000, windows[-1].until_ns
    scale = _Scale(begin, end, _MARGIN + _LABELS, _WIDTH - _MARGIN)
    _networks(drawing, handovers, scale, top)
    lanes = top + 24
    height = len(evidence.streams) * (_LANE + _GAP)
    _lanes(drawing, evidence, scale, lanes, labels=True)
    for handover in handovers:
        _shade(drawing, handover, evidence, scale, lanes)
        x = scale.x(handover.window.started_ns)
        drawing.line(x, top, x, lanes + height, "move")
    seconds = (end - begin) / 1e9
    step = next(s for s in (1, 2, 5, 10, 30, 60, 600) if seconds / s <= 20)
    for second in range(0, int(seconds) + 1, step):
        x = scale.x(windows[0].started_ns + second * 1_000_000_000)
        if x <= scale.right:
            drawing.line(x, lanes + height, x, lanes + height + 4, "axis")
            drawing.text(x, lanes + height + 15, f"{second} s", "small", "middle")


def _networks(drawing: Drawing, handovers: Sequence[Handover], scale: _Scale, top: float) -> None:
    """The band that says where the mobile node was; the colour is how its packets travelled."""
    if not handovers:
        return
    first = handovers[0]
    stays = [(scale.begin_ns, first.origin, first.family_from, False)]
    stays += [(h.ack_ns or h.window.started_ns, h.target, h.family_to, h.nat) for h in handovers]
    ends = [begin for begin, *_ in stays[1:]] + [scale.end_ns]
    for (begin, network, family, nat), end in zip(stays, ends, strict=True):
        style = "networkN" if nat else f"network{family[-1]}" if family[:3] == "ipv" else "lane"
        left, right = scale.x(begin), scale.x(end)
        drawing.rectangle(left, top, right - left - 1, 17, style, f"{network}, {family}")
        drawing.text((left + right) / 2, top + 12, network, "mark", "middle")


def _lanes(drawing: Drawing, evidence: Evidence, scale: _Scale, top: float, labels: bool) -> None:
    for row, (name, stream) in enumerate(evidence.streams.items()):
        y = top + row * (_LANE + _GAP)
        drawing.rectangle(scale.left, y, scale.right - scale.left, _LANE, "lane")
        if labels:
            drawing.text(scale.left - 8, y + 9, name, "", "end")
        arrived = [at for at, _ in stream.received]
        drawing.ticks((scale.x(at) for at in scale.inside(arrived)), y + 1, _LANE - 2, "got")
        drawing.ticks((scale.x(at) for at in scale.inside(_never_arrived(stream))), y + 1, _LANE - 2, "lost")


def _shade(drawing: Drawing, handover: Handover, evidence: Evidence, scale: _Scale, top: float) -> None:
    for row, name in enumerate(evidence.streams):
        silence = handover.silences[name]
        left = scale.x(max(silence.begin_ns, scale.begin_ns))
        right = scale.x(min(silence.end_ns, scale.end_ns))
        if silence.outage_ns and right > left:
            title = f"{name}: {silence.outage_ns / 1e6:.1f} ms"
            drawing.rectangle(left, top + row * (_LANE + _GAP), right - left, _LANE, "outage", title)


def _panel(
    drawing: Drawing, handover: Handover, evidence: Evidence, left: float, width: float, top: float
) -> None:
    begin = handover.window.started_ns - _BEFORE_NS
    latest = max((s.end_ns for s in handover.silences.values() if s.outage_ns), default=0)
    end = min(handover.window.until_ns, max(handover.window.started_ns + _AFTER_NS, latest + 60_000_000))
    scale = _Scale(begin, end, left + _LABELS, left + width)
    worst, outage = handover.worst
    drawing.text(left, top + 10, f"{handover.window.index}  {handover.origin} → {handover.target}", "head")
    nat = " NAT" if handover.nat else ""
    words = f"{handover.family_from} → {handover.family_to}{nat}, {handover.encapsulation}"
    drawing.text(scale.right, top + 10, f"{words}; outage {outage / 1e6:.0f} ms {worst}", "dim", "end")
    lanes = top + 42
    bottom = lanes + len(evidence.streams) * (_LANE + _GAP)
    _lanes(drawing, evidence, scale, lanes, labels=True)
    _shade(drawing, handover, evidence, scale, lanes)
    _events(drawing, handover, scale, top + 18, lanes, bottom)
    milliseconds = (end - begin) / 1e6
    step = next(s for s in (50, 100, 200, 500, 1000, 5000, 60000) if milliseconds / s <= 9)
    for after in range(0, int(milliseconds), step):
        x = scale.x(handover.window.started_ns + after * 1_000_000)
        if x <= scale.right - 12:
            drawing.line(x, bottom, x, bottom + 4, "axis")
            drawing.text(x, bottom + 14, f"{after} ms" if after == 0 else str(after), "small", "middle")


def _events(
    drawing: Drawing, handover: Handover, scale: _Scale, top: float, lanes: float, bottom: float
) -> None:
    """Cable, link, address as upright lines; BU an arrow up into the network, BA an arrow down."""
    x = scale.x(handover.window.started_ns)
    drawing.line(x, lanes - 6, x, bottom, "move")
    drawing.text(x, lanes - 9, "cable pulled", "small", "middle")
    for at_ns, style in ((handover.link_ns, "link"), (handover.usable_ns, "address")):
        if at_ns is not None and at_ns > handover.window.started_ns:
            drawing.line(scale.x(at_ns), lanes - 6, scale.x(at_ns), bottom, style)
    if handover.update_ns is not None:
        x = scale.x(handover.update_ns)
        drawing.line(x, lanes - 3, x, top + 6, "update")
        drawing.polygon(((x - 3, top + 7), (x + 3, top + 7), (x, top)), "updateHead")
        drawing.text(x - 5, top + 7, "BU", "mark", "end")
    if handover.ack_ns is not None:
        x = scale.x(handover.ack_ns)
        drawing.line(x, top, x, lanes - 8, "ack")
        drawing.polygon(((x - 3, lanes - 9), (x + 3, lanes - 9), (x, lanes - 2)), "ackHead")
        drawing.text(x + 6, top + 7, "BA", "mark")


def _never_arrived(stream: Stream) -> list[int]:
    """When the packets were sent that never arrived."""
    if stream.sent is None:
        return []
    arrived = {sequence for _, sequence in stream.received}
    return [at for at, sequence in stream.sent if sequence not in arrived]
