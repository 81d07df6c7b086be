"""The live session's face, for a synchronous caller: audio in, events out. live_session.py is behind it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from cosygate.client.errors import Conflict, ServerBusy, WaitTimeout
from cosygate.client.live_core import LiveCore
from cosygate.client.live_records import Final, LiveEvent, joined
from cosygate.client.live_session import Session

STALL_S = 30.0  # beyond the session's window: so long a server may take nothing, or tell nothing after the end


class Live:
    """Made by `Client.live`; use it in a `with`, which ends the session: leaving it waits for the last final, leaving
    it with an exception does not. Audio comes from one thread at a time, everything else from any.

    Raises ClientError: Denied, NotFound, Conflict, Rejected, ServerBusy as the server's `error` says, Unreachable when
    there was no connection for as long as the server keeps a session open (it then finishes it with what it has).
    """

    def __init__(self, core: LiveCore, session: Session, monotonic: Callable[[], float]) -> None:
        self._core = core
        self._session = session
        self._changed = session.changed
        self._monotonic = monotonic
        self._sending = threading.Lock()
        self._opened = self._closed = False

    @property
    def session(self) -> str | None:
        return self._core.session

    @property
    def resume_token(self) -> str | None:
        return self._core.resume_token

    @property
    def task_id(self) -> str | None:
        """Once it is done."""
        done = self._core.done
        return done.task_id if done else None

    @property
    def finals(self) -> tuple[Final, ...]:
        with self._changed:
            return tuple(self._core.finals)

    @property
    def text(self) -> str:
        return joined(self.finals)

    def open(self) -> Self:
        """Returns once the server takes audio. A `with` does it by itself."""
        if self._opened or self._closed:
            raise RuntimeError("a live session begins once")
        self._opened = True
        self._session.thread.start()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._core.session is not None or self._session.over)
                self._check()
        except BaseException:
            self.close()
            raise
        return self

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is None:
                self.end()
        finally:
            self.close()

    def send(self, audio: bytes | bytearray | memoryview) -> None:
        """Any number of whole samples. Waits while the server takes no more; without a connection it does not wait:
        when the buffer is full then, the oldest is dropped, which a Gap tells (`wait_when_full` changes that)."""
        ring, view = self._core.ring, memoryview(audio).cast("B")
        if len(view) % ring.unit:
            raise ValueError(f"audio comes in whole samples of {ring.unit} bytes")
        size = ring.block * ring.unit
        with self._sending:
            for at in range(0, len(view), size):
                piece = view[at : at + size]
                with self._changed:
                    self._wait_for_room(len(piece) // ring.unit)
                    self._core.append(piece)
                self._session.poke()

    def finalize(self) -> None:
        """The open utterance ends here: its final comes without waiting for silence."""
        with self._changed:
            self._check()
            self._core.finalize()
        self._session.poke()

    def end(self, timeout_s: float | None = None) -> None:
        """That was all. Returns when every final has come. Raises WaitTimeout after `timeout_s` seconds, or when
        nothing comes any more (the server finishes the session all the same), and Conflict (`live_finished`) when the
        server finished it before everything was sent."""
        self._not_in_callback()
        core, session = self._core, self._session
        with self._changed:
            self._check_open()
            core.end()
        session.poke()
        began = since = self._monotonic()
        seen = core.progress
        with self._changed:
            while core.done is None or not session.over:
                if core.done is None:
                    self._check_open()
                now = self._monotonic()
                if core.progress != seen:
                    seen, since = core.progress, now
                until = since + core.window_s + STALL_S
                if timeout_s is not None:
                    until = min(until, began + timeout_s)
                if now >= until:
                    raise WaitTimeout(f"the last final did not come within {now - began:.0f} s")
                self._changed.wait(until - now)
            if error := session.error or core.missing():
                raise error

    def events(self) -> Iterator[LiveEvent]:
        """As they come, and those that came before, until the session is over. A partial that was not fetched is
        replaced by the next one."""
        session = self._session
        while True:
            with self._changed:
                self._changed.wait_for(lambda: session.events or session.over)
                if not session.events:
                    if session.error:
                        raise session.error
                    return
                event = session.events.popleft()
            yield event

    def close(self) -> None:
        """Leaves without an end: the server finishes the session by itself when its window has passed."""
        self._closed = True
        if self._opened:
            self._session.leave()

    def _wait_for_room(self, units: int) -> None:
        self._not_in_callback()
        core = self._core
        seen, since = core.progress, self._monotonic()
        while True:
            self._check()
            if core.room(units):
                return
            if core.progress != seen:
                seen, since = core.progress, self._monotonic()
            left = since + core.window_s + STALL_S - self._monotonic()
            if left <= 0:
                raise ServerBusy("the server takes no more audio", code="live_stalled", retryable=True)
            self._changed.wait(left)

    def _check(self) -> None:
        """Raises why nothing can be sent any more."""
        self._check_open()
        if done := self._core.done:
            detail = f"the server finished the session after {done.samples} samples"
            raise Conflict(detail, code="live_finished", extra={"task_id": done.task_id})
        if self._core.ended:
            raise RuntimeError("the live session was ended")

    def _check_open(self) -> None:
        if self._session.error:
            raise self._session.error
        if not self._opened or (self._core.done is None and (self._closed or self._session.over)):
            raise RuntimeError("the live session is not open: use it in a with")

    def _not_in_callback(self) -> None:
        if threading.current_thread() is self._session.thread:
            raise RuntimeError("on_event is called by the thread that sends: it cannot wait for itself")
