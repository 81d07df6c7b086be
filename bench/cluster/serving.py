"""What the cluster works share: an installation, where its CPU time goes, and children that are told what to do by one
line of JSON and answer so."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.contestants import REPOSITORY, Target
from bench.load import BadRun, cpu_seconds
from deploy.local_cluster.services import Service
from deploy.local_cluster.topology import LocalCluster

# Beyond every load, and on: what it costs to count is part of what is measured.
_LIMITS = {"rate_limits": "1000000/minute", "open_uploads": 10_000, "live_sessions_each": 1000}
_ENDS_S = 15.0


@dataclass(frozen=True, slots=True)
class Config:
    runs: int  # rounds of the works that compare
    quick: bool
    folder: Path
    audio: Path  # real speech, with manifest.tsv or references.tsv


@contextmanager
def cluster(folder: Path, *, script: dict[str, Any] | None = None, shared: bool, **how: Any) -> Iterator[LocalCluster]:
    """`shared`: blobs lie in one folder of this host, as gateways of one `serve` have it; else in the object store."""
    if script is not None:
        (folder / "script.json").write_text(json.dumps(script))
        how["script"] = folder / "script.json"
    made = LocalCluster(folder / "cluster", cut_off=False, **(_LIMITS | ({"store_url": ""} if shared else {}) | how))
    if shared:
        _share_blobs(made, folder / "blobs")
    try:
        yield made.start()
    finally:
        made.stop()


def _share_blobs(made: LocalCluster, blobs: Path) -> None:
    blobs.mkdir(mode=0o700)
    for process in (*made.gateways, *made.workers):
        data = process.folder / "data"
        data.mkdir(mode=0o700)
        (data / "blobs").symlink_to(blobs, target_is_directory=True)


def target(made: LocalCluster) -> Target:
    """As the clients of the other benchmarks know a server; what they send goes through nginx."""
    assert made.nginx.process is not None
    return Target(made.nginx.port, made.token("bench"), made.nginx.process.pid, made.folder)


def kinds(made: LocalCluster) -> dict[str, Sequence[Service]]:
    return {
        "gateways": made.gateways,
        "workers": made.workers,
        "engines": made.engines,
        "postgres": [made.postgres],
        "redis": [made.redis],
        "nginx": [made.nginx],
        "store": [made.store],
    }


def spent(made: LocalCluster) -> dict[str, float]:
    """CPU seconds so far, of all processes of each kind; of those that do not run, none."""
    return {
        kind: sum(cpu_seconds(part.process.pid) for part in parts if part.process is not None)
        for kind, parts in kinds(made).items()
    }


class Told:
    """A child that reads lines of JSON, and writes some."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self._process = process
        self._name = name

    def say(self, **members: Any) -> None:
        assert self._process.stdin
        try:
            self._process.stdin.write(json.dumps(members) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def hear(self) -> dict[str, Any]:
        """The next line. Raises BadRun when it ends without one."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        found: dict[str, Any] = json.loads(line)
        return found

    def _ended(self) -> BadRun:
        return BadRun(f"{self._name} ended ({self._process.wait(_ENDS_S)})")


@contextmanager
def told(module: str, *plans: dict[str, Any]) -> Iterator[list[Told]]:
    """`python -m module`, one for each plan, which is its first line; each has said that it is ready. What they write
    to standard error is shown. Killed when the body ends."""
    with ExitStack() as stack:
        children = []
        for plan in plans:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", module],
                    cwd=REPOSITORY,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            child = Told(process, module)
            child.say(**plan)
            children.append(child)
        for child in children:
            child.hear()
        yield children


def wait_until(deadline: float) -> None:
    """On the monotonic clock."""
    time.sleep(max(0.0, deadline - time.monotonic()))
