"""The sender's story, on a clock that is moved: tried, tried again, delivered or dead, replayed, gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from cosygate import errors
from cosygate.adapters.limits_memory import MemoryCounters
from cosygate.adapters.records_sql import SqlRecords
from cosygate.adapters.records_sql.receivers import SqlReceivers
from cosygate.flows.limiting import RECORDINGS, Limiting
from cosygate.flows.quotas import QuotaWatch
from cosygate.flows.webhook_desk import Webhooks
from cosygate.flows.webhooks import Sender
from cosygate.kit import metrics
from cosygate.model.job import Job, JobState
from cosygate.model.principal import Principal
from cosygate.model.rates import Rate
from cosygate.model.usage import Quota
from cosygate.model.webhook import OVERLAP_S, Answer, DeliveryState, Message, Schedule
from cosygate.ports.webhooks import Room
from tests.support.clock import MovedClock, SeededRandomness
from tests.support.deliveries import ended
from tests.support.records import open_records

URL = "https://receiver.example/hooks"


class Receiving:
    """Behind Post: keeps the messages, and answers as it is told (`answer` may be a function of the message)."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.answer: Answer | Callable[[Message], Answer] = Answer(204)

    async def send(self, message: Message) -> Answer:
        self.messages.append(message)
        return self.answer(message) if callable(self.answer) else self.answer


class House:
    def __init__(self, records: SqlRecords) -> None:
        self.records, self.clock, self.post = records, MovedClock(), Receiving()
        quotas = QuotaWatch(records.usage, records.quotas, self.clock, Quota())
        rates = {RECORDINGS: (Rate(2, 3600),)}
        limiting = Limiting(MemoryCounters(self.clock), quotas, self.clock, rates=rates, failing_open=False)
        self.desk = Webhooks(records.deliveries, records.receivers, self.clock, SeededRandomness(1), limiting)
        self.sender = self.new_sender()

    def new_sender(self, schedule: str = "5 300 1800 7200 18000 36000 50400 72000 86400") -> Sender:
        return Sender(
            sending=self.records.sending, receivers=self.records.receivers, jobs=self.records.jobs, post=self.post,
            view=lambda job: {"task_id": job.id, "state": job.state.value}, clock=self.clock,
            randomness=SeededRandomness(2), schedule=Schedule.parse(schedule), timeout_s=15.0, room=Room(),
        )  # fmt: skip

    async def look(self, seconds: float = 0.0) -> int:
        """How many were begun after so many seconds; each has ended."""
        self.clock.wall += seconds
        self.clock.mono += seconds
        begun = await self.sender.look()
        while self.sender._running:
            await asyncio.wait(self.sender._running)
            await asyncio.sleep(0)  # it leaves the set
        return begun

    async def state(self, number: int = 1) -> tuple[str, int, int | None, str | None]:
        found = await self.records.deliveries.page("acme/ann", None, None, 100)
        [one] = [d for d in found if d.job_id == f"{number:032x}"]
        return one.state.value, one.attempt, one.status, one.error

    async def due_in(self) -> float:
        [one] = await self.records.deliveries.page("acme/ann", None, None, 1)
        return one.due_at - self.clock.now()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    records = await open_records(tmp_path / "records.db")
    made = House(records)
    assert (await made.desk.create_secret("acme") or "").startswith("whsec_")
    yield made
    await made.sender.stop(1.0)
    await records.close()


async def end(house: House, number: int = 1, **how: Any) -> Job:
    return await ended(house.records, number, now=house.clock.now(), url=how.pop("url", URL), **how)


async def test_a_receiver_that_is_down_for_an_hour_hears_of_it_later_with_the_same_id(house: House) -> None:
    house.post.answer = Answer(error="connect_failed")
    await end(house)
    passed = 0.0
    while passed < 3600:
        await house.look()
        assert await house.look(1.0) == 0, "no try before its time"
        step = await house.due_in() + 0.01
        passed += step + 1.0
        house.clock.wall += step
    tries = len(house.post.messages)
    assert tries >= 3
    assert (await house.state())[0] == "pending"
    house.post.answer = Answer(200)
    assert await house.look() == 1
    assert await house.state() == ("delivered", tries + 1, 200, None)
    assert {message.id for message in house.post.messages} == {f"msg_{1:032x}"}
    assert len({message.body for message in house.post.messages}) == 1, "the same in every try"
    stamps = [message.timestamp for message in house.post.messages]
    assert stamps == sorted(set(stamps)), "the timestamp is the try's own"
    assert await house.look(86_400.0) == 0


