"""An engine that fails one call in sixteen: how soon is it left alone, how soon is it back, and what is lost?"""

from functools import partial
from pathlib import Path

from bench.load import BadRun
from bench.overload.arrivals import Crowd, Plan
from bench.overload.serving import AUDIO_S, Config, arrivals, server, token
from bench.overload.watching import jobs, log, taken
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle

SLOTS, DELAY_S = 8, 0.25
RATE = 12.0
EVERY = 16
OPEN_S = 10.0
WINDOW_S = 30.0  # of the breaker
SECONDS = WINDOW_S + 1.1 * OPEN_S + 4  # at least: until it has opened, and closed again
_DRAIN_S = 60.0

ABOUT = """
The scripted engine fails every {every}th call ({share:.2g} %) from the start on; {slots} slots, {delay:g} s a
recording. {rate:g} recordings a second of {audio:g} s (Poisson, open loop) for {seconds:g} s, a third of its capacity.
A breaker opens when more than 5 % of at least 20 calls within {window:g} s failed, some in each 10 s: so not before
20 s. It stays open for `breaker_open_s`, here {open:g} s ± 10 % (by default 60 s), which only shortens the run; then
one call finds out. That probe fails one time in {every}, too, and the breaker opens again: counted from its last
opening. Nothing mends the engine. Once with one gateway, once with two, which share the breaker: calls that either
made are counted, and both refuse. Taken is what was acknowledged while it was open, but for what was under way. Lost
is what was not refused and has not succeeded in the end, whatever the reason.
"""


def work(config: Config) -> Work:
    return Work(
        name="failing",
        title="An engine that fails one call in sixteen",
        about=ABOUT.format(
            every=EVERY,
            share=100 / EVERY,
            slots=SLOTS,
            delay=DELAY_S,
            rate=RATE,
            audio=AUDIO_S,
            seconds=_seconds(config),
            window=WINDOW_S,
            open=OPEN_S,
        ),
        contestants={
            "failing": Contestant("one gateway", partial(measure, config, 1)),
            "two": Contestant("two gateways", partial(measure, config, 2)),
        },
        verdicts=verdicts,
        columns={
            "opened_s": "first failure to open, s",
            "closed_s": "open to closed, s",
            "refused": "refusals",
            "refused_p99_ms": "their p99 ms",
            "taken": "taken while open",
            "done": "recordings done",
            "lost": "lost",
        },
        listed="more",
    )


def measure(config: Config, gateways: int, folder: Path) -> Figures:
    rules, settings = [{"when": {"every": EVERY}, "do": "fail"}], {"breaker_open_s": OPEN_S, "workers": gateways}
    with server(folder, slots=SLOTS, delay_s=DELAY_S, queue_max_s=3600.0, rules=rules, **settings) as target:
        crowd = Crowd("crowd", token(target, "crowd"), RATE)
        plan = Plan(target.port, (crowd,), _seconds(config), 0.0, AUDIO_S, DELAY_S)
        found = arrivals(plan, faultless=False)["crowd"]
        kept = jobs(target, _DRAIN_S)
        states = [state for state, _ in kept]
        calls = [line for line in log(target, "engine.call") if "outcome" in line]
        opened, probing = log(target, "breaker.opened"), log(target, "breaker.probing")
        closed = log(target, "breaker.closed")
    failed = [line["at"] for line in calls if line["outcome"] != "ok"]
    if not (failed and opened and closed):
        raise BadRun(f"{len(failed)} failed calls, opened {len(opened)} times, closed {len(closed)} times")
    refused, back = sum(found["codes"].values()), closed[0]["at"]
    shut = max((line for line in opened if line["at"] <= back), key=lambda line: line["at"])
    return {
        "opened_s": opened[0]["at"] - failed[0],
        "closed_s": back - shut["at"],
        "refused": refused,
        "refused_p99_ms": found["refused_p99"],
        "taken": taken(kept, opened),
        "done": states.count("succeeded"),
        "lost": found["sent"] - refused - states.count("succeeded"),
        "sent": found["sent"],
        "refused_otherwise": refused - found["codes"].get("breaker_open", 0),
        "calls": len(calls),
        "failed_calls": len(failed),
        "probes": len(probing),
        "probe_began_s": max((x["at"] for x in probing if x["at"] <= back), default=back) - shut["at"],
        "told_open_s": shut["open_s"],
        "times_opened": len(opened),
        "failed_recordings": states.count("failed"),
        "done_p50_ms": found["done_p50"],
        "done_p99_ms": found["done_p99"],
    }


def _seconds(config: Config) -> float:
    return max(config.seconds, SECONDS)


def verdicts(results: Results) -> list[Verdict]:
    found = []
    for row, label in (("failing", "one gateway"), ("two", "two gateways")):
        for what, figure, bar, unit in (
            ("recordings lost", "lost", 0, ""),
            ("recordings taken while it was open", "taken", 0, ""),
            ("from the first failure until it is open", "opened_s", WINDOW_S, "s"),
            ("from open until closed", "closed_s", 1.1 * OPEN_S + 1, "s"),
            ("refusals' p99", "refused_p99_ms", 50.0, "ms"),
        ):
            found.append(Verdict(f"{label}: {what}", middle(results, row, figure), bar, unit, at_least=False))
    return found
