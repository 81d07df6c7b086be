"""Which labels of speakers are somebody's, as whoever claims a session finds out: from the journal, or from SQL where
the journal was lost, or was written by a version before. Real records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cosygate.adapters.records_sql import SqlRecords
from cosygate.flows.live.rebuilding import rebuilt
from cosygate.model.live import LiveSession
from cosygate.model.live_messages import Resume
from cosygate.model.options import parse_options
from cosygate.model.timeline import Timeline
from cosygate.ports.journal import Past
from tests.support.live_records import final, mark, new_session, session_id
from tests.unit.test_live_ends import ANN, START, desk
from tests.unit.test_live_parts_ahead import House, house

__all__ = ["house"]  # the fixture
FINALS = 1200  # more than are read at once
LOST = Past(None, [], 0, 0)


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[SqlRecords]:
    opened = await SqlRecords.open(f"sqlite:///{tmp_path / 'r.db'}", durability="process")
    yield opened
    await opened.close()


def spoken(number: int) -> dict[str, Any]:
    """The last to be heard for the first time is S5, in the second page and nowhere else."""
    return final(number) | {"speaker": "S5" if number == 700 else f"S{number % 4 + 1}"}


async def stored(records: SqlRecords, finals: int, **options: str) -> LiveSession:
    row = new_session(1)
    row = LiveSession(
        **{name: getattr(row, name) for name in row.__dataclass_fields__ if name != "options"},
        options=parse_options(options).to_json(),
    )
    await records.live.open(row, max_of_owner=9, max_of_all=9)
    assert await records.live.keep(row.id, 1, [spoken(n) for n in range(finals)], mark(finals))
    found = await records.live.find(session_id(1))
    assert found is not None
    return found


async def test_when_the_journal_is_lost_sql_knows(records: SqlRecords) -> None:
    row = await stored(records, FINALS, diarize="true")
    timeline, unsaved = await rebuilt(records.live_keeping, row, LOST, 0, ended=False)
    assert (timeline.finals, timeline.speakers, unsaved) == (FINALS, 5, [])


async def test_nobody_looks_where_nobody_asked_for_speakers(records: SqlRecords) -> None:
    row = await stored(records, FINALS)
    timeline, _ = await rebuilt(records.live_keeping, row, LOST, 0, ended=False)
    assert (timeline.finals, timeline.speakers) == (FINALS, 0)


async def test_a_snapshot_of_a_version_before_does_not_say(records: SqlRecords) -> None:
    row = await stored(records, 3, diarize="auto")
    timeline = Timeline()
    for number in range(5):
        timeline.apply(spoken(number))
    unsaved = [spoken(3) | {"speaker": "S7"}]
    snapshot = timeline.snapshot() | {"unsaved": unsaved, "finals": 4}
    events = [spoken(4) | {"speaker": "S6"}]
    told, left = await rebuilt(records.live_keeping, row, Past(snapshot, events, 0, 0), 0, ended=False)
    assert (told.finals, told.speakers) == (5, 6)
    assert [one["id"] for one in left] == [3, 4]
    del snapshot["speakers"]
    told, _ = await rebuilt(records.live_keeping, row, Past(snapshot, events, 0, 0), 0, ended=False)
    assert told.speakers == 7


@pytest.mark.parametrize(("last_final", "taken"), [(4, 5), (-1, 0)])
async def test_a_client_that_has_finals_which_nobody_else_has(house: House, last_final: int, taken: int) -> None:
    """They were told, and went with the journal: each may have brought a label."""
    ready = (await desk(house, await house.life("disk-process", "one")).start(ANN, START, "0" * 32)).ready
    elsewhere = desk(house, await house.life("disk-process", "another journal"))
    resume = Resume(ready["session"], ready["resume_token"], last_final)
    joined = await elsewhere.resume(ANN, resume, lambda: False)
    assert joined.session is not None
    assert (joined.session.timeline.finals, joined.session.timeline.speakers) == (0, taken)
