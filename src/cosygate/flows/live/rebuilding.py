"""A session's state, as whoever claims it finds it: from the journal, and from SQL and the stored parts where they know
more, because the journal was lost, or an older version wrote it."""

from __future__ import annotations

from typing import Any

from cosygate.model.live import LiveSession
from cosygate.model.options import TranscribeOptions, Wish
from cosygate.model.timeline import Timeline, label_number
from cosygate.ports.journal import Past
from cosygate.ports.live import LiveKeeping

_FINALS_A_READ = 500


async def rebuilt(
    keeping: LiveKeeping, row: LiveSession, past: Past, kept: int, *, ended: bool
) -> tuple[Timeline, list[dict[str, Any]]]:
    """With the finals that SQL does not have. `kept`: bytes of sound that are stored as parts; `ended`: the last of
    them is the session's last."""
    timeline = Timeline.restored(past.snapshot) if past.snapshot else Timeline()
    known = [*(past.snapshot["unsaved"] if past.snapshot else ()), *past.events]
    for event in past.events:
        timeline.apply(event)
    if row.mark.finals > timeline.finals:
        last = await keeping.finals(row.id, row.mark.finals - 2, 1)
        timeline.finals = row.mark.finals
        timeline.last_end = max(timeline.last_end, int(last[0]["end_sample"]) if last else 0)
        timeline.speakers = max(timeline.speakers, await _labels(keeping, row))
    elif past.snapshot and "speakers" not in past.snapshot:
        timeline.speakers = max(timeline.speakers, await _labels(keeping, row), *map(label_number, known))
    timeline.decide(row.mark.restart)
    unit = row.format.stored_bytes
    timeline.received = max(timeline.received, past.end // unit, kept // unit)
    if ended and timeline.ended != kept // unit:  # nobody can go on from before it: its last part is there
        timeline.received = timeline.ended = kept // unit
        timeline.closed = True
    finals = (dict(e) for e in known if e["type"] == "final")
    return timeline, [e for e in finals if e["id"] >= row.mark.finals]


async def _labels(keeping: LiveKeeping, row: LiveSession) -> int:
    """The highest number of a speaker among the finals in SQL."""
    if TranscribeOptions.from_json(row.options).diarize is Wish.NO:
        return 0
    highest, after = 0, -1
    while page := await keeping.finals(row.id, after, _FINALS_A_READ):
        highest = max(highest, *map(label_number, page))
        after = page[-1]["id"]
    return highest
