"""Locust as a process of its own, without its page, and what it found."""

import csv
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.load import BadRun

USERS = Path(__file__).with_name("users.py")
_EVERY_S = 0.5


@dataclass(slots=True)
class Servers:
    """What the processes under `root`, but for the load generator's, used."""

    cpu_percent: float = 0.0  # of one core
    peak_mib: float = 0.0  # resident, all of them together


def locust(url: str, token: str, *, users: int, seconds: int, out: Path, live: int = 0, html: bool = False) -> None:
    """Runs the mix with `users` for `seconds` once all of them are there; CSV files beginning with `out`."""
    command = [sys.executable, "-m", "locust", "-f", str(USERS), "--headless", "--host", url, "--users", str(users)]
    command += ["--spawn-rate", str(max(5, users // 3)), "--run-time", f"{seconds + 4}s", "--reset-stats"]
    command += ["--csv", str(out), "--only-summary", "--stop-timeout", "5", "--exit-code-on-error", "0"]
    command += ["--html", f"{out}.html"] if html else []
    env = {**os.environ, "MIX_TOKEN": token, "MIX_LIVE": str(live)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds + 90)
    if done.returncode != 0:
        raise BadRun(f"locust: {done.stderr.strip()[-500:]}")


def aggregated(out: Path) -> dict[str, float]:
    """Requests a second, percentiles (ms) and failures over all requests."""
    with Path(f"{out}_stats.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["Name"] == "Aggregated")
    return {
        "rate": float(row["Requests/s"]),
        "p50_ms": float(row["50%"]),
        "p99_ms": float(row["99%"]),
        "failures": int(row["Failure Count"]),
        "requests": int(row["Request Count"]),
    }


@contextmanager
def watched() -> Iterator[Servers]:
    """Of all child processes but Locust's, until leaving. CPU is that of the processes that are there at both ends;
    those that ended in between (ffprobe) count by their parents' sums."""
    found, stop = Servers(), threading.Event()
    began, before = time.monotonic(), _cpu_s()

    def look() -> None:
        while not stop.wait(_EVERY_S):
            resident = 0
            for process in _servers():
                with suppress(psutil.Error):
                    resident += process.memory_info().rss
            found.peak_mib = max(found.peak_mib, resident / 1024**2)

    thread = threading.Thread(target=look, name="servers")
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()
        found.cpu_percent = 100 * (_cpu_s() - before) / (time.monotonic() - began)


def _servers() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "locust" not in process.cmdline():
                found.append(process)
    return found


def _cpu_s() -> float:
    total = 0.0
    for process in _servers():
        with suppress(psutil.Error):
            t = process.cpu_times()
            total += t.user + t.system + t.children_user + t.children_system
    return total
