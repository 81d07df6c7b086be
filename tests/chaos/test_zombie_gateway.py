"""A gateway that is stopped while it holds a lease, and wakes up when its job is somebody else's: reliability.md, "Job
leasing" 9."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.faults import Victim, recording, stopped, submit, wait_for
from tests.support.server import wait_task


@pytest.mark.parametrize(
    ("delay_s", "renew_s", "expire_s", "wakes_late"),
    [
        # It wakes while the other works, and its renewal, long due, finds the lease lost.
        pytest.param(3.0, 0.5, 2.0, False, id="renewal"),
        # It wakes when the other has finished, with the engine's answer at hand and no renewal due: it writes.
        pytest.param(1.0, 20.0, 4.0, True, id="result"),
    ],
)
def test_a_zombies_late_write_is_refused(
    data_dir: Path, delay_s: float, renew_s: float, expire_s: float, wakes_late: bool
) -> None:
    script = {"delay_s": delay_s, "texts": ["what was said"]}
    leases = {"lease_renew_s": renew_s, "lease_expire_s": expire_s, "reaper_every_s": 0.5}
    with Victim(data_dir, workers=2, engines=2, runner_jobs=1, script=script, **leases) as victim:
        with victim.http() as http:
            task_id = submit(http, "contested", recording(1))
        first = victim.wait_state(task_id, "running")
        with stopped(victim, victim.gateway(int(first["claimant"].rpartition("/")[2]))):
            began = time.monotonic()
            wait_for(lambda: victim.job(task_id)["fence"] == 2, "the other gateway's claim")
            assert time.monotonic() - began < expire_s + 5
            assert victim.job(task_id)["claimant"] != first["claimant"]
            if wakes_late:
                victim.wait_state(task_id, "succeeded")
        wait_for(lambda: '"action":"task.lease_lost"' in victim.log(), "the refusal")
        with victim.http() as http:
            assert wait_task(http, task_id)["state"] == "succeeded"
            story = http.get(f"/v1/task/{task_id}/events").text
            assert http.get(f"/v1/task/{task_id}/transcript?format=txt").text.strip() == "what was said"
        row = victim.job(task_id)
        assert row["result_fence"] == row["fence"] == first["fence"] + 1
        assert (row["attempt"], row["lost"]) == (0, 1)
        assert victim.results_of(task_id) == [f"{row['fence']}.json"]
        assert story.count("event: done") == story.count("event: segment") == 1
