"""Recordings on the shared topology while a gateway, an engine, PostgreSQL or a receiver goes: rows of reliability.md
that need several processes; embedded, tests/chaos has them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException

import httpx2
import pytest
from typer.testing import CliRunner

from cosygate.cli import app
from deploy.local_cluster.topology import LocalCluster
from tests.chaos.cluster.plan import PIECE, texts
from tests.support import media
from tests.support.faults import RawRequest, cut, put_chunk, submit, together, wait_for
from tests.support.receiver import Receiver, free_port
from tests.support.server import wait_task
from tests.support.shared_cluster import Door, doors, front, log_lines, revive, shared_cluster

pytestmark = [pytest.mark.needs("postgres", "redis-server", "nginx"), pytest.mark.slow, pytest.mark.timeout(300)]


def sound(name: str, seconds: float) -> bytes:
    """A WAV of noise: no two names sound alike."""
    return media.wav(random.Random(name).randbytes(2 * round(seconds * 16_000)))


HEAD = 44  # bytes of a WAV before its sound
POISON = sound("poison", 1.0)
FIRST_PIECE = POISON[HEAD : HEAD + 2 * PIECE]
CRASH = {"do": "crash", "when": {"sha256": hashlib.sha256(FIRST_PIECE).hexdigest(), "bytes": 2 * PIECE}}
SCRIPT = {"hear": "digest", "segment_s": PIECE / 16_000, "delay_s": 0.02, "rules": [CRASH]}
LEASES = {"lease_renew_s": 1, "lease_expire_s": 5, "reaper_every_s": 0.5}
HOOKS = {"webhook_scheme": "any", "webhook_allow": "127.0.0.0/8", "webhook_schedule": "0.5 " * 40}
SOON_S = 60.0  # on a loaded machine
HANG_S = 3.0
CALL_S = 20.0  # adapters/records_sql/postgres.py: 5 s for a connection, 15 s for all of a call


@pytest.fixture(scope="module")
def module_cluster() -> Iterator[LocalCluster]:
    settings = LEASES | HOOKS | {"workers": 1, "drain_s": 1, "breaker_open_s": 1, "open_uploads": 1000}
    with shared_cluster(SCRIPT, **settings) as running:
        yield running


@pytest.fixture
def cluster(module_cluster: LocalCluster) -> LocalCluster:
    """Every part runs, whatever the test before did to it."""
    revive(module_cluster)
    return module_cluster


@pytest.fixture
def gates(cluster: LocalCluster) -> Iterator[list[Door]]:
    """Each gateway past nginx; their connections end with the test."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(door) for door in doors(cluster)]


def check_whole(door: Door, session: str, task_id: str, data: bytes) -> None:
    """The upload is this one task, with this sound and its text, and nothing beside."""
    with door.http() as http:
        assert wait_task(http, task_id, SOON_S)["state"] == "succeeded"
        assert http.get(f"/v1/task/{task_id}/audio").content == data
        told = http.get(f"/v1/task/{task_id}/transcript", params={"format": "json"}).json()
        story = http.get(f"/v1/task/{task_id}/events").text
    assert [segment["text"] for segment in told["segments"]] == texts(data[HEAD:])
    assert (story.count("event: done"), story.count("event: segment")) == (1, len(told["segments"]))
    assert door.jobs_of(session) == [task_id]
    row = door.job(task_id)
    assert row["result_fence"] == row["fence"]
    assert door.results_of(task_id) == [str(row["fence"])]


def test_a_half_open_upload_keeps_nobody_from_going_on(gates: list[Door]) -> None:
    one, two = gates
    data = sound("half", 4.0)
    first, last = cut(data, 100_000)
    stalled = RawRequest(one, "/v1/audio/half/0", first)
    stalled.send(50_000)
    with ThreadPoolExecutor(1) as pool, two.http() as http:
        waiting = pool.submit(stalled.answer)
        assert put_chunk(http, "half", 0, first).status_code == 200
        done = put_chunk(http, "half", 1, last, last=True)
        assert done.status_code == 202, done.text
        assert not waiting.done(), "it was there all the time"
        began = time.monotonic()
        stalled.send()  # it was not dead after all, and sends the same
        status, _, body = waiting.result()
        assert time.monotonic() - began < 1.0
    task_id = done.json()["task_id"]
    assert (status, body.get("task_id")) == (202, task_id)
    check_whole(two, "half", task_id, data)
    assert two.parts_of("half") == ["p000000000", "p000000001"]


