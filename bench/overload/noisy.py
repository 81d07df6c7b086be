"""One tenant sends a hundred times its share; how long do the others wait?"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.overload.arrivals import Crowd, Plan
from bench.overload.serving import AUDIO_S, Config, arrivals, server, token
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle

TENANTS = 10
TIMES = 100
OTHERS = 0.8  # of their share
JOINS = 1.1  # times what a recording takes after the others


@dataclass(frozen=True, slots=True)
class Engine:
    slots: int
    delay_s: float
    queue_s: float

    @property
    def capacity(self) -> float:
        """Recordings a second."""
        return self.slots / self.delay_s

    @property
    def share(self) -> float:
        return self.capacity / TENANTS

    @property
    def label(self) -> str:
        return f"{self.slots} slots, {self.delay_s:g} s each"


MANY, FEW = Engine(64, 8.0, 40.0), Engine(8, 4.0, 20.0)

ABOUT = """
Ten tenants, and the scripted engine: once with {many.slots} slots and {many.delay_s:g} s a recording, so
{many.capacity:g} recordings a second and {many.share:g} for each tenant; once with {few.slots} and {few.delay_s:g}
s, so {few.capacity:g} and {few.share:g}. Nine send {part:.0%} of their share, evenly spaced, and ask for each ten
times a second; with them, or not, the tenth sends {times} times its own from when their first recordings have
ended, and asks once a second. (To an idle engine it would have all slots at first, as recordings are not
interrupted.) `queue_max_s` is {many.queue_s:g} and {few.queue_s:g} s of audio, of which a tenant may fill half.
Whoever comes while all slots are taken waits until one ends (every {many_turn:.0f} and {few_turn:.0f} ms on
average): so the fewer the slots, the more of this is seen. {seconds:g} s each, a fresh server for each.
"""


def work(config: Config) -> Work:
    return Work(
        name="noisy",
        title="One tenant at a hundred times its share",
        about=ABOUT.format(
            many=MANY,
            few=FEW,
            times=TIMES,
            part=OTHERS,
            many_turn=1000 / MANY.capacity,
            few_turn=1000 / FEW.capacity,
            seconds=config.seconds,
        ),
        contestants={
            f"{key}{name}": Contestant(f"{engine.label}: {label}", partial(measure, config, engine, noisy))
            for key, engine in (("", MANY), ("few-", FEW))
            for name, label, noisy in (("without", "nine tenants", False), ("with", "and the noisy one", True))
        },
        verdicts=verdicts,
        columns={
            "p50_ms": "their p50 ms",
            "p99_ms": "their p99 ms",
            "goodput": "their recordings/s",
            "refused": "their refusals",
            "noisy_goodput": "the noisy one's/s",
            "noisy_refused": "its refusals",
        },
    )


def measure(config: Config, engine: Engine, noisy: bool, folder: Path) -> Figures:
    limits = {"queue_max_s": engine.queue_s, "queue_tenant_share": 0.5}
    with server(folder, slots=engine.slots, delay_s=engine.delay_s, **limits) as target:
        crowds = [Crowd("others", token(target, f"t{n}"), OTHERS * engine.share, even=True) for n in range(1, TENANTS)]
        if noisy:
            crowds.append(
                Crowd("noisy", token(target, "t0"), TIMES * engine.share, ask_s=1.0, starts_s=JOINS * engine.delay_s)
            )
        ramp_s = 2 * engine.delay_s
        found = arrivals(Plan(target.port, tuple(crowds), config.seconds, ramp_s, AUDIO_S, engine.delay_s))
    others, other = found["others"], found.get("noisy", {"goodput": 0.0, "codes": {}})
    return {
        "p50_ms": others["done_p50"],
        "p99_ms": others["done_p99"],
        "goodput": others["goodput"],
        "refused": sum(others["codes"].values()),
        "noisy_goodput": other["goodput"],
        "noisy_refused": sum(other["codes"].values()),
    }


def verdicts(results: Results) -> list[Verdict]:
    found = []
    for key, engine in (("", MANY), ("few-", FEW)):
        ratio = middle(results, f"{key}with", "p99_ms") / middle(results, f"{key}without", "p99_ms")
        what = f"{engine.slots} slots: the others' p99 with the noisy one, against without"
        found.append(Verdict(what, ratio, 1.2, "×", at_least=False))
        refused = middle(results, f"{key}with", "refused")
        found.append(Verdict(f"{engine.slots} slots: refusals of the others", refused, 0, at_least=False))
    return found
