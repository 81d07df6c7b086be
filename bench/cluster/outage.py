"""Redis gone for a minute, as clients see it."""

import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench.cluster import reading
from bench.cluster.reading import Span
from bench.cluster.rolling import AUDIO_S, RATE, SCRIPT, STREAMS
from bench.cluster.serving import Config, cluster, told
from bench.cluster.steady import Plan
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle

SPEECH_S = 20.0
SHARE = 0.95  # of the rate of uploads
_WARM_S = 4.0

ABOUT = f"""
The same installation and users as in the rolling restart, live sessions of {SPEECH_S:g} s. Redis is killed (kill -9)
after {{calm:g}} s, is away for {{away:g}} s (connections are refused), and comes back empty; the users stay for another
{{after:g}} s. Accepted: uploads answered with their task, a second, and the time from when they were due. Done: jobs
finished while Redis was away, and how long after its return the last of the jobs accepted before it was finished. Live:
sessions that were open meanwhile, how many of them were connected anew, the longest time without a connection, and
starts of new ones that were refused. Failed, lost, different: as there; a start that is refused at once is none.
"""


def work(config: Config) -> Work:
    calm_s, away_s, after_s = (8.0, 10.0, 8.0) if config.quick else (40.0, 60.0, 30.0)
    return Work(
        name="redis",
        title="Redis gone for a minute",
        about=ABOUT.format(calm=calm_s, away=away_s, after=after_s),
        contestants={"redis": Contestant(f"away for {away_s:g} s", partial(_run, calm_s, away_s, after_s))},
        verdicts=_verdicts,
        columns={
            "before_rate": "accepted/s before",
            "rate": "accepted/s meanwhile",
            "before_p99_ms": "p99 ms before",
            "p99_ms": "p99 ms meanwhile",
            "after_p99_ms": "p99 ms afterwards",
            "done_away": "done meanwhile",
            "late_s": "all done s after",
            "sessions": "live sessions",
            "cut": "connected anew",
            "longest_cut_s": "longest s without",
            "refused": "starts refused",
        },
        listed="how many",
        runs=1,
    )


def _run(calm_s: float, away_s: float, after_s: float, folder: Path) -> Figures:
    with cluster(folder, shared=False, script=SCRIPT) as made:
        plan = Plan(made.url, made.token("bench"), RATE, STREAMS, AUDIO_S, SPEECH_S)
        with told("bench.cluster.steady", asdict(plan)) as [users]:
            time.sleep(_WARM_S)
            calm = Span(time.monotonic(), time.monotonic() + calm_s)
            time.sleep(calm_s)
            made.redis.kill()
            gone = time.monotonic()
            time.sleep(away_s)
            made.redis.start()
            away = Span(gone, time.monotonic())
            time.sleep(after_s)
            after = Span(away.ended, time.monotonic())
            users.say(at="over")
            found = users.hear()
    for failure in reading.failures(found):
        print(f"redis: {failure}", file=sys.stderr, flush=True)
    before, meanwhile = reading.accepted(found, calm), reading.accepted(found, away)
    return {
        "before_rate": before["rate"],
        "rate": meanwhile["rate"],
        "before_p99_ms": before["p99_ms"],
        "p99_ms": meanwhile["p99_ms"],
        "after_p99_ms": reading.accepted(found, after)["p99_ms"],
        "done_away": sum(x["done"] is not None and away.holds(x["done"]) for x in found["uploads"]),
        "late_s": max(0.0, reading.last_done(found, away.ended) - away.ended),
        **reading.speeches(found, away),
        "uploads": len(found["uploads"]),
        "retries": len(found["retries"]),
        **reading.promises(found),
    }


def _verdicts(results: Results) -> list[Verdict]:
    def figure(name: str) -> float:
        return middle(results, "redis", name)

    return [
        Verdict("uploads a second, against before", figure("rate") / figure("before_rate"), SHARE, "×"),
        Verdict("failed requests that a retrying client sees", figure("failed"), 0, at_least=False),
        Verdict("lost", figure("lost"), 0, at_least=False),
        Verdict("done twice", figure("doubled"), 0, at_least=False),
        Verdict("results and live transcripts that differ", figure("different"), 0, at_least=False),
    ]
