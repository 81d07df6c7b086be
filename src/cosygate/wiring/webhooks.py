"""Webhooks, put together: what may be asked for, what sends, and the desk for owners and the operator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cosygate import __version__
from cosygate.adapters.records_sql import SqlRecords
from cosygate.adapters.webhooks_http import HttpPost
from cosygate.api.tasks import view
from cosygate.flows.limiting import Limiting
from cosygate.flows.webhook_desk import Webhooks
from cosygate.flows.webhooks import Callbacks, Sender
from cosygate.kit.clock import Clock, Randomness, SystemClock, SystemRandomness
from cosygate.model.addresses import Reach
from cosygate.model.webhook import Schedule
from cosygate.settings import Settings
from cosygate.wiring import stores


@dataclass(frozen=True, slots=True)
class WebhookParts:
    callbacks: Callbacks
    sender: Sender
    webhooks: Webhooks


def webhook_parts(
    settings: Settings, records: SqlRecords, limiting: Limiting, clock: Clock, randomness: Randomness
) -> WebhookParts:
    reach, any_scheme = Reach.parse(settings.webhook_allow), settings.webhook_scheme == "any"
    post = HttpPost(
        reach,
        clock,
        timeout_s=settings.webhook_timeout_s,
        any_scheme=any_scheme,
        user_agent=f"CosyGate/{__version__}",
    )
    sender = Sender(
        sending=records.sending,
        receivers=records.receivers,
        jobs=records.jobs,
        post=post,
        view=lambda job: view(job).model_dump(mode="json", exclude_none=True),
        clock=clock,
        randomness=randomness,
        schedule=Schedule.parse(settings.webhook_schedule),
        timeout_s=settings.webhook_timeout_s,
    )
    return WebhookParts(
        callbacks=Callbacks(records.receivers, reach, clock, any_scheme=any_scheme),
        sender=sender,
        webhooks=Webhooks(records.deliveries, records.receivers, clock, randomness, limiting),
    )


@asynccontextmanager
async def webhook_desk(settings: Settings) -> AsyncIterator[Webhooks]:
    """For a command beside a server that may run on the same folder. Raises DatabaseBusy, ValueError."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    records = await stores.records(settings)
    try:
        yield Webhooks(records.deliveries, records.receivers, SystemClock(), SystemRandomness(), limiting=None)
    finally:
        await records.close()
