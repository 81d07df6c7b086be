"""What the fault works look at from outside: `/health` while something else goes on, the server's log, its jobs."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPConnection, HTTPException
from typing import Any

from bench.contestants import Target
from bench.load import BadRun

_EVERY_S = 0.05
_PATIENCE_S = 10.0
_LOOK_S = 0.05
_IN_FLIGHT_S = 0.25  # after a breaker has opened: what was let in before may still be acknowledged


@dataclass
class Health:
    """Seconds until `/health` had answered, each asked for on a connection of its own and measured from when it was
    due."""

    answers: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@contextmanager
def health(target: Target) -> Iterator[Health]:
    """Twenty times a second while the body runs. Raises BadRun when one was not answered with 200."""
    found, stop = Health(), threading.Event()

    def ask() -> None:
        due = time.perf_counter()
        while not stop.wait(max(0.0, due - time.perf_counter())):
            try:
                with closing(HTTPConnection("127.0.0.1", target.port, timeout=_PATIENCE_S)) as line:
                    line.request("GET", "/health")
                    answer = line.getresponse()
                    answer.read()
                found.answers.append(time.perf_counter() - due)
                if answer.status != 200:
                    found.faults.append(f"status {answer.status}")
            except (OSError, HTTPException) as error:
                found.faults.append(repr(error))
            due += _EVERY_S

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
    if found.faults:
        raise BadRun(f"/health: {len(found.faults)} faults, the first: {found.faults[0]}")


def log(target: Target, *actions: str) -> list[dict[str, Any]]:
    """Its lines with one of these actions so far; `at` is their time in seconds."""
    text = (target.data.parent / "cosygate.err").read_text(errors="replace")
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.startswith("{") and line[-1] == "\n"]
    return [x | {"at": datetime.fromisoformat(x["ts"]).timestamp()} for x in lines if x.get("action") in actions]


def wait_log(target: Target, action: str, limit_s: float) -> dict[str, Any]:
    """The first such line. Raises BadRun when there is none within `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not (found := log(target, action)):
        if time.monotonic() > deadline:
            raise BadRun(f"no {action} within {limit_s:g} s")
        time.sleep(_LOOK_S)
    return found[0]


# What was spoken live becomes a job as well, and is none that the generator sent.
_RECORDINGS = "SELECT state, created_at FROM jobs WHERE id NOT IN (SELECT id FROM live_sessions)"


def jobs(target: Target, limit_s: float) -> list[tuple[str, float]]:
    """(state, when it was acknowledged) of every recording, once each has ended or `limit_s` have passed."""
    deadline = time.monotonic() + limit_s
    while True:
        with closing(sqlite3.connect(f"file:{target.data / 'cosygate.db'}?mode=ro", uri=True, timeout=10)) as database:
            found: list[tuple[str, float]] = database.execute(_RECORDINGS).fetchall()
        if time.monotonic() > deadline or all(state not in ("queued", "running") for state, _ in found):
            return found
        time.sleep(4 * _LOOK_S)


def taken(kept: Sequence[tuple[str, float]], opened: Sequence[Mapping[str, Any]]) -> int:
    """How many recordings (`jobs`) were acknowledged while the breaker was open (`log` of breaker.opened)."""
    spans = [(line["at"] + _IN_FLIGHT_S, line["at"] + line["open_s"]) for line in opened]
    return sum(any(since < at < until for since, until in spans) for _, at in kept)
