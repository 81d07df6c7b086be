"""Losing an outbox row loses no job and hardly any time: whoever runs jobs looks for them twice a second
(tests/chaos/test_planted_bugs.py shows it on a whole server)."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cosygate.adapters.queue_local import LocalQueue
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.model.job import Claim
from cosygate.worker.dispatch import LOOK_EVERY_S, Dispatcher, Nobody
from tests.support.records import open_records, submit

LOSE_HINT = "CREATE TRIGGER planted AFTER INSERT ON outbox BEGIN DELETE FROM outbox WHERE seq = NEW.seq; END"


async def test_a_job_without_its_outbox_row_is_run_half_a_second_later(tmp_path: Path) -> None:
    records, clock = await open_records(tmp_path / "records.db"), SystemClock()
    with closing(sqlite3.connect(tmp_path / "records.db")) as database:
        database.executescript(f"{LOSE_HINT};")
    ran: asyncio.Queue[str] = asyncio.Queue()

    async def claim(claimant: str, _: Any) -> Claim | None:
        return await records.leases.claim(claimant, clock.now())

    async def run(claim: Claim) -> None:
        ran.put_nowait(claim.job_id)

    async def nothing() -> None:
        pass

    room = SimpleNamespace(slots=lambda: 2, pause_s=lambda: 0.0, refresh=nothing)
    parts = cast("Any", (SimpleNamespace(claim=claim, run=run), room, LocalQueue(), Nobody(), clock))
    dispatching = asyncio.create_task(Dispatcher(*parts, SystemRandomness(), claimant="c", jobs=1).run())
    try:
        await asyncio.sleep(0.1)  # it has looked, and waits for a hint
        began = time.monotonic()
        job = await submit(records, 1)
        assert await records.outbox.take(10) == [], "the row is lost, and nobody is told"
        assert await asyncio.wait_for(ran.get(), 10) == job.id
        assert time.monotonic() - began < LOOK_EVERY_S + 1.0  # of which a second is the machine's
    finally:
        dispatching.cancel()
        await asyncio.gather(dispatching, return_exceptions=True)
        await records.close()
    assert pytest.approx(0.5) == LOOK_EVERY_S
