"""The wake-up: who tells runners that there may be work. Carries job ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Queue(Protocol):
    """Hints may be lost or repeated: a runner also looks at the table by itself, so losing all of them costs time,
    never work."""

    async def hint(self, job_id: str) -> None:
        """Never blocks for longer than a second and never raises for a broker that is away."""

    async def wait(self, timeout_s: float) -> None:
        """Returns when a hint arrived since the last call, or after `timeout_s`."""


class Broker(Protocol):
    """Carries hints to workers in other processes. They look at the table by themselves, too."""

    async def publish(self, job_ids: Sequence[str], *, low: bool) -> bool:
        """Tells one worker that serves this priority of at most a few jobs. False: it was not told, the broker is away
        or slow. Returns within a second, and never raises for a broker."""

    async def close(self) -> None:
        """Waits a bounded time for what is on its way."""
