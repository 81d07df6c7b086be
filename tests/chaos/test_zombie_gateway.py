"""A gateway that is stopped while it holds a lease, and wakes up when its job is somebody else's: reliability.md, "Job
leasing" 9."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.faults import Victim, recording, stopped, submit, wait_for
from tests.support.server import wait_task

LEASES = {"lease_renew_s": 0.5, "lease_expire_s": 2.0, "reaper_every_s": 0.5}


@pytest.mark.parametrize("wakes", ["while the other works", "when the other has finished"])
def test_a_zombies_late_write_is_refused(data_dir: Path, wakes: str) -> None:
    script = {"delay_s": 3.0, "texts": ["what was said"]}
    with Victim(data_dir, workers=2, engines=2, runner_jobs=1, script=script, **LEASES) as victim:
        with victim.http() as http:
            task_id = submit(http, "contested", recording(1))
        first = victim.wait_state(task_id, "running")
        index = int(first["claimant"].rpartition("/")[2])
        with stopped(victim, victim.gateway(index)):
            began = time.monotonic()
            second = wait_for(
                lambda: row if (row := victim.job(task_id))["claimant"] not in (None, first["claimant"]) else None,
                "the other gateway's claim",
            )
            assert time.monotonic() - began < LEASES["lease_expire_s"] + 5
            if wakes == "when the other has finished":
                victim.wait_state(task_id, "succeeded")
        # The engine has answered the zombie meanwhile: now it goes on where it was.
        wait_for(lambda: '"task.lease_lost"' in victim.log() or '"task.result_refused"' in victim.log(), "its refusal")
        with victim.http() as http:
            assert wait_task(http, task_id)["state"] == "succeeded"
            story = http.get(f"/v1/task/{task_id}/events").text
            assert http.get(f"/v1/task/{task_id}/transcript?format=txt").text.strip() == "what was said"
        row = victim.job(task_id)
        assert row["result_fence"] == row["fence"] == second["fence"] == first["fence"] + 1
        assert (row["attempt"], row["lost"]) == (0, 1)
        assert victim.results_of(task_id) == [f"{row['fence']}.json"]
        assert story.count("event: done") == story.count("event: segment") == 1
