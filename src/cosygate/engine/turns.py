"""Whose piece is recognised next. One line for everything that an engine recognises, file and live.

Finals of live calls come first, then pieces of files, then what shows an utterance early, then later partials. Within
a rank it is first come, first served, and a call asks for one piece at a time: so none starves another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import Any, Generic, TypeVar

from cosygate.kit.clock import Clock

T = TypeVar("T")
_MOVES_S = 1.0  # within which something begins or ends, unless recognisers take longer or hang


class Rank(IntEnum):
    FINAL = 0  # of a live call: somebody waits for it now
    FILE = 1
    FIRST = 2  # the first partial of an utterance, or one that will be its final if nobody speaks on
    LATER = 3


class Turn(Generic[T]):
    """`future`: what the work gave or raised, once its thread is free again; cancelled when withdrawn."""

    __slots__ = ("future", "rank", "started_at", "work")

    def __init__(self, rank: Rank, work: Callable[[], T]) -> None:
        self.rank = rank
        self.work = work
        self.started_at: float | None = None
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()


class Turns:
    """For one event loop."""

    def __init__(self, count: int, clock: Clock) -> None:
        """`count` pieces at once."""
        self.count = count
        self._clock = clock
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="recognise")
        self._lines: dict[Rank, deque[Turn[Any]]] = {rank: deque() for rank in Rank}
        self._moved_at = clock.monotonic()
        self.busy = 0

    def ask(self, rank: Rank, work: Callable[[], T]) -> Turn[T]:
        """`work` runs in a thread, when its turn has come."""
        turn = Turn(rank, work)
        self._lines[rank].append(turn)
        self._serve()
        return turn

    def withdraw(self, turn: Turn[Any]) -> None:
        """Leaves the line; nothing when the turn has come already."""
        if turn.started_at is None and not turn.future.done():
            self._lines[turn.rank].remove(turn)
            turn.future.cancel()

    def alive(self, turn: Turn[Any], limit_s: float | None) -> bool:
        """Whether there is hope for `turn`: recognisers hang. `limit_s`: the longest that one piece may take, if that
        is known; without, only what was done within the last second counts, and silence speaks for itself."""
        since = self._moved_at if turn.started_at is None else turn.started_at
        return self._clock.monotonic() - since < (limit_s or 0.0) + _MOVES_S

    def close(self) -> None:
        """What waits is dropped; threads at work are not waited for."""
        self._threads.shutdown(wait=self.busy == 0, cancel_futures=True)

    def _serve(self) -> None:
        while self.busy < self.count and (turn := self._next()) is not None:
            self.busy += 1
            self._moved_at = turn.started_at = self._clock.monotonic()
            done = asyncio.get_running_loop().run_in_executor(self._threads, turn.work)
            done.add_done_callback(lambda done, turn=turn: self._ended(turn, done))  # type: ignore[misc]

    def _next(self) -> Turn[Any] | None:
        for line in self._lines.values():  # in the order of their ranks
            if line:
                return line.popleft()
        return None

    def _ended(self, turn: Turn[Any], done: asyncio.Future[Any]) -> None:
        self.busy -= 1
        self._moved_at = self._clock.monotonic()
        self._serve()
        if done.cancelled():
            turn.future.cancel()
        elif turn.future.cancelled():
            done.exception()  # looked at, or asyncio complains; nobody waits for it any more
        elif (fault := done.exception()) is not None:
            turn.future.set_exception(fault)
        else:
            turn.future.set_result(done.result())


class Pace:
    """How often the open utterances may be recognised again. Partials may take SHARE of the threads, and every call
    that speaks the same part of it; a long utterance costs more, so it is shown less often."""

    EVERY_S = 0.5  # of audio, at the least
    SHARE = 0.4
    TELLING_S = 0.002  # what a partial costs beside its recognition, from here to the screen

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._cost = 0.05  # seconds of a thread per second of audio, as measured lately
        self.speaking = 0  # calls with an open utterance

    def took(self, seconds: float, audio_s: float) -> None:
        self._cost += 0.1 * (min(seconds / audio_s, 10.0) - self._cost)

    def interval_s(self, audio_s: float) -> float:
        """Between two partials of an utterance that is `audio_s` long."""
        share = self.SHARE * self._threads / max(1, self.speaking)
        return max(self.EVERY_S, (self.TELLING_S + self._cost * audio_s) / share)
