"""Whether a job's engine call is a repeat, and whether it may be made now (kit/retry_budget.py).

A repeat: the recording has failed before, or this process has just called an engine for it that could not be reached. A
job that found no slot, an open breaker or no engine at all was never heard: its next call is its first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cosygate import errors
from cosygate.flows.lent import Lent
from cosygate.kit import metrics
from cosygate.kit.clock import Clock
from cosygate.kit.retry_budget import RetryBudget
from cosygate.model.job import Job

_REMEMBERED = 10_000


@dataclass
class Attempt:
    lent: Lent | None = None  # the engine, once there is one

    @property
    def called(self) -> bool:
        return self.lent is not None and self.lent.called


class Retrying:
    def __init__(self, clock: Clock, gateways: int = 1) -> None:
        """`gateways`: how many processes, this one among them, share the reserve."""
        self._clock = clock
        self._budget = RetryBudget(clock.monotonic(), sharers=gateways)
        self._unreached: OrderedDict[str, None] = OrderedDict()
        for outcome in ("made", "put_off"):
            metrics.retries.labels(outcome)  # what is not there yet has no rate

    @contextmanager
    def attempt(self, job: Job) -> Iterator[Attempt]:
        """Raises RetriesSpent. The caller says which engine it was lent."""
        repeat = job.attempt > 0 or job.id in self._unreached
        purse = self._budget.take(self._clock.monotonic()) if repeat else None
        if repeat and purse is None:
            metrics.retries.labels("put_off").inc()
            raise errors.RetriesSpent()
        self._unreached.pop(job.id, None)
        attempt = Attempt()
        try:
            yield attempt
        except errors.EngineUnavailable as error:
            if attempt.called and not isinstance(error, errors.EngineBusy | errors.EngineLeaving):
                self._remember(job.id)
            raise
        finally:
            if repeat and attempt.called:
                metrics.retries.labels("made").inc()
            elif purse is not None:
                self._budget.give_back(purse)
            elif attempt.called:
                self._budget.called()

    def _remember(self, job_id: str) -> None:
        self._unreached[job_id] = None
        if len(self._unreached) > _REMEMBERED:
            self._unreached.popitem(last=False)
