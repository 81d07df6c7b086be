"""Another process holds SQLite's write lock: requests answer in bounded time, and nothing acknowledged is lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx2
import pytest

from tests.support.faults import Victim, cut, database_locked, put_chunk, recording, submit, together, wait_for
from tests.support.server import wait_task

BUSY_S = 5.0  # how long a write waits for the lock (SqlRecords.open, busy_s)
SLACK_S = 2.0


def timed(
    http: httpx2.Client, session: str, seq: int, chunk: bytes, last: bool = False
) -> tuple[httpx2.Response, float]:
    began = time.monotonic()
    response = put_chunk(http, session, seq, chunk, last)
    return response, time.monotonic() - began


def check_busy(response: httpx2.Response) -> None:
    problem = response.json()
    assert (response.status_code, problem["code"]) == (503, "database_busy")
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) == problem["retry_after"] > 0


def locked_for(victim: Victim, seconds: float) -> threading.Thread:
    """Returns once the lock is held."""
    held = threading.Event()

    def hold() -> None:
        with database_locked(victim):
            held.set()
            time.sleep(seconds)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    return thread


@pytest.mark.slow
def test_locked_for_three_seconds_is_late_and_for_ten_is_refused(data_dir: Path) -> None:
    data = recording(1, seconds=4)
    first, middle, last = cut(data, 40_000, 40_000)
    script = {"delay_s": 1.0}
    leases = {"lease_renew_s": 1.0, "lease_expire_s": 5.0, "reaper_every_s": 1.0}
    with Victim(data_dir, script=script, **leases) as victim, victim.http() as http:
        assert put_chunk(http, "known", 0, first).status_code == 200

        lock = locked_for(victim, 3.0)
        response, took = timed(http, "fresh", 0, first)
        lock.join()
        assert response.status_code == 200, response.text
        assert took < BUSY_S

        working = submit(http, "working", data)
        victim.wait_state(working, "running")
        lock = locked_for(victim, 10.0)
        response, took = timed(http, "known", 1, middle)  # needs no row
        assert (response.status_code, took < SLACK_S) == (200, True)
        for response, took in together(
            lambda: timed(http, "too-new", 0, first), lambda: timed(http, "known", 2, last, True)
        ):
            check_busy(response)
            assert took < BUSY_S + SLACK_S
        assert lock.is_alive()
        began = time.monotonic()
        assert http.get("/health").status_code == 200
        assert http.get(f"/v1/task/{working}").status_code == 200  # readers do not wait for writers
        assert time.monotonic() - began < SLACK_S
        ready = http.get("/readyz")
        assert (ready.status_code, ready.json()["reasons"]) == (503, ["database"])
        assert http.get("/v1/audio/known").json()["received"] == [0, 1, 2]
        lock.join()

        done = put_chunk(http, "known", 2, last, last=True)
        assert done.status_code == 202
        assert put_chunk(http, "too-new", 0, first).status_code == 200
        for task_id in (done.json()["task_id"], working):
            assert wait_task(http, task_id)["state"] == "succeeded"
            assert http.get(f"/v1/task/{task_id}/audio").content == data
            row = victim.job(task_id)
            assert (row["attempt"], row["result_fence"]) == (0, row["fence"])
        wait_for(lambda: http.get("/readyz").status_code == 200, "readiness", 5)
