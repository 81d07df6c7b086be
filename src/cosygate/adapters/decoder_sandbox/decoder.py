"""The Decoder over confined children: who gets one, when, and what becomes of it."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from cosygate import errors
from cosygate.adapters.decoder_sandbox.pipe_reader import FrameReader
from cosygate.adapters.decoder_sandbox.server_link import ServerGone, ServerLink
from cosygate.adapters.decoder_sandbox.streaming import Feeding, StreamReader, check_container
from cosygate.kit.backoff import Backoff
from cosygate.kit.clock import Clock, Randomness, SystemClock, SystemRandomness
from cosygate.kit.logs import logger
from cosygate.model.audio import Container, MediaInfo
from cosygate.ports.decoder import DecodeRequest, Decoding

_START_TRIES = 3


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What confines a child on this host: layer → "" when it was tried and held, otherwise why not."""

    layers: dict[str, str]

    @property
    def sufficient(self) -> bool:
        """Landlock or seccomp: without either, a broken decoder could reach files."""
        return any(self.layers.get(name) == "" for name in ("landlock", "seccomp"))


class SandboxDecoder:
    """Every container but RAW. At most `children` recordings are decoded at once, others wait for a place; beside them
    at most `streams` that are still being made, which take hardly any CPU and cannot wait.

    `cpu_s` and `memory_bytes` (beyond the loaded libraries) bound one recording; `idle_s` is the longest that a child
    may be silent while the consumer waits for it: a slow consumer never makes a timeout. With `degraded`, recordings
    are decoded although the kernel has neither Landlock nor seccomp.
    """

    def __init__(
        self,
        *,
        cpu_s: int = 600,
        memory_bytes: int = 1024**3,
        degraded: bool = False,
        children: int = 4,
        streams: int = 64,
        idle_s: float = 60.0,
        clock: Clock | None = None,
        randomness: Randomness | None = None,
    ) -> None:
        self._cpu_s = cpu_s
        self._memory_bytes = memory_bytes
        self._degraded = degraded
        self._places = asyncio.Semaphore(children)
        self._streams_left = streams
        self._idle_s = idle_s
        self._clock = clock or SystemClock()
        self._randomness = randomness or SystemRandomness()
        self._link: ServerLink | None = None
        self._starting: asyncio.Task[ServerLink] | None = None

    async def __aenter__(self) -> SandboxDecoder:
        """Starts the fork-server. Raises Unavailable."""
        await self._server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def usable(self) -> bool:
        """Whether this host confines a decoder well enough (as last seen), or is allowed not to."""
        return self._link is not None and (self._degraded or SandboxReport(self._link.layers).sufficient)

    async def report(self) -> SandboxReport:
        """Starts the fork-server if need be. Raises Unavailable when it does not start."""
        return SandboxReport((await self._server()).layers)

    async def close(self) -> None:
        """Ends every decoding. The decoder may be used again, which starts anew."""
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if self._link is not None:
            await self._link.close()
            self._link = None

    @asynccontextmanager
    async def open(self, fd: int, request: DecodeRequest) -> AsyncIterator[Decoding]:
        """As the port says. Raises Unavailable when the fork-server does not start: costs the recording nothing."""
        if request.container is Container.RAW:
            raise errors.MediaUndecodable("headerless samples are not for the sandbox")
        async with self._places, self._child(fd, _task(request), self._reader) as frames:
            yield _SandboxDecoding(await frames.info(request), frames, request.limits.seconds)

    @asynccontextmanager
    async def stream(self, feed: AsyncIterator[bytes], request: DecodeRequest) -> AsyncIterator[Decoding]:
        """As ports.decoder.StreamDecoder says. `info` needs the first audio: entering waits for it. The feed stays the
        caller's, to close as well. Raises SessionsFull at once when every place is taken."""
        check_container(request.container)
        if not self._streams_left:
            raise errors.SessionsFull("every place of the decoder for a live stream is taken")
        self._streams_left -= 1
        try:
            async with Feeding(feed) as feeding:
                reader = functools.partial(StreamReader, idle_s=self._idle_s, feeding=feeding)
                async with self._child(feeding.source, _task(request, stream=True), reader) as frames:
                    feeding.begin()
                    yield _SandboxDecoding(await frames.info(request), frames, request.limits.seconds)
        finally:
            self._streams_left += 1

    def _reader(self, fd: int, ended: asyncio.Future[int | None]) -> FrameReader:
        return FrameReader(fd, ended, self._idle_s)

    @asynccontextmanager
    async def _child(
        self, source: int, task: dict[str, Any], reader_of: Callable[[int, asyncio.Future[int | None]], FrameReader]
    ) -> AsyncIterator[FrameReader]:
        """A child that decodes the descriptor, as the reader of its frames; killed on leaving."""
        link = await self._server()
        if not self.usable:
            raise errors.SandboxMissing()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        try:
            child = await link.begin(source, writer, task)
        except BaseException as error:
            os.close(reader)
            if isinstance(error, ServerGone):
                raise errors.DecoderDied("the decoder's fork-server ended") from None
            raise
        finally:
            os.close(writer)
        frames = reader_of(reader, child.ended)
        try:
            yield frames
        finally:
            frames.close()
            await link.end(child)

    async def _server(self) -> ServerLink:
        """The running fork-server; started, by one task for all who wait, when there is none."""
        if self._link is not None and self._link.alive:
            return self._link
        if self._starting is None or self._starting.done():
            self._starting = asyncio.create_task(self._start(self._link))
        return await asyncio.shield(self._starting)

    async def _start(self, old: ServerLink | None) -> ServerLink:
        if old is not None:
            logger().warning("decoder.server_lost")
            await old.close()
        backoff = Backoff()
        for attempt in range(_START_TRIES):
            if attempt:
                await self._clock.sleep(backoff.delay(attempt - 1, self._randomness))
            try:
                self._link = await ServerLink.start(self._cpu_s, self._memory_bytes)
            except (ServerGone, OSError) as error:
                logger().error("decoder.server_failed", attempt=attempt + 1, error=str(error))
            else:
                logger().info("decoder.server_ready", layers=self._link.layers)
                return self._link
        raise errors.Unavailable("the decoder does not start")


def _task(request: DecodeRequest, *, stream: bool = False) -> dict[str, Any]:
    limits = asdict(request.limits)
    return {"container": request.container, "channel": request.channel, "limits": limits, "stream": stream}


@dataclass(frozen=True, slots=True)
class _SandboxDecoding:
    info: MediaInfo
    _frames: FrameReader
    _seconds: float

    def pcm(self) -> AsyncIterator[bytes]:
        return self._frames.pcm(self._seconds)
