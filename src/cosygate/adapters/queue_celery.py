"""Hints to workers over Celery (ports/queue.py, Broker): its messages carry job ids, and nothing else.

The lease in SQL decides who runs what, so a message may be lost or come twice. What it is for: a worker begins at once,
and Celery's own tools (events, flower, remote control) show what goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import kombu
from celery import Celery

from cosygate.kit.logs import logger

_log = logger()
TASK = "cosygate.transcribe"
NORMAL, LOW = "cosygate.normal", "cosygate.low"
_WITHIN_S = 1.0  # a hint that takes longer is given up: workers look by themselves
_CLOSE_S = 2.0
_CONNECT_S = 1.0
_ANSWER_S = 5.0  # longer than a consumer's own wait for messages, which is one second (kombu, brpop_timeout)
_FORGET_S = 12 * 3600  # when Redis gives an unacknowledged hint to somebody else; twice does no harm


def make_app(broker_url: str, *, answer_s: float = _ANSWER_S) -> Celery:
    """Both ends of the line: who sends hints, and who gets them. `answer_s`: for how long one answer is waited for."""
    app = Celery("cosygate", broker=broker_url, set_as_current=False)
    bounds: dict[str, Any] = {}
    if broker_url.startswith("redis"):
        bounds = {
            "socket_connect_timeout": _CONNECT_S,
            "socket_timeout": answer_s,
            "socket_keepalive": True,
            "visibility_timeout": _FORGET_S,
        }
    elif broker_url.startswith("amqp"):  # else whoever declares a queue waits for ever
        bounds = {"read_timeout": answer_s, "write_timeout": answer_s}
    app.conf.update(
        task_default_queue=NORMAL,
        task_queues=[_queue(NORMAL), _queue(LOW)],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_timeout=_CONNECT_S,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_pool_limit=2,
        broker_transport_options=bounds,
        worker_prefetch_multiplier=1,  # what waits should wait where others can have it
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the jobs go on: the lease is in SQL
        worker_send_task_events=True,
        task_send_sent_event=True,
        timezone="UTC",
    )
    return app


def _queue(name: str) -> Any:
    return kombu.Queue(name, routing_key=name)  # type: ignore[attr-defined, no-untyped-call]  # it exports lazily


class CeleryBroker:
    """For one event loop; sends one message at a time, each from a thread of its own: Celery's client blocks, and while
    a broker hangs that must not hold up the end of the process, as a pool's thread would."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._sending: asyncio.Future[None] | None = None
        self._away = False

    async def publish(self, job_ids: Sequence[str], *, low: bool) -> bool:
        if self._sending is not None and not self._sending.done():
            return False  # the one before still hangs
        sent: Future[None] = Future()
        what = (sent, list(job_ids), LOW if low else NORMAL)
        threading.Thread(target=self._send, args=what, name="hints", daemon=True).start()
        self._sending = asyncio.wrap_future(sent)
        done, _ = await asyncio.wait({self._sending}, timeout=_WITHIN_S)
        if not done:
            self._told(away=True, reason="timeout")
            self._sending.add_done_callback(_forgotten)
            return False
        if (error := self._sending.exception()) is not None:
            self._told(away=True, reason=type(error).__name__)
            return False
        self._told(away=False)
        return True

    async def close(self) -> None:
        if self._sending is not None and not self._sending.done():
            await asyncio.wait({self._sending}, timeout=_CLOSE_S)

    def _send(self, sent: Future[None], job_ids: list[str], queue: str) -> None:
        try:
            self._app.send_task(TASK, args=[job_ids], queue=queue, routing_key=queue, retry=False, ignore_result=True)
        except BaseException as error:
            sent.set_exception(error)
        else:
            sent.set_result(None)

    def _told(self, *, away: bool, reason: str = "") -> None:
        """Once each way: it would be said for every job otherwise."""
        if away and not self._away:
            _log.warning("broker.away", reason=reason)
        elif self._away and not away:
            _log.info("broker.back")
        self._away = away


def _forgotten(sending: asyncio.Future[None]) -> None:
    """Whatever became of it: nobody waits for it any more."""
    if not sending.cancelled():
        sending.exception()
