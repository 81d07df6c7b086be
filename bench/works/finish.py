"""Short recordings until their tasks are finished: the whole way with a recogniser that costs nothing."""

import time
from functools import partial
from pathlib import Path

from celery import Celery
from redis import Redis

from bench import load
from bench.client import Client, send_all
from bench.contestants import Target, article, celery_worker, cosygate, redis
from bench.plan import Config, Contestant, Work
from bench.recordings import wav
from bench.stats import Figures, Results, Verdict, middle

WORKERS = 2
_GIVE_UP_S = 120.0

ABOUT = f"""
{load.CONNECTIONS} connections send WAVs of {load.SHORT_S:g} s, then one connection asks for each task in turn until
all have succeeded; the rate is recordings over the time from the first byte to the last answer. CosyGate decodes each
and streams it to a scripted engine without delay. "Celery alone" queues tasks that do nothing from one process and
waits for the last result, without HTTP, files or ffprobe.
"""


def _ours(count: int, durability: str, folder: Path) -> Figures:
    with cosygate(folder, workers=WORKERS, recogniser="scripted", durability=durability) as target:
        recordings = [wav(load.SHORT_S)] * count
        _finish_all(target, recordings[:10], "warm")
        return _finish_all(target, recordings, "main")


def _article(count: int, folder: Path) -> Figures:
    with article(folder) as target:
        recordings = [wav(load.SHORT_S)] * count
        _finish_all(target, recordings[:4], "warm")
        return _finish_all(target, recordings, "main")


def _finish_all(target: Target, recordings: list[bytes], run: str) -> Figures:
    started = time.perf_counter()
    tasks = send_all(target, recordings, load.CONNECTIONS, run, multipart=True)
    sent = time.perf_counter()
    client = Client(target)
    for task in tasks:
        client.finished(task)
    ended = time.perf_counter()
    return {"rate": len(tasks) / (ended - started), "accept_rate": len(tasks) / (sent - started)}


def _celery(count: int, folder: Path) -> Figures:
    with redis(folder) as url, celery_worker(folder, {"ARTICLE_REDIS": url}):
        queue, results = Celery(broker=url + "/0", backend=url + "/1"), Redis.from_url(url + "/1")
        started = time.perf_counter()
        for number in range(count):
            queue.send_task("bench.article.tasks.transcribe", [f"/nowhere/{number}"])
        sent = time.perf_counter()
        while results.dbsize() < count:
            if time.perf_counter() - sent > _GIVE_UP_S:
                raise load.BadRun(f"Celery finished {results.dbsize()} of {count} tasks")
            time.sleep(0.01)
        ended = time.perf_counter()
        results.close()
        queue.close()
        return {"rate": count / (ended - started), "accept_rate": count / (sent - started)}


def work(config: Config) -> Work:
    ours, theirs, bare = (100, 20, 300) if config.quick else (500, 60, 2000)
    return Work(
        name="finish",
        title="Until the task is finished, recognition costing nothing",
        about=ABOUT,
        contestants={
            "article": Contestant("article", partial(_article, theirs)),
            "process": Contestant("CosyGate, multipart, process", partial(_ours, ours, "process")),
            "celery": Contestant("Celery alone, tasks that do nothing", partial(_celery, bare)),
            "disk": Contestant("CosyGate, multipart, disk", partial(_ours, ours, "disk")),
        },
        verdicts=_verdicts,
        columns={"rate": "finished/s", "accept_rate": "accepted/s"},
    )


def _verdicts(results: Results) -> list[Verdict]:
    return [Verdict("CosyGate, `process`", middle(results, "process", "rate"), 100, "tasks/s")]
