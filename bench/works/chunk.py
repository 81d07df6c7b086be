"""One chunk, not the last, of many 50-chunk uploads: what receiving and storing bytes costs."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench import load
from bench.contestants import Target, article, bare, cosygate, nginx
from bench.plan import Config, Contestant, Work
from bench.recordings import CHUNK
from bench.stats import Figures, Results, Verdict, ratio

WORKERS = 2

ABOUT = f"""
wrk, {load.THREADS} threads and {load.CONNECTIONS} connections, sends {CHUNK // 1024} KiB chunks numbered 0-49
of one upload after the other; part 0 begins with the WAV header of the whole, and no upload is completed, so nothing
but chunks is measured. "Bare ASGI" (`bench/bare_asgi.py`) checks the token and writes each body to a new file, and
does nothing else: what is left for anything in Python.
CosyGate runs with {WORKERS} workers and a scripted engine that stays idle. nginx checks no token. After each run the
bytes on disk must be at least those acknowledged. A run lasts {{seconds}} s, after a second of warm-up.
"""


def _run(
    config: Config, script: str, prefix: str, server: Callable[[Path], AbstractContextManager[Target]], folder: Path
) -> Figures:
    load.prepare(folder)
    with server(folder) as target:
        return load.chunks(target, folder, config.seconds, script=script, prefix=prefix)


def work(config: Config) -> Work:
    # Hundreds of uploads are open after a few seconds, which no real caller does.
    ours = partial(cosygate, workers=WORKERS, recogniser="scripted", open_uploads=100_000)
    process, disk = partial(ours, durability="process"), partial(ours, durability="disk")
    return Work(
        name="chunk",
        title="One chunk of many 50-chunk uploads",
        about=ABOUT.format(seconds=config.seconds),
        contestants={
            "article": Contestant("article, multipart", partial(_run, config, "multipart", "/v1/audio", article)),
            "multipart": Contestant(
                "CosyGate, multipart, process", partial(_run, config, "multipart", "/v1/audio", process)
            ),
            "raw": Contestant("CosyGate, raw, process", partial(_run, config, "raw", "/v1/audio/", process)),
            "bare": Contestant("bare ASGI, PUT", partial(_run, config, "raw", "/", bare)),
            "nginx": Contestant("nginx, PUT", partial(_run, config, "raw", "/", nginx)),
            "raw_disk": Contestant("CosyGate, raw, disk", partial(_run, config, "raw", "/v1/audio/", disk)),
        },
        verdicts=_verdicts,
        columns={"rate": "requests/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "cpu_ms": "server CPU ms each"},
    )


def _verdicts(results: Results) -> list[Verdict]:
    return [
        Verdict("multipart, `process`, against the article", ratio(results, "multipart", "article"), 1.0, "×"),
        Verdict("raw, `process`, against the article", ratio(results, "raw", "article"), 1.5, "×"),
        Verdict("raw, `process`, against nginx", ratio(results, "raw", "nginx"), 0.7, "×"),
        Verdict(
            "raw, `disk`, against the article (which never syncs)", ratio(results, "raw_disk", "article"), 0.8, "×"
        ),
    ]
