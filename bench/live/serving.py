"""What the live works share: settings, a server with a scripted recogniser, the load generator's process, and what
processes use."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.contestants import REPOSITORY, Target, cosygate
from bench.live.load import LoadPlan
from bench.load import BadRun

SESSIONS = {"live_sessions": 5000, "live_sessions_each": 5000, "engine_live": 1000}
_MIB = 1024 * 1024
_LONGEST_S = 180.0


@dataclass(frozen=True, slots=True)
class LiveConfig:
    seconds: float  # steady time of one row
    warm_s: float
    streams: tuple[int, ...]  # rows of the latency table
    cuts: int
    kills: int
    seed: int
    repeats: int  # of the speech folder
    quick: bool
    folder: Path  # scratch
    audio: Path  # real speech, with manifest.tsv or references.tsv


@contextmanager
def scripted(folder: Path, script: dict[str, Any], **settings: Any) -> Iterator[Target]:
    (folder / "script.json").write_text(json.dumps(script))
    more = {"recogniser": "scripted", "script": folder / "script.json", "workers": 1, "engines": 1, **SESSIONS}
    with cosygate(folder, **(more | settings)) as target:
        yield target


def child(target: Target, module: str) -> psutil.Process:
    """The only process of the server that runs `module`."""
    [found] = [p for p in psutil.Process(target.pid).children(recursive=True) if module in p.cmdline()]
    return found


@dataclass(slots=True)
class Use:
    """What a process used in the steady time."""

    process: psutil.Process
    cpu: float = 0.0  # per cent of a core
    rss: float = 0.0  # MiB at its end
    uss: float = 0.0

    def begin(self) -> None:
        self.cpu -= _cpu_s(self.process)

    def end(self, seconds: float) -> None:
        self.cpu = 100 * (self.cpu + _cpu_s(self.process)) / seconds
        memory = self.process.memory_full_info()
        self.rss, self.uss = memory.rss / _MIB, memory.uss / _MIB


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def uss_mib(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss) / _MIB


def load(plan: LoadPlan, *watched: Use) -> dict[str, Any]:
    """Runs the load generator, and measures `watched` over its steady time. Raises BadRun unless every stream was
    served to its end and every frame acknowledged."""
    command = [sys.executable, "-m", "bench.live.load"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(asdict(plan)) + "\n")
            process.stdin.flush()
            _expect(process, "steady")
            for use in watched:
                use.begin()
            seconds = _expect(process, "over")["seconds"]
            for use in watched:
                use.end(seconds)
            found: dict[str, Any] = _expect(process, "end")["found"]
        finally:
            process.kill()
    if found["errors"]:
        raise BadRun(f"the load was refused: {found['errors']}")
    if not plan.idle and (found["done"] != plan.streams or found["acked"] < found["frames"]):
        raise BadRun(f"{found['done']} of {plan.streams} streams came to their end; {found}")
    return found


def _expect(process: subprocess.Popen[str], at: str) -> dict[str, Any]:
    assert process.stdout
    line = process.stdout.readline()
    found: dict[str, Any] = json.loads(line) if line else {}
    if found.get("at") != at:
        raise BadRun(f"the load generator ended before {at} ({process.wait(10)})")
    return found
