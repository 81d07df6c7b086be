"""Running a decoder over bytes."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

from cosygate.model.audio import MediaInfo, sniff
from cosygate.ports.decoder import Decoder, DecodeRequest


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
