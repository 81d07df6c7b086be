"""Five hundred sockets that never come to the point: how long does everybody else wait?"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bench.contestants import REPOSITORY, Target
from bench.live.load import spread_of
from bench.load import BadRun
from bench.overload.dripping import KINDS, DripPlan
from bench.overload.serving import Config, server, token
from bench.overload.watching import health
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle

SOCKETS = 500
DRIP_S = 1.0
_ENDS_S = 30.0

ABOUT = """
`serve` with one gateway and its usual time limits. {sockets} sockets from a process of its own, a third each: half a
head, then a byte of it every {drip:g} s; a chunk with a valid token whose body comes at a byte every {drip:g} s;
nothing at all. They do not keep step. One that is cut off (heads and silence after 20 s) is opened again at once.
Beside them, and without them, `/health` twenty times a second, each on a new connection and measured from when it was
due. {seconds:g} s each.
"""


def work(config: Config) -> Work:
    return Work(
        name="slowloris",
        title="500 slowloris sockets",
        about=ABOUT.format(sockets=SOCKETS, drip=DRIP_S, seconds=config.seconds),
        contestants={
            "alone": Contestant("/health alone", partial(measure, config, 0)),
            "beside": Contestant(f"beside {SOCKETS} sockets", partial(measure, config, SOCKETS)),
        },
        verdicts=_verdicts,
        columns={
            "p50_ms": "/health p50 ms",
            "p99_ms": "p99 ms",
            "max_ms": "max ms",
            "answers": "answers",
            "open": "sockets open, least",
            "cut": "cut off",
        },
    )


def measure(config: Config, sockets: int, folder: Path) -> Figures:
    with server(folder, slots=2, delay_s=0.0, queue_max_s=3600.0) as target, dripping(target, sockets) as slow:
        with health(target) as asked:
            time.sleep(config.seconds)
        slow.stop()
    answered = {part: 1000 * value for part, value in spread_of(asked.answers).items()}
    return {
        "p50_ms": answered["p50"],
        "p99_ms": answered["p99"],
        "max_ms": answered["max"],
        "answers": len(asked.answers),
        "open": slow.found.get("least_open", 0),
        "cut": slow.found.get("cut", 0),
    }


@dataclass
class Slow:
    process: subprocess.Popen[str] | None
    found: dict[str, Any] = field(default_factory=dict)

    def stop(self) -> None:
        """Raises BadRun when the sockets were not what they are to be."""
        if self.process is None:
            return
        told, _ = self.process.communicate("stop\n", timeout=_ENDS_S)
        self.found = json.loads(told) if told else {}
        if not self.found or self.found["faults"]:
            raise BadRun(f"the sockets: {self.found.get('faults', 'their process ended')}")


@contextmanager
def dripping(target: Target, sockets: int) -> Iterator[Slow]:
    """All are open when the body begins. The process ends by itself when this one does: its input ends then."""
    if not sockets:
        yield Slow(None)
        return
    plan = DripPlan(target.port, token(target, "slow"), sockets, DRIP_S)
    command = [sys.executable, "-m", "bench.overload.dripping"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(plan.to_json() + "\n")
            process.stdin.flush()
            if process.stdout.readline() != "open\n":
                raise BadRun(f"the {sockets} sockets ({', '.join(KINDS)}) could not be opened")
            yield Slow(process)
        finally:
            process.kill()


def _verdicts(results: Results) -> list[Verdict]:
    return [
        Verdict("/health's p99 beside them", middle(results, "beside", "p99_ms"), 100.0, "ms", at_least=False),
        Verdict("sockets open at any time", middle(results, "beside", "open"), 0.9 * SOCKETS),
    ]
