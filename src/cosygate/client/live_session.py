"""A live session over as many connections as it takes, on a thread of its own with an event loop.

Shared with the caller's threads: everything is guarded by `changed`, which is notified whenever something is. What to
send and what arrived means is decided in live_core.py; one connection is live_wire.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable

from cosygate.client.errors import ClientError, Unreachable
from cosygate.client.live_core import LiveCore
from cosygate.client.live_records import Disconnected, LiveEvent, Partial, Reconnected
from cosygate.client.live_wire import CUT, Door, Patience, converse
from cosygate.client.transport import Retries
from cosygate.kit.backoff import Backoff

OnEvent = Callable[[LiveEvent], object]
MAX_EVENTS = 10_000  # not fetched yet; beyond that the oldest is dropped
MAX_FRUITLESS = 100  # connections in a row on which the session did not get on
FIRST_S, LONGEST_S = 0.1, 5.0  # of the backoff: who speaks does not want to wait


class Session:
    def __init__(
        self,
        door: Door,
        core: LiveCore,
        retries: Retries,
        on_event: OnEvent | None = None,
        patience: Patience = Patience(),  # noqa: B008 - frozen
    ) -> None:
        self.core = core
        self.changed = threading.Condition()
        self.events: deque[LiveEvent] = deque(maxlen=MAX_EVENTS)
        self.error: BaseException | None = None  # what ended it
        self.over = False  # the thread has nothing more to say
        self.thread = threading.Thread(target=self._work, daemon=True, name="cosygate-live")
        self.chunk_s = core.ring.block / core.stream.units_per_s
        self.wake: asyncio.Event  # made on the loop
        self._door = door
        self._retries = retries
        self._patience = patience
        longest_s = min(LONGEST_S, retries.backoff.longest_s)
        self._backoff = Backoff(min(FIRST_S, retries.backoff.first_s), longest_s=longest_s)
        self._on_event = on_event
        self._left = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._contact = 0.0  # when the server was heard last
        self._lost_at: float | None = None  # when the connection was, until there is another

    def poke(self) -> None:
        """There may be something to send."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended; the caller's next step sees why
                self._loop.call_soon_threadsafe(self.wake.set)

    def leave(self) -> None:
        """Ends the thread, whatever it does, within a few seconds."""
        with self.changed:
            self._left = True
            loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # it ended by itself
                loop.call_soon_threadsafe(task.cancel)
        if self.thread.is_alive() and self.thread is not threading.current_thread():
            self.thread.join(4 * self._patience.close_s + 1)

    # --- on the thread

    def _work(self) -> None:
        error: BaseException | None = None
        try:
            asyncio.run(self._connections())
        except asyncio.CancelledError:
            pass  # `leave`
        except BaseException as raised:
            error = raised
        with self.changed:
            self.error = error
            self.over = True
            self.changed.notify_all()

    async def _connections(self) -> None:
        self.wake = asyncio.Event()
        with self.changed:
            self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
            if self._left:
                return
        attempt, monotonic = 0, self._retries.monotonic
        while True:
            began, before = monotonic(), self.core.progress
            error = await self._connection()
            if error is None:
                return
            lasted_s = (self._lost_at or began) - began
            if self.core.progress != before or lasted_s > self._patience.ping_s:
                attempt = 0
            error.tries = attempt + 1
            await asyncio.sleep(self._delay(attempt, error))
            attempt += 1

    async def _connection(self) -> ClientError | None:
        """One, from its first try to its end. None: the session is done."""
        code: int | None = CUT
        error: ClientError | None = None
        try:
            code = await converse(self._door, self._patience, self)
        except ClientError as raised:
            error = raised
        with self.changed:
            was_connected = self.core.connected
            closed = self.core.closed(CUT if code is None else code)
            self.changed.notify_all()
        if code is None:
            return None
        error = error or closed
        if was_connected:
            self._lost_at = self._retries.monotonic()
            self._tell([Disconnected(error.detail)])
        return error

    def _delay(self, attempt: int, error: ClientError) -> float:
        """Seconds until the next connection. Raises what ends the session when there is to be none."""
        if not error.retryable:
            raise error
        delay = self._backoff.delay(attempt, self._retries.randomness)
        asked, self.core.moved_s = max(self.core.moved_s, error.retry_after or 0.0), 0.0
        if self.core.session is None:
            if attempt + 1 >= self._retries.attempts or asked > self._retries.longest_wait_s:
                raise error
            return max(asked, delay)
        left = self._contact + self.core.window_s - self._retries.monotonic()
        if (left <= 0 and attempt > 0) or attempt >= MAX_FRUITLESS:
            detail = f"no connection for too long ({error.detail}); the server finishes the session with what it has"
            raise Unreachable(detail, code="live_lost", extra={"task_id": self.core.session}) from error
        return min(max(asked, delay), max(left, 0.0))

    def _tell(self, events: list[LiveEvent]) -> None:
        with self.changed:
            for event in events:
                if isinstance(event, Partial) and self.events and isinstance(self.events[-1], Partial):
                    self.events.pop()
                self.events.append(event)
            self.changed.notify_all()
        if self._on_event:
            for event in events:
                self._on_event(event)

    # --- what a connection asks (live_wire.Talk)

    def hello(self) -> str:
        with self.changed:
            return self.core.hello()

    def holds_back(self) -> bool:
        with self.changed:
            return self.core.holds_back

    def unanswered(self) -> bool:
        with self.changed:
            return self.core.unanswered

    def message(self, *, flush: bool) -> str | bytes | None:
        with self.changed:
            message, event = self.core.next_message(flush=flush)
        if event:
            self._tell([event])
        return message

    def received(self, text: str | bytes) -> bool:
        self._contact = now = self._retries.monotonic()
        with self.changed:
            before = self.core.connected
            events = self.core.received(text)
            done = self.core.done is not None
            self.changed.notify_all()
        if self.core.connected and not before:
            self.wake.set()
            if self._lost_at is not None:
                events.insert(0, Reconnected(now - self._lost_at))
                self._lost_at = None
        if events:
            self._tell(events)
        return done
