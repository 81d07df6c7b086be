"""Recordings that are still being made: what a browser's recorder would say, and feeds in a test's hand."""

from __future__ import annotations

import asyncio
import functools
import io
from collections.abc import AsyncIterator, Iterable
from fractions import Fraction
from typing import Any

import av
import numpy as np

from cosygate.model.audio import Container, MediaInfo
from cosygate.ports.decoder import DecodeRequest, StreamDecoder
from tests.support import media

CONTAINERS = {"webm": Container.MATROSKA, "ogg": Container.OGG}


@functools.cache
def live(container: str, seconds: float, piece_ms: int = 100) -> tuple[bytes, ...]:
    """A tone in noise, in the pieces that a muxer hands on one by one: the header, then a cluster or page each."""
    options = {
        "webm": {"live": "1", "cluster_time_limit": str(piece_ms)},
        "ogg": {"page_duration": str(piece_ms * 1000)},
    }
    noise = np.random.default_rng(5).normal(0, 0.05, round(seconds * 48_000))
    samples = (media.tone(seconds, 48_000, level=0.4) + noise).astype(np.float32)
    pieces = _Pieces()
    with av.open(pieces, "w", format=container, options=options[container]) as out:
        stream: Any = out.add_stream("libopus", rate=48_000, layout="mono")
        for at in range(0, len(samples), 960):
            part = np.ascontiguousarray(samples[None, at : at + 960])
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 48_000, Fraction(1, 48_000), at
            for packet in stream.encode(frame):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return tuple(pieces.written)


class _Pieces:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: Any) -> int:
        self.written.append(bytes(data))
        return len(self.written[-1])


def seconds_in(data: bytes) -> float:
    """How much audio whoever has these bytes, and will never have more, can decode."""
    decoded = 0.0
    try:
        with av.open(io.BytesIO(data), "r") as container:
            for frame in container.decode(audio=0):
                decoded += frame.samples / frame.sample_rate
    except av.FFmpegError:
        pass
    return decoded


async def feed_of(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class HeldFeed:
    """Gives what it is given, when it is given it."""

    def __init__(self, *pieces: bytes) -> None:
        self._said: asyncio.Queue[bytes | BaseException] = asyncio.Queue()
        for piece in pieces:
            self.say(piece)

    def say(self, piece: bytes) -> None:
        self._said.put_nowait(piece)

    def end(self) -> None:
        self.fail(StopAsyncIteration())

    def fail(self, error: BaseException) -> None:
        self._said.put_nowait(error)

    @property
    def left(self) -> int:
        """What nobody has taken."""
        return self._said.qsize()

    def __aiter__(self) -> HeldFeed:
        return self

    async def __anext__(self) -> bytes:
        said = await self._said.get()
        if isinstance(said, BaseException):
            raise said
        return said


async def decode_stream(
    decoder: StreamDecoder, pieces: Iterable[bytes], container: Container = Container.MATROSKA, **request: Any
) -> tuple[MediaInfo, bytes]:
    """What the port gives for a stream that came in these pieces."""
    async with decoder.stream(feed_of(pieces), DecodeRequest(container, **request)) as decoding:
        return decoding.info, b"".join([piece async for piece in decoding.pcm()])
