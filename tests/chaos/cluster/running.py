"""A run, put together: an installation, its clients and faults side by side, then the checker; each in a process of its
own but the installation, which is this one's child."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosygate.adapters.callers_jwt import issue
from deploy.local_cluster.processes import Process
from deploy.local_cluster.topology import LocalCluster
from tests.chaos.cluster import plan
from tests.chaos.cluster.control import controlled
from tests.chaos.cluster.embedded import SETTINGS, Embedded, settle
from tests.chaos.cluster.faults import schedule
from tests.chaos.cluster.floors import shortfalls
from tests.chaos.cluster.journal import read

REPOSITORY = Path(__file__).absolute().parents[3]
TOKENS_S = 6 * 3600.0
FAULTS_S = 400.0  # beyond the schedule, until all that was stopped is there again
_KINDS = {"gateways": "gateway", "workers": "worker", "engines": "engine"}
_SINGLES = ("redis", "postgres", "nginx", "store")
_EMBEDDED_ALONE = ("durability", "restart_longest_s", "watch_every_s")


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int = 1
    recordings: int = 100
    live: int = 5
    seconds: float = 60.0
    every_s: float = 2.5  # between two faults; 0: none
    at_once: int = 16


@dataclass(slots=True)
class Outcome:
    """What a run showed."""

    status: int  # of the checker
    told: str  # what the checker printed
    report: dict[str, Any]
    faults: Counter[str] = field(default_factory=Counter)  # that were made, by what and what to
    clients_s: float = 0.0
    checked_s: float = 0.0  # from the clients' end to the checker's
    short: list[str] = field(default_factory=list)  # what was not reached (floors.py)

    @property
    def passed(self) -> bool:
        return self.status == 0 and not self.short

    def text(self) -> str:
        rows = [f"{name:34}{count:8}" for name, count in sorted(self.faults.items())]
        rows += [f"{'seconds for the clients':34}{self.clients_s:8.0f}"]
        rows += [f"{'seconds for the rest, and checking':34}{self.checked_s:8.0f}"]
        return "\n".join([*rows, self.told, *(f"too little: {each}" for each in self.short)])


class Cluster:
    """LocalCluster, as faults see it (faults.py, Cluster)."""

    def __init__(self, local: LocalCluster) -> None:
        self.local = local
        parts = {_KINDS[name]: getattr(local, name) for name in _KINDS}
        self._parts = {f"{kind}-{n}": part for kind, found in parts.items() for n, part in enumerate(found)}
        self._kinds = {kind: tuple(f"{kind}-{n}" for n in range(len(found))) for kind, found in parts.items()}
        for name in _SINGLES:
            self._parts[name] = getattr(local, name)
            self._kinds[name] = (name,)

    @property
    def url(self) -> str:
        return self.local.url

    @property
    def secret(self) -> str:
        return self.local.secret

    @property
    def environment(self) -> Mapping[str, str]:
        folder = self.local.folder / "migrate"
        return Process(folder, self.local.settings | {"data_dir": folder}).environment()

    def kinds(self) -> dict[str, tuple[str, ...]]:
        return self._kinds

    def part(self, name: str) -> Any:
        return self._parts[name]

    def cut_store(self, cut: bool) -> None:
        self.local.cut_store(cut)

    def well(self) -> bool:
        return all(self.local.running().values())


@contextlib.contextmanager
def cluster(folder: Path, *, script: Mapping[str, Any] = plan.SCRIPT, **settings: Any) -> Iterator[Cluster]:
    """Two gateways, workers and engines, with everything around them."""
    path = folder / "script.json"
    path.write_text(json.dumps(script))
    given = {name: value for name, value in SETTINGS.items() if name not in (*_EMBEDDED_ALONE, "engine_live")}
    with LocalCluster(folder / "cluster", script=path, live=SETTINGS["engine_live"], **{**given, **settings}) as local:
        yield Cluster(local)


@contextlib.contextmanager
def embedded(folder: Path, *, script: Mapping[str, Any] = plan.SCRIPT, **settings: Any) -> Iterator[Embedded]:
    with Embedded(folder / "data", script=dict(script), **settings) as server:
        yield server


def credentials(installation: Cluster | Embedded, path: Path) -> Path:
    """Tokens of all principals, and the secrets that their tenants' webhooks are signed with."""
    tokens, secrets = {}, {}
    for tenant, subs in plan.TENANTS.items():
        for sub in subs:
            tokens[f"{tenant}/{sub}"] = issue(
                installation.secret, subject=sub, now=time.time(), ttl_s=TOKENS_S, tenant=tenant
            )
        argv = [sys.executable, "-m", "cosygate", "webhooks", "secret", "create", "--tenant", tenant]
        made = subprocess.run(argv, env=dict(installation.environment), capture_output=True, text=True, timeout=60)
        if made.returncode != 0:
            raise RuntimeError(f"no webhook secret: {made.stderr[-500:]}")
        secrets[tenant] = made.stdout.strip()
    path.touch(0o600)
    path.write_text(json.dumps({"tokens": tokens, "webhook_secrets": secrets}))
    return path


