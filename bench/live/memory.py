"""What a live stream costs in the gateway's memory."""

from functools import partial
from pathlib import Path

from bench.live.load import LoadPlan
from bench.live.serving import LiveConfig, Use, child, load, scripted, uss_mib
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle

COUNTS = (100, 200)
_WARM = 8  # streams that come and go first, so that what is loaded once is loaded

ABOUT = """
The gateway's own memory (USS: pages that no other process maps) with so many streams, less what it was before them, by
their number; a fresh server each, in which {warm} streams have come and gone. Idle: connected, started, and silent but
for a ping every 5 s. Busy: as in the table above, after {seconds:g} s of audio, with what is in flight.
"""


def work(config: LiveConfig) -> Work:
    return Work(
        name="memory",
        title="Memory of a stream",
        about=ABOUT.format(warm=_WARM, seconds=config.warm_s + config.seconds + 5),
        contestants={
            f"{kind}-{count}": Contestant(f"{count} {kind}", partial(measure, count, kind == "idle", config))
            for kind in ("idle", "busy")
            for count in COUNTS
        },
        verdicts=_verdicts,
        columns={"kib": "KiB a stream", "before": "before MiB", "after": "with them MiB", "rss": "RSS MiB"},
    )


def measure(count: int, idle: bool, config: LiveConfig, folder: Path) -> Figures:
    with scripted(folder, {"segment_s": 5.0}, durability="process") as target:
        load(LoadPlan(target.port, target.token, _WARM, 1.0, 2.0, spread_s=0.1))
        gateway = child(target, "cosygate.gateway")
        before = uss_mib(gateway)
        use = Use(gateway)
        load(LoadPlan(target.port, target.token, count, config.warm_s, config.seconds, idle=idle), use)
    return {"kib": (use.uss - before) * 1024 / count, "before": before, "after": use.uss, "rss": use.rss}


def _verdicts(results: Results) -> list[Verdict]:
    return [
        Verdict(f"{kind} stream, of {COUNTS[-1]}", middle(results, key, "kib"), bar, "KiB", at_least=False)
        for kind, bar in (("idle", 150.0), ("busy", 600.0))
        if results.get(key := f"{kind}-{COUNTS[-1]}")
    ]
