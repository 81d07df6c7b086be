"""What an operator sees of the whole installation at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TenantWaiting:
    tenant: str
    jobs: int
    seconds: float  # of audio


@dataclass(frozen=True, slots=True)
class QueueSeen:
    jobs: int  # waiting for a claim
    seconds: float  # of audio in them, as far as their heads tell
    oldest_s: float  # how long the oldest has waited
    running: int
    tenants: list[TenantWaiting]  # those with most audio waiting, most first


@dataclass(frozen=True, slots=True)
class EngineSeen:
    engine: str  # its number or address, as in the metrics
    name: str  # of the recogniser; empty when it was never heard of
    version: str
    up: bool
    slots: int
    busy: int
    live_slots: int
    live_busy: int
    breaker: str  # closed, open, half_open
    probe_in_s: float  # until an open breaker lets one call through


@dataclass(frozen=True, slots=True)
class TenantUse:
    """Seconds of audio."""

    tenant: str
    day_s: float
    month_s: float
    quota_day_s: float  # 0: none
    quota_month_s: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that is not tried any more."""

    id: str
    tenant: str
    kind: str  # task.succeeded, …
    host: str  # of its URL; the rest may be a secret
    attempt: int  # tries
    status: int | None  # the receiver's last answer
    error: str | None  # stable code of the last failure
    tried_at: float | None  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class OverviewSeen:
    version: str
    at: float  # seconds since the epoch
    reasons: list[str]  # why nothing new is taken; empty when ready
    drained_since: float | None  # since an operator said so
    queue: QueueSeen
    engines: list[EngineSeen]
    live_sessions: int  # open ones, over all gateways
    usage: list[TenantUse]  # this month's, most first
    dead_count: int
    dead: list[DeadLetter]  # the newest
