"""Every metric, once, by the names of wire.md. What is asked of one process tells of all (slots.py), and labels cannot
be multiplied from outside (meters.py). A gauge is either of this process (`livesum`) or the same whoever looks
(`livemostrecent`); both end with the process that set it. Only `last_start` stays true after it."""

from __future__ import annotations

from collections.abc import Iterable

from cosygate.kit.meters import OTHER, Counter, Gauge, Histogram, exposition

__all__ = ["NAMES", "begin_route", "exposition", "method"]

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.48, 1.0, 2.5, 10.0)
_LIVE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_TASK_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)

requests = Counter("cv_request", "HTTP requests by route template.", ["method", "status", "route"])
request_seconds = Histogram(
    "cv_request_seconds", "Seconds from request to response.", ["route"], buckets=_REQUEST_BUCKETS
)
task_duration = Histogram("cv_task_duration", "Seconds from queued to finished.", buckets=_TASK_BUCKETS)
tasks = Counter("cv_task", "Tasks by the state they ended in.", ["state"])
task_failures = Counter("cv_task_failed", "Tasks that failed, by stable error code.", ["code"])
engine_queue = Gauge("cv_engine_queue_len", "Jobs waiting for a claim.", multiprocess_mode="livemostrecent")
engine_queue_seconds = Gauge(
    "cv_engine_queue_seconds", "Seconds of audio waiting for a claim.", multiprocess_mode="livemostrecent"
)
engine_queue_age = Gauge(
    "cv_engine_queue_age_seconds",
    "Seconds for which the oldest waiting job has waited; 0: none waits.",
    multiprocess_mode="livemostrecent",
)
engine_slots = Gauge("cv_engine_slots", "Engine slots.", ["state"], multiprocess_mode="livemostrecent")
engine_calls = Counter("cv_engine_call", "Engine calls by outcome.", ["engine", "outcome"])
audio_seconds = Counter("cv_audio_seconds", "Seconds of audio transcribed, by door.", ["door"])
upload_bytes = Counter("cv_upload_bytes", "Bytes of chunks stored.")
live_sessions = Gauge("cv_live_sessions", "Live sessions that a gateway holds.", multiprocess_mode="livesum")
live_latency = Histogram(
    "cv_live_latency_seconds", "Seconds from the arrival of a final's last sample to the final.", buckets=_LIVE_BUCKETS
)
breaker_state = Gauge(
    "cv_breaker_state",
    "An engine's circuit breaker, by the engine's number: 0 closed, 1 half-open, 2 open.",
    ["engine"],
    multiprocess_mode="livemostrecent",
)
retries = Counter("cv_retry", "Calls about recordings that had failed before, by what became of them.", ["outcome"])
rejected = Counter("cv_rejected", "Requests refused, by stable error code.", ["reason"])
webhooks = Counter("cv_webhook", "Tries to deliver a webhook, by what became of the delivery.", ["outcome"])
limits_failed = Counter("cv_limits_failed", "Times that rate limits or quotas could not be asked.")
spans_dropped = Counter("cv_spans_dropped", "Spans that were lost: queue_full, not_delivered.", ["reason"])
engine_queue_max = Gauge(
    "cv_engine_queue_max_seconds", "Seconds of audio that may wait for an engine.", multiprocess_mode="livemostrecent"
)
store_used = Gauge("cv_store_used_bytes", "Bytes that recordings and results take.", multiprocess_mode="livemostrecent")
store_free = Gauge(
    "cv_store_free_bytes", "Bytes that can still be stored before 507.", multiprocess_mode="livemostrecent"
)
gateways = Gauge("cv_gateways", "Gateway processes that run.", multiprocess_mode="livesum")
last_start = Gauge(
    "cv_gateway_start_time_seconds", "When a gateway process started last (Unix time).", multiprocess_mode="mostrecent"
)
resident_bytes = Gauge("cv_process_resident_bytes", "Resident memory of the gateways.", multiprocess_mode="livesum")
open_fds = Gauge("cv_process_open_fds", "Open descriptors of the gateways.", multiprocess_mode="livesum")
loop_lag = Histogram("cv_loop_lag_seconds", "Seconds by which the event loop was late.", buckets=_LAG_BUCKETS)
build_info = Gauge(
    "cv_build_info", "Always 1; the version is the label.", ["version"], multiprocess_mode="livemostrecent"
)

NAMES = (
    "cv_request_total", "cv_request_seconds", "cv_task_duration", "cv_task_total", "cv_engine_queue_len",
    "cv_engine_queue_seconds", "cv_engine_queue_age_seconds",
    "cv_engine_slots", "cv_engine_call_total", "cv_audio_seconds_total", "cv_upload_bytes_total", "cv_rejected_total",
    "cv_live_sessions", "cv_live_latency_seconds", "cv_build_info", "cv_spans_dropped_total",
    "cv_limits_failed_total",
    "cv_webhook_total", "cv_breaker_state", "cv_retry_total",
    "cv_engine_queue_max_seconds", "cv_task_failed_total", "cv_store_used_bytes", "cv_store_free_bytes",
    "cv_gateways", "cv_gateway_start_time_seconds",
    "cv_process_resident_bytes", "cv_process_open_fds", "cv_loop_lag_seconds",
)  # fmt: skip

_CODE = "The stable code of an error ([errors.md](errors.md))."
# What labels say: of one metric, or of any.
LABELS = {
    "method": "As HTTP has it, or `OTHER`.",
    "status": "The answer's; 499: the client left before there was one.",
    "route": "The route's template, never a path; `unmatched`: there is no such route.",
    "code": _CODE,
    "door": "`file` or `live`.",
    "version": "Of CosyGate.",
    "cv_task_total state": "`succeeded`, `failed`, `cancelled`.",
    "cv_engine_slots state": "`busy`, or `total` of the engines that are up.",
    "cv_engine_call_total engine": "Its name; `unknown`: the call ended before it was told.",
    "cv_engine_call_total outcome": "`ok`, `cancelled`, or the code of an error.",
    "cv_breaker_state engine": "Its number, from 0; elsewhere its address.",
    "cv_retry_total outcome": "`made`, or `put_off`: for now there were too many.",
    "cv_rejected_total reason": _CODE,
    "cv_webhook_total outcome": "`delivered`; `failed`, and it is tried again; `dead`: given up.",
    "cv_spans_dropped_total reason": "`queue_full`: made too fast; `not_delivered`: nobody took them.",
}

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def method(name: str) -> str:
    """As a label: HTTP lets a client invent methods (RFC 9110 §9.1)."""
    return name if name in _METHODS else OTHER


def begin_route(path: str, methods: Iterable[str], status: int) -> None:
    """The series of a route begin at 0: what is not there yet has no rate, and the first error would go unseen."""
    for name in methods:
        for answer in (status, 500, 503):
            requests.labels(name, answer, path)
    request_seconds.labels(path)
