"""The gateway's side of a stream: the task that feeds a child, and the reader that knows what the child owes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios
from collections.abc import AsyncIterator

from cosygate import errors
from cosygate.adapters.decoder_sandbox.frames import Kind
from cosygate.adapters.decoder_sandbox.pipe_reader import FrameReader, broken, silent
from cosygate.adapters.decoder_sandbox.stream_source import MAX_SILENT_BYTES, PIPE_BYTES
from cosygate.model.audio import Container

STREAMED = frozenset({Container.MATROSKA, Container.OGG})
# What a child may take without a word: see StreamSource, and what it may have read ahead.
_MOST_UNANSWERED = MAX_SILENT_BYTES + 2 * PIPE_BYTES


class Feeding:
    """A pipe to a child, and the task that fills it from `feed`, one pipe's content ahead of the child at most.

    The feed stays the caller's: a generator that is left in the middle is theirs to close.
    """

    def __init__(self, feed: AsyncIterator[bytes]) -> None:
        self._feed = feed
        self.source, self._into = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._into, False)
        fcntl.fcntl(self._into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._fed = 0
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Once the child has `source`."""
        self._close_source()
        self._task = asyncio.create_task(self._run())

    async def __aenter__(self) -> Feeding:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends the task, whatever it is at."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            if not self._task.cancelled():
                self._task.exception()  # seen, by whoever was still there to see it
        self._close_source()
        self._close_into()

    async def wait(self, ready: asyncio.Future[None], seconds: float) -> bool:
        """Until `ready`, the end of the feed, or so many seconds; whether it was the seconds. Raises what the feed
        raised."""
        task = self._task
        waits = {ready, task} if task and not task.done() else {ready}
        done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task and task.done() and not ready.done():
            task.result()
        return not done

    def taken(self) -> int:
        """How many bytes the child has read; all of them once the pipe is closed."""
        return self._fed - self._unread()

    @property
    def waited_for(self) -> bool:
        """The child has read everything and there may be more: it cannot be blamed for silence."""
        return self._into >= 0 and not self._unread()

    def _unread(self) -> int:
        if self._into < 0:
            return 0
        return int.from_bytes(fcntl.ioctl(self._into, termios.FIONREAD, bytes(4)), sys.byteorder)

    async def _run(self) -> None:
        try:
            async for data in self._feed:
                await self._write(memoryview(data))
        except BrokenPipeError:
            pass  # the child's own pipe tells how it ended
        self._close_into()

    async def _write(self, rest: memoryview) -> None:
        while rest:
            try:
                written = os.write(self._into, rest)
            except BlockingIOError:
                await self._writable()
                continue
            self._fed += written
            rest = rest[written:]

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._into, _resolve, ready)
        try:
            await ready
        finally:
            loop.remove_writer(self._into)

    def _close_source(self) -> None:
        if self.source >= 0:
            os.close(self.source)
            self.source = -1

    def _close_into(self) -> None:
        if self._into >= 0:
            os.close(self._into)
            self._into = -1


class StreamReader(FrameReader):
    """A streaming child's frames.

    Its silence is no fault while it has read all that it was fed: the rest has not been said yet. It is one when bytes
    lie unread, or the feed is over, and for one to two times `idle_s` the child neither reads nor writes; or when it
    swallows more than a child may.
    """

    def __init__(self, fd: int, ended: asyncio.Future[int | None], idle_s: float, feeding: Feeding) -> None:
        super().__init__(fd, ended, idle_s)
        self._feeding = feeding
        self._answered = 0  # bytes that the child had taken when its last frame was read

    async def next(self) -> tuple[Kind, bytes]:
        frame = await super().next()
        self._answered = self._feeding.taken()
        return frame

    async def _patiently(self, ready: asyncio.Future[None]) -> None:
        unmoved = -1
        while not ready.done():
            if not await self._feeding.wait(ready, self.idle_s):
                continue
            taken = self._feeding.taken()
            if taken - self._answered > _MOST_UNANSWERED:
                raise broken()
            if self._feeding.waited_for:
                unmoved = -1
            elif taken == unmoved:
                raise silent(self.idle_s)
            else:
                unmoved = taken


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def check_container(container: Container) -> None:
    """Raises MediaUndecodable for those that need more than reading from start to end."""
    if container not in STREAMED:
        raise errors.MediaUndecodable("only WebM, Matroska and Ogg can be decoded while they are being made")
