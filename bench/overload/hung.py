"""An engine that hangs: does it take anything with it, and what becomes of what it was given?"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.contestants import Target
from bench.live.load import spread_of
from bench.live.serving import child
from bench.overload.arrivals import Crowd, Plan
from bench.overload.serving import AUDIO_S, STREAMS, Config, arrivals, live_streams, script, server, token
from bench.overload.watching import health, jobs, log, taken, wait_log
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle

SLOTS, DELAY_S = 8, 0.25
RATE = 10.0
IDLE_S = 2.0
OPEN_S = 12.0
REPLACED_S = 6.0  # after it opened
SECONDS = IDLE_S + 1.1 * OPEN_S + 5  # at least: until the breaker has closed again
_OPENS_S = 30.0
_DRAIN_S = 60.0

ABOUT = """
The scripted engine ({slots} slots) hears nothing and never answers: each call hangs, of recordings and of the {streams}
live streams, which speak all the time (16 kHz, partials off). Beside them {rate:g} recordings a second (Poisson, open
loop) for {seconds:g} s, and `/health` twenty times a second, each on a new connection. `engine_idle_s` is {idle:g}
(by default 60): so long until a call counts as hung; five in a row open the breaker, for {open:g} s ± 10 %
(`breaker_open_s`). {replaced:g} s after it opened the engine is killed, and `serve` starts one that works. The first
row is the same with an engine that works all the time, {delay:g} s a recording. Lost is what was not refused and has
not succeeded in the end; taken is what was acknowledged while the breaker was open, but for what was under way.
"""


def work(config: Config) -> Work:
    return Work(
        name="hung",
        title="An engine that hangs",
        about=ABOUT.format(
            slots=SLOTS,
            delay=DELAY_S,
            streams=STREAMS,
            rate=RATE,
            seconds=_seconds(config),
            idle=IDLE_S,
            open=OPEN_S,
            replaced=REPLACED_S,
        ),
        contestants={
            "well": Contestant("an engine that works", partial(measure, config, False)),
            "hung": Contestant("one that hangs, and is replaced", partial(measure, config, True)),
        },
        verdicts=_verdicts,
        columns={
            "ack_p99_ms": "live ack p99 ms",
            "health_p99_ms": "/health p99 ms",
            "refused": "refusals",
            "refused_p99_ms": "their p99 ms",
            "taken": "taken while open",
            "done": "recordings done",
            "lost": "lost",
        },
        listed="more",
    )


def measure(config: Config, hangs: bool, folder: Path) -> Figures:
    rules = [{"do": "hang"}] if hangs else []
    settings = {"engine_idle_s": IDLE_S, "breaker_open_s": OPEN_S}
    seconds = _seconds(config)
    with server(folder, slots=SLOTS, delay_s=DELAY_S, queue_max_s=3600.0, rules=rules, **settings) as target:
        plan = Plan(target.port, (Crowd("crowd", token(target, "crowd"), RATE),), seconds, 0.0, AUDIO_S, DELAY_S)
        with live_streams(target, seconds) as beside, health(target) as asked, replaced(target, folder, hangs):
            found = arrivals(plan, faultless=False)["crowd"]
        kept = jobs(target, _DRAIN_S)
        opened, closed = log(target, "breaker.opened"), log(target, "breaker.closed")
    refused, done = sum(found["codes"].values()), sum(state == "succeeded" for state, _ in kept)
    answered = {part: 1000 * value for part, value in spread_of(asked.answers).items()}
    first = closed[0]["at"] if closed else float("nan")
    return {
        "ack_p99_ms": beside.live["ack_p99"],
        "health_p99_ms": answered["p99"],
        "refused": refused,
        "refused_p99_ms": found["refused_p99"] if refused else 0.0,
        "taken": taken(kept, opened),
        "done": done,
        "lost": found["sent"] - refused - done,
        "sent": found["sent"],
        "times_opened": len(opened),
        "open_to_closed_s": first - opened[0]["at"] if opened else 0.0,
        "health_p50_ms": answered["p50"],
        "health_max_ms": answered["max"],
        "ack_max_ms": beside.live["ack_max"],
        "final_p99_ms": beside.live["final_p99"],
        "done_p99_ms": found["done_p99"],
    }


@contextmanager
def replaced(target: Target, folder: Path, hangs: bool) -> Iterator[None]:
    """Kills an engine that hangs some time after its breaker has opened; the next one works. Raises what went wrong
    with that."""
    if not hangs:
        yield
        return
    wrong: list[Exception] = []

    def replace() -> None:
        try:
            wait_log(target, "breaker.opened", _OPENS_S)
            time.sleep(REPLACED_S)
            (folder / "script.json").write_text(json.dumps(script(DELAY_S)))
            child(target, "cosygate.engine").kill()
        except Exception as error:
            wrong.append(error)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if wrong:
        raise wrong[0]


def _seconds(config: Config) -> float:
    return max(config.seconds / 2, SECONDS)


def _verdicts(results: Results) -> list[Verdict]:
    def figure(name: str) -> float:
        return middle(results, "hung", name)

    return [
        Verdict("recordings lost", figure("lost"), 0, at_least=False),
        Verdict("recordings taken while the breaker was open", figure("taken"), 0, at_least=False),
        Verdict("refusals' p99", figure("refused_p99_ms"), 50.0, "ms", at_least=False),
        Verdict("live acks' p99", figure("ack_p99_ms"), 100.0, "ms", at_least=False),
        Verdict("/health's p99", figure("health_p99_ms"), 100.0, "ms", at_least=False),
    ]