@pytest.mark.parametrize("same", [True, False], ids=["same", "other"])
def test_two_write_the_same_part_through_two_gateways(gates: list[Door], same: bool) -> None:
    tail = sound("tail", 0.5)[HEAD:]
    for seed in range(3):
        session = f"twice-{same}-{seed}"
        sounds = [sound(f"{session} ours", 2.0), sound(f"{session} {'ours' if same else 'theirs'}", 2.0)]
        requests = [RawRequest(door, f"/v1/audio/{session}/0", data) for door, data in zip(gates, sounds, strict=True)]
        for request in requests:
            request.send(len(sounds[0]) // 2)
        together(*(request.send for request in requests))
        answers = [request.answer() for request in requests]
        statuses = [status for status, _, _ in answers]
        assert sorted(statuses) == ([200, 200] if same else [200, 409])
        assert [body["code"] for status, _, body in answers if status == 409] == ["part_conflict"] * (not same)
        winner = sounds[statuses.index(200)]
        with gates[seed % 2].http() as http:
            done = put_chunk(http, session, 1, tail, last=True)
        check_whole(gates[seed % 2], session, done.json()["task_id"], winner + tail)


def test_a_lost_answer_to_the_last_chunk_never_makes_a_second_task(gates: list[Door]) -> None:
    """Cut at every stage: in the body, just behind its end, with the answer on its way."""
    stages = [(1, 0.0), *((0, 0.003 * n**2) for n in range(5)), (0, 0.3)]
    complete = 0
    for seed, (unsent, wait_s) in enumerate(stages):
        one, two = gates if seed % 2 else reversed(gates)
        session, data = f"lost-{seed}", sound(f"lost {seed}", 2.0)
        first, last = cut(data, 30_000)
        with one.http() as here, two.http() as there:
            assert put_chunk(here, session, 0, first).status_code == 200
            request = RawRequest(one, f"/v1/audio/{session}/1?is_last=1", last)
            request.send(len(last) - unsent)
            time.sleep(wait_s)
            request.vanish()
            before = there.get(f"/v1/audio/{session}").json()
            answers = [put_chunk(http, session, 1, last, last=True) for http in (there, there, here)]
        assert [answer.status_code for answer in answers] == [202] * 3
        [task_id] = {answer.json()["task_id"] for answer in answers}
        assert before.get("task_id", task_id) == task_id
        check_whole(two, session, task_id, data)
        complete += "task_id" in before
    assert 0 < complete < len(stages), "no cut fell on both sides of the completion"


@contextlib.contextmanager
def started_again(cluster: LocalCluster) -> Iterator[Counter[str]]:
    """Engines that end are started again, as systemd does; how often each was."""
    over, counted = threading.Event(), Counter[str]()

    def watch() -> None:
        while not over.wait(0.1):
            for engine in cluster.engines:
                if not engine.running():
                    counted[engine.folder.name] += 1
                    engine.kill()
                    engine.start()

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            yield counted
        finally:
            over.set()
            watching.result()


def test_a_recording_that_kills_engines_fails_alone(cluster: LocalCluster) -> None:
    door = front(cluster)
    innocent = {f"innocent-{n}": sound(f"innocent {n}", 1.5) for n in range(8)}
    with started_again(cluster) as counted, door.http() as http:
        tasks = {name: submit(http, name, data) for name, data in innocent.items() if int(name[-1]) < 4}
        poison = submit(http, "poison", POISON)
        tasks |= {name: submit(http, name, data) for name, data in innocent.items() if name not in tasks}
        task = wait_task(http, poison, SOON_S)
        for name, task_id in tasks.items():
            check_whole(door, name, task_id, innocent[name])
    assert (task["state"], task["error"]["code"]) == ("failed", "engine_failed")
    assert (door.job(poison)["attempt"], door.job(poison)["lost"]) == (3, 0)
    assert door.results_of(poison) == []
    assert counted.total() == 3, "it ended three engines, no more"
    ended = [line for worker in cluster.workers for line in log_lines(worker, "task.finished")]
    assert [line["state"] for line in ended if line["task_id"] == poison] == ["failed"], "a worker had it"
    assert not any(log_lines(gateway, "task.started") for gateway in cluster.gateways)


def test_a_receiver_that_is_away_gets_everything_once_it_is_back(cluster: LocalCluster, gates: list[Door]) -> None:
    """And each task once, under one id, whichever of the gateways tells it."""
    port = free_port()
    env = {**cluster.gateways[0].environment(), "COSYGATE_DATA_DIR": str(cluster.folder / "desk")}
    made = CliRunner().invoke(app, ["webhooks", "secret", "create"], env=env)
    assert made.exit_code == 0, made.output
    tasks = []
    for n, door in enumerate(gates * 3):
        params = {"is_last": "1", "callback_url": f"http://127.0.0.1:{port}/hooks"}
        with door.http() as http:
            answer = http.put(f"/v1/audio/away-{n}/0", params=params, content=sound(f"away {n}", 0.5))
        assert answer.status_code == 202, answer.text
        tasks.append(answer.json()["task_id"])

    def deliveries() -> list[dict[str, object]]:
        return gates[0].rows("SELECT state, attempt FROM deliveries")

    wait_for(lambda: sum(int(str(row["attempt"])) for row in deliveries()) >= 12, "tries in vain", SOON_S)
    assert [row["state"] for row in deliveries()] == ["pending"] * len(tasks)
    with Receiver(port=port) as receiver:
        wait_for(lambda: {row["state"] for row in deliveries()} == {"delivered"}, "all deliveries", SOON_S)
    assert Counter(call.id for call in receiver.calls) == Counter(f"msg_{task}" for task in tasks)
    secret = made.stdout.strip()
    assert sorted(call.verified(secret)["data"]["task_id"] for call in receiver.calls) == sorted(tasks)


@dataclass(frozen=True, slots=True)
class Answer:
    session: str
    took_s: float
    response: httpx2.Response


def test_while_postgres_hangs_nothing_acknowledged_is_lost(cluster: LocalCluster, gates: list[Door]) -> None:
    """As a client does, each lane sends again what was answered 503, to the other gateway."""
    over = threading.Event()

    def lane(number: int) -> list[Answer]:
        answers: list[Answer] = []
        with gates[number % 2].http() as one, gates[1 - number % 2].http() as two:
            for n in range(1000):
                session, data = f"hung-{number}-{n}", sound(f"hung {number} {n}", 0.5)
                for http in (one, two) * 50:
                    began = time.monotonic()
                    response = put_chunk(http, session, 0, data, last=True)
                    answers.append(Answer(session, time.monotonic() - began, response))
                    if response.status_code == 202:
                        break
                    assert response.status_code == 503, response.text
                    assert float(response.headers["retry-after"]) > 0
                    time.sleep(0.1)
                if over.wait(0.3):
                    return answers
        raise AssertionError("it went on for too long")

    with ThreadPoolExecutor(4) as pool:
        lanes = [pool.submit(lane, n) for n in range(4)]
        time.sleep(1.0)
        cluster.postgres.pause()
        try:
            time.sleep(HANG_S)
        finally:
            cluster.postgres.resume()
        time.sleep(1.0)
        over.set()
        answers = [answer for done in lanes for answer in done.result()]
    assert HANG_S / 2 < max(answer.took_s for answer in answers) < CALL_S, "nobody met it, or it had no bound"
    acknowledged = [answer for answer in answers if answer.response.status_code == 202]
    assert len(acknowledged) == len({answer.session for answer in answers})
    for answer in acknowledged:
        number, n = answer.session.split("-")[1:]
        data = sound(f"hung {number} {n}", 0.5)
        check_whole(gates[0], answer.session, answer.response.json()["task_id"], data)


def test_uploads_outlive_their_gateway(cluster: LocalCluster, gates: list[Door]) -> None:
    """One in the middle of a chunk, sent again to the other gateway by hand; one that cosygate.client has under way."""
    one, two = gates
    data, own = sound("killed", 4.0), sound("own", 20.0)
    chunks = cut(data, 50_000, 50_000)
    with one.http() as http:
        assert put_chunk(http, "killed", 0, chunks[0]).status_code == 200
    request = RawRequest(one, "/v1/audio/killed/1", chunks[1])
    request.send(25_000)
    sent: list[int] = []

    def progress(count: int, total: int) -> None:
        if total // 3 < count and cluster.gateways[0].running():
            cluster.gateways[0].kill()
        sent.append(count)

    with front(cluster).client() as client:
        task = client.upload(io.BytesIO(own), session_id="own", chunk_bytes=20_000, on_progress=progress)
    assert not cluster.gateways[0].running()
    assert (sent, sent[-1]) == (sorted(sent), len(own))
    with pytest.raises((OSError, HTTPException)):
        request.answer()
    with two.http() as http:
        assert http.get("/v1/audio/killed").json()["received"] == [0]
        assert put_chunk(http, "killed", 1, chunks[1]).status_code == 200
        assert http.get("/v1/audio/killed").json()["received"] == [0, 1]
        done = put_chunk(http, "killed", 2, chunks[2], last=True)
        assert done.status_code == 202, done.text
    check_whole(two, "killed", done.json()["task_id"], data)
    check_whole(two, "own", task.id, own)
    assert two.parts_of("killed") == [f"p{seq:09d}" for seq in range(3)]
    assert two.parts_of("own") == [f"p{seq:09d}" for seq in range(-(-len(own) // 20_000))]