async def test_a_delivery_is_tried_for_three_days_and_then_dead_and_may_be_replayed(house: House) -> None:
    house.post.answer = Answer(500, "http_status")
    dead = metrics.webhooks.labels("dead")._value.get()
    await end(house)
    began = house.clock.now()
    while (await house.state())[0] == "pending":
        assert await house.look(max(0.0, await house.due_in())) == 1
    assert 65 * 3600 < house.clock.now() - began < 84 * 3600
    assert await house.state() == ("dead", 10, 500, "http_status")
    assert metrics.webhooks.labels("dead")._value.get() == dead + 1
    assert await house.look(10 * 86_400.0) == 0
    count, [letter] = await house.desk.dead_letters(50)
    assert (count, letter.host, letter.tenant, letter.attempt) == (1, "receiver.example:443", "acme", 10)
    with pytest.raises(errors.DeliveryNotFound):
        await house.desk.replay(Principal("bob", "acme"), letter.id)
    house.post.answer = Answer(200)
    replayed, standing = await house.desk.replay(Principal("ann", "acme"), letter.id)
    assert replayed.attempt == 0 and standing is not None and standing.remaining == 1
    with pytest.raises(errors.DeliveryPending):
        await house.desk.replay(None, letter.id)
    assert await house.look() == 1
    assert await house.state() == ("delivered", 1, 200, None)
    assert await house.desk.dead_letters(50) == (0, [])
    again, _ = await house.desk.replay(None, letter.id)
    assert again.state is DeliveryState.PENDING, "a delivered one may be, too"


async def test_replays_of_callers_count_as_recordings_and_the_operators_do_not(house: House) -> None:
    ann, one = Principal("ann", "acme"), f"msg_{1:032x}"
    await end(house)
    await house.look()
    for left in (1, 0):
        _, standing = await house.desk.replay(ann, one)
        assert standing is not None and standing.remaining == left
        await house.look()
    for _ in range(3):
        with pytest.raises(errors.Refused):
            await house.desk.replay(ann, one)
    assert len(house.post.messages) == 3
    for _ in range(3):
        assert (await house.desk.replay(None, one))[1] is None
        await house.look()
    assert len(house.post.messages) == 6


async def test_a_replay_that_is_refused_costs_nothing(house: House) -> None:
    ann, one = Principal("ann", "acme"), f"msg_{1:032x}"
    await end(house)
    for _ in range(5):
        with pytest.raises(errors.DeliveryPending):
            await house.desk.replay(ann, one)
        with pytest.raises(errors.DeliveryNotFound):
            await house.desk.replay(ann, f"msg_{2:032x}")
    await house.look()
    _, standing = await house.desk.replay(ann, one)
    assert standing is not None and standing.remaining == 1


async def test_410_ends_it_and_disables_the_receiver_for_its_tenant_alone(house: House) -> None:
    await house.desk.create_secret("other")
    house.post.answer = Answer(410, "gone")
    await end(house)
    assert await house.look() == 1
    assert await house.state() == ("dead", 1, 410, "gone")
    await end(house, 2)
    await end(house, 3, url=URL + "/elsewhere")
    await end(house, 4, owner="other/bob")
    house.post.answer = Answer(200)
    sent = len(house.post.messages)
    assert await house.look() == 3
    assert await house.state(2) == ("dead", 1, None, "gone")
    assert await house.state(3) == ("delivered", 1, 200, None)
    assert sorted(m.id[-1] for m in house.post.messages[sent:]) == ["3", "4"], "nothing is sent to one that is gone"
    [gone] = await house.desk.gone("acme")
    assert (gone.url, await house.desk.gone("other")) == (URL, [])
    assert await house.desk.enable("other", URL) is False
    assert await house.desk.enable("acme", URL) is True
    await end(house, 5)
    assert await house.look() == 1
    assert (await house.state(5))[0] == "delivered"


async def test_a_replay_enables_its_receiver_and_another_410_disables_it_again(house: House) -> None:
    house.post.answer = Answer(410, "gone")
    await end(house)
    await house.look()
    await house.desk.replay(None, f"msg_{1:032x}")
    assert await house.desk.gone() == []
    await house.look()
    assert len(house.post.messages) == 2
    assert len(await house.desk.gone()) == 1


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
async def test_however_a_task_ends_it_is_told(house: House, state: JobState) -> None:
    job = await end(house, state=state)
    await house.look()
    [message] = house.post.messages
    assert f'"type": "task.{state}"' in message.body
    assert f'"task_id": "{job.id}", "state": "{state}"' in message.body
    assert message.trace["traceparent"].split("-")[1] == job.trace_id


async def test_nothing_is_told_of_tasks_that_nobody_asked_about_or_that_go_on(house: House) -> None:
    await end(house, url=None)
    await end(house, 2, state=JobState.RUNNING)
    assert await house.look() == 0


async def test_a_task_that_is_deleted_takes_its_delivery_along(house: House) -> None:
    house.post.answer = Answer(error="timeout")
    job = await end(house)
    await house.look()
    await house.records.jobs.delete(job.id)
    assert await house.look(10.0) == 0
    assert await house.records.deliveries.page("acme/ann", None, None, 10) == []


async def test_a_task_that_is_deleted_while_a_try_runs_ends_quietly(house: House) -> None:
    job = await end(house)
    [begun] = await house.records.sending.begin(house.clock.now(), 1e6, 20.0, Room())
    await house.records.jobs.delete(job.id)
    await house.sender._deliver(begun)
    assert house.post.messages == []


