"""The gateway's side of a child's pipe, and the border of trust: a child may be under an attacker's control, so frames,
numbers and texts are checked here before anything else sees them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

from cosygate import errors
from cosygate.adapters.decoder_sandbox.frames import HEADER, MAX_BODY, Kind
from cosygate.kit.logs import logger
from cosygate.model.audio import PCM_RATE, MediaInfo
from cosygate.ports.decoder import DecodeRequest

_LONGEST_S = 1e9  # of a container's claim; NaN and infinity are no claim either
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


class FrameReader:
    """A child's pipe, frame by frame. Reads only when asked, and at most one pipe's content ahead."""

    def __init__(self, fd: int, ended: asyncio.Future[int | None], idle_s: float) -> None:
        self._fd = fd
        self._ended = ended
        self.idle_s = idle_s
        self._buffer = bytearray()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1  # a reader that goes on must not meet somebody else's descriptor

    async def info(self, request: DecodeRequest) -> MediaInfo:
        kind, body = await self.next()
        if kind is not Kind.INFO:
            raise broken()
        return _checked_info(_json(body), request)

    async def pcm(self, seconds: float) -> AsyncIterator[bytes]:
        """After `info`: the samples, at most `seconds` of them whatever the child says."""
        left = int(seconds * PCM_RATE) * 2
        while True:
            kind, body = await self.next()
            if kind is Kind.DONE:
                bad = _json(body).get("bad_packets")
                if isinstance(bad, int) and bad:
                    logger().info("decoder.packets_skipped", count=bad)
                return
            if kind is not Kind.PCM or not body or len(body) % 2:
                raise broken()
            left -= len(body)
            if left < 0:
                raise errors.MediaTooLong(f"the recording is longer than {seconds:g} s")
            yield body

    async def next(self) -> tuple[Kind, bytes]:
        """Raises what the child's ERROR frame says, or what its end without one means."""
        number, length = HEADER.unpack(await self._exactly(HEADER.size))
        if length > MAX_BODY or number not in tuple(Kind):
            raise broken()
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
            await self._patiently(ready)
        finally:
            if self._fd >= 0:  # else it was closed meanwhile, and the number may be somebody else's
                loop.remove_reader(self._fd)

    async def _patiently(self, ready: asyncio.Future[None]) -> None:
        """Raises DecoderTimeout when the child is silent although it has all that it needs."""
        try:
            async with asyncio.timeout(self.idle_s):
                await ready
        except TimeoutError:
            raise silent(self.idle_s) from None

    async def _how_it_ended(self) -> errors.CosyGateError:
        await asyncio.wait([self._ended], timeout=_EXIT_WAIT_S)
        status = self._ended.result() if self._ended.done() else None
        if status == -signal.SIGXCPU:
            return errors.DecoderTimeout("the decoder used up its CPU time")
        return errors.DecoderDied()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def silent(seconds: float) -> errors.DecoderTimeout:
    return errors.DecoderTimeout(f"the decoder was silent for {seconds:g} s")


def broken() -> errors.DecoderDied:
    return errors.DecoderDied("the decoder broke its protocol")


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise broken() from None
    if not isinstance(value, dict):
        raise broken()
    return value


def _printable(text: object, length: int) -> str:
    return "".join(c for c in text if c.isascii() and c.isprintable())[:length] if isinstance(text, str) else ""


def _checked_info(told: dict[str, Any], request: DecodeRequest) -> MediaInfo:
    limits, rate, channels, duration = request.limits, told.get("rate"), told.get("channels"), told.get("duration")
    if not (isinstance(rate, int) and limits.min_rate <= rate <= limits.max_rate):
        raise broken()
    if not (isinstance(channels, int) and 1 <= channels <= limits.channels):
        raise broken()
    if not (isinstance(duration, int | float) and 0 < duration < _LONGEST_S):
        duration = None
    return MediaInfo(request.container, _printable(told.get("codec"), 64), rate, channels, duration)
