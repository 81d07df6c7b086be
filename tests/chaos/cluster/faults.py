"""`python -m tests.chaos.cluster.faults`: a seeded schedule of faults, and its carrying out.

Every few seconds something is killed, paused (SIGSTOP: it hangs, and wakes up with what it was about to do), restarted
in order, or cut off. Each outage is bounded. Of what there are several of, one is always left alone; of the single
services (Redis, which comes back empty, Postgres, the store, nginx) one at a time.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.chaos.cluster.journal import Journal


@dataclass(frozen=True, slots=True)
class Ways:
    """What may happen to one kind of part. Seconds."""

    do: tuple[str, ...]
    outage: tuple[float, float]  # shortest, longest
    settle_s: float  # from its coming back until it is counted as there


WAYS = {
    "gateway": Ways(("kill", "pause", "restart"), (0.5, 6.0), 5.0),
    "worker": Ways(("kill", "pause", "restart"), (0.5, 8.0), 5.0),  # longer than a lease: a zombie wakes up
    "engine": Ways(("kill", "pause", "restart"), (0.5, 5.0), 4.0),
    "redis": Ways(("kill", "pause"), (0.5, 4.0), 3.0),
    "postgres": Ways(("kill", "restart", "pause"), (0.5, 3.0), 5.0),
    "nginx": Ways(("kill", "restart"), (0.2, 2.0), 3.0),
    "store": Ways(("cut", "pause"), (0.5, 4.0), 3.0),
    "server": Ways(("kill",), (0.2, 1.0), 9.0),
}
_FIRST_S = 2.0
STARTS = 3  # of what does not come up


@dataclass(frozen=True, slots=True)
class Fault:
    at_s: float  # from the schedule's start
    kind: str
    part: str
    do: str  # kill, pause, restart, cut
    for_s: float  # then it is started, resumed, or connected again

    @property
    def until_s(self) -> float:
        return self.at_s + self.for_s

    def told(self) -> dict[str, Any]:
        """As the journal has it."""
        return {"part": self.part, "do": self.do, "at_s": self.at_s, "for_s": self.for_s}


class Cluster(Protocol):
    def kinds(self) -> Mapping[str, Sequence[str]]: ...
    def part(self, name: str) -> Any:
        """With kill, pause, resume, stop, start, running."""

    def cut_store(self, cut: bool) -> None: ...


def schedule(seed: int, seconds: float, kinds: Mapping[str, Sequence[str]], every_s: float = 2.5) -> list[Fault]:
    """A pure function. All outages end within `seconds`. The kind that had least comes first, so that a minute has all
    of them."""
    rng = random.Random(f"faults {seed}")
    faults: list[Fault] = []
    had: Counter[str] = Counter()
    done: Counter[tuple[str, str]] = Counter()
    at = _FIRST_S
    while True:
        free = [kind for kind in kinds if _parts_free(kind, kinds, faults, at)]
        if free:
            kind = min(rng.sample(free, len(free)), key=lambda one: had[one])
            ways = WAYS[kind]
            do = min(rng.sample(ways.do, len(ways.do)), key=lambda one: done[kind, one])
            fault = Fault(
                at,
                kind,
                rng.choice(_parts_free(kind, kinds, faults, at)),
                do,
                round(rng.uniform(*ways.outage), 2),
            )
            if fault.until_s > seconds:
                return faults
            faults.append(fault)
            had[kind] += 1
            done[kind, do] += 1
        at = round(at + rng.uniform(0.5, 1.5) * every_s, 2)
        if at > seconds:
            return faults


def _parts_free(kind: str, kinds: Mapping[str, Sequence[str]], faults: Sequence[Fault], at: float) -> list[str]:
    """Those of the kind that a fault may happen to now."""
    away = [fault for fault in faults if fault.until_s + WAYS[fault.kind].settle_s > at]
    single = len(kinds[kind]) == 1
    whole = [fault for fault in away if fault.kind == "server"]
    if whole or (kind == "server" and away):
        return []
    if single and any(len(kinds[fault.kind]) == 1 for fault in away):
        return []
    mine = {fault.part for fault in away if fault.kind == kind}
    if not single and len(mine) >= len(kinds[kind]) - 1:
        return []
    return [part for part in kinds[kind] if part not in mine]


class Faults:
    """Carries a schedule out. What comes back slower than planned delays nothing but itself."""

    def __init__(self, cluster: Cluster, journal: Journal) -> None:
        self._cluster = cluster
        self._journal = journal
        self._taking = threading.Lock()
        self._away: set[str] = set()  # from a fault's beginning until what it happened to is there again
        self.over = threading.Event()  # set it to end early

    def run(self, faults: Sequence[Fault]) -> None:
        """Returns when all of it is back. Raises what starting something raised."""
        began = time.monotonic()
        with ThreadPoolExecutor(8) as hands:
            work = []
            for fault in faults:
                if self.over.wait(max(0.0, began + fault.at_s - time.monotonic())):
                    break
                work.append(hands.submit(self._one, fault, began))
        for done in work:
            done.result()

    def _one(self, fault: Fault, began: float) -> None:
        part = self._cluster.part(fault.part)
        taken = self._take(fault)
        if not taken or not part.running():
            if taken:
                self._away.discard(fault.part)  # nothing is done to it here: what it lacks is not ours to end
            self._journal.tell("faults", "fault_skipped", **fault.told())
            return
        self._journal.tell("faults", "fault", **fault.told())
        try:
            begin, end = self._steps(fault, part)
            begin()
            self.over.wait(max(0.0, began + fault.until_s - time.monotonic()))
            self._until_there(fault, end)
        except Exception as error:
            self._journal.tell("faults", "fault_failed", part=fault.part, do=fault.do, error=repr(error)[:300])
            raise
        self._away.discard(fault.part)
        self._journal.tell("faults", "fault_over", part=fault.part, do=fault.do)

    def _until_there(self, fault: Fault, end: Callable[[], object]) -> None:
        """What does not come up is started again, as whoever supervises it would."""
        for left in reversed(range(STARTS)):
            try:
                end()
                return
            except Exception as error:
                if not left:
                    raise
                told = {"part": fault.part, "do": fault.do, "error": repr(error)[:300]}
                self._journal.tell("faults", "fault_slow", **told)

    def _take(self, fault: Fault) -> bool:
        """Whether it is there, and not the last of its kind: the schedule did not foresee what comes back late."""
        others = set(self._cluster.kinds()[fault.kind]) - {fault.part}
        with self._taking:
            if fault.part in self._away or (others and others <= self._away):
                return False
            self._away.add(fault.part)
            return True

    def _steps(self, fault: Fault, part: Any) -> tuple[Any, Any]:
        if fault.do == "cut":
            return (lambda: self._cluster.cut_store(True)), (lambda: self._cluster.cut_store(False))
        begin, end = {"kill": "kill start", "pause": "pause resume", "restart": "stop start"}[fault.do].split()
        return getattr(part, begin), getattr(part, end)


# --- as a program: the cluster is another process's, and listens on a socket


class Remote:
    """A Cluster behind a control socket (serve_control)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def kinds(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = self._ask("kinds")
        return found

    def part(self, name: str) -> Any:
        return _RemotePart(self, name)

    def cut_store(self, cut: bool) -> None:
        self._ask("cut_store", cut=cut)

    def _ask(self, do: str, **more: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as line, line.makefile("rw") as file:
            line.settimeout(120)
            line.connect(str(self._path))
            file.write(json.dumps({"do": do, **more}) + "\n")
            file.flush()
            answer = json.loads(file.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["answer"]


class _RemotePart:
    def __init__(self, remote: Remote, name: str) -> None:
        self._remote = remote
        self._name = name

    def __getattr__(self, do: str) -> Any:
        if do not in ("kill", "pause", "resume", "stop", "start", "running"):
            raise AttributeError(do)
        return lambda: self._remote._ask(do, part=self._name)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cluster.faults", description=__doc__)
    parser.add_argument("--control", type=Path, required=True, help="the control socket of a cluster that runs")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=2.5, help="seconds between two faults, on average")
    parser.add_argument("--show", action="store_true", help="print the schedule, and do nothing")
    args = parser.parse_args(arguments)
    cluster = Remote(args.control)
    faults = schedule(args.seed, args.seconds, cluster.kinds(), args.every)
    if args.show:
        for fault in faults:
            print(f"{fault.at_s:7.2f}  {fault.do:8} {fault.part:12} for {fault.for_s:g} s")
        return 0
    Faults(cluster, Journal(args.journal)).run(faults)
    return 0


if __name__ == "__main__":
    sys.exit(main())
