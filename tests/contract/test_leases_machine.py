"""Job leasing under every order of events that Hypothesis can think of, against a model in plain Python.

Several claimants work on one database through doors of their own (as processes would); any claim ever given may write
at any time, however stale; the clock jumps; doors are closed and opened. The model says what each call must return, and
after each step the tables must tell the same as the model. Deterministic: the same examples in every run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cosygate.adapters.records_sql import SqlRecords
from cosygate.model.job import TERMINAL, TRANSITIONS, Claim, JobState, Requeue
from cosygate.ports.records import Beat
from tests.contract.conftest import POSTGRES
from tests.support.leasing_model import LeasingModel, ModelJob, visible
from tests.support.records import OWNER, a_place, in_some_order, new_job, submit

T = TypeVar("T")
DOORS = 2
FAULT = ("engine_failed", "it failed")
WORKERS = ("w0", "w1", "w2")
OWNERS = (OWNER, OWNER, OWNER, "other/ann", "third/ann")  # each of a tenant of its own


door_numbers = st.integers(0, DOORS - 1)
# Which of the jobs, claims or sightings there ever were: usually one that still matters, sometimes any.
picks = st.tuples(st.integers(0, 999), st.sampled_from(("alive", "alive", "alive", "any")))
Pick = tuple[int, str]
new_jobs = st.lists(  # (priority, owner, cost)
    st.tuples(st.integers(0, 1), st.sampled_from(OWNERS), st.sampled_from((0.5, 1.0, 4.0))), min_size=1, max_size=3
)


class Leasing(RuleBasedStateMachine):
    kind: str  # of database

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.places = ExitStack()
        self.place = self.places.enter_context(a_place(self.kind))
        self.doors: list[SqlRecords] = []
        self.model = LeasingModel()
        self.jobs: list[str] = []
        self.claims: list[Claim] = []
        self.sightings: list[Beat] = []  # what a reaper has seen, and remembers
        self.seen_states: dict[str, JobState] = {}
        self.seen_stories: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.hints: list[str] = []
        self.now = 10_000.0
        self.submitted = 0

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    @initialize()
    def start(self) -> None:
        self.doors = [self.run(self.place.open()) for _ in range(DOORS)]
        self.submit([(0, OWNER, 1.0), (1, OWNER, 1.0), (0, OWNER, 1.0)], 0)

    def teardown(self) -> None:
        if self.doors:
            self.stories_are_whole_and_in_order(every=True)
        for door in self.doors:
            self.run(door.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.places.close()

    def known(self, state: tuple[LeasingModel, list[Claim]] | None) -> tuple[LeasingModel, list[Claim]]:
        before = self.model, self.claims
        if state is not None:
            self.model, self.claims = state
        return before

    def some(self, every: list[T], alive: list[T], pick: Pick) -> T:
        number, which = pick
        among = alive if alive and which == "alive" else every
        return among[number % len(among)]

    def some_job(self, pick: Pick) -> str:
        return self.some(self.jobs, list(self.model.jobs), pick)

    def some_claim(self, pick: Pick) -> Claim:
        """There always is one: most rules are about claims, and a rule that finds none has wasted its step."""
        wanted = self.claims if pick[1] == "any" else [claim for claim in self.claims if self.model.held(claim)]
        if not wanted:
            self.submit([(0, OWNER, 1.0)], 0)
            self.claim(WORKERS[0], 0)
        return self.some(self.claims, [claim for claim in self.claims if self.model.held(claim)], pick)

    # --- what clients do ----------------------------------------------------------------------------------------

    @rule(new=new_jobs, door=door_numbers)
    def submit(self, new: list[tuple[int, str, float]], door: int) -> None:
        for priority, owner, cost_s in new:
            self.submitted += 1
            one = submit(self.doors[door], self.submitted, owner=owner, priority=priority, cost_s=cost_s)
            job = self.run(one)
            self.model.jobs[job.id] = ModelJob(job.id, priority, job.created_at, owner, cost_s)
            self.hints.append(job.id)
            self.jobs.append(job.id)

    @rule(pick=picks, door=door_numbers)
    def submit_again(self, pick: Pick, door: int) -> None:
        job = self.some_job(pick)
        if job in self.model.jobs:
            again = new_job(int(job, 16), owner=self.model.jobs[job].owner)
            assert self.run(self.doors[door].uploads.complete(again)).id == job

    @rule(pick=picks, door=door_numbers)
    def cancel(self, pick: Pick, door: int) -> None:
        job = self.some_job(pick)
        model = self.model.jobs.get(job)
        after = self.run(self.doors[door].jobs.cancel(model.owner if model else OWNER, job, self.now))
        if model:
            if model.state not in TERMINAL:
                model.end(JobState.CANCELLED, "cancelled", {})
            assert after is not None
            assert after.state is model.state
        else:
            assert after is None

    @rule(pick=picks, door=door_numbers)
    def delete(self, pick: Pick, door: int) -> None:
        job = self.some_job(pick)
        gone = self.run(self.doors[door].jobs.delete(job))
        model = self.model.jobs.get(job)
        assert (gone is not None) == (model is not None and model.state in TERMINAL)
        if gone is not None:
            del self.model.jobs[job]
            self.hints = [hint for hint in self.hints if hint != job]
            assert self.run(self.doors[door].events.read(job, 0, 10)) == []

    # --- what workers do ----------------------------------------------------------------------------------------

    def expect_claim(self, claim: Claim | None, worker: str) -> None:
        model = self.model.claim(worker, self.now)
        assert (claim.job_id if claim else None) == (model.id if model else None)
        if claim and model:
            self.claims.append(claim)
            assert visible(claim.job) == model.visible()

    @rule(worker=st.sampled_from(WORKERS), door=door_numbers)
    def claim(self, worker: str, door: int) -> None:
        self.expect_claim(self.run(self.doors[door].leases.claim(worker, self.now)), worker)

    @rule(door=door_numbers)
    def claim_all_at_once(self, door: int) -> None:
        async def race() -> list[Claim | None]:
            return await asyncio.gather(*(self.doors[door].leases.claim(worker, self.now) for worker in WORKERS))

        claims = dict(zip(WORKERS, self.run(race()), strict=True))
        in_some_order(self.place, claims, lambda worker, claim: self.expect_claim(claim, worker), self.known)

    @rule(pick=picks, door=door_numbers)
    def renew(self, pick: Pick, door: int) -> None:
        claim = self.some_claim(pick)
        model = self.model.held(claim)
        assert self.run(self.doors[door].leases.renew(claim)) is (model is not None)
        if model:
            model.beat += 1

    @rule(
        pick=picks,
        segments=st.integers(0, 2),
        percent=st.none() | st.integers(0, 99),
        door=door_numbers,
    )
    def tell(self, pick: Pick, segments: int, percent: int | None, door: int) -> None:
        claim = self.some_claim(pick)
        told = [("segment", {"fence": claim.fence, "n": n}) for n in range(segments)]
        model = self.model.held(claim)
        assert self.run(self.doors[door].events.append(claim, told, percent)) is (model is not None)
        if model:
            model.tell(told, percent)

    @rule(pick=picks, real_s=st.sampled_from((None, 0.5, 1.0, 4.0, 16.0)), door=door_numbers)
    def succeed(self, pick: Pick, real_s: float | None, door: int) -> None:
        claim = self.some_claim(pick)
        result = {"text": f"by claim {claim.fence}"} | ({"duration": real_s} if real_s else {})
        model = self.model.held(claim)
        expected = model is not None or self.model.succeeded(claim)
        assert self.run(self.doors[door].leases.commit(claim, self.now, result=result)) is expected
        if model:
            model.succeed(result)
            if real_s:
                self.model.owe_more(model, real_s - model.cost_s)

    @rule(pick=picks, door=door_numbers)
    def fail(self, pick: Pick, door: int) -> None:
        claim = self.some_claim(pick)
        error = ("media_undecodable", f"by claim {claim.fence}")
        model = self.model.held(claim)
        told = self.run(self.doors[door].leases.commit(claim, self.now, result=None, error=error))
        assert told is (model is not None or self.model.failed(claim, error[0]))
        if model:
            model.fail(error)

    @rule(
        pick=picks,
        why=st.sampled_from(Requeue),
        delay_s=st.sampled_from((0.0, 5.0, 30.0, 1_000.0)),
        door=door_numbers,
    )
    def requeue(self, pick: Pick, why: Requeue, delay_s: float, door: int) -> None:
        claim = self.some_claim(pick)
        state = self.run(
            self.doors[door].leases.requeue(claim.job_id, claim.fence, why, self.now, delay_s=delay_s, error=FAULT)
        )
        assert state == self.model.requeue(claim, why, self.now, FAULT, delay_s)

    @rule(pick=picks, order=st.permutations(["succeed", "renew", "lose"]))
    def worker_and_reaper_collide(self, pick: Pick, order: list[str]) -> None:
        """All at once on one door."""
        leases, claim = self.doors[0].leases, self.some_claim(pick)

        async def race() -> list[Any]:
            calls = {
                "succeed": leases.commit(claim, self.now, result={"text": "collided"}),
                "renew": leases.renew(claim),
                "lose": leases.requeue(claim.job_id, claim.fence, Requeue.LOST, self.now, error=FAULT),
            }
            return await asyncio.gather(*(calls[name] for name in order))

        def expect(name: str, outcome: Any) -> None:
            model = self.model.held(claim)
            if name == "lose":
                assert outcome == self.model.requeue(claim, Requeue.LOST, self.now, FAULT)
                return
            assert outcome is (model is not None or (name == "succeed" and self.model.succeeded(claim)))
            if model and name == "renew":
                model.beat += 1
            elif model:
                model.succeed({"text": "collided"})

        in_some_order(self.place, dict(zip(order, self.run(race()), strict=True)), expect, self.known)

    @rule(pick=picks, why=st.sampled_from(Requeue), times=st.sampled_from((2, 3, 19, 20, 21)))
    def bad_luck(self, pick: Pick, why: Requeue, times: int) -> None:
        """The same again and again, to whoever is first in line: this is what the limits are for."""
        self.requeue(pick, why, 0.0, 0)
        for _ in range(times - 1):
            self.claim(WORKERS[0], 0)
            self.requeue((-1, "alive"), why, 0.0, 0)

    # --- what the house does ------------------------------------------------------------------------------------

    @rule(door=door_numbers)
    def reaper_looks(self, door: int) -> None:
        beats = self.run(self.doors[door].leases.running())
        running = (m for m in self.model.jobs.values() if m.state is JobState.RUNNING)
        assert sorted(beats, key=lambda beat: beat.job_id) == sorted(
            (Beat(model.id, model.fence, model.beat) for model in running), key=lambda beat: beat.job_id
        )
        self.sightings += beats

    @rule(pick=picks, door=door_numbers)
    def reaper_expires(self, pick: Pick, door: int) -> None:
        """Only a claim whose beat stood still since it was seen."""
        if not self.sightings:
            return
        seen = self.some(self.sightings, [s for s in self.sightings if self.model.held(s)], pick)
        state = self.run(
            self.doors[door].leases.requeue(
                seen.job_id,
                seen.fence,
                Requeue.LOST,
                self.now,
                beat=seen.beat,
                error=FAULT,
            )
        )
        assert state == self.model.requeue(seen, Requeue.LOST, self.now, FAULT)

    @rule(pick=picks, renewed=st.booleans(), door=door_numbers)
    def reaper_waits_and_expires(self, pick: Pick, renewed: bool, door: int) -> None:
        claim = self.some_claim(pick)
        self.reaper_looks(door)
        if renewed:
            self.renew(pick, door)
        for at, seen in enumerate(self.sightings):
            if seen.job_id == claim.job_id:
                self.reaper_expires((at, "any"), door)

    @rule(door=door_numbers, worker=st.sampled_from(WORKERS))
    def restart(self, door: int, worker: str) -> None:
        """A process ends and another takes its place: it gives its earlier claims back at once."""
        self.run(self.doors[door].close())
        self.doors[door] = self.run(self.place.open())
        leases = self.doors[door].leases
        mine = self.run(leases.running(worker))
        assert {own.job_id for own in mine} == {m.id for m in self.model.jobs.values() if m.claimant == worker}
        for own in mine:
            state = self.run(leases.requeue(own.job_id, own.fence, Requeue.HAND_BACK, self.now, beat=own.beat))
            assert state == self.model.requeue(own, Requeue.HAND_BACK, self.now, FAULT)

    @rule(limit=st.integers(1, 3), door=door_numbers)
    def send_hints(self, limit: int, door: int) -> None:
        assert [hint.job_id for hint in self.run(self.doors[door].outbox.take(limit))] == self.hints[:limit]
        self.hints = self.hints[limit:]

    @rule(pick=picks, delay_s=st.sampled_from((5.0, 30.0)), jump=st.sampled_from((4.0, 30.0, -10.0, -3_600.0)))
    def clock_jumps_while_a_job_waits(self, pick: Pick, delay_s: float, jump: float) -> None:
        self.requeue(pick, Requeue.HAND_BACK, delay_s, 0)
        self.now += jump
        self.claim_all_at_once(0)

    @rule(seconds=st.sampled_from((1.0, 30.0, 61.0, -10.0, -3_600.0, 3_600.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # --- what must hold after each step -------------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: self.doors)
    def tables_tell_what_the_model_tells(self) -> None:
        page = self.doors[0].jobs.page
        stored = {
            job.id: job
            for owner in sorted(set(OWNERS))
            for job in self.run(page(owner, state=None, before=None, limit=999))
        }
        assert stored.keys() == self.model.jobs.keys()  # nothing lost, nothing left behind
        for job_id, job in stored.items():
            model = self.model.jobs[job_id]
            assert visible(job) == model.visible()
            before = self.seen_states.get(job_id, JobState.QUEUED)
            assert job.state is before or job.state in self.reachable(before)
            self.seen_states[job_id] = job.state
            if job.state is JobState.SUCCEEDED:
                assert job.result_fence == job.fence
                assert model.commits == 1  # one visible result, and one worker was told so

    @staticmethod
    def reachable(state: JobState) -> set[JobState]:
        """In two steps: the races are more than one change between looks."""
        return {last for first in TRANSITIONS[state] for last in (first, *TRANSITIONS[first])}

    @invariant()
    @precondition(lambda self: self.doors)
    def stories_are_whole_and_in_order(self, every: bool = False) -> None:
        """Those that should have changed since the last look; all of them at the end."""
        for model in self.model.jobs.values():
            if not every and self.seen_stories.get(model.id) == model.story:
                continue
            events = self.run(self.doors[-1].events.read(model.id, 0, 999))
            assert [(event.kind, event.data) for event in events] == model.story
            assert [event.seq for event in events] == sorted({event.seq for event in events})
            self.seen_stories[model.id] = list(model.story)


@pytest.mark.parametrize("kind", ["sqlite-process", POSTGRES])
def test_leases(kind: str) -> None:
    class LeasingHere(Leasing):
        pass

    LeasingHere.kind = kind
    LeasingHere.TestCase.settings = settings(
        max_examples=60 if kind != "postgres" else 20,  # where each step takes longer
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),  # shrinking takes minutes: add Phase.shrink to study a failure
        suppress_health_check=list(HealthCheck),
    )
    LeasingHere.TestCase("runTest").runTest()
