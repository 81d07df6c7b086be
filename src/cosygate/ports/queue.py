"""The wake-up: who tells runners that there may be work. Carries job ids alone."""

from __future__ import annotations

from typing import Protocol


class Queue(Protocol):
    """Hints may be lost or repeated: a runner also looks at the table by itself, so losing all of them costs time,
    never work."""

    async def hint(self, job_id: str) -> None:
        """Never blocks for longer than a second and never raises for a broker that is away."""

    async def wait(self, timeout_s: float) -> None:
        """Returns when a hint arrived since the last call, or after `timeout_s`."""
