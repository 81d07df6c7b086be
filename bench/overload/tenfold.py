"""Ten times what the engine can do, for a minute, while people speak live."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.overload.arrivals import Crowd, Plan
from bench.overload.serving import AUDIO_S, FINAL_S, STREAMS, Config, arrivals, live_streams, memory, server, token
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle

SLOTS, DELAY_S = 8, 1.0
CAPACITY = SLOTS / DELAY_S
QUEUE_S = 4.0
CALM = 0.25  # of the capacity: unloaded
TIMES = 10

ABOUT = """
`serve` with one gateway and the scripted engine: {slots} slots and {delay:g} s a recording, so {capacity:g}
recordings a second; each has {audio:g} s, and `queue_max_s` is {queue:g}. That is so short on purpose: what waits
is what the admitted ones wait for, and {queue:g} s of audio are worked off in {wait:.2g} s here. {streams} live
streams of 16 kHz audio speak all the time (partials off, a final each {final:g} s, which the script makes take no
time). Recordings are one request each, each on a new connection; their generator waits for no answer (open loop,
Poisson, but for the peak), and measures from when each was due until its client has seen the result, asking ten
times a second. Unloaded: a quarter of the capacity. Peak: {workers} clients that each send their next recording
when the last has ended. Overload: {times} times the capacity for {seconds:g} s. Of the live acks' p99 that before
the overload (unloaded and peak) or that during it counts, whichever is larger. `process` durability; server and
generators share the machine's cores.
"""


def work(config: Config) -> Work:
    return Work(
        name="tenfold",
        title="Ten times its capacity",
        about=ABOUT.format(
            slots=SLOTS,
            delay=DELAY_S,
            capacity=CAPACITY,
            audio=AUDIO_S,
            queue=QUEUE_S,
            wait=QUEUE_S / CAPACITY,
            streams=STREAMS,
            final=FINAL_S,
            workers=SLOTS + 3,
            times=TIMES,
            seconds=config.seconds,
        ),
        contestants={"tenfold": Contestant("ten times capacity", partial(measure, config))},
        verdicts=verdicts,
        columns={
            "peak": "peak recordings/s",
            "goodput": "goodput/s",
            "calm_p99_ms": "unloaded p99 ms",
            "admitted_p50_ms": "admitted p50 ms",
            "admitted_p99_ms": "admitted p99 ms",
            "refused_p99_ms": "refused p99 ms",
            "ack_p99_ms": "live ack p99 ms",
            "rss_mib": "gateway MiB",
        },
        listed="more",
    )


def measure(config: Config, folder: Path) -> Figures:
    with server(folder, slots=SLOTS, delay_s=DELAY_S, queue_max_s=QUEUE_S, queue_tenant_share=1.0) as target:
        mine = token(target, "crowd")

        def plan(crowd: Crowd, seconds: float, seed: int) -> Plan:
            return Plan(target.port, (crowd,), seconds, 2 * DELAY_S, AUDIO_S, DELAY_S, seed)

        with live_streams(target, 2 * config.calm_s + 4) as before:
            calm = arrivals(plan(Crowd("calm", mine, CALM * CAPACITY), config.calm_s, 1))["calm"]
            peak = arrivals(plan(Crowd("peak", mine, 0.0, workers=SLOTS + 3), config.calm_s, 2))["peak"]
        with live_streams(target, config.seconds) as beside, memory(target) as resident:
            over = arrivals(plan(Crowd("over", mine, TIMES * CAPACITY), config.seconds, 3))["over"]
    return figures(calm, peak, over, (before.live, beside.live), resident)


def figures(
    calm: Mapping[str, Any],
    peak: Mapping[str, Any],
    over: Mapping[str, Any],
    live: tuple[Mapping[str, Any], Mapping[str, Any]],
    resident: Sequence[float],
) -> Figures:
    """`live`: what the streams found before the overload, and during it."""
    third, (before, during) = len(resident) // 3, live
    return {
        "peak": peak["goodput"],
        "goodput": over["goodput"],
        "calm_p99_ms": calm["done_p99"],
        "admitted_p50_ms": over["done_p50"],
        "admitted_p99_ms": over["done_p99"],
        "refused_p99_ms": over["refused_p99"],
        "ack_p99_ms": max(before["ack_p99"], during["ack_p99"]),
        "rss_mib": resident[-1],
        "calm_p50_ms": calm["done_p50"],
        "sent": over["sent"],
        "refused": sum(over["codes"].values()),
        "refused_p50_ms": over["refused_p50"],
        "generator_late_p99_ms": over["late_p99"],
        "live_ack_p99_before_ms": before["ack_p99"],
        "live_ack_p99_overload_ms": during["ack_p99"],
        "live_final_p99_ms": during["final_p99"],
        "rss_first_third_mib": max(resident[:third]),
        "rss_max_mib": max(resident),
    }


def verdicts(results: Results) -> list[Verdict]:
    def figure(name: str) -> float:
        return middle(results, "tenfold", name)

    return [
        Verdict("goodput against the peak", figure("goodput") / figure("peak"), 0.9, "×"),
        Verdict("admitted p99 against unloaded", figure("admitted_p99_ms") / figure("calm_p99_ms"), 2.0, "×", False),
        Verdict("refusals' p99", figure("refused_p99_ms"), 50.0, "ms", at_least=False),
        Verdict("live acks' p99, before and during", figure("ack_p99_ms"), 100.0, "ms", at_least=False),
        Verdict(
            "memory, most against the first third's",
            figure("rss_max_mib") / figure("rss_first_third_mib"),
            1.1,
            "×",
            False,
        ),
    ]
