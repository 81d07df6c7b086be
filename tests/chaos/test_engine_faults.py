"""Engines that die, hang, or are killed by a recording: jobs end well on another one, and only the guilty job fails."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.support.faults import Victim, recording, submit, wait_for
from tests.support.server import wait_task

POISON = {"do": "crash", "when": {"seconds": [3.0, 3.0]}}  # the recording of just this length ends its engine


def test_a_killed_engine_is_replaced_and_its_job_goes_on(data_dir: Path) -> None:
    with Victim(data_dir, engines=2, engine_slots=1, script={"delay_s": 2.0}) as victim, victim.http() as http:
        jobs = [submit(http, f"job-{n}", recording(n)) for n in range(2)]
        for task_id in jobs:
            victim.wait_state(task_id, "running")
        time.sleep(0.5)  # both are in the middle of it
        old = victim.engine(0).pid
        victim.engine(0).send_signal(signal.SIGKILL)
        states = [wait_task(http, task_id)["state"] for task_id in jobs]
        assert states == ["succeeded", "succeeded"]
        rows = sorted((victim.job(task_id) for task_id in jobs), key=lambda row: row["fence"])
        assert (rows[0]["fence"], rows[0]["attempt"]) == (1, 0)  # the other one never noticed
        assert (rows[1]["fence"] > 1, rows[1]["attempt"]) == (True, 1)  # it may have been the recording's fault: once
        assert [row["lost"] for row in rows] == [0, 0]
        wait_for(lambda: victim.engine(0).pid != old, "the new engine")
        wait_for(lambda: all(e["up"] for e in http.get("/v1/models").json()["engines"]), "its first words")


@pytest.mark.slow
def test_a_stopped_engine_holds_nobody_up_and_is_replaced(data_dir: Path) -> None:
    settings = {"engines": 2, "engine_slots": 1, "engine_idle_s": 2.0, "watch_every_s": 2.5}
    with Victim(data_dir, script={"delay_s": 1.0}, **settings) as victim, victim.http() as http:
        jobs = [submit(http, f"job-{n}", recording(n)) for n in range(2)]
        for task_id in jobs:
            victim.wait_state(task_id, "running")
        time.sleep(0.3)
        hung = victim.engine(0)
        hung.send_signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        assert [wait_task(http, task_id, 15)["state"] for task_id in jobs] == ["succeeded", "succeeded"]
        assert sum(victim.job(task_id)["attempt"] for task_id in jobs) <= 1
        # Whoever comes now is not held up by the one that does not answer.
        began = time.monotonic()
        for n in range(3):
            assert wait_task(http, submit(http, f"later-{n}", recording(n)), 15)["state"] == "succeeded"
        assert time.monotonic() - began < 3 * 1.0 + 4.0
        # Three unanswered questions, two and a half seconds apart and each waited for.
        wait_for(lambda: not hung.is_running(), "the end of the stopped engine", 45)
        assert time.monotonic() - stopped_at < 45
        wait_for(lambda: all(e["up"] for e in http.get("/v1/models").json()["engines"]), "the new engine")


def test_a_neighbour_of_poison_is_not_taken_for_it(data_dir: Path) -> None:
    """One engine, two slots: when it dies, nobody can tell which of the two recordings it died of."""
    script = {"delay_s": 2.5, "rules": [POISON]}
    with Victim(data_dir, engines=1, engine_slots=2, script=script) as victim, victim.http() as http:
        neighbour = submit(http, "neighbour", recording(1))
        victim.wait_state(neighbour, "running")
        poison = submit(http, "poison", recording(99, seconds=3.0))
        assert wait_task(http, neighbour, 45)["state"] == "succeeded"
        task = wait_task(http, poison, 45)
        assert (task["state"], task["error"]["code"]) == ("failed", "engine_failed")
        assert (victim.job(neighbour)["attempt"], victim.job(poison)["attempt"]) == (1, 3)


def test_a_poison_recording_fails_alone(data_dir: Path) -> None:
    script = {"delay_s": 0.3, "rules": [POISON]}
    with Victim(data_dir, engines=2, script=script) as victim, victim.http() as http:
        began = time.monotonic()
        innocent = [submit(http, f"before-{n}", recording(n)) for n in range(6)]
        poison = submit(http, "poison", recording(99, seconds=3.0))
        innocent += [submit(http, f"after-{n}", recording(n)) for n in range(6)]
        task = wait_task(http, poison, 45)
        assert (task["state"], task["error"]["code"]) == ("failed", "engine_failed")
        assert victim.job(poison)["attempt"] == 3
        assert victim.results_of(poison) == []
        for task_id in innocent:
            assert wait_task(http, task_id)["state"] == "succeeded"
            assert victim.job(task_id)["attempt"] < 3
        assert time.monotonic() - began < 45
        assert victim.log().count('"status":86') == 3  # CRASH_STATUS: it ended three engines, no more
        assert wait_task(http, submit(http, "later", recording(1)))["state"] == "succeeded"
