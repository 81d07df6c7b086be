"""What protecting and telling cost: limits, callers, metrics and logs on, against a gateway without any of them."""

import os
import re
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

from bench import load
from bench.contestants import Target, cosygate
from bench.load import BadRun
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, ratio

BARE = Path(__file__).with_name("bare")
LEFT = 0.8  # of the requests/s
_BUSY = '{"delay_s": 3600}'
_REQUESTS = re.compile(r"^cv_request_total\{.*\} ([0-9.e+]+)$", re.MULTILINE)
_LINE = b'"http.request"'

ABOUT = """
wrk, 16 connections, 2 workers, `process`, traces off. "On": token checked, address and rate limits and quotas asked,
the queue's bound kept, metrics and a log line for each request. "Off": the same gateway with all of that taken out
(`bench/mix/bare/`; no setting does that). After each run the server is asked whether all of it is there, or none.
Chunks are 200 KiB of uploads that stay open; recordings are whole ones of 5 s with a durable job each, the engine
being occupied. The runs of both are interleaved, {seconds} s each. """


@dataclass(frozen=True, slots=True)
class Protection:
    """What a server shows of it."""

    callers: bool  # without a token: 401
    limits: bool  # an answer tells what is left
    metrics: bool  # requests are counted
    logs: bool  # a line for each


def protection(target: Target) -> Protection:
    """Asks, with and without a token. Raises BadRun when a chunk is answered otherwise than with 200 or 401."""
    known, fields = _put(target, "probe-known", {"Authorization": f"Bearer {target.token}"})
    unknown, _ = _put(target, "probe-unknown", {})
    if known != 200 or unknown not in (200, 401):
        raise BadRun(f"chunks are answered with {known} (token), {unknown} (none)")
    with closing(HTTPConnection("127.0.0.1", target.port, timeout=30)) as line:
        line.request("GET", "/metrics")
        answer = line.getresponse()
        told = answer.read().decode()
    if answer.status != 200:
        raise BadRun(f"/metrics: {answer.status}")
    counted = sum(float(found) for found in _REQUESTS.findall(told))
    with (target.data.parent / "cosygate.err").open("rb") as lines:
        logged = any(_LINE in found for found in lines)
    return Protection(unknown == 401, "ratelimit" in fields, counted > 0, logged)


def check(target: Target, on: bool) -> None:
    """Raises BadRun unless all of it is on, or all of it off."""
    found = protection(target)
    if found != Protection(on, on, on, on):
        raise BadRun(f"it is to be {'on' if on else 'off'}, and is {found}")


def _put(target: Target, session: str, headers: dict[str, str]) -> tuple[int, set[str]]:
    with closing(HTTPConnection("127.0.0.1", target.port, timeout=30)) as line:
        line.request("PUT", f"/v1/audio/{session}/0", b"RIFF", headers)
        answer = line.getresponse()
        answer.read()
    return answer.status, {name.lower() for name, _ in answer.getheaders()}


def serving(folder: Path, on: bool) -> dict[str, object]:
    """What `cosygate` is given for a server that has it on, or off."""
    (folder / "busy.json").write_text(_BUSY)
    settings: dict[str, object] = {"workers": 2, "durability": "process", "recogniser": "scripted", "drain_s": 0}
    settings |= {"script": folder / "busy.json", "open_uploads": 100_000, "queue_max_s": 1e9}
    if on:
        return settings | {"environment": {}, "rate_limits": "1000000/minute", "quota_day_s": 1e9}
    settings |= {"rate_limits": "off", "unauthenticated_limit": "off", "log_level": "error"}
    path = os.pathsep.join(filter(None, (str(BARE), os.environ.get("PYTHONPATH"))))
    return settings | {"environment": {"PYTHONPATH": path}}


def _run(seconds: int, what: str, on: bool, folder: Path) -> Figures:
    load.prepare(folder)
    measure = load.chunks if what == "chunks" else load.short_recordings
    with cosygate(folder, **serving(folder, on)) as target:  # type: ignore[arg-type]
        found = measure(target, folder, seconds, script="raw", prefix="/v1/audio/")
        check(target, on)
    return found


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
