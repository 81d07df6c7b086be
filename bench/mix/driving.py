"""Locust as a process of its own, without its page, and what the servers used while it counted."""

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from bench.contestants import REPOSITORY
from bench.load import BadRun
from bench.mix.counting import WARM_S, bound_s, figures

USERS = Path(__file__).with_name("users.py")
_EVERY_S = 0.5
_LONGEST_S = 60.0  # until all users are there, and until Locust has ended


class Servers:
    """What the processes under this one, but for the load generator's, use from `begin` to `end`. CPU is that of those
    that are there at both ends; those that ended in between (ffprobe) count by their parents' sums."""

    def __init__(self) -> None:
        self.cpu_percent = 0.0  # of one core
        self.peak_mib = 0.0  # resident, all of them together
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, name="servers")

    def begin(self) -> None:
        self._began, self._before = time.monotonic(), _cpu_s()
        self._thread.start()

    def end(self) -> None:
        """Must follow `begin`."""
        self.cpu_percent = 100 * (_cpu_s() - self._before) / (time.monotonic() - self._began)
        self._stop.set()
        self._thread.join()

    @property
    def watching(self) -> bool:
        return self._thread.is_alive()

    def _look(self) -> None:
        while not self._stop.wait(_EVERY_S):
            resident = 0
            for process in _servers():
                with suppress(psutil.Error):
                    resident += process.memory_info().rss
            self.peak_mib = max(self.peak_mib, resident / 1024**2)


def locust(
    url: str, token: str, *, users: int, seconds: float, folder: Path, live: int = 0, page: Path | None = None
) -> dict[str, float]:
    """Runs the mix with `users` and counts for `seconds`, soon after all of them are there; what counting.py finds, and
    what the servers used meanwhile. `folder` is for its files, `page` for Locust's own. Raises BadRun."""
    command = [sys.executable, "-m", "locust", "-f", str(USERS), "--headless", "--host", url, "--users", str(users)]
    command += ["--spawn-rate", str(max(5, users // 3)), "--reset-stats", "--only-summary", "--exit-code-on-error", "0"]
    command += ["--html", str(page)] if page else []
    out, servers = folder / "heard.json", Servers()
    env = {**os.environ, "MIX_TOKEN": token, "MIX_LIVE": str(live), "MIX_OUT": str(out)}
    env |= {"MIX_SECONDS": str(seconds), "MIX_BOUND_S": str(bound_s(seconds)), "MIX_WARM_S": str(WARM_S)}
    with (folder / "locust.err").open("w+") as err:
        with subprocess.Popen(
            command, cwd=REPOSITORY, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, text=True
        ) as process:
            late = threading.Timer(seconds + _LONGEST_S, process.kill)
            late.start()
            try:
                assert process.stdout
                for line in process.stdout:
                    at = json.loads(line)["at"] if line.startswith('{"at"') else ""
                    if at == "counting":
                        servers.begin()
                    elif at == "counted":
                        servers.end()
                process.wait()
            finally:
                late.cancel()
                process.kill()
                if servers.watching:
                    servers.end()
        if process.returncode != 0 or not out.exists():
            err.seek(0)
            raise BadRun(f"locust ended with {process.returncode}: {err.read().strip()[-500:]}")
    found = figures(json.loads(out.read_text()))
    return {**found, "cpu_percent": servers.cpu_percent, "peak_mib": servers.peak_mib}


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
