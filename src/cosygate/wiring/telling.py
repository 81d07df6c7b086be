"""Metrics begin: what a scrape shows before anything has happened."""

from __future__ import annotations

from cosygate import __version__, errors
from cosygate.kit import metrics
from cosygate.model.job import JobState

_FAILS_TOO = ("internal", "audio_gone")  # how tasks fail beside the family RecordingFailed


def begin_telling(now: float, queue_max_s: float) -> None:
    """Once a process, at `now`; `queue_max_s` is the setting. Series whose labels are known begin at 0: what is not
    there yet has no rate, so that the first failure would go unseen."""
    metrics.build_info.labels(__version__).set(1)
    metrics.last_start.set(now)
    metrics.engine_queue_max.set(queue_max_s)
    metrics.gateways.set(1)
    known = errors.all_errors()
    for error in known:
        metrics.rejected.labels(error.code)
    for code in (*(e.code for e in known if issubclass(e, errors.RecordingFailed)), *_FAILS_TOO):
        metrics.task_failures.labels(code)
    for state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED):
        metrics.tasks.labels(state)
    for door in ("file", "live"):
        metrics.audio_seconds.labels(door)
    for outcome in ("delivered", "failed", "dead"):
        metrics.webhooks.labels(outcome)
    metrics.engine_calls.labels("unknown", errors.EngineUnavailable.code)
    for reason in ("queue_full", "not_delivered"):
        metrics.spans_dropped.labels(reason)
