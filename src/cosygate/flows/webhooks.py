"""Webhooks: whoever gave a task a `callback_url` is told how it ended, at least once, always with the same id.

at the door ─► Callbacks: may it go there, and can it be signed?
the task ends ─► its delivery's row, in the same transaction ─► Sender: begin, send, end; again by the schedule
afterwards ─► Webhooks: what became of it, once more please, secrets, receivers that said 410
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from cosygate import errors
from cosygate.kit import metrics, tracing
from cosygate.kit.clock import Clock, Randomness
from cosygate.kit.logs import bound, logger
from cosygate.model.addresses import Reach, literal
from cosygate.model.job import Job
from cosygate.model.webhook import (
    Answer,
    Delivery,
    DeliveryState,
    Destination,
    Message,
    Schedule,
    check_url,
    host_of,
)
from cosygate.ports.records import JobRecords
from cosygate.ports.webhooks import Begun, Post, Receivers, Room, Sending

T = TypeVar("T")
_log = logger()
LOOK_EVERY_S = 1.0
_MARGIN_S = 5.0  # beyond a try's own time, until it counts as lost: for reading before it, and writing after it


class Callbacks:
    """Asked when a recording or a live session names its `callback_url`."""

    def __init__(self, receivers: Receivers, reach: Reach, clock: Clock, *, any_scheme: bool) -> None:
        self._receivers = receivers
        self._reach = reach
        self._clock = clock
        self._any_scheme = any_scheme

    async def check(self, tenant: str, url: str | None) -> None:
        """Names are not resolved here: what counts is where they lead when something is sent. Raises OptionInvalid,
        WebhookSecretMissing, DatabaseBusy."""
        if url is None:
            return
        destination = Destination.parse(check_url(url))
        if not (destination.secure or self._any_scheme):
            raise errors.OptionInvalid("callback_url is https", option="callback_url")
        address = literal(f"[{destination.host}]" if ":" in destination.host else destination.host)
        if address is not None and not self._reach.permits(address):
            raise errors.OptionInvalid("callback_url leads to an address that is not public", option="callback_url")
        if not await self._receivers.secrets(tenant, self._clock.now()):
            raise errors.WebhookSecretMissing()


class Sender:
    """Makes the tries that are due. Each gateway process has one; together they keep to `room`."""

    def __init__(
        self,
        *,
        sending: Sending,
        receivers: Receivers,
        jobs: JobRecords,
        post: Post,
        view: Callable[[Job], dict[str, Any]],
        clock: Clock,
        randomness: Randomness,
        schedule: Schedule,
        timeout_s: float,
        room: Room | None = None,
    ) -> None:
        """`view`: a task as the API shows it. `timeout_s`: what `post` takes at most."""
        self._sending = sending
        self._receivers = receivers
        self._jobs = jobs
        self._post = post
        self._view = view
        self._clock = clock
        self._randomness = randomness
        self._schedule = schedule
        self._lost_s = timeout_s + _MARGIN_S
        self._room = room or Room()
        self._running: set[asyncio.Task[Any]] = set()
        self._looking = self._stopping = False

    async def look(self) -> int:
        """Begins what is due, as far as there is room, and waits for none of it; returns how many. Each that ends looks
        again. Raises DatabaseBusy, StorageFull."""
        if self._looking or self._stopping:
            return 0
        self._looking = True
        # Whoever looks may be cancelled: what has been begun by then is still made.
        return await asyncio.shield(self._start(self._begin()))

    async def stop(self, grace_s: float) -> None:
        """Begins nothing more. Tries get `grace_s` seconds to end; the others are made again by whoever looks next."""
        self._stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self._running:
                    await asyncio.wait(self._running)
                    await asyncio.sleep(0)  # they leave the set
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _begin(self) -> int:
        try:
            longest_s = self._schedule.longest_s
            if not await self._sending.due(self._clock.now(), longest_s):
                return 0
            begun = await self._sending.begin(self._clock.now(), longest_s, self._lost_s, self._room)
        finally:
            self._looking = False
        for one in begun:
            self._start(self._run(one))
        return len(begun)

    async def _run(self, begun: Begun) -> None:
        try:
            await self._deliver(begun)
            await self.look()  # there is room now
        except errors.Unavailable as error:  # what was sent is sent again, when the try counts as lost
            _log.warning("webhook.put_off", delivery=begun.delivery.id, code=error.code)
        except Exception:
            _log.exception("webhook.crashed", delivery=begun.delivery.id)

    async def _deliver(self, begun: Begun) -> None:
        delivery = begun.delivery
        job = await self._jobs.get(None, delivery.job_id)
        if job is None:
            return  # deleted meanwhile, and its delivery with it
        user_id = delivery.owner.partition("/")[2]
        span = tracing.continued("webhook.send", tracing.Kind.CLIENT, job.trace_id, job.span_id)
        with bound(trace_id=job.trace_id, user_id=user_id, tenant=delivery.tenant, task_id=job.id), span:
            span.set({"cosygate.task_id": job.id, "cosygate.attempt": delivery.attempt})
            began = self._clock.monotonic()
            answer = Answer(error="gone") if begun.gone else await self._send(delivery, job)
            span.set({"http.response.status_code": answer.status})
            if answer.error is not None:
                span.failed(answer.error)
            await self._end(delivery, answer, round((self._clock.monotonic() - began) * 1000))

    async def _send(self, delivery: Delivery, job: Job) -> Answer:
        now = self._clock.now()
        secrets = await self._receivers.secrets(delivery.tenant, now)
        if not secrets:
            return Answer(error="secret_missing")
        try:
            message = Message(
                id=delivery.id,
                tenant=delivery.tenant,
                destination=Destination.parse(delivery.url),
                timestamp=now,
                body=_body(delivery, self._view(job)),
                secrets=secrets,
                trace=tracing.outgoing(job.trace_id),
            )
            return await self._post.send(message)
        except Exception:  # it counts as a try, or it would be made for ever
            _log.exception("webhook.crashed", delivery=delivery.id)
            return Answer(error="internal")

    async def _end(self, delivery: Delivery, answer: Answer, cost_ms: int) -> None:
        now = self._clock.now()
        told = {
            "delivery": delivery.id,
            "kind": delivery.kind,
            "host": host_of(delivery.url),
            "attempt": delivery.attempt,
            "status": answer.status,
            "cost_ms": cost_ms,
        }
        if answer.error is None:
            if await self._sending.end(delivery, DeliveryState.DELIVERED, answer, now):
                metrics.webhooks.labels("delivered").inc()
                _log.info("webhook.sent", **told)
            return
        if answer.error == "gone":
            await self._sending.disable(delivery.tenant, delivery.url, now)
            delay_s = None
        else:
            delay_s = self._schedule.delay_s(delivery.attempt, answer.retry_after_s, self._randomness)
        if delay_s is not None:
            if await self._sending.end(delivery, DeliveryState.PENDING, answer, now + delay_s):
                metrics.webhooks.labels("failed").inc()
                _log.warning("webhook.failed", **told, code=answer.error, delay_ms=round(delay_s * 1000))
        elif await self._sending.end(delivery, DeliveryState.DEAD, answer, now):
            metrics.webhooks.labels("dead").inc()
            _log.error("webhook.dead", **told, code=answer.error)


def _body(delivery: Delivery, task: dict[str, Any]) -> str:
    """The same in every try."""
    when = datetime.fromtimestamp(delivery.created_at, UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"type": delivery.kind, "timestamp": when, "data": task})
