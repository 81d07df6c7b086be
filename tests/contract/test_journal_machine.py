"""The journal under every order of claims, appends, compactions and watching that Hypothesis can think of, against a
model in plain Python.

Two processes' worth of journals on one folder; any writer there ever was may write at any time, however stale; what was
read, found or refused must be what the model says. Deterministic: the same examples in every run.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cosygate import errors
from cosygate.ports.journal import Journal, JournalWriter
from tests.support.journals import HELD_LATE_S, JOURNALS, audio, event, held_by, sound

T = TypeVar("T")
SESSION = "e" * 32
sides = st.integers(0, 1)


@dataclass
class Model:
    """What the port promises of one session, and nothing about how."""

    epoch: int = 0
    told: list[tuple[dict[str, Any], bool]] = field(default_factory=list)  # every event, and whether it passes
    compacted: int = 0  # of `told`
    snapshot: dict[str, Any] | None = None
    sound: bytes = b""
    first: int = 0

    def lasting(self) -> list[dict[str, Any]]:
        return [one for one, passing in self.told[self.compacted :] if not passing]


class Journals(RuleBasedStateMachine):
    variant = "disk-process"

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="journal-"))
        self.opened = [JOURNALS[self.variant](self.folder, 64 * 1024**2) for _ in range(2)]
        self.journals: list[Journal] = [self.run(one.__aenter__()) for one in self.opened]
        self.model = Model()
        self.writers: list[tuple[int, JournalWriter]] = []  # with their epochs
        self.watchers: list[tuple[str, int]] = []  # a position, and how many events were told before it
        self.number = 0

    def run(self, call: Awaitable[T]) -> T:
        async def wait() -> T:
            return await call

        return self.loop.run_until_complete(wait())

    def teardown(self) -> None:
        for one in self.opened:
            self.run(one.__aexit__(None, None, None))
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)

    def refused(self, call: Awaitable[Any]) -> bool:
        try:
            self.run(call)
        except errors.TakenOver:
            return True
        return False

    @rule(side=sides, step=st.integers(-1, 3))
    def claim(self, side: int, step: int) -> None:
        epoch = self.model.epoch + step
        if epoch < 1:
            return
        if step <= 0:
            assert self.refused(self.journals[side].claim(SESSION, epoch))
            return
        claimed = self.run(self.journals[side].claim(SESSION, epoch))
        past = claimed.past
        assert (past.snapshot, past.events) == (self.model.snapshot, self.model.lasting())
        assert (past.first, past.end) == (self.model.first, len(self.model.sound))
        self.model.epoch = epoch
        self.writers.append((epoch, claimed.writer))

    @precondition(lambda self: self.writers)
    @rule(
        which=st.sampled_from((-1, -1, -1, -1, -2, 0)),
        gap=st.sampled_from((0, 0, 0, 5)),
        size=st.sampled_from((0, 1, 100, 70_000)),
        events=st.integers(0, 3),
        passing=st.booleans(),
        times=st.integers(1, 3),
    )
    def append(self, which: int, gap: int, size: int, events: int, passing: bool, times: int) -> None:
        epoch, writer = self.writers[max(which, -len(self.writers))]
        waiting = []
        for _ in range(times):
            at = len(self.model.sound) + gap
            records: list[Any] = [event(self.number + n) for n in range(events)]
            self.number += events
            if size and not passing:
                records.insert(len(records) // 2, sound(at, size))
            waiting.append(writer.append(*records, passing=passing))
            if epoch == self.model.epoch:
                self.model.told += [(one, passing) for one in records if isinstance(one, dict)]
                if size and not passing:
                    self.model.sound += bytes(gap) + audio(at, size)
        for one in waiting:
            assert self.refused(one) == (epoch != self.model.epoch)

    @precondition(lambda self: self.writers)
    @rule(which=st.sampled_from((-1, -1, -1, -2)), back=st.sampled_from((0, 1, 50, 80_000, 10**6)))
    def compact(self, which: int, back: int) -> None:
        epoch, writer = self.writers[max(which, -len(self.writers))]
        snapshot, keep = {"n": self.number}, max(0, len(self.model.sound) - back)
        refused = self.refused(writer.compact(snapshot, keep))
        assert refused == (epoch != self.model.epoch)
        if not refused:
            self.model.snapshot, self.model.compacted = snapshot, len(self.model.told)
            self.model.first = max(self.model.first, keep)

    @precondition(lambda self: self.writers)
    @rule(back=st.sampled_from((0, 1, 70_010, 10**6)), limit=st.sampled_from((1, 500, 10**6)))
    def read(self, back: int, limit: int) -> None:
        start = max(self.model.first, len(self.model.sound) - back)
        assert self.run(self.writers[-1][1].read(start, limit)) == self.model.sound[start : start + limit]

    @precondition(lambda self: self.writers)
    @rule()
    def close(self) -> None:
        _, writer = self.writers[-1]
        if len(self.writers) > 1:
            self.run(self.writers.pop(0)[1].close())
        assert writer.held()

    @rule(side=sides)
    def watch(self, side: int) -> None:
        events, position = self.run(self.journals[side].events(SESSION, ""))
        assert events == []
        self.watchers.append((position, len(self.model.told)))

    @precondition(lambda self: self.watchers)
    @rule(side=sides, which=st.integers(0, 3))
    def look(self, side: int, which: int) -> None:
        position, had = self.watchers.pop(which % len(self.watchers))
        events, behind = self.run(self.journals[side].events(SESSION, position))
        told = [one for one, _ in self.model.told]
        assert events == told[max(had, self.model.compacted) :]
        self.watchers.append((behind, len(told)))
        assert self.run(self.journals[1 - side].events(SESSION, behind)) == ([], behind)

    @invariant()
    def only_the_highest_holds(self) -> None:
        expected = [epoch for epoch, _ in self.writers if epoch == self.model.epoch]
        assert self.run(held_by(dict(self.writers), HELD_LATE_S[self.variant], expected)) == expected


class JournalsInRedis(Journals):
    variant = "redis"


TestJournals = Journals.TestCase
TestJournalsInRedis = pytest.mark.needs("redis-server")(JournalsInRedis.TestCase)
TestJournals.settings = TestJournalsInRedis.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