class AnswersLost(SqlReceivers):
    """As behind a connection that breaks while COMMIT is under way: it has happened, and nobody is told."""

    lost = 0

    async def rotate_secret(self, tenant: str, secret: str, now: float, until: float) -> bool:
        done = await super().rotate_secret(tenant, secret, now, until)
        if self.lost:
            self.lost -= 1
            raise errors.DatabaseBusy()
        return done


async def test_a_rotation_whose_answer_is_lost_retires_nothing_and_its_secret_is_told(house: House) -> None:
    receivers = AnswersLost(house.records.receivers._database)
    desk = Webhooks(house.records.deliveries, receivers, house.clock, SeededRandomness(3), None)
    [older] = await receivers.secrets("acme", house.clock.now())
    receivers.lost = 2
    rotating = asyncio.create_task(desk.rotate_secret("acme"))
    while not rotating.done():
        await house.clock.advance(1.0)
        await asyncio.sleep(0.01)
    newer = await rotating
    assert await receivers.secrets("acme", house.clock.now()) == (newer, older)
    newest = await desk.rotate_secret("acme")  # another one is another one
    assert await receivers.secrets("acme", house.clock.now()) == (newest, newer)


async def test_a_rotation_gives_up_on_a_database_that_stays_away(house: House) -> None:
    receivers = AnswersLost(house.records.receivers._database)
    desk = Webhooks(house.records.deliveries, receivers, house.clock, SeededRandomness(3), None)
    [older] = await receivers.secrets("acme", house.clock.now())
    receivers.lost = 1_000
    rotating = asyncio.create_task(desk.rotate_secret("acme"))
    for _ in range(20):
        await house.clock.advance(1.0)
        await asyncio.sleep(0.01)
    with pytest.raises(errors.DatabaseBusy):
        await rotating
    assert older in await receivers.secrets("acme", house.clock.now())


async def test_both_secrets_sign_while_the_older_one_is_valid(house: House) -> None:
    older = (await house.records.receivers.secrets("acme", house.clock.now()))[0]
    newer = await house.desk.rotate_secret("acme")
    assert newer and newer != older
    await end(house)
    await house.look()
    assert house.post.messages[0].secrets == (newer, older)
    await end(house, 2)
    await house.look(OVERLAP_S + 1)
    assert house.post.messages[1].secrets == (newer,)
    assert await house.desk.create_secret("acme") is None
    assert await house.desk.rotate_secret("nobody") is None
    for secret in (older, newer):
        Webhook(secret)  # the library takes them
    with pytest.raises(WebhookVerificationError):
        Webhook(newer).verify("{}", {})


async def test_without_a_secret_nothing_is_sent_unsigned(house: House) -> None:
    await end(house, owner="nosecret/eve")
    await house.look()
    assert house.post.messages == []
    [one] = await house.records.deliveries.page("nosecret/eve", None, None, 1)
    assert (one.state, one.error) == (DeliveryState.PENDING, "secret_missing")


async def test_a_bug_costs_a_try_and_never_the_sender(house: House) -> None:
    def broken(_: Message) -> Answer:
        raise RuntimeError

    house.post.answer = broken
    await end(house)
    await house.look()
    assert await house.state() == ("pending", 1, None, "internal")


async def test_the_clock_may_jump_either_way(house: House) -> None:
    house.post.answer = Answer(503, "http_status", retry_after_s=3600.0)
    for number in range(1, 41):
        await end(house, number, url=f"https://r{number}.example/")
    await house.look()
    assert len(house.post.messages) == 40
    house.clock.wall += 3600 * 24 * 365
    await house.look()
    assert len(house.post.messages) == 80, "each once, not again and again"
    house.clock.wall -= 3600 * 24 * 365 * 2
    await house.look()
    assert len(house.post.messages) == 120
    assert await house.look() == 0


async def test_a_sender_that_is_stopped_begins_nothing(house: House) -> None:
    await house.sender.stop(0.1)
    await end(house)
    assert await house.look() == 0
    house.sender = house.new_sender()
    assert await house.look() == 1


async def test_whoever_looks_may_be_cancelled_and_what_was_begun_is_made_all_the_same(house: House) -> None:
    await end(house)
    looking = asyncio.create_task(house.sender.look())
    await asyncio.sleep(0)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await house.sender.stop(5.0)
    assert await house.state() == ("delivered", 1, 204, None)


async def test_a_lost_try_is_made_again_by_somebody_else_and_its_late_word_does_not_count(house: House) -> None:
    await end(house)
    [lost] = await house.records.sending.begin(house.clock.now(), 1e6, 20.0, Room())
    assert await house.look(19.0) == 0
    house.post.answer = Answer(500, "http_status")
    assert await house.look(1.1) == 1
    assert await house.records.sending.end(lost.delivery, DeliveryState.DEAD, Answer(error="timeout"), 0.0) is False
    assert await house.state() == ("pending", 2, 500, "http_status")
    assert await house.records.sending.end(lost.delivery, DeliveryState.DELIVERED, Answer(200), 0.0) is True
    assert (await house.state())[0] == "delivered"
