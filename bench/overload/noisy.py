"""One tenant sends a hundred times its share; how long do the others wait?"""

from functools import partial
from pathlib import Path

from bench.overload.arrivals import Crowd, Plan
from bench.overload.serving import AUDIO_S, Config, arrivals, server, token
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle

SLOTS, DELAY_S = 64, 4.0
CAPACITY = SLOTS / DELAY_S
TENANTS = 10
SHARE = CAPACITY / TENANTS
TIMES = 100
QUEUE_S = 40.0

ABOUT = """
Ten tenants, the scripted engine with {slots} slots and {delay:g} s a recording, so {capacity:g} recordings a second
and {share:g} for each tenant. Nine send just their share, evenly spaced, and ask for each ten times a second; with
them, or not, the tenth sends {times} times its own, and asks once a second. `queue_max_s` is {queue:g} s, of which a
tenant may fill half. Recordings are not interrupted, so whoever comes waits for a slot at least until one ends (here
every {turn:.0f} ms), and while all slots are taken one more recording is claimed ahead: so the fewer slots, the more
of this is seen. {seconds:g} s each, a fresh server for both.
"""


def work(config: Config) -> Work:
    return Work(
        name="noisy",
        title="One tenant at a hundred times its share",
        about=ABOUT.format(
            slots=SLOTS,
            delay=DELAY_S,
            capacity=CAPACITY,
            share=SHARE,
            times=TIMES,
            queue=QUEUE_S,
            turn=1000 / CAPACITY,
            seconds=config.seconds,
        ),
        contestants={
            "without": Contestant("nine tenants", partial(measure, config, False)),
            "with": Contestant("and the noisy one", partial(measure, config, True)),
        },
        verdicts=_verdicts,
        columns={
            "p50_ms": "their p50 ms",
            "p99_ms": "their p99 ms",
            "goodput": "their recordings/s",
            "refused": "their refusals",
            "noisy_goodput": "the noisy one's/s",
            "noisy_refused": "its refusals",
        },
    )


def measure(config: Config, noisy: bool, folder: Path) -> Figures:
    with server(folder, slots=SLOTS, delay_s=DELAY_S, queue_max_s=QUEUE_S, queue_tenant_share=0.5) as target:
        crowds = [Crowd("others", token(target, f"t{n}"), SHARE, even=True) for n in range(1, TENANTS)]
        if noisy:
            crowds.append(Crowd("noisy", token(target, "t0"), TIMES * SHARE, ask_s=1.0))
        found = arrivals(Plan(target.port, tuple(crowds), config.seconds, 2 * DELAY_S, AUDIO_S, DELAY_S))
    others, other = found["others"], found.get("noisy", {"goodput": 0.0, "codes": {}})
    return {
        "p50_ms": others["done_p50"],
        "p99_ms": others["done_p99"],
        "goodput": others["goodput"],
        "refused": sum(others["codes"].values()),
        "noisy_goodput": other["goodput"],
        "noisy_refused": sum(other["codes"].values()),
    }


def _verdicts(results: Results) -> list[Verdict]:
    ratio = middle(results, "with", "p99_ms") / middle(results, "without", "p99_ms")
    return [
        Verdict("the others' p99 with the noisy one, against without", ratio, 1.2, "×", at_least=False),
        Verdict("refusals of the others", middle(results, "with", "refused"), 0, at_least=False),
    ]
