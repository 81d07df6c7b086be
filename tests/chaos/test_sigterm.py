"""SIGTERM: not ready at once, what runs may end or is handed back, nothing stays behind, exit status 0 in time."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import httpx2
import psutil

from tests.support.faults import RawRequest, Victim, recording, submit, wait_for
from tests.support.server import wait_task

DRAIN_S = 3.0


class EventStream(threading.Thread):
    """Reads a task's events until the server ends them."""

    def __init__(self, victim: Victim, task_id: str) -> None:
        super().__init__()
        self.story = ""
        self.ended_at = float("inf")
        self._victim = victim
        self._task_id = task_id

    def run(self) -> None:
        with self._victim.http() as http, http.stream("GET", f"/v1/task/{self._task_id}/events") as response:
            for text in response.iter_text():
                self.story += text
        self.ended_at = time.monotonic()


class ReadinessProbe(threading.Thread):
    """What a load balancer sees, a hundred times a second, until nobody answers."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.first_refusal_at = float("inf")
        self.reasons: list[str] = []
        self._url = url

    def run(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=1) as http:
            while not self.reasons:
                try:
                    response = http.get("/readyz")
                except httpx2.TransportError:
                    return
                if response.status_code == 503:
                    self.first_refusal_at = time.monotonic()
                    self.reasons = response.json()["reasons"]
                time.sleep(0.01)


def test_sigterm_ends_everything_in_order(data_dir: Path) -> None:
    data = recording(9, seconds=5)
    with Victim(data_dir, drain_s=DRAIN_S, workers=2, script={"delay_s": 600}) as victim:
        with victim.http() as http:
            task_id = submit(http, "running", recording(1))
        victim.wait_state(task_id, "running")
        stream, probe = EventStream(victim, task_id), ReadinessProbe(victim.url)
        stream.start()
        wait_for(lambda: "event: progress" in stream.story, "the stream's first event")
        upload = RawRequest(victim, "/v1/audio/late/0", data)
        upload.send(len(data) // 2)
        time.sleep(0.1)
        tree, port = victim.tree(), victim.port
        probe.start()

        assert victim.process is not None
        told_at = time.monotonic()
        victim.process.terminate()
        time.sleep(1.0)
        upload.send()  # what has begun may end
        status, _, body = upload.answer()
        assert (status, body["status"]) == (200, "chunk_ok")
        exit_status = victim.process.wait(DRAIN_S + 10)
        took = time.monotonic() - told_at
        stream.join(10)
        probe.join(10)

        assert exit_status == 0
        assert took < DRAIN_S + 5
        assert probe.reasons == ["draining"]
        assert probe.first_refusal_at - told_at < 1.0
        assert stream.ended_at - told_at < 2.0
        assert "event: done" not in stream.story
        assert [p for p in tree if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
        assert not (data_dir / "run").exists()
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
        row = victim.job(task_id)
        assert (row["state"], row["attempt"], row["lost"]) == ("queued", 0, 0)
        assert '"child.killed"' not in victim.log()

        victim.kill()  # closes what it left in our hands
        victim.rehearse()
        victim.start()
        with victim.http() as http:
            assert wait_task(http, task_id, 15)["state"] == "succeeded"
            assert http.get("/v1/audio/late").json()["received"] == [0]
        assert victim.results_of(task_id) == ["2.json"]


def test_a_job_that_ends_in_time_is_not_handed_back(data_dir: Path) -> None:
    with Victim(data_dir, drain_s=10, script={"delay_s": 2.0}) as victim:
        with victim.http() as http:
            task_id = submit(http, "short", recording(1))
        victim.wait_state(task_id, "running")
        began = time.monotonic()
        assert victim.stop() == 0
        assert time.monotonic() - began < 8  # it waits for the job, not for the whole time
        row = victim.job(task_id)
        assert (row["state"], row["fence"]) == ("succeeded", 1)
        assert not os.path.exists(data_dir / "run")
