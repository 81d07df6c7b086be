"""The one line to Redis that all sessions of a process share: what they ask at the same moment goes in one round trip.

One flight is under way at a time, and takes all that gathered meanwhile, so what is asked is answered in its order: a
read sees the appends before it, and the faster Redis answers, the less anybody waits. A flight that got no answer is
flown again, whole, for as long as its oldest call may wait: everything that is asked may be asked twice (scripts.py).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from hiredis import pack_command
from redis import exceptions
from redis.asyncio import Redis

from cosygate import errors
from cosygate.adapters.journal_redis.faults import translated
from cosygate.adapters.journal_redis.scripts import SCRIPTS, SHAS

ENTRY = 256  # bytes that a call counts beside what it carries
_FLIGHT_BYTES = 4 * 1024**2
_FLIGHT_CALLS = 1000
_LAST_TRY_S = 0.25  # for calls that waited nearly too long for the flight before theirs
_AGAIN_S = 0.05

# Gets the answer, or why there is none. In the event loop; never raises.
Done = Callable[[Any, BaseException | None], None]


class Call:
    """A command. Until it has `boarded`, it may grow."""

    __slots__ = ("boarded", "done", "put_at", "size", "words")

    def __init__(self, words: list[Any], size: int, done: Done, put_at: float) -> None:
        self.words = words
        self.size = size
        self.done = done
        self.put_at = put_at
        self.boarded = False


class Line:
    """`begin` before use, in the event loop that uses it."""

    loop: asyncio.AbstractEventLoop

    def __init__(self, client: Redis, *, most_waiting: int, patience_s: float) -> None:
        """`most_waiting`: bytes that may wait for an answer; `patience_s`: how long anything waits."""
        self._client = client
        self._most_waiting = most_waiting
        self._patience_s = patience_s
        self._waiting: deque[Call] = deque()
        self._size = 0  # of all that has no answer yet
        self._flying: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.loop = asyncio.get_running_loop()

    def full(self, size: int) -> bool:
        """Whether so much waits already that `size` more is too much."""
        return self._size + size > self._most_waiting

    def put(self, done: Done, size: int, *words: Any) -> Call:
        """A command, in order. `done` is called, with what Redis answered, StorageFull or Unavailable, at most
        `patience_s` and a bit later."""
        call = Call(list(words), size, done, self.loop.time())
        self._waiting.append(call)
        self._size += size
        if self._flying is None or self._flying.done():
            self._flying = self.loop.create_task(self._fly())
        return call

    def run(self, name: str, keys: Sequence[str], done: Done, size: int, *args: Any) -> Call:
        """One of our scripts, as `put`."""
        return self.put(done, size, "EVALSHA", SHAS[name], len(keys), *keys, *args)

    def grow(self, call: Call, size: int, words: Sequence[Any]) -> None:
        """Goes with one that has not boarded."""
        call.words += words
        call.size += size
        self._size += size

    async def ask(self, *words: Any) -> Any:
        """A command's answer. Raises StorageFull, Unavailable."""
        future, done = _waited_for()
        self.put(done, ENTRY, *words)
        return await future

    async def ask_script(self, name: str, keys: Sequence[str], *args: Any) -> Any:
        future, done = _waited_for()
        self.run(name, keys, done, ENTRY, *args)
        return await future

    async def close(self) -> None:
        """Waits for every answer."""
        while self._flying is not None and not self._flying.done():
            await asyncio.wait((self._flying,))

    async def _fly(self) -> None:
        while self._waiting:
            flight = self._board()
            try:
                answers = await self._carry(flight)
            except Exception as error:
                # It was tried for as long as anybody waits: who waits behind it is told the same. (What is not
                # translated is a bug, and told as all else is.)
                flight += self._waiting
                self._waiting.clear()
                answers = [error] * len(flight)
            for call, answer in zip(flight, answers, strict=True):
                self._size -= call.size
                if isinstance(answer, Exception):
                    call.done(None, translated(answer) if isinstance(answer, exceptions.RedisError) else answer)
                else:
                    call.done(answer, None)

    def _board(self) -> list[Call]:
        flight = [self._waiting.popleft()]
        size = flight[0].size
        while self._waiting and len(flight) < _FLIGHT_CALLS and size + self._waiting[0].size <= _FLIGHT_BYTES:
            flight.append(self._waiting.popleft())
            size += flight[-1].size
        for call in flight:
            call.boarded = True
        return flight

    async def _carry(self, flight: list[Call]) -> list[Any]:
        left = flight[0].put_at + self._patience_s - self.loop.time()
        try:
            async with asyncio.timeout(max(_LAST_TRY_S, left)):
                while True:
                    try:
                        answers = await self._once(flight)
                    except (exceptions.ConnectionError, exceptions.TimeoutError, OSError):
                        await asyncio.sleep(_AGAIN_S)
                        continue
                    if not any(isinstance(answer, exceptions.NoScriptError) for answer in answers):
                        return answers
                    await self._teach()  # started anew, or another one: then all of it again, in order
        except TimeoutError:
            raise errors.Unavailable("the live journal's Redis does not answer") from None

    async def _once(self, flight: list[Call]) -> list[Any]:
        """As a pipeline of redis-py would, which takes twice the time to pack the words."""
        answers: list[Any] = []
        pool = self._client.connection_pool
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.send_packed_command(pack_command(tuple(call.words)) for call in flight)
            for _ in flight:
                try:
                    answers.append(await connection.read_response())
                except exceptions.ResponseError as error:
                    answers.append(error)
        except BaseException:  # answers that were not read must not be the next one's
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)
        return answers

    async def _teach(self) -> None:
        try:
            for script in SCRIPTS.values():
                await self._client.script_load(script)
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError):
            await asyncio.sleep(_AGAIN_S)


def _waited_for() -> tuple[asyncio.Future[Any], Done]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(answer: Any, error: BaseException | None) -> None:
        settle(future, answer, error)

    return future, done


def settle(future: asyncio.Future[Any], answer: Any, error: BaseException | None) -> None:
    """Nobody needs to look at an error: no warning. One who was cancelled hears nothing."""
    if future.done():
        return
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)
        future.exception()
