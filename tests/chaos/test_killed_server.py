"""kill -9 of the server, whole or in part: what was acknowledged is there when it is back, and jobs go on at once."""

from __future__ import annotations

import hashlib
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.support.faults import RawRequest, Victim, cut, database_locked, put_chunk, recording, submit, wait_for
from tests.support.server import wait_task

AT_ONCE_S = 15.0  # half of lease_expire_s: who waited for a lease to run out comes too late, even on a busy machine


class Sender:
    """A client that sends the chunks which are still missing, and remembers what was acknowledged."""

    def __init__(self, session: str, chunks: list[bytes]) -> None:
        self.session = session
        self.chunks = chunks
        self.acknowledged: set[int] = set()
        self.task_id = ""

    def send(self, http: httpx2.Client, seq: int) -> None:
        response = put_chunk(http, self.session, seq, self.chunks[seq], last=seq == len(self.chunks) - 1)
        assert response.status_code in (200, 202), response.text
        self.acknowledged.add(seq)
        self.task_id = response.json().get("task_id", self.task_id)

    def send_until_cut(self, http: httpx2.Client, seqs: list[int]) -> None:
        try:
            for seq in seqs:
                self.send(http, seq)
        except httpx2.TransportError:
            pass  # the server is gone, as planned

    def missing(self) -> list[int]:
        return [seq for seq in range(len(self.chunks)) if seq not in self.acknowledged]

    def check(self, http: httpx2.Client, perhaps: set[int]) -> None:
        """What the server lists is what it acknowledged, and perhaps what was on its way; never less."""
        listed = set(http.get(f"/v1/audio/{self.session}").json()["received"])
        assert self.acknowledged <= listed <= self.acknowledged | perhaps
        self.acknowledged = listed


