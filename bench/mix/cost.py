"""What protecting and telling cost: limits, callers, metrics and logs on, against a gateway without any of them."""

from functools import partial
from pathlib import Path

from bench import load
from bench.contestants import cosygate
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, ratio

BARE = Path(__file__).with_name("bare")
LEFT = 0.8  # of the requests/s
_BUSY = '{"delay_s": 3600}'

ABOUT = """
wrk, 16 connections, 2 workers, `process`, traces off. "On": token checked, address and rate limits and quotas asked,
the queue's bound kept, metrics and a log line for each request. "Off": the same gateway with all of that taken out
(`bench/mix/bare/`; no setting does that). Chunks are 200 KiB of uploads that stay open; recordings are whole ones of 5
s with a durable job each, the engine being occupied. The runs of both are interleaved, {seconds} s each. """


def _run(seconds: int, what: str, on: bool, folder: Path) -> Figures:
    load.prepare(folder)
    (folder / "busy.json").write_text(_BUSY)
    settings = {"workers": 2, "durability": "process", "recogniser": "scripted", "script": folder / "busy.json"}
    settings |= {"drain_s": 0, "open_uploads": 100_000, "queue_max_s": 1e9, "quota_day_s": 1e9}
    if on:
        environment = {}
        settings |= {"rate_limits": "1000000/minute"}
    else:
        environment = {"PYTHONPATH": str(BARE)}
        settings |= {"rate_limits": "off", "unauthenticated_limit": "off", "log_level": "error"}
    measure = load.chunks if what == "chunks" else load.short_recordings
    with cosygate(folder, environment=environment, **settings) as target:
        return measure(target, folder, seconds, script="raw", prefix="/v1/audio/")


def work(seconds: int) -> Work:
    return Work(
        name="cost",
        title="What limits, callers, metrics and logs cost",
        about=ABOUT.format(seconds=seconds),
        contestants={
            f"{what}-{'on' if on else 'off'}": Contestant(
                f"CosyGate, {what}, {'on' if on else 'off'}", partial(_run, seconds, what, on)
            )
            for what in ("chunks", "recordings")
            for on in (True, False)
        },
        verdicts=_verdicts,
        columns={"rate": "requests/s", "p50_ms": "p50 ms", "p99_ms": "p99 ms", "cpu_ms": "server CPU ms each"},
    )


def _verdicts(results: Results) -> list[Verdict]:
    return [
        Verdict(f"{what}, on against off", ratio(results, f"{what}-on", f"{what}-off"), LEFT, "×")
        for what in ("chunks", "recordings")
    ]
