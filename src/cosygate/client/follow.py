"""A task's events as they happen (server-sent events, WHATWG HTML §9.2), over as many connections as it takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import httpx2

from cosygate.client.errors import BadAnswer, ClientError, Unreachable, WaitTimeout
from cosygate.client.records import FINISHED, Event
from cosygate.client.transport import Transport, json_object

IDLE_S = 60.0  # a connection that is silent for so long is taken for dead (the server sends comments between)


class _Watched(httpx2.SyncByteStream):
    """A response's bytes, with a look at the clock at each piece: comments that keep a connection alive do not reach
    whoever iterates over events."""

    def __init__(self, inner: httpx2.SyncByteStream, check: Callable[[], object]) -> None:
        self._inner = inner
        self._check = check

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._inner:
            self._check()
            yield piece

    def close(self) -> None:
        self._inner.close()


def follow(transport: Transport, task_path: str, *, after: str | None, timeout_s: float | None) -> Iterator[Event]:
    """Events after `after`, ending with the last of the task. Reconnects with Last-Event-ID, as often in a row as
    `Retries` allows without an event. Raises ClientError, WaitTimeout."""
    retries = transport.retries
    path = task_path + "/events"
    deadline = None if timeout_s is None else retries.monotonic() + timeout_s
    attempt = 0

    def left() -> float:
        """Seconds that may pass now. Raises WaitTimeout when there are none."""
        rest = IDLE_S if deadline is None else deadline - retries.monotonic()
        if rest <= 0:
            raise WaitTimeout(f"not finished after {timeout_s:g} s")
        return min(rest, IDLE_S)

    while True:
        error: ClientError = Unreachable("the connection ended before the task did", retryable=True)
        try:
            for event in _connection(transport, path, after, left):
                after, attempt = event.id or after, 0
                yield event
                if event.last:
                    return
            if attempt and _finished(transport, task_path):
                return  # there is nothing after `after`
        except ClientError as failed:
            error = failed
        left()
        error.tries = attempt + 1
        delay = retries.delay(attempt, error)
        if delay is None:
            raise error
        retries.wait(transport.closed, min(delay, left()))
        if transport.closed.is_set():
            raise error
        attempt += 1


def _connection(transport: Transport, path: str, after: str | None, left: Callable[[], float]) -> Iterator[Event]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if after:
        headers["Last-Event-ID"] = after
    with transport.stream(path, headers=headers, idle_s=left()) as response:
        inner = response.stream
        if not isinstance(inner, httpx2.SyncByteStream):
            raise BadAnswer("the events cannot be read as a stream")
        response.stream = _Watched(inner, left)
        for line in httpx2.EventSource(response):
            if not line.data:
                continue  # `retry:` alone
            try:
                data = json.loads(line.data)
            except ValueError:
                raise BadAnswer("an event's data is not JSON") from None
            if not isinstance(data, dict):
                raise BadAnswer("an event's data is not a JSON object")
            yield Event(id=line.id, kind=line.event, data=data)


def _finished(transport: Transport, task_path: str) -> bool:
    return json_object(transport.request("GET", task_path)).get("state") in FINISHED
