"""Recordings a second, from upload to visible result, against what Celery makes of tasks that do nothing."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import redis

from bench.client import Client
from bench.cluster import nothing, sending
from bench.cluster.serving import Config, cluster, spent, target, told
from bench.contestants import REPOSITORY
from bench.load import CONNECTIONS, SHORT_S, BadRun, cpu_seconds
from bench.plan import Contestant, Work
from bench.processes import running
from bench.stats import Figures, Results, Verdict, ratio
from deploy.local_cluster.services import Redis
from deploy.local_cluster.topology import LocalCluster

SENDERS, WORKERS, JOBS = 2, 2, 4  # jobs: of each worker at once (its default)
BAR = 0.5
_GIVE_UP_S = 300.0
_WATCH_S = 0.02
_LOOK_S = 0.25
_WARM = 20

ABOUT = f"""
Postgres (fsync on), Celery and Redis, as the issue names them: nginx, {SENDERS} gateways, {WORKERS} workers of {JOBS}
jobs, two scripted engines without delay; default settings, but limits beyond the load, and on. {{count}} WAVs of
{SHORT_S:g} s are sent through nginx by {SENDERS} processes with {CONNECTIONS} connections in all; each also asks for
its tasks in turn until all have succeeded. The rate is recordings over the time from the first byte to the last answer.
"One host": blobs are files in one folder, which gateways and workers of a single host can share, and only they. "Object
store": as on several hosts; blobs are in moto's S3, which is written in Python, takes CPU time of its own, and stands
for no real store. "Celery": {{nothing}} tasks that do nothing through {WORKERS} workers with the same settings (pool of
threads, concurrency, prefetch, events, results ignored) and {SENDERS} producers beside them, with the same Redis, on a
queue of its own; from the first message to the end of the last task. "Without events": neither workers nor producers
tell of tasks, as Celery comes; ours do, so that its tools work. "From the queue": as many sent while the workers hang
(SIGSTOP), then they go on; the rate is that between the first tenth and the last tenth of what they finish. Both rows
of ours are held, end to end, against both of Celery's rates: end to end, and from the queue, which is the rate at which
it finishes. CPU is of all processes of a kind, in ms for each recording (or task), end to end; senders are the load
generators.
"""
PARTS = ("gateways", "workers", "engines", "postgres", "redis", "nginx", "store")


def work(config: Config) -> Work:
    count, tasks = (60, 200) if config.quick else (600, 2000)
    return Work(
        name="rate",
        title="Until the result is visible, through all of it",
        about=ABOUT.format(count=count, nothing=f"{tasks:,}"),
        contestants={
            "celery": Contestant("Celery alone, tasks that do nothing", partial(_celery, tasks, True)),
            "folder": Contestant("CosyGate, one host", partial(_ours, count, True)),
            "plain": Contestant("Celery alone, without events", partial(_celery, tasks, False)),
            "store": Contestant("CosyGate, object store", partial(_ours, count, False)),
        },
        verdicts=_verdicts,
        columns={
            "rate": "finished/s",
            "accept_rate": "accepted/s",
            "queue_rate": "from the queue/s",
            **{f"{part}_ms": f"{part} ms" for part in PARTS},
            "senders_ms": "senders ms",
        },
        listed="CPU ms each, from the queue",
    )


def _verdicts(results: Results) -> list[Verdict]:
    """Of the tasks/s of each row of ours, end to end."""
    ours = {"folder": "one host", "store": "object store"}
    theirs = {"celery": "Celery's", "plain": "Celery's without events"}
    rates = {"rate": "end to end", "queue_rate": "finished from the queue"}
    return [
        Verdict(f"{name}, against {of} {how}", ratio(results, row, other, "rate", against), BAR, "×")
        for row, name in ours.items()
        for other, of in theirs.items()
        for against, how in rates.items()
    ]


def _ours(count: int, shared: bool, folder: Path) -> Figures:
    with cluster(folder, shared=shared, slots=JOBS) as made:
        _send(made, _WARM, "warm")
        before = spent(made)
        found = _send(made, count, "main")
        figures = _end_to_end(count, found) | _each(before, spent(made), count, "{}_ms")
        return figures | _from_the_queue(made, count)


def _send(made: LocalCluster, count: int, name: str, *, wait: bool = True) -> list[dict[str, Any]]:
    where = target(made)
    share = CONNECTIONS // SENDERS
    plans = [
        sending.Plan(where.port, where.token, f"{name}{n}", count // SENDERS, share, SHORT_S, wait)
        for n in range(SENDERS)
    ]
    return _go("bench.cluster.sending", [asdict(plan) for plan in plans])


def _go(module: str, plans: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    with told(module, *plans) as children:
        for child in children:
            child.say(at="go")
        return [child.hear() for child in children]


def _end_to_end(count: int, found: Sequence[dict[str, Any]], ended: float = 0.0) -> dict[str, float]:
    """`ended`: when the last one was, if the senders do not tell."""
    began = min(one["began"] for one in found)
    ended = ended or max(one["ended"] for one in found)
    sent = max(one["sent"] for one in found)
    return {
        "rate": count / (ended - began),
        "accept_rate": count / (sent - began),
        "senders_ms": 1000 * sum(one["cpu"] for one in found) / count,
    }


def _each(before: dict[str, float], after: dict[str, float], count: int, name: str) -> dict[str, float]:
    return {name.format(part): 1000 * (after[part] - before[part]) / count for part in before}


def _from_the_queue(made: LocalCluster, count: int) -> dict[str, float]:
    """What the workers do when nobody sends. They hang (SIGSTOP) meanwhile, so that all begin at once, and warm."""
    for worker in made.workers:
        worker.pause()
    tasks = [task for one in _send(made, count, "queued", wait=False) for task in one["tasks"]]
    before = spent(made)
    for worker in made.workers:
        worker.resume()
    client = Client(target(made))
    deadline = time.monotonic() + _GIVE_UP_S
    while client.task(tasks[-1])["state"] in ("queued", "running") and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    times = [datetime.fromisoformat(client.finished(task)["finished_at"]).timestamp() for task in tasks]
    return {"queue_rate": steady_rate(times)} | _each(before, spent(made), count, "{}")


def steady_rate(times: Sequence[float]) -> float:
    """A second, of what ended at these times, without the first and the last tenth: neither while workers start nor
    while they run dry."""
    ranked = sorted(times)
    low, high = len(ranked) // 10, len(ranked) - 1 - len(ranked) // 10
    return (high - low) / (ranked[high] - ranked[low])


def _celery(count: int, events: bool, folder: Path) -> Figures:
    with Redis(folder / "redis") as server:
        alone = _Nothing(server, events, folder)
        with alone.workers() as pids:
            alone.produce(_WARM)
            alone.wait()
            before = alone.spent(pids)
            found = alone.produce(count)
            alone.wait()
            after = alone.spent(pids)
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            alone.produce(count)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            alone.wait()
        ended = alone.ended(_WARM + 2 * count)
    figures = dict.fromkeys((f"{part}_ms" for part in PARTS), 0.0)
    figures |= _each(before, after, count, "{}_ms")
    figures |= _end_to_end(count, found, ended[_WARM + count - 1])
    return figures | {"queue_rate": steady_rate(ended[-count:])}


class _Nothing:
    """One run of Celery alone."""

    def __init__(self, server: Redis, events: bool, folder: Path) -> None:
        self._server = server
        self._events = events
        self._folder = folder
        self._broker = server.url.rpartition("/")[0] + "/1"

    @contextmanager
    def workers(self) -> Iterator[list[int]]:
        """Their processes."""
        command = [sys.executable, "-m", "bench.cluster.nothing", "worker", "--broker", self._broker]
        command += ["--jobs", str(JOBS), "--parent-pid", str(os.getpid()), *([] if self._events else ["--no-events"])]
        env = {"PYTHONPATH": str(REPOSITORY)}
        with ExitStack() as stack:
            processes = [
                stack.enter_context(running(f"worker-{number}", command, _is_ready, self._folder, env))
                for number in range(WORKERS)
            ]
            yield [process.pid for process in processes]

    def produce(self, count: int) -> list[dict[str, Any]]:
        plan = asdict(nothing.Plan(self._broker, count // SENDERS, self._events))
        return _go("bench.cluster.nothing", [plan] * SENDERS)

    def wait(self) -> None:
        """Until every task has begun: one that has is finished before its worker ends. Raises BadRun."""
        deadline = time.monotonic() + _GIVE_UP_S
        with redis.Redis(port=self._server.port, db=1) as broker:
            while broker.llen(nothing.QUEUE) or broker.hlen("unacked"):
                if time.monotonic() > deadline:
                    raise BadRun("Celery did not finish")
                time.sleep(_WATCH_S)

    def spent(self, pids: Sequence[int]) -> dict[str, float]:
        assert self._server.process is not None
        return {"workers": sum(map(cpu_seconds, pids)), "redis": cpu_seconds(self._server.process.pid)}

    def ended(self, count: int) -> list[float]:
        """When the tasks were finished, rising, once the workers have ended. Raises BadRun when it is not every one."""
        lines = [path.read_text().splitlines()[-1] for path in sorted(self._folder.glob("worker-*.out"))]
        found: list[float] = sorted(at for line in lines for at in json.loads(line)["ended"])
        if len(found) != count:
            raise BadRun(f"Celery finished {len(found)} of {count} tasks")
        return found


def _is_ready(out: str) -> bool:
    return "ready" in out
