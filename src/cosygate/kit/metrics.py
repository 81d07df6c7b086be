"""Every metric, once, by the names of wire.md. With several processes PROMETHEUS_MULTIPROC_DIR makes one scrape tell
the sum of all (prometheus-client's multiprocess mode; the variable is set before this module is imported)."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.48, 1.0, 2.5, 10.0)
_LIVE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_TASK_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)

requests = Counter("cv_request", "HTTP requests by route template.", ["method", "status", "route"])
request_seconds = Histogram(
    "cv_request_seconds", "Seconds from request to response.", ["route"], buckets=_REQUEST_BUCKETS
)
task_duration = Histogram("cv_task_duration", "Seconds from queued to finished.", buckets=_TASK_BUCKETS)
tasks = Counter("cv_task", "Tasks by the state they ended in.", ["state"])
engine_queue = Gauge("cv_engine_queue_len", "Jobs waiting for a claim.", multiprocess_mode="mostrecent")
engine_slots = Gauge("cv_engine_slots", "Engine slots.", ["state"], multiprocess_mode="mostrecent")
engine_calls = Counter("cv_engine_call", "Engine calls by outcome.", ["engine", "outcome"])
audio_seconds = Counter("cv_audio_seconds", "Seconds of audio transcribed, by door.", ["door"])
upload_bytes = Counter("cv_upload_bytes", "Bytes of chunks stored.")
live_sessions = Gauge("cv_live_sessions", "Live sessions that a gateway holds.", multiprocess_mode="livesum")
live_latency = Histogram(
    "cv_live_latency_seconds", "Seconds from the arrival of a final's last sample to the final.", buckets=_LIVE_BUCKETS
)
rejected = Counter("cv_rejected", "Requests refused, by stable error code.", ["reason"])
build_info = Gauge("cv_build_info", "Always 1; the version is the label.", ["version"], multiprocess_mode="mostrecent")

NAMES = (
    "cv_request_total", "cv_request_seconds", "cv_task_duration", "cv_task_total", "cv_engine_queue_len",
    "cv_engine_slots", "cv_engine_call_total", "cv_audio_seconds_total", "cv_upload_bytes_total", "cv_rejected_total",
    "cv_live_sessions", "cv_live_latency_seconds", "cv_build_info",
)  # fmt: skip


def exposition() -> bytes:
    """All metrics in the Prometheus text format."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest()
