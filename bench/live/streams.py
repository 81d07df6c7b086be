"""Acknowledgement latency with more and more streams through one gateway process."""

from functools import partial
from pathlib import Path

from bench.live.load import FRAME_S, LoadPlan
from bench.live.serving import LiveConfig, Use, child, load, scripted
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle

UTTERANCE_S = 5.0
LIMIT_MS = 100.0  # rows end with the first whose p99 is beyond it
BARS = (("process", "p50_ms", 5.0), ("process", "p99_ms", 50.0), ("disk", "p99_ms", 300.0))
AT, AT_LEAST = 200, 300

ABOUT = """
`serve` with one gateway, one engine and the scripted recogniser, which hears something every {utterance:g} s without
delay (partials twice a second); streams of 16 kHz s16le in frames of {frame:g} ms in real time, their frames evenly
spread over each {frame:g} ms and their utterances over {utterance:g} s. After {warm:g} s, {seconds:g} s are measured:
from a frame's sending to the ack that covers it, and from the sending of an utterance's last sample to its final. CPU
is in per cent of one core. The load generator is one more process on the same two cores; "late" is how far behind its
own schedule it sent, p99: time that is in nobody's latency, and shows when the machine is full. Afterwards every stream
says `end`, and must be told `done` with all its samples.
"""


class Passed(Exception):
    """The row before was beyond the limit already."""


def work(config: LiveConfig) -> Work:
    passed: set[str] = set()

    def run(durability: str, streams: int, folder: Path) -> Figures:
        if durability in passed:
            raise Passed
        figures = measure(durability, streams, config, folder)
        if figures["p99_ms"] > LIMIT_MS:
            passed.add(durability)
        return figures

    return Work(
        name="streams",
        title="Streams through one gateway",
        about=ABOUT.format(
            utterance=UTTERANCE_S, frame=1000 * FRAME_S, warm=config.warm_s + UTTERANCE_S, seconds=config.seconds
        ),
        contestants={
            f"{durability}-{streams}": Contestant(f"{streams}, {durability}", partial(run, durability, streams))
            for durability in ("process", "disk")
            for streams in config.streams
        },
        verdicts=_verdicts,
        columns={
            "p50_ms": "ack p50 ms",
            "p99_ms": "ack p99 ms",
            "max_ms": "max ms",
            "final_p50_ms": "final p50 ms",
            "final_p99_ms": "final p99 ms",
            "gateway_cpu": "gateway CPU %",
            "engine_cpu": "engine CPU %",
            "load_cpu": "load CPU %",
            "late_ms": "late p99 ms",
            "gateway_mib": "gateway MiB",
        },
    )


def measure(durability: str, streams: int, config: LiveConfig, folder: Path) -> Figures:
    with scripted(folder, {"segment_s": UTTERANCE_S}, durability=durability) as target:
        gateway, engine = Use(child(target, "cosygate.gateway")), Use(child(target, "cosygate.engine"))
        plan = LoadPlan(target.port, target.token, streams, config.warm_s, config.seconds, spread_s=UTTERANCE_S)
        found = load(plan, gateway, engine)
    return {
        "p50_ms": found["ack_p50"],
        "p99_ms": found["ack_p99"],
        "max_ms": found["ack_max"],
        "final_p50_ms": found["final_p50"],
        "final_p99_ms": found["final_p99"],
        "gateway_cpu": gateway.cpu,
        "engine_cpu": engine.cpu,
        "load_cpu": found["load_cpu"],
        "late_ms": found["late_p99"],
        "gateway_mib": gateway.rss,
        "frames": found["frames"],
        "partials": found["partials"],
    }


def _verdicts(results: Results) -> list[Verdict]:
    verdicts = [
        Verdict(f"{AT} streams, `{durability}`, ack {figure[:3]}", value, bar, "ms", at_least=False)
        for durability, figure, bar in BARS
        if (value := _figure(results, f"{durability}-{AT}", figure)) is not None
    ]
    for durability in ("process",):
        within = [
            int(key.partition("-")[2])
            for key in results
            if key.startswith(durability) and results[key] and middle(results, key, "p99_ms") <= LIMIT_MS
        ]
        verdicts.append(
            Verdict(f"most streams with p99 within {LIMIT_MS:g} ms, `{durability}`", max(within, default=0), AT_LEAST)
        )
    return verdicts


def _figure(results: Results, key: str, figure: str) -> float | None:
    return middle(results, key, figure) if results.get(key) else None
