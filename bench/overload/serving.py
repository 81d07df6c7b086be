"""What the overload works share: a server whose capacity the script sets, the generator's process, memory over time."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.contestants import REPOSITORY, Target
from bench.live.load import LoadPlan
from bench.live.serving import child, load, scripted
from bench.load import BadRun
from bench.overload.arrivals import Plan
from cosygate.adapters.callers_jwt import issue

AUDIO_S = 1.0
FINAL_S = 5.0  # of live speech without a pause
STREAMS = 8
_UTTERANCE_S, _WARM_S = 2.0, 1.0
_LOOK_S = 0.5
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Config:
    seconds: float  # of overload
    calm_s: float  # of each measurement that it is compared with
    quick: bool
    folder: Path


def script(delay_s: float, rules: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """For the engine: a recording of AUDIO_S takes `delay_s`, the finals of live speech nothing beside (a real engine
    takes a twentieth of a second for a second of speech)."""
    takes = {"do": "wait", "wait_s": delay_s, "when": {"seconds": [0, AUDIO_S]}}
    return {"segment_s": FINAL_S, "rules": [*rules, takes]}


@contextmanager
def server(
    folder: Path,
    *,
    slots: int,
    delay_s: float,
    queue_max_s: float,
    rules: Sequence[Mapping[str, Any]] = (),
    **settings: object,
) -> Iterator[Target]:
    """`slots` recordings at once, each for `delay_s`: slots / delay_s a second. `rules` are the script's."""
    given = {"engine_slots": slots, "queue_max_s": queue_max_s, "durability": "process", "drain_s": 0}
    with scripted(folder, script(delay_s, rules), **(given | settings)) as target:
        yield target


def token(target: Target, tenant: str) -> str:
    secret = (target.data / "jwt_secret").read_text().strip()
    return issue(secret, subject="bench", tenant=tenant, now=time.time(), ttl_s=3600)


def arrivals(plan: Plan, *, faultless: bool = True) -> dict[str, Any]:
    """Runs the generator. Raises BadRun when anything ended otherwise than done or refused, unless that is what the
    work counts."""
    command = [sys.executable, "-m", "bench.overload.arrivals"]
    limit_s = plan.seconds + 90
    done = subprocess.run(
        command, cwd=REPOSITORY, input=plan.to_json() + "\n", capture_output=True, text=True, timeout=limit_s
    )
    if done.returncode != 0:
        raise BadRun(f"the generator ended: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)  # with NaN, where there is nothing
    if faultless:
        judge(found)
    return found


def judge(found: Mapping[str, Any]) -> None:
    """Raises BadRun when a recording failed, or is neither done nor refused."""
    for name, tally in found.items():
        if tally["faults"] or tally["missing"]:
            raise BadRun(
                f"{name}: {tally['faults']} faults, the first: {tally['first_faults']}; "
                f"{tally['missing']} of {tally['sent']} neither done nor refused"
            )


@dataclass
class Beside:
    """What went on beside the arrivals."""

    live: dict[str, Any] = field(default_factory=dict)
    error: BaseException | None = None


@contextmanager
def live_streams(target: Target, seconds: float) -> Iterator[Beside]:
    """STREAMS of them speak, from before the body until after it. Partials off: they would take engine threads for as
    long as whole recordings do, and the script's delay is not what a partial costs."""
    found = Beside()
    plan = LoadPlan(target.port, target.token, STREAMS, _WARM_S, seconds + 3.0, interim=False, spread_s=_UTTERANCE_S)

    def play() -> None:
        try:
            found.live = load(plan)
        except BaseException as error:
            found.error = error

    thread = threading.Thread(target=play)
    thread.start()
    time.sleep(_UTTERANCE_S + _WARM_S + 1.5)
    try:
        yield found
    finally:
        thread.join()
    if found.error is not None:
        raise found.error


@contextmanager
def memory(target: Target) -> Iterator[list[float]]:
    """The only gateway's resident MiB, twice a second."""
    process: psutil.Process = child(target, "cosygate.gateway")
    seen: list[float] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(_LOOK_S):
            seen.append(process.memory_info().rss / _MIB)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
