"""Live sessions under every order of events that Hypothesis can think of, against a model in plain Python.

Two gateways work on one database through doors of their own; any claim ever given may write at any time, however
stale. The model says what each call must return, and after each step the tables must tell the same as the model.
Deterministic: the same examples in every run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cosygate import errors
from cosygate.adapters.records_sql import SqlRecords
from cosygate.model.job import JobState
from cosygate.model.live import LiveSession, LiveState, SafeMark
from cosygate.ports.live import HeldSession
from tests.contract.conftest import POSTGRES
from tests.support.live_records import final, live_job, new_session, segment
from tests.support.records import a_place, in_some_order

T = TypeVar("T")
HOLDERS = ("g1", "g2")
OWNERS = ("default/ann", "default/bob")
MAX_OF_OWNER, MAX_OF_ALL = 3, 5


@dataclass
class ModelSession:
    """What the port promises of one session, and nothing about how."""

    row: LiveSession
    beat: int = 0
    finals: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None  # once finished
    finishes: int = 0  # calls that were told they made the task

    @property
    def open(self) -> bool:
        return self.row.state is LiveState.OPEN


@dataclass(frozen=True)
class Held:
    """A claim that was given once."""

    number: int
    epoch: int
    holder: str


holders = st.sampled_from(HOLDERS)
marks = st.builds(SafeMark, *(st.integers(0, 9) for _ in range(4)))
# Which of the claims there ever were: usually one that still holds, sometimes any.
picks = st.tuples(st.integers(0, 999), st.sampled_from(("alive", "alive", "any")))
Pick = tuple[int, str]


class Live(RuleBasedStateMachine):
    kind: str  # of database

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.places = ExitStack()
        self.place = self.places.enter_context(a_place(self.kind))
        self.doors: dict[str, SqlRecords] = {}
        self.model: dict[int, ModelSession] = {}  # by number; gone ones are not in it
        self.claims: list[Held] = []
        self.opened = 0

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    @initialize()
    def start(self) -> None:
        self.doors = {holder: self.run(self.place.open()) for holder in HOLDERS}
        self.begin("g1", OWNERS[0])

    def teardown(self) -> None:
        for door in self.doors.values():
            self.run(door.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.places.close()

    def known(
        self, state: tuple[dict[int, ModelSession], list[Held]] | None
    ) -> tuple[dict[int, ModelSession], list[Held]]:
        before = self.model, self.claims
        if state is not None:
            self.model, self.claims = state
        return before

    def held(self, claim: Held) -> ModelSession | None:
        """The session of a claim that still holds."""
        session = self.model.get(claim.number)
        return session if session and session.open and session.row.epoch == claim.epoch else None

    def finished(self, claim: Held) -> bool:
        """By that very claim: its end may be begun again, as when the answer was lost."""
        session = self.model.get(claim.number)
        return session is not None and not session.open and session.row.epoch == claim.epoch

    def some_claim(self, pick: Pick) -> Held:
        alive = [claim for claim in self.claims if self.held(claim)]
        if not alive:
            self.begin(HOLDERS[0], OWNERS[0])
            alive = self.claims[-1:]
        among = alive if pick[1] == "alive" else self.claims
        return among[pick[0] % len(among)]

    # --- what gateways do ---------------------------------------------------------------------------------------

    @rule(holder=holders, owner=st.sampled_from(OWNERS))
    def begin(self, holder: str, owner: str) -> None:
        number = self.opened
        session = new_session(number, owner=owner, holder=holder)
        open_now = [one.row.owner for one in self.model.values() if one.open]
        expected: type[Exception] | None = None
        if open_now.count(owner) >= MAX_OF_OWNER:
            expected = errors.TooManySessions
        elif len(open_now) >= MAX_OF_ALL:
            expected = errors.SessionsFull
        told: type[Exception] | None = None
        try:
            self.run(self.doors[holder].live.open(session, max_of_owner=MAX_OF_OWNER, max_of_all=MAX_OF_ALL))
        except errors.CosyGateError as error:
            told = type(error)
        assert told is expected
        if told is None:
            self.opened += 1
            self.model[number] = ModelSession(session)
            self.claims.append(Held(number, 1, holder))

    def expect_claim(self, seen: Held, holder: str, row: LiveSession | None) -> None:
        session = self.held(seen)
        if session is None:
            assert row is None
            return
        session.row = replace(session.row, epoch=seen.epoch + 1, holder=holder)
        session.beat = 0
        assert row == session.row
        self.claims.append(Held(seen.number, seen.epoch + 1, holder))

    @rule(pick=picks, holder=holders)
    def claim(self, pick: Pick, holder: str) -> None:
        seen = self.some_claim(pick)
        row = self.run(self.doors[holder].live.claim(new_session(seen.number).id, seen.epoch, holder))
        self.expect_claim(seen, holder, row)

    @rule(pick=picks)
    def both_claim_at_once(self, pick: Pick) -> None:
        seen = self.some_claim(pick)
        sid = new_session(seen.number).id

        async def race() -> list[LiveSession | None]:
            return await asyncio.gather(*(self.doors[holder].live.claim(sid, seen.epoch, holder) for holder in HOLDERS))

        rows = dict(zip(HOLDERS, self.run(race()), strict=True))
        winners = [holder for holder, row in rows.items() if row]
        assert len(winners) == (self.held(seen) is not None)
        for holder in winners:
            self.expect_claim(seen, holder, rows[holder])

    def expect_keep(self, claim: Held, finals: list[dict[str, Any]], mark: SafeMark, told: bool) -> None:
        session = self.held(claim)
        assert told is (session is not None or self.finished(claim))
        if session:
            known = len(session.finals)
            session.finals += [one for one in finals if one["id"] >= known]
            names = SafeMark.__dataclass_fields__
            higher = {name: max(getattr(session.row.mark, name), getattr(mark, name)) for name in names}
            session.row = replace(session.row, mark=SafeMark(**higher))

    def some_finals(self, claim: Held, again: int, fresh: int) -> list[dict[str, Any]]:
        """Some that are stored, told in other words, and some that are not."""
        session = self.model.get(claim.number)
        known = len(session.finals) if session else 0
        return [final(n) | {"by": claim.epoch} for n in range(max(0, known - again), known + fresh)]

    @rule(pick=picks, again=st.integers(0, 3), fresh=st.integers(0, 2), mark=marks)
    def keep(self, pick: Pick, again: int, fresh: int, mark: SafeMark) -> None:
        claim = self.some_claim(pick)
        finals = self.some_finals(claim, again, fresh)
        told = self.run(self.doors[claim.holder].live.keep(new_session(claim.number).id, claim.epoch, finals, mark))
        self.expect_keep(claim, finals, mark, told)

    def expect_finish(self, claim: Held, result: dict[str, Any], told: bool) -> None:
        session = self.held(claim)
        if session is None:
            assert told is self.finished(claim)
            return
        assert told is True
        session.row = replace(session.row, state=LiveState.FINISHED)
        session.result, session.finishes = result, session.finishes + 1

    @rule(pick=picks, name=st.sampled_from(("live", "same")))
    def finish(self, pick: Pick, name: str) -> None:
        """Sometimes under a name that other sessions of the owner have, too."""
        claim = self.some_claim(pick)
        session, result = self.model.get(claim.number), {"text": f"by claim {claim.epoch}"}
        job = live_job(claim.number, name="same" if name == "same" else None)
        job = replace(job, owner=session.row.owner if session else OWNERS[0])
        told = self.run(self.doors[claim.holder].live.finish(job.id, claim.epoch, job, result, 5_000.0))
        self.expect_finish(claim, result, told)

    @rule(pick=picks, mark=marks, order=st.permutations(["keep", "claim", "finish"]))
    def collide(self, pick: Pick, mark: SafeMark, order: list[str]) -> None:
        """All at once on one door."""
        claim, live = self.some_claim(pick), self.doors["g1"].live
        session, result = self.model.get(claim.number), {"text": "collided"}
        owner = session.row.owner if session else OWNERS[0]
        job, finals = live_job(claim.number, owner=owner), self.some_finals(claim, 1, 1)

        async def race() -> list[Any]:
            calls: dict[str, Coroutine[Any, Any, Any]] = {
                "keep": live.keep(job.id, claim.epoch, finals, mark),
                "claim": live.claim(job.id, claim.epoch, "g1"),
                "finish": live.finish(job.id, claim.epoch, job, result, 5_000.0),
            }
            return await asyncio.gather(*(calls[name] for name in order))

        def expect(name: str, outcome: Any) -> None:
            if name == "keep":
                self.expect_keep(claim, finals, mark, outcome)
            elif name == "claim":
                self.expect_claim(claim, "g1", outcome)
            else:
                self.expect_finish(claim, result, outcome)

        in_some_order(self.place, dict(zip(order, self.run(race()), strict=True)), expect, self.known)

    @rule(pick=picks)
    def discard(self, pick: Pick) -> None:
        claim = self.some_claim(pick)
        gone = self.run(self.doors[claim.holder].live_keeping.discard(new_session(claim.number).id, claim.epoch))
        session = self.held(claim)
        assert gone is (session is not None and session.row.mark == SafeMark())
        if gone:
            del self.model[claim.number]

    @rule(holder=holders)
    def beat(self, holder: str) -> None:
        self.run(self.doors[holder].live_keeping.beat(holder))
        for session in self.model.values():
            session.beat += session.open and session.row.holder == holder

    @rule(pick=picks)
    def erase(self, pick: Pick) -> None:
        number = self.some_claim((pick[0], "any")).number
        gone = self.run(self.doors["g1"].jobs.delete(new_session(number).id))
        session = self.model.get(number)
        assert (gone is not None) is (session is not None and not session.open)
        if gone:
            del self.model[number]

    @rule(holder=holders)
    def restart(self, holder: str) -> None:
        self.run(self.doors[holder].close())
        self.doors[holder] = self.run(self.place.open())

    # --- what must hold after each step -------------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: self.doors)
    def tables_tell_what_the_model_tells(self) -> None:
        door = self.doors["g2"]
        for number in range(self.opened):
            sid, session = new_session(number).id, self.model.get(number)
            assert self.run(door.live.find(sid)) == (session.row if session else None)
            finals = self.run(door.live_keeping.finals(sid, -1, 999))
            assert finals == (session.finals if session else [])
            assert [one["id"] for one in finals] == list(range(len(finals)))
        held = self.run(door.live_keeping.open_sessions())
        open_now = [one for one in self.model.values() if one.open]
        assert sorted(held, key=lambda one: one.id) == sorted(
            (HeldSession(one.row.id, one.row.epoch, one.row.holder, one.beat) for one in open_now),
            key=lambda one: one.id,
        )
        ids = [new_session(number).id for number in range(self.opened)]
        assert self.run(door.uploads.known(ids)) == {one.row.id for one in self.model.values()}

    @invariant()
    @precondition(lambda self: self.doors)
    def each_finished_session_is_one_task(self) -> None:
        door = self.doors["g1"]
        finished = {one.row.id: one for one in self.model.values() if not one.open}
        jobs = [job for owner in OWNERS for job in self.run(door.jobs.page(owner, state=None, before=None, limit=999))]
        assert sorted(job.id for job in jobs) == sorted(finished)
        for job in jobs:
            session = finished[job.id]
            assert (job.state, job.owner, job.result) == (JobState.SUCCEEDED, session.row.owner, session.result)
            assert (job.fence, job.result_fence, session.finishes) == (session.row.epoch, session.row.epoch, 1)
            events = self.run(door.events.read(job.id, 0, 999))
            assert [event.data["id"] for event in events[:-2]] == [one["id"] for one in session.finals]
            assert [event.data for event in events[:-2]] == [
                segment(one["id"]) | {"by": one["by"]} for one in session.finals
            ]
            assert [event.kind for event in events[-2:]] == ["progress", "done"]


@pytest.mark.parametrize("kind", ["sqlite-process", POSTGRES])
def test_live_sessions(kind: str) -> None:
    class LiveHere(Live):
        pass

    LiveHere.kind = kind
    LiveHere.TestCase.settings = settings(
        max_examples=25 if kind != "postgres" else 8,  # where each step takes longer
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),  # shrinking takes minutes: add Phase.shrink to study a failure
        suppress_health_check=list(HealthCheck),
    )
    LiveHere.TestCase("runTest").runTest()
