"""Job leasing under every order of events that Hypothesis can think of, against a model in plain Python.

Several claimants work on one file through doors of their own (as processes would); any claim ever given may write at
any time, however stale; the clock jumps; doors are closed and opened. The model says what each call must return, and
after each step the tables must tell the same as the model. Deterministic: the same examples in every run.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, precondition, rule

from cosygate.adapters.records_sql import SqlRecords
from cosygate.errors import LostTooOften
from cosygate.model.job import MAX_ATTEMPTS, MAX_LOST, TERMINAL, TRANSITIONS, Claim, Job, JobState, Requeue
from cosygate.ports.records import MAX_DELAY_S, Beat
from tests.support.records import OWNER, new_job, open_records, submit

T = TypeVar("T")
DOORS = 2
WORKERS = ("w0", "w1", "w2")


@dataclass
class ModelJob:
    """What the port promises of one job, and nothing about how."""

    id: str
    priority: int
    created_at: float
    state: JobState = JobState.QUEUED
    fence: int = 0
    beat: int = 0
    claimant: str = ""
    attempt: int = 0
    lost: int = 0
    not_before: float | None = None
    percent: int = 0
    result: dict[str, Any] | None = None
    error: tuple[str, str] | None = None
    story: list[tuple[str, dict[str, Any]]] = field(default_factory=lambda: [("progress", {"percent": 0})])
    commits: int = 0  # calls that were told their write is the visible one

    def held(self, fence: int) -> bool:
        return self.state is JobState.RUNNING and self.fence == fence

    def end(self, state: JobState, event: str, data: dict[str, Any]) -> None:
        self.state, self.claimant, self.not_before = state, "", None
        self.story.append((event, data))

    def fail(self, error: tuple[str, str]) -> None:
        self.error = error
        self.end(JobState.FAILED, "failed", {"code": error[0], "detail": error[1]})

    def visible(self) -> tuple[object, ...]:
        fence = self.fence if self.state is JobState.SUCCEEDED else None
        code, detail = self.error or (None, None)
        return (self.state, self.fence, self.attempt, self.percent, self.result, fence, code, detail)


def visible(job: Job) -> tuple[object, ...]:
    ended = (job.result, job.result_fence, job.error_code, job.error_detail)
    return (job.state, job.fence, job.attempt, job.percent, *ended)


class Leasing(RuleBasedStateMachine):
    jobs: Bundle[str] = Bundle("jobs")
    claims: Bundle[Claim] = Bundle("claims")
    sightings: Bundle[Beat] = Bundle("sightings")  # what a reaper has seen, and remembers

    template: Path  # a migrated, empty database

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="leasing-"))
        self.path = self.folder / "records.db"
        self.doors: list[SqlRecords] = []
        self.model: dict[str, ModelJob] = {}
        self.seen_states: dict[str, JobState] = {}
        self.hints: list[str] = []
        self.now = 10_000.0
        self.submitted = 0

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    @initialize()
    def start(self) -> None:
        shutil.copy(self.template, self.path)
        self.doors = [self.run(open_records(self.path)) for _ in range(DOORS)]

    def teardown(self) -> None:
        for door in self.doors:
            self.run(door.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)

    # --- what clients do ----------------------------------------------------------------------------------------

    @rule(target=jobs, priority=st.integers(0, 1), door=st.integers(0, DOORS - 1))
    def submit(self, priority: int, door: int) -> str:
        self.submitted += 1
        job = self.run(submit(self.doors[door], self.submitted, priority=priority))
        self.model[job.id] = ModelJob(job.id, priority, job.created_at)
        self.hints.append(job.id)
        return job.id

    @rule(job=jobs, door=st.integers(0, DOORS - 1))
    def submit_again(self, job: str, door: int) -> None:
        if job in self.model:
            assert self.run(self.doors[door].uploads.complete(new_job(int(job, 16)))).id == job

    @rule(job=jobs, door=st.integers(0, DOORS - 1))
    def cancel(self, job: str, door: int) -> None:
        after = self.run(self.doors[door].jobs.cancel(OWNER, job, self.now))
        if model := self.model.get(job):
            if model.state not in TERMINAL:
                model.end(JobState.CANCELLED, "cancelled", {})
            assert after is not None
            assert after.state is model.state
        else:
            assert after is None

    @rule(job=jobs, door=st.integers(0, DOORS - 1))
    def delete(self, job: str, door: int) -> None:
        gone = self.run(self.doors[door].jobs.delete(job))
        model = self.model.get(job)
        assert (gone is not None) == (model is not None and model.state in TERMINAL)
        if gone is not None:
            del self.model[job]
            self.hints = [hint for hint in self.hints if hint != job]
            assert self.run(self.doors[door].events.read(job, 0, 10)) == []

    # --- what workers do ----------------------------------------------------------------------------------------

    def claimable(self) -> list[ModelJob]:
        """Whose delay is over has no delay any more; the others wait. By priority, then age."""
        for model in self.model.values():
            if model.not_before is not None and not self.now < model.not_before <= self.now + MAX_DELAY_S:
                model.not_before = None
        ready = (m for m in self.model.values() if m.state is JobState.QUEUED and m.not_before is None)
        return sorted(ready, key=lambda model: (model.priority, model.created_at))

    def expect_claim(self, claim: Claim | None, worker: str) -> None:
        ready = self.claimable()
        assert (claim.job_id if claim else None) == (ready[0].id if ready else None)
        if claim is None:
            return
        model = ready[0]
        model.state, model.claimant = JobState.RUNNING, worker
        model.fence, model.beat, model.percent = model.fence + 1, 0, 0
        if model.fence > 1:
            model.story = [("restarted", {})]
        assert visible(claim.job) == model.visible()

    @rule(target=claims, worker=st.sampled_from(WORKERS), door=st.integers(0, DOORS - 1))
    def claim(self, worker: str, door: int) -> Any:
        claim = self.run(self.doors[door].leases.claim(worker, self.now))
        self.expect_claim(claim, worker)
        return multiple(claim) if claim else multiple()

    @rule(target=claims, door=st.integers(0, DOORS - 1))
    def claim_all_at_once(self, door: int) -> Any:
        async def race() -> list[Claim | None]:
            return await asyncio.gather(*(self.doors[door].leases.claim(worker, self.now) for worker in WORKERS))

        claims = self.run(race())
        for worker, claim in zip(WORKERS, claims, strict=True):
            self.expect_claim(claim, worker)
        return multiple(*(claim for claim in claims if claim))

    @rule(claim=claims, door=st.integers(0, DOORS - 1))
    def renew(self, claim: Claim, door: int) -> None:
        model = self.model.get(claim.job_id)
        held = model is not None and model.held(claim.fence)
        assert self.run(self.doors[door].leases.renew(claim)) is held
        if model and held:
            model.beat += 1

    @rule(
        claim=claims,
        segments=st.integers(0, 2),
        percent=st.none() | st.integers(0, 99),
        door=st.integers(0, DOORS - 1),
    )
    def tell(self, claim: Claim, segments: int, percent: int | None, door: int) -> None:
        told = [("segment", {"fence": claim.fence, "n": n}) for n in range(segments)]
        model = self.model.get(claim.job_id)
        held = model is not None and model.held(claim.fence)
        assert self.run(self.doors[door].events.append(claim, told, percent)) is held
        if model and held:
            model.story += told
            if percent is not None:
                model.percent = percent
                model.story = [event for event in model.story if event[0] != "progress"]
                model.story.append(("progress", {"percent": percent}))

    @rule(claim=claims, door=st.integers(0, DOORS - 1))
    def succeed(self, claim: Claim, door: int) -> None:
        result = {"text": f"by claim {claim.fence}"}
        model = self.model.get(claim.job_id)
        held = model is not None and model.held(claim.fence)
        assert self.run(self.doors[door].leases.commit(claim, self.now, result=result)) is held
        if model and held:
            model.commits += 1
            model.result, model.percent = result, 100
            model.end(JobState.SUCCEEDED, "done", {"state": "succeeded", "percent": 100})

    @rule(claim=claims, door=st.integers(0, DOORS - 1))
    def fail(self, claim: Claim, door: int) -> None:
        error = ("media_undecodable", f"by claim {claim.fence}")
        model = self.model.get(claim.job_id)
        held = model is not None and model.held(claim.fence)
        assert self.run(self.doors[door].leases.commit(claim, self.now, result=None, error=error)) is held
        if model and held:
            model.commits += 1
            model.fail(error)

    def expect_requeue(self, job_id: str, fence: int, why: Requeue, delay_s: float, beat: int | None) -> str | None:
        model = self.model.get(job_id)
        if model is None or not model.held(fence) or beat not in (None, model.beat):
            return None
        model.attempt += why is Requeue.RECORDING
        model.lost += why is Requeue.LOST
        if model.attempt >= MAX_ATTEMPTS:
            model.fail(("engine_failed", "it failed"))
        elif model.lost >= MAX_LOST:
            model.fail((LostTooOften.code, LostTooOften.title))
        else:
            model.state, model.claimant, model.percent = JobState.QUEUED, "", 0
            model.not_before = self.now + min(delay_s, MAX_DELAY_S) if delay_s else None
        return model.state

    @rule(
        claim=claims,
        why=st.sampled_from(Requeue),
        delay_s=st.sampled_from((0.0, 5.0, 30.0, 1_000.0)),
        door=st.integers(0, DOORS - 1),
    )
    def requeue(self, claim: Claim, why: Requeue, delay_s: float, door: int) -> None:
        state = self.run(
            self.doors[door].leases.requeue(
                claim.job_id, claim.fence, why, self.now, delay_s=delay_s, error=("engine_failed", "it failed")
            )
        )
        assert state == self.expect_requeue(claim.job_id, claim.fence, why, delay_s, None)

    @rule(claim=claims, order=st.permutations(["succeed", "renew", "lose"]))
    def worker_and_reaper_collide(self, claim: Claim, order: list[str]) -> None:
        """All at once on one door, where the first to ask is the first to be served."""
        leases = self.doors[0].leases

        async def race() -> list[Any]:
            calls = {
                "succeed": leases.commit(claim, self.now, result={"text": "collided"}),
                "renew": leases.renew(claim),
                "lose": leases.requeue(claim.job_id, claim.fence, Requeue.LOST, self.now),
            }
            return await asyncio.gather(*(calls[name] for name in order))

        for name, outcome in zip(order, self.run(race()), strict=True):
            model = self.model.get(claim.job_id)
            held = model is not None and model.held(claim.fence)
            if name == "lose":
                assert outcome == self.expect_requeue(claim.job_id, claim.fence, Requeue.LOST, 0.0, None)
                continue
            assert outcome is held
            if model and held and name == "renew":
                model.beat += 1
            elif model and held:
                model.commits += 1
                model.result, model.percent = {"text": "collided"}, 100
                model.end(JobState.SUCCEEDED, "done", {"state": "succeeded", "percent": 100})

    # --- what the house does ------------------------------------------------------------------------------------

    @rule(target=sightings, door=st.integers(0, DOORS - 1))
    def reaper_looks(self, door: int) -> Any:
        beats = self.run(self.doors[door].leases.running())
        running = (m for m in self.model.values() if m.state is JobState.RUNNING)
        assert sorted(beats, key=lambda beat: beat.job_id) == sorted(
            (Beat(model.id, model.fence, model.beat) for model in running), key=lambda beat: beat.job_id
        )
        return multiple(*beats)

    @rule(seen=sightings, door=st.integers(0, DOORS - 1))
    def reaper_expires(self, seen: Beat, door: int) -> None:
        """Only a claim whose beat stood still since it was seen."""
        state = self.run(
            self.doors[door].leases.requeue(
                seen.job_id,
                seen.fence,
                Requeue.LOST,
                self.now,
                beat=seen.beat,
                error=("engine_failed", "it failed"),
            )
        )
        assert state == self.expect_requeue(seen.job_id, seen.fence, Requeue.LOST, 0.0, seen.beat)

    @rule(door=st.integers(0, DOORS - 1), worker=st.sampled_from(WORKERS))
    def restart(self, door: int, worker: str) -> None:
        """A process ends and another takes its place: it gives its earlier claims back at once."""
        self.run(self.doors[door].close())
        self.doors[door] = self.run(open_records(self.path))
        leases = self.doors[door].leases
        mine = self.run(leases.running(worker))
        assert {own.job_id for own in mine} == {m.id for m in self.model.values() if m.claimant == worker}
        for own in mine:
            state = self.run(leases.requeue(own.job_id, own.fence, Requeue.HAND_BACK, self.now, beat=own.beat))
            assert state == self.expect_requeue(own.job_id, own.fence, Requeue.HAND_BACK, 0.0, own.beat)

    @rule(limit=st.integers(1, 3), door=st.integers(0, DOORS - 1))
    def send_hints(self, limit: int, door: int) -> None:
        assert self.run(self.doors[door].outbox.take(limit)) == self.hints[:limit]
        self.hints = self.hints[limit:]

    @rule(seconds=st.sampled_from((1.0, 30.0, 61.0, -10.0, -3_600.0, 3_600.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    # --- what must hold after each step -------------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: self.doors)
    def tables_tell_what_the_model_tells(self) -> None:
        stored = {job.id: job for job in self.run(self.doors[0].jobs.page(OWNER, state=None, before=None, limit=999))}
        assert stored.keys() == self.model.keys()  # nothing lost, nothing left behind
        for job_id, job in stored.items():
            model = self.model[job_id]
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
    @precondition(lambda self: self.doors and self.model)
    def stories_are_whole_and_in_order(self) -> None:
        for model in self.model.values():
            events = self.run(self.doors[-1].events.read(model.id, 0, 999))
            assert [(event.kind, event.data) for event in events] == model.story
            assert [event.seq for event in events] == sorted({event.seq for event in events})


def test_leases(tmp_path: Path) -> None:
    template = tmp_path / "template.db"
    asyncio.run(_migrate(template))

    class LeasingHere(Leasing):
        pass

    LeasingHere.template = template
    LeasingHere.TestCase.settings = settings(
        max_examples=60,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    LeasingHere.TestCase("runTest").runTest()


async def _migrate(path: Path) -> None:
    records = await open_records(path)
    await records.close()
