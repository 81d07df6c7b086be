"""A whole short recording in one request: upload, validate, durable job; up to the 202."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench import load
from bench.contestants import Target, article, cosygate
from bench.plan import Config, Contestant, Work
from bench.stats import Figures, Results, Verdict, middle, ratio

WORKERS = 2
# The article's own claim for its design, on four cores and 8 GB.
HEADLINE_RATE, HEADLINE_P99_MS = 450.0, 480.0
_TIMES = 2  # at twenty recordings a second, what is under way when a run ends would count too much otherwise
_BUSY_SCRIPT = '{"delay_s": 3600}'

ABOUT = f"""
wrk, {load.CONNECTIONS} connections: each request is a complete WAV of {load.SHORT_S:g} s with `is_last=1`, answered
by a task id. To measure the way up to the durable job alone, CosyGate's scripted engine takes an hour for each
recording, so its jobs queue up and use no processor; "jobs running" is the same with an engine that answers at once,
the backlog being worked off on the same cores meanwhile. The article's Celery worker always runs; its task does
nothing. A run lasts {{seconds}} s, after a second of warm-up.
"""


def _run(
    config: Config,
    script: str,
    prefix: str,
    server: Callable[[Path], AbstractContextManager[Target]],
    folder: Path,
) -> Figures:
    load.prepare(folder)
    with server(folder) as target:
        return load.short_recordings(target, folder, _TIMES * config.seconds, script=script, prefix=prefix)


def _busy(folder: Path, **settings: str | int) -> AbstractContextManager[Target]:
    """CosyGate whose engine is occupied with the first recordings for longer than the run."""
    script = folder / "busy.json"
    script.write_text(_BUSY_SCRIPT)
    return cosygate(folder, workers=WORKERS, recogniser="scripted", script=str(script), drain_s=0, **settings)


def _draining(folder: Path, **settings: str | int) -> AbstractContextManager[Target]:
    return cosygate(folder, workers=WORKERS, recogniser="scripted", **settings)


def work(config: Config) -> Work:
    post, put = partial(_run, config, "multipart", "/v1/audio"), partial(_run, config, "raw", "/v1/audio/")
    process, disk = partial(_busy, durability="process"), partial(_busy, durability="disk")
    return Work(
        name="short",
        title="A whole short recording: upload, validate, durable job",
        about=ABOUT.format(seconds=_TIMES * config.seconds),
        contestants={
            "article": Contestant("article, multipart", partial(post, article)),
            "multipart": Contestant("CosyGate, multipart, process", partial(post, process)),
            "raw": Contestant("CosyGate, raw, process", partial(put, process)),
            "raw_disk": Contestant("CosyGate, raw, disk", partial(put, disk)),
            "draining": Contestant(
                "CosyGate, raw, process, jobs running", partial(put, partial(_draining, durability="process"))
            ),
        },
        verdicts=_verdicts,
        columns={"rate": "recordings/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "cpu_ms": "server CPU ms each"},
    )


def _verdicts(results: Results) -> list[Verdict]:
    return [
        Verdict("multipart, `process`, against the article", ratio(results, "multipart", "article"), 30, "×"),
        Verdict("raw, `process`, against the article", ratio(results, "raw", "article"), 30, "×"),
        Verdict("raw, `process`, the article's claimed rate", middle(results, "raw", "rate"), HEADLINE_RATE, "/s"),
        Verdict(
            "raw, `process`, the article's claimed p99",
            middle(results, "raw", "p99_ms"),
            HEADLINE_P99_MS,
            "ms",
            at_least=False,
        ),
    ]
