"""Running a decoder over bytes, and looking at the processes that it starts."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import psutil

from cosygate.model.audio import MediaInfo, sniff
from cosygate.ports.decoder import Decoder, DecodeRequest, Decoding


async def decode(decoder: Decoder, data: bytes, **request: Any) -> tuple[MediaInfo, bytes]:
    """What the port gives for a recording of these bytes; the container is sniffed unless it is given."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        container = request.pop("container", None) or sniff(data)
        async with decoder.open(file.fileno(), DecodeRequest(container, **request)) as decoding:
            return decoding.info, b"".join([piece async for piece in decoding.pcm()])


def samples(pcm: bytes) -> Any:
    """s16le → float64 in [-1, 1]."""
    return np.frombuffer(pcm, "<i2") / 32768


def loudest_hz(pcm: bytes, rate: int = 16_000) -> float:
    """The strongest frequency."""
    spectrum = np.abs(np.fft.rfft(samples(pcm)))
    return float(np.fft.rfftfreq(len(pcm) // 2, 1 / rate)[int(spectrum.argmax())])


def servers() -> list[psutil.Process]:
    """The fork-servers that this process has started."""
    return [p for p in psutil.Process().children() if any("forkserver" in word for word in p.cmdline())]


def newest_server() -> psutil.Process:
    return max(servers(), key=lambda p: p.create_time())


def only_child(server: psutil.Process) -> psutil.Process:
    (child,) = server.children()
    return child


@asynccontextmanager
async def opened(decoder: Decoder, data: bytes, **request: Any) -> AsyncIterator[Decoding]:
    """A recording being decoded; a long one's child is alive and blocked on its pipe."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        async with decoder.open(file.fileno(), DecodeRequest(sniff(data), **request)) as decoding:
            yield decoding
