"""`cosygate worker`: jobs of a gateway elsewhere, hints over a real Celery and Redis, records in a real PostgreSQL."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import psutil
import pytest

from cosygate.adapters.queue_celery import TASK, make_app
from deploy.local_cluster.topology import LocalCluster
from tests.api.conftest import wav
from tests.support.faults import wait_for
from tests.support.server import wait_task
from tests.support.services import folder
from tests.support.shared_cluster import front, log_lines, revive

pytestmark = [pytest.mark.needs("postgres", "redis-server", "nginx"), pytest.mark.slow]

LONG_S = 7.0  # a recording of this many seconds takes as long to be recognised
SOON_S = 60.0  # on a loaded machine
BOUNDED_S = 1.0  # of an upload without Redis
LEASE_S = 2.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    script = tmp_path_factory.mktemp("script") / "script.json"
    script.write_text(json.dumps({"rules": [{"do": "wait", "wait_s": LONG_S, "when": {"seconds": [LONG_S, 99]}}]}))
    with folder() as place, LocalCluster(
        place, gateways=1, workers=2, engines=1, slots=8, script=script, cut_off=False,
        drain_s=1, lease_renew_s=0.5, lease_expire_s=LEASE_S, reaper_every_s=0.5, worker_jobs=2, breaker_open_s=1,
    ) as running:  # fmt: skip
        yield running


@pytest.fixture
def api(cluster: LocalCluster) -> Iterator[httpx2.Client]:
    """Every part runs, whatever the test before did to it."""
    revive(cluster)
    auth = {"Authorization": f"Bearer {cluster.token('ann')}"}
    with httpx2.Client(base_url=cluster.url, headers=auth, timeout=30) as client:
        yield client


def submit(api: httpx2.Client, seconds: float = 1.0, **options: str) -> str:
    answer = api.put(f"/v1/audio/{uuid.uuid4().hex}/0", params={"is_last": "1", **options}, content=wav(seconds))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def task(api: httpx2.Client, task_id: str) -> dict[str, Any]:
    return dict(api.get(f"/v1/task/{task_id}").json())


def until(condition: Any, what: str) -> None:
    wait_for(condition, what, SOON_S, every_s=0.05)


def finished(api: httpx2.Client, task_id: str) -> dict[str, Any]:
    return wait_task(api, task_id, SOON_S)


def holder(cluster: LocalCluster, api: httpx2.Client, task_id: str) -> int:
    """The number of the worker that runs it, once one does."""

    def told() -> list[int]:
        logs = [worker.log_text() for worker in cluster.workers]
        return [number for number, log in enumerate(logs) if f'"task_id":"{task_id}"' in log]

    until(told, "that somebody runs it")
    return told()[0]


def lines(cluster: LocalCluster, number: int, action: str) -> list[dict[str, Any]]:
    return log_lines(cluster.workers[number], action)


@contextlib.contextmanager
def taken_over(cluster: LocalCluster, task_id: str, number: int) -> Iterator[None]:
    """What is done in the block to this worker, who runs it, costs the lease, and the other one runs it then."""
    fence, began = front(cluster).job(task_id)["fence"] + 1, time.monotonic()
    yield
    until(lambda: front(cluster).job(task_id)["fence"] == fence, "the other's claim")
    assert time.monotonic() - began < LEASE_S + 5
    until(lambda: task_id in [line["task_id"] for line in lines(cluster, 1 - number, "task.started")], "its start")


def check_one_result(cluster: LocalCluster, task_id: str) -> None:
    row = front(cluster).job(task_id)
    assert (row["fence"], row["result_fence"], row["attempt"], row["lost"]) == (2, 2, 0, 1)


def test_a_gateway_leaves_jobs_to_workers(cluster: LocalCluster, api: httpx2.Client) -> None:
    done = [finished(api, submit(api)) for _ in range(3)]
    assert [one["state"] for one in done] == ["succeeded"] * 3
    assert "task.started" not in cluster.gateways[0].log_text()
    assert sum(len(lines(cluster, n, "task.finished")) for n in (0, 1)) >= 3


def test_it_is_a_celery_node_for_those_who_look(cluster: LocalCluster, api: httpx2.Client) -> None:
    app = make_app(str(cluster.settings["broker_url"]))
    seen: list[dict[str, Any]] = []
    over = threading.Event()

    def watch() -> None:
        with app.connection() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": seen.append})
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    receiver.capture(limit=None, timeout=1, wakeup=False)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    until(lambda: len(app.control.inspect(timeout=5.0).ping() or {}) == 2, "that both answer")
    nodes = app.control.inspect(timeout=5.0).ping() or {}
    assert (len(nodes), {name.partition("@")[2] for name in nodes}) == (2, {socket.gethostname()})
    queues = {q["name"] for found in (app.control.inspect(timeout=5.0).active_queues() or {}).values() for q in found}
    assert queues == {"cosygate.normal", "cosygate.low"}
    task_id = submit(api, LONG_S)
    until(lambda: any(task_id in str(e.get("args")) for e in list(seen) if e["type"] == "task-received"), "its event")
    active = [a for found in (app.control.inspect(timeout=5.0).active() or {}).values() for a in found]
    assert [a["name"] for a in active if task_id in str(a["args"])] == [TASK]  # for as long as the job runs
    assert finished(api, task_id)["state"] == "succeeded"
    over.set()
    watching.join(10)


def test_messages_carry_ids_alone(cluster: LocalCluster, api: httpx2.Client) -> None:
    import redis

    for worker in cluster.workers:
        worker.stop()
    task_id = submit(api, filename="secret-name.wav")
    found = redis.Redis.from_url(str(cluster.settings["broker_url"]))
    until(lambda: found.llen("cosygate.normal") > 0, "its message")
    body = json.loads(found.lrange("cosygate.normal", 0, -1)[0])
    assert task_id in str(json.loads(base64.b64decode(body["body"]))[0])
    assert "secret-name" not in str(body)
    for worker in cluster.workers:
        worker.start()
    assert finished(api, task_id)["state"] == "succeeded"


def test_sigterm_hands_a_running_job_back(cluster: LocalCluster, api: httpx2.Client) -> None:
    task_id = submit(api, LONG_S)
    number = holder(cluster, api, task_id)
    began = time.monotonic()
    cluster.workers[number].stop()
    assert time.monotonic() - began < 15
    assert [line["why"] for line in lines(cluster, number, "task.requeued")][-1:] == ["hand_back"]
    assert lines(cluster, number, "worker.stopped")
    assert finished(api, task_id)["state"] == "succeeded"
    assert not [line for n in (0, 1) for line in lines(cluster, n, "task.lease_expired") if line["task_id"] == task_id]


def test_a_killed_worker_costs_the_lease_and_nothing_more(cluster: LocalCluster, api: httpx2.Client) -> None:
    task_id = submit(api, LONG_S)
    number = holder(cluster, api, task_id)
    with taken_over(cluster, task_id, number):
        cluster.workers[number].kill()
    done = finished(api, task_id)
    assert (done["state"], done["percent"]) == ("succeeded", 100)
    check_one_result(cluster, task_id)


def test_a_stopped_workers_late_result_is_refused(cluster: LocalCluster, api: httpx2.Client) -> None:
    task_id = submit(api, LONG_S)
    number = holder(cluster, api, task_id)
    parent = cluster.workers[number].process
    assert parent is not None
    # Its processes, and not the one that looks after them: it would kill what does not answer.
    stopped = [parent.pid, *(child.pid for child in psutil.Process(parent.pid).children(recursive=True))]
    with taken_over(cluster, task_id, number):
        for pid in stopped:
            psutil.Process(pid).suspend()
    first = finished(api, task_id)
    for pid in stopped:
        psutil.Process(pid).resume()
    lost = ("task.lease_lost", "task.result_refused")

    def told() -> list[dict[str, Any]]:
        return [line for action in lost for line in lines(cluster, number, action) if line["task_id"] == task_id]

    until(told, "that it learns of it")
    assert task(api, task_id) == first
    check_one_result(cluster, task_id)


def test_without_redis_uploads_are_answered_and_jobs_complete(cluster: LocalCluster, api: httpx2.Client) -> None:
    cluster.redis.kill()
    began = time.monotonic()
    task_id = submit(api)
    assert time.monotonic() - began < BOUNDED_S
    assert finished(api, task_id)["state"] == "succeeded"
    cluster.redis.start()
    assert finished(api, submit(api))["state"] == "succeeded"


def test_a_redis_that_hangs_holds_nobody_up(cluster: LocalCluster, api: httpx2.Client) -> None:
    cluster.redis.pause()
    try:
        began = time.monotonic()
        task_id = submit(api)
        assert time.monotonic() - began < BOUNDED_S
        assert finished(api, task_id)["state"] == "succeeded"
    finally:
        cluster.redis.resume()


def test_a_broker_that_answers_with_errors_costs_the_hints_alone(cluster: LocalCluster, api: httpx2.Client) -> None:
    import redis

    before = [len(lines(cluster, number, "worker.stopped")) for number in (0, 1)]

    def follow(*master: object) -> None:
        """Whoever is connected may be cut off by it, who says so too."""
        wanted = "master" if master[0] == "NO" else "slave"
        asked = redis.Redis.from_url(str(cluster.settings["broker_url"]))

        def done() -> bool:
            with contextlib.suppress(redis.RedisError):
                asked.execute_command("REPLICAOF", *master)
            with contextlib.suppress(redis.RedisError):
                return bool(asked.info("replication")["role"] == wanted)
            return False

        until(done, f"that it is a {wanted}")

    follow("127.0.0.1", 1)  # READONLY, for whoever wants to take a message
    try:
        assert finished(api, submit(api, LONG_S))["state"] == "succeeded"
    finally:
        follow("NO", "ONE")
    assert [len(lines(cluster, number, "worker.stopped")) for number in (0, 1)] == before
    app = make_app(str(cluster.settings["broker_url"]))

    def both() -> bool:
        with contextlib.suppress(redis.ConnectionError):  # our own of before, which was cut off, too
            return len(app.control.inspect(timeout=2.0).ping() or {}) == 2
        return False

    until(both, "that both listen again")


def test_a_worker_of_one_queue_leaves_the_other(cluster: LocalCluster, api: httpx2.Client) -> None:
    kept = [dict(worker.settings) for worker in cluster.workers]
    try:
        for worker, queues in zip(cluster.workers, ("low", "normal"), strict=True):
            worker.stop()
            worker.settings["worker_queues"] = queues
        cluster.workers[0].start()
        normal, low = submit(api), submit(api, priority="low")
        assert finished(api, low)["state"] == "succeeded"
        time.sleep(1.5)  # three looks
        assert task(api, normal)["state"] == "queued"
        cluster.workers[1].start()
        assert finished(api, normal)["state"] == "succeeded"
    finally:
        for worker, settings in zip(cluster.workers, kept, strict=True):
            worker.stop()
            worker.settings = settings


def test_an_old_process_is_replaced_when_its_jobs_have_ended(cluster: LocalCluster, api: httpx2.Client) -> None:
    worker = cluster.workers[0]
    cluster.workers[1].stop()
    worker.stop()
    worker.settings["worker_age_s"] = 8.0
    try:
        worker.start()
        task_id = submit(api, LONG_S)
        until(lambda: lines(cluster, 0, "worker.renewed"), "that it grew old")
        assert finished(api, task_id)["state"] == "succeeded"
        assert task_id not in {line["task_id"] for line in lines(cluster, 0, "task.requeued")}
        until(lambda: lines(cluster, 0, "child.renewed"), "its successor")
        assert finished(api, submit(api))["state"] == "succeeded"
    finally:
        worker.stop()
        del worker.settings["worker_age_s"]


def test_metrics_and_health(cluster: LocalCluster, api: httpx2.Client) -> None:
    finished(api, submit(api))
    for worker in cluster.workers:
        health = httpx2.get(f"http://127.0.0.1:{worker.port}/health").json()
        assert health == {"processes": 1, "running": 1, "accepting": 1}
    told = "".join(httpx2.get(f"http://127.0.0.1:{worker.port}/metrics").text for worker in cluster.workers)
    counted = [line.split()[-1] for line in told.splitlines() if line.startswith('cv_task_total{state="succeeded"')]
    assert sum(map(float, counted)) >= 1
    assert httpx2.get(f"http://127.0.0.1:{cluster.workers[0].port}/other").status_code == 404