def kill_in_mid_chunk(victim: Victim, sender: Sender, rng: random.Random) -> set[int]:
    """Half of a body is there. Large ones are on disk by then, small ones in memory."""
    seq = rng.choice(sender.missing())
    request = RawRequest(victim, f"/v1/audio/{sender.session}/{seq}", sender.chunks[seq])
    request.send(len(sender.chunks[seq]) // 2)
    time.sleep(0.05)
    victim.kill()
    return set()  # it can't be there


def kill_between_chunks(victim: Victim, sender: Sender, rng: random.Random) -> set[int]:
    with victim.http() as http:
        for seq in rng.sample(sender.missing()[:-1], 3):
            sender.send(http, seq)
    victim.kill()
    return set()


def kill_while_two_send(victim: Victim, sender: Sender, rng: random.Random) -> set[int]:
    left = sender.missing()[:-1]
    rng.shuffle(left)
    with victim.http() as one, victim.http() as other:
        work = [(one, left[::2]), (other, left[1::2])]
        threads = [threading.Thread(target=sender.send_until_cut, args=item) for item in work]
        enough = len(sender.acknowledged) + rng.randint(2, 12)
        for thread in threads:
            thread.start()
        wait_for(lambda: len(sender.acknowledged) >= enough, "some acknowledged chunks", every_s=0.0005)
        victim.kill()
        for thread in threads:
            thread.join(30)
    return set(left)


@pytest.mark.parametrize("durability", ["disk", "process"])
def test_nothing_acknowledged_is_lost_and_the_client_resumes(data_dir: Path, durability: str) -> None:
    rng = random.Random(f"kill {durability}")
    data = recording(1, seconds=180)
    sizes = [rng.randint(1, 150_000) for _ in range(40)]
    sender = Sender("resumed", cut(data, 3_000_000, *sizes))  # the first does not stay in memory
    with Victim(data_dir, durability=durability) as victim:
        with victim.http() as http:
            sender.send(http, 20)
        faults = [kill_in_mid_chunk, kill_between_chunks, kill_while_two_send]
        rng.shuffle(faults)
        for fault in faults:
            perhaps = fault(victim, sender, rng)
            victim.start()
            with victim.http() as http:
                sender.check(http, perhaps)
        with victim.http() as http:
            for seq in sender.missing():
                sender.send(http, seq)
            assert wait_task(http, sender.task_id)["state"] == "succeeded"
            sound = http.get(f"/v1/task/{sender.task_id}/audio").content
            assert hashlib.sha256(sound).digest() == hashlib.sha256(data).digest()
            assert http.get("/readyz").status_code == 200


def test_a_job_goes_on_at_once_after_a_restart(data_dir: Path) -> None:
    with Victim(data_dir, script={"delay_s": 600}) as victim:
        with victim.http() as http:
            jobs = [submit(http, f"job-{n}", recording(n)) for n in range(3)]
        victim.wait_state(jobs[0], "running")
        victim.kill()
        victim.rehearse()  # its next life has no delay
        victim.start()
        began = time.monotonic()
        with victim.http() as http:
            for task_id in jobs:
                assert wait_task(http, task_id, AT_ONCE_S)["state"] == "succeeded"
                row = victim.job(task_id)
                assert (row["attempt"], row["lost"]) == (0, 0)
                assert row["result_fence"] == row["fence"]
                assert victim.results_of(task_id) == [f"{row['fence']}.json"]
            assert victim.job(jobs[0])["fence"] == 2
            story = http.get(f"/v1/task/{jobs[0]}/events").text
        assert time.monotonic() - began < AT_ONCE_S
        assert "event: restarted" in story
        assert story.count("event: done") == 1


def test_a_killed_gateway_is_replaced_and_its_jobs_go_on(data_dir: Path) -> None:
    with Victim(data_dir, workers=2, script={"delay_s": 2.0}) as victim:
        with victim.http() as http:
            jobs = [submit(http, f"job-{n}", recording(n)) for n in range(2)]
        claimant = victim.wait_state(jobs[0], "running")["claimant"]
        index = int(claimant.rpartition("/")[2])
        other = victim.gateway(1 - index).pid
        victim.gateway(index).send_signal(signal.SIGKILL)
        began = time.monotonic()
        for task_id in jobs:
            row = victim.wait_state(task_id, "succeeded", "failed", timeout_s=AT_ONCE_S)
            assert row["state"] == "succeeded"
            assert (row["attempt"], row["lost"]) == (0, 0)
            assert victim.results_of(task_id) == [f"{row['result_fence']}.json"]
        assert time.monotonic() - began < AT_ONCE_S
        assert victim.job(jobs[0])["fence"] == 2
        assert victim.gateway(1 - index).pid == other
        with victim.http() as http:
            assert http.get(f"/v1/task/{jobs[0]}").json()["state"] == "succeeded"


@contextmanager
def crashed_before_the_commit(victim: Victim, session: str, data: bytes) -> Iterator[list[bytes]]:
    """The last part and its mark have their names, the job is not committed: kill -9. Gives the chunks."""
    chunks = cut(data, 10_000)
    with victim.http() as http:
        assert put_chunk(http, session, 0, chunks[0]).status_code == 200
    with database_locked(victim):
        RawRequest(victim, f"/v1/audio/{session}/1?is_last=1", chunks[1]).send()
        wait_for(lambda: any(victim.data_dir.glob("blobs/uploads/*/*/last")), "the mark")
        time.sleep(0.2)  # so that it waits for the lock, not for us
        victim.kill()
    assert victim.jobs_of(session) == []
    victim.start()
    yield chunks


def test_a_crash_between_name_and_commit_is_reconciled_at_start(data_dir: Path) -> None:
    data = recording(3)
    victim = Victim(data_dir)
    with victim, crashed_before_the_commit(victim, "torn", data) as chunks:
        [task_id] = wait_for(lambda: victim.jobs_of("torn") or None, "its task, before anybody asks")
        with victim.http() as http:
            status = http.get("/v1/audio/torn").json()
            assert (status["state"], status["task_id"]) == ("complete", task_id)
            retry = put_chunk(http, "torn", 1, chunks[1], last=True)
            assert (retry.status_code, retry.json()["task_id"]) == (202, task_id)
            assert wait_task(http, task_id)["state"] == "succeeded"
            assert http.get(f"/v1/task/{task_id}/audio").content == data
        assert victim.jobs_of("torn") == [task_id]
