"""A rolling restart of everything under load, as clients see it."""

import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench.cluster import reading
from bench.cluster.reading import Span
from bench.cluster.serving import Config, cluster, kinds, told
from bench.cluster.steady import Plan
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle
from deploy.local_cluster.services import Service
from deploy.local_cluster.topology import LocalCluster

RATE, STREAMS, AUDIO_S, SPEECH_S = 4.0, 4, 2.0, 10.0
SCRIPT = {"hear": "digest", "segment_s": 1.0}  # a text that only the same sound gives
TIMES = 3.0
ORDER = ("gateways", "workers", "engines", "nginx", "redis", "postgres")
_WARM_S, _BETWEEN_S = 4.0, 1.0

ABOUT = f"""
nginx, two gateways, workers and engines (scripted; the text is a hash of the sound), Postgres, Redis (which a restart
empties), blobs in the object store. {RATE:g} recordings of {AUDIO_S:g} s a second by the client of docs/client.md, with
its own retries, each asked about four times a second until it has ended, and {STREAMS} live streams, each with one
session of {SPEECH_S:g} s after the other. After {{calm:g}} s of calm every gateway, worker and engine is told to end
(SIGTERM) and started again, one after the other, {_BETWEEN_S:g} s between; then nginx reads its configuration anew, and
Redis and Postgres are restarted. A request is what the client's caller waits for, retries included; those that began in
the calm are held against those that began in the rest. Failed: calls of the client that failed in spite of its retries,
starts of live sessions that did, and sessions that ended with an error. Each result and each live transcript must equal
the undisturbed one, and the server must list the tasks that clients were told of, and no others.
"""


def work(config: Config) -> Work:
    calm_s = 12.0 if config.quick else 60.0
    return Work(
        name="rolling",
        title="A rolling restart of everything",
        about=ABOUT.format(calm=calm_s),
        contestants={"rolling": Contestant("rolling restart", partial(_run, calm_s))},
        verdicts=_verdicts,
        columns={
            "calm_p50_ms": "calm p50 ms",
            "calm_p99_ms": "calm p99 ms",
            "p50_ms": "restarts p50 ms",
            "p99_ms": "restarts p99 ms",
            "requests": "requests",
            "retries": "retries",
            "failed": "failed",
            "uploads": "uploads",
            "sessions": "live sessions",
            "cut": "of them connected anew",
        },
        listed="s each, slowest; p99 ms meanwhile",
        runs=3,
    )


def _run(calm_s: float, folder: Path) -> Figures:
    with cluster(folder, shared=False, script=SCRIPT) as made:
        plan = Plan(made.url, made.token("bench"), RATE, STREAMS, AUDIO_S, SPEECH_S)
        with told("bench.cluster.steady", asdict(plan)) as [users]:
            time.sleep(_WARM_S)
            calm = Span(time.monotonic(), time.monotonic() + calm_s)
            time.sleep(calm_s)
            phases, slowest = _restarts(made)
            restarts = Span(calm.ended, time.monotonic())
            users.say(at="over")
            found = users.hear()
    for failure in reading.failures(found):
        print(f"rolling: {failure}", file=sys.stderr, flush=True)
    before, after = reading.requests(found, calm), reading.requests(found, restarts)
    live, promises = reading.speeches(found, restarts), reading.promises(found)
    each = {f"{kind}, s": slowest[kind] for kind in slowest}
    each |= {f"{kind}, p99 ms": reading.requests(found, span)["p99_ms"] for kind, span in phases.items()}
    return {
        "calm_p50_ms": before["p50_ms"],
        "calm_p99_ms": before["p99_ms"],
        **after,
        "retries": len(found["retries"]),
        **promises,
        "failed": promises["failed"] + int(live["refused"]),
        "uploads": len(found["uploads"]),
        **live,
        **each,
    }


def _restarts(made: LocalCluster) -> tuple[dict[str, Span], dict[str, float]]:
    """(when each kind was, how long the slowest of it took from SIGTERM until it was ready again)"""
    phases, slowest, parts = {}, {}, kinds(made)
    for kind in ORDER:
        since, took = time.monotonic(), 0.0
        for part in parts[kind]:
            began = time.monotonic()
            if kind == "nginx":
                made.nginx.reload()
            else:
                _restart(part)
            took = max(took, time.monotonic() - began)
            time.sleep(_BETWEEN_S)
        phases[kind], slowest[kind] = Span(since, time.monotonic()), took
    return phases, slowest


def _restart(part: Service) -> None:
    part.stop()
    part.start()


def _verdicts(results: Results) -> list[Verdict]:
    def figure(name: str) -> float:
        return middle(results, "rolling", name)

    return [
        Verdict("failed requests that a retrying client sees", figure("failed"), 0, at_least=False),
        Verdict("p99, against the calm", figure("p99_ms") / figure("calm_p99_ms"), TIMES, "×", at_least=False),
        Verdict("lost", figure("lost"), 0, at_least=False),
        Verdict("done twice", figure("doubled"), 0, at_least=False),
        Verdict("results and live transcripts that differ", figure("different"), 0, at_least=False),
    ]