def run(installation: Cluster | Embedded, folder: Path, asked: Plan) -> Outcome:
    """Clients and faults, then nothing but calm, then the checker. Raises RuntimeError when one of these breaks."""
    journal, tokens = folder / "journal.jsonl", credentials(installation, folder / "tokens.json")
    with running_clients(installation.url, folder, asked) as clients:
        if asked.every_s:
            with controlled(installation, folder / "control") as control:
                options = {"seed": asked.seed, "seconds": asked.seconds, "every": asked.every_s, "control": control}
                _program("faults", options | {"journal": journal}, asked.seconds + FAULTS_S)
        if clients.wait(4 * asked.seconds + 600) != 0:
            raise RuntimeError("the clients failed")
    calm(installation)
    lines = read(journal)
    began = time.monotonic()
    status, told, report = check(installation.url, journal, tokens, folder / "report.json")
    faults = [(x.data["do"], x.data["part"].partition("-")[0]) for x in lines if x.kind == "fault"]
    return Outcome(
        status,
        told,
        report,
        Counter(f"{do} {kind}" for do, kind in faults),
        next(x.data["seconds"] for x in lines if x.who == "run" and x.kind == "ended"),
        time.monotonic() - began,
        shortfalls(
            report["counts"],
            recordings=asked.recordings,
            live=asked.live,
            seconds=asked.seconds,
            planned=schedule(asked.seed, asked.seconds, installation.kinds(), asked.every_s) if asked.every_s else None,
            made=Counter(kind for _, kind in faults),
        ),
    )


@contextlib.contextmanager
def running_clients(url: str, folder: Path, asked: Plan, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """The clients' program; killed if it still runs at the end. `folder` has tokens.json."""
    options = {
        "url": url, "tokens": folder / "tokens.json", "journal": folder / "journal.jsonl", "seed": asked.seed,
        "recordings": asked.recordings, "live": asked.live, "seconds": asked.seconds, "at-once": asked.at_once,
    }  # fmt: skip
    clients = subprocess.Popen(_argv("clients", options, *more), cwd=REPOSITORY)
    try:
        yield clients
    finally:
        if clients.poll() is None:
            clients.kill()
        clients.wait()


def calm(installation: Cluster | Embedded) -> None:
    """Everything is there again. Raises RuntimeError when something stays away."""
    parts = [installation.part(name) for names in installation.kinds().values() for name in names]
    if not settle(lambda: all(part.running() for part in parts), 60):
        away = [name for names in installation.kinds().values() for name in names
                if not installation.part(name).running()]  # fmt: skip
        raise RuntimeError(f"these stay away: {', '.join(away)}")


def check(
    url: str, journal: Path, tokens: Path, report: Path, wait_s: float = 180.0
) -> tuple[int, str, dict[str, Any]]:
    """(exit status, what it printed, its report). Raises RuntimeError when there is none."""
    report.unlink(missing_ok=True)
    options = {"url": url, "journal": journal, "tokens": tokens, "report": report, "wait": wait_s}
    done = subprocess.run(
        _argv("check", options), cwd=REPOSITORY, capture_output=True, text=True, timeout=wait_s + 1200
    )
    if done.returncode not in (0, 1) or not report.is_file():
        raise RuntimeError(f"the checker failed: {done.stderr[-2000:]}")
    return done.returncode, done.stdout, json.loads(report.read_text())


def _program(name: str, options: Mapping[str, object], timeout_s: float) -> None:
    done = subprocess.run(_argv(name, options), cwd=REPOSITORY, timeout=timeout_s)
    if done.returncode != 0:
        raise RuntimeError(f"{name} ended with {done.returncode}")


def _argv(name: str, options: Mapping[str, object], *more: str) -> list[str]:
    given = [str(part) for option, value in options.items() for part in (f"--{option}", value)]
    return [sys.executable, "-m", f"tests.chaos.cluster.{name}", *given, *more]
