"""The Decoder over confined children. Nothing that a child writes is believed: frames, numbers and texts are checked,
and the limits are enforced a second time on this side of the pipe."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from cosygate import errors
from cosygate.adapters.decoder_sandbox.frames import HEADER, MAX_BODY, Kind
from cosygate.adapters.decoder_sandbox.server_link import Child, ServerGone, ServerLink
from cosygate.kit.backoff import Backoff
from cosygate.kit.clock import Clock, Randomness, SystemClock, SystemRandomness
from cosygate.kit.logs import logger
from cosygate.model.audio import PCM_RATE, AudioLimits, Container, MediaInfo
from cosygate.ports.decoder import DecodeRequest, Decoding

_START_TRIES = 3
_PIPE_READ = 256 * 1024
_EXIT_WAIT_S = 5.0  # between a pipe's end and the news of its child's
# What a child may say of a recording; anything else counts as its death.
_TOLD: dict[str, type[errors.RecordingFailed]] = {
    error.code: error
    for error in (
        errors.MediaUndecodable,
        errors.MediaNoAudio,
        errors.MediaLimits,
        errors.MediaTooLong,
        errors.DecoderDied,
    )
}


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What confines a child on this host: layer → "" when it was tried and held, otherwise why not."""

    layers: dict[str, str]

    @property
    def sufficient(self) -> bool:
        """Landlock or seccomp: without either, a broken decoder could reach files."""
        return any(self.layers.get(name) == "" for name in ("landlock", "seccomp"))


class SandboxDecoder:
    """Every container but RAW. At most `children` recordings are decoded at once, others wait for a place.

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
        idle_s: float = 60.0,
        clock: Clock | None = None,
        randomness: Randomness | None = None,
    ) -> None:
        self._cpu_s = cpu_s
        self._memory_bytes = memory_bytes
        self._degraded = degraded
        self._places = asyncio.Semaphore(children)
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
        async with self._places:
            link = await self._server()
            if not self.usable:
                raise errors.SandboxMissing()
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(reader, False)
            child: Child | None = None
            try:
                try:
                    child = await link.begin(fd, writer, _task(request))
                finally:
                    os.close(writer)
                frames = _Frames(reader, child, self._idle_s)
                yield _SandboxDecoding(frames, await frames.info(request), request.limits)
            except ServerGone:
                raise errors.DecoderDied("the decoder's fork-server ended") from None
            finally:
                if child is not None:
                    await link.end(child)
                os.close(reader)

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


def _task(request: DecodeRequest) -> dict[str, Any]:
    return {"container": request.container, "channel": request.channel, "limits": asdict(request.limits)}


class _Frames:
    """A child's pipe, frame by frame. Reads only when asked, and at most one pipe's content ahead."""

    def __init__(self, fd: int, child: Child, idle_s: float) -> None:
        self._fd = fd
        self._child = child
        self._idle_s = idle_s
        self._buffer = bytearray()

    async def info(self, request: DecodeRequest) -> MediaInfo:
        kind, body = await self.next()
        if kind is not Kind.INFO:
            raise _broken()
        return _checked_info(_json(body), request)

    async def next(self) -> tuple[Kind, bytes]:
        """Raises what the child's ERROR frame says, or what its end without one means."""
        number, length = HEADER.unpack(await self._exactly(HEADER.size))
        if length > MAX_BODY or number not in tuple(Kind):
            raise _broken()
        kind, body = Kind(number), await self._exactly(length)
        if kind is Kind.ERROR:
            told = _json(body)
            error = _TOLD.get(str(told.get("code")), errors.DecoderDied)
            raise error(_printable(told.get("detail"), 200))
        return kind, body

    async def _exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            try:
                data = os.read(self._fd, _PIPE_READ)
            except BlockingIOError:
                await self._readable()
                continue
            if not data:
                raise await self._how_it_ended()
            self._buffer += data
        taken = bytes(self._buffer[:length])
        del self._buffer[:length]
        return taken

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._fd, _resolve, ready)
        try:
            async with asyncio.timeout(self._idle_s):
                await ready
        except TimeoutError:
            raise errors.DecoderTimeout(f"the decoder was silent for {self._idle_s:g} s") from None
        finally:
            loop.remove_reader(self._fd)

    async def _how_it_ended(self) -> errors.CosyGateError:
        await asyncio.wait([self._child.ended], timeout=_EXIT_WAIT_S)
        status = self._child.ended.result() if self._child.ended.done() else None
        if status == -signal.SIGXCPU:
            return errors.DecoderTimeout("the decoder used up its CPU time")
        return errors.DecoderDied()


class _SandboxDecoding:
    def __init__(self, frames: _Frames, info: MediaInfo, limits: AudioLimits) -> None:
        self._frames = frames
        self._limits = limits
        self.info = info

    async def pcm(self) -> AsyncIterator[bytes]:
        left = int(self._limits.seconds * PCM_RATE) * 2
        while True:
            kind, body = await self._frames.next()
            if kind is Kind.DONE:
                if bad := _json(body).get("bad_packets"):
                    logger().info("decoder.packets_skipped", count=bad)
                return
            if kind is not Kind.PCM or not body or len(body) % 2:
                raise _broken()
            left -= len(body)
            if left < 0:
                raise errors.MediaTooLong(f"the recording is longer than {self._limits.seconds:g} s")
            yield body


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _broken() -> errors.DecoderDied:
    return errors.DecoderDied("the decoder broke its protocol")


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        raise _broken() from None
    if not isinstance(value, dict):
        raise _broken()
    return value


def _printable(text: object, length: int) -> str:
    return "".join(c for c in str(text) if c.isascii() and c.isprintable())[:length]


def _checked_info(told: dict[str, Any], request: DecodeRequest) -> MediaInfo:
    limits, rate, channels, duration = request.limits, told.get("rate"), told.get("channels"), told.get("duration")
    if not (isinstance(rate, int) and limits.min_rate <= rate <= limits.max_rate):
        raise _broken()
    if not (isinstance(channels, int) and 1 <= channels <= limits.channels):
        raise _broken()
    if not (isinstance(duration, int | float) and math.isfinite(duration) and duration > 0):
        duration = None
    return MediaInfo(request.container, _printable(told.get("codec"), 64), rate, channels, duration)
