"""The wall clock jumps by an hour, either way: no lease runs out, nothing expires, and nothing waits for an hour."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cosygate.adapters.records_sql import SqlRecords
from cosygate.flows.housekeeping import Reaper
from cosygate.model.job import JobState, Requeue
from cosygate.ports.records import MAX_DELAY_S
from tests.support.faults import Victim, put_chunk, recording, submit
from tests.support.records import open_records
from tests.support.records import submit as submit_row
from tests.support.server import wait_task

HOUR_S = 3600.0
JUMPS = pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])

# Python imports this at start: in every process our code reads its wall clock through it. Monotonic time stays as it
# is, and so does what gRPC's Python half sees: it hands absolute deadlines to its C half, which reads the true clock.
SKEWED = """
import os, sys, time
_true, _offset = time.time, os.environ["TEST_CLOCK_OFFSET"]

def _skewed():
    if not sys._getframe(1).f_globals.get("__name__", "").startswith("cosygate."):
        return _true()
    with open(_offset) as file:
        return _true() + float(file.read())

time.time = _skewed
"""


class SkewedVictim(Victim):
    """Its processes' wall clock is some seconds off."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        super().__init__(data_dir, **settings)
        self._offset = data_dir / "offset"
        self.skew(0.0)
        (data_dir / "sitecustomize.py").write_text(SKEWED)
        path = [str(data_dir), *filter(None, [self.env.get("PYTHONPATH")])]
        self.env |= {"PYTHONPATH": ":".join(path), "TEST_CLOCK_OFFSET": str(self._offset)}

    def skew(self, seconds: float) -> None:
        fresh = self._offset.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.rename(self._offset)

    def token(self, sub: str = "alice", ttl_s: float = 12 * HOUR_S, **claims: Any) -> str:
        return super().token(sub, ttl_s, **claims)  # good after any jump


@pytest.mark.slow
def test_jumps_while_jobs_run_and_uploads_are_open(data_dir: Path) -> None:
    leases = {"lease_renew_s": 0.8, "lease_expire_s": 3.0, "reaper_every_s": 0.1}
    keeping = {"housekeeping_every_s": 0.5, "upload_expiry_hours": 1.5, "retention_hours": 1.5}
    script, data = {"delay_s": 4.0}, recording(7)
    with SkewedVictim(data_dir, script=script, engine_slots=3, **leases, **keeping) as victim, victim.http() as http:
        cancelled = submit(http, "cancelled", recording(5))
        assert http.delete(f"/v1/task/{cancelled}").json()["state"] == "cancelled"
        for jump_s in (HOUR_S, 0.0):  # an hour on, an hour back
            jobs = [submit(http, f"job-{n}-{jump_s}", recording(n)) for n in range(2)]
            assert put_chunk(http, f"open-{jump_s}", 0, data[:20_000]).status_code == 200
            victim.wait_state(jobs[1], "running")
            time.sleep(0.5)  # the reaper has seen their beats
            victim.skew(jump_s)
            done = put_chunk(http, f"open-{jump_s}", 1, data[20_000:], last=True)
            assert done.status_code == 202
            for task_id in [*jobs, done.json()["task_id"]]:
                task = wait_task(http, task_id)
                assert task["state"] == "succeeded"
                row = victim.job(task_id)
                assert (row["fence"], row["attempt"], row["lost"]) == (1, 0, 0)
            finished = datetime.fromisoformat(task["finished_at"]).timestamp()
            assert finished - time.time() == pytest.approx(jump_s, abs=60)  # the jump did reach them
            assert http.get(f"/v1/task/{cancelled}").status_code == 200  # and retention took nothing early


class HeldClock:
    """Both times are set by the test."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.steady = 50.0

    def now(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.steady

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError("nobody sleeps here")


@pytest.fixture
async def rows(tmp_path: Path) -> AsyncIterator[SqlRecords]:
    opened = await open_records(tmp_path / "rows.db")
    yield opened
    await opened.close()


@JUMPS
async def test_the_reaper_looks_at_beats_alone(rows: SqlRecords, jump_s: float) -> None:
    clock = HeldClock()
    reaper = Reaper(rows.leases, clock, expire_s=30.0)
    await submit_row(rows, 1)
    claim = await rows.leases.claim("worker", clock.now())
    assert claim is not None
    for _ in range(12):  # a minute of renewals, with a jump before each
        clock.wall += jump_s
        clock.steady += 5.0
        assert await rows.leases.renew(claim)
        assert await reaper.round() == 0
    for _ in range(5):
        clock.wall += jump_s
        clock.steady += 5.0
        assert await reaper.round() == 0  # 25 s without one
    clock.steady += 5.0
    assert await reaper.round() == 1
    assert not await rows.leases.renew(claim)


@JUMPS
async def test_a_delayed_job_can_be_claimed_after_a_jump(rows: SqlRecords, jump_s: float) -> None:
    clock = HeldClock()
    await submit_row(rows, 1)
    for delay_s in (0.5, 30.0, MAX_DELAY_S):
        claim = await rows.leases.claim("worker", clock.now())
        assert claim is not None
        state = await rows.leases.requeue(claim.job_id, claim.fence, Requeue.HAND_BACK, clock.now(), delay_s=delay_s)
        assert state is JobState.QUEUED
        assert await rows.leases.claim("worker", clock.now()) is None  # it waits, while the clock goes as it should
        clock.wall += jump_s
