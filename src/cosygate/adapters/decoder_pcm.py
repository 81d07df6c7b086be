"""The fast path: plain samples (WAV, or headerless with a given format) need no codec, so no child process either.

Only a few hundred lines of checked Python and numpy see the client's bytes here; everything that needs a real demuxer
or codec goes to the other decoder.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np

from cosygate import errors
from cosygate.kit.g711 import decode_alaw, decode_mulaw
from cosygate.kit.pcm import Samples, ToMono, pieces
from cosygate.model.audio import PCM_RATE, AudioLimits, Container, MediaInfo, RawFormat
from cosygate.model.wav import Encoding, WavFormat, parse_wav
from cosygate.ports.decoder import Decoder, DecodeRequest, Decoding

_BLOCK_BYTES = 256 * 1024  # read and converted in one go, off the event loop


class PcmDecoder:
    """Decodes plain samples by itself and hands every other recording to `otherwise`."""

    def __init__(self, otherwise: Decoder) -> None:
        self._otherwise = otherwise

    @asynccontextmanager
    async def open(self, fd: int, request: DecodeRequest) -> AsyncIterator[Decoding]:
        """As the port says; MediaTooLong comes at once, because the length is known."""
        plain = await asyncio.to_thread(_plain_format, fd, request)
        if plain is not None:
            check_limits(plain, request.channel, request.limits)
            yield _PcmDecoding(fd, plain, request)
        else:
            async with self._otherwise.open(fd, request) as decoding:
                yield decoding


def _plain_format(fd: int, request: DecodeRequest) -> WavFormat | None:
    size = os.fstat(fd).st_size
    if request.container is Container.WAV:
        return parse_wav(lambda offset, length: os.pread(fd, length, offset), size)
    if request.container is Container.RAW:
        raw = request.raw or RawFormat(PCM_RATE, 1)
        frame = 2 * raw.channels
        return WavFormat(Encoding.SIGNED, 2, raw.channels, raw.rate, 0, size - size % frame)
    return None


def check_limits(found: WavFormat, channel: int | None, limits: AudioLimits) -> None:
    """Before anything is allocated for it. Raises MediaLimits, MediaTooLong, MediaUndecodable (no samples)."""
    if not limits.min_rate <= found.rate <= limits.max_rate:
        raise errors.MediaLimits(f"the rate is {found.rate} Hz; {limits.min_rate}-{limits.max_rate} is allowed")
    if not 1 <= found.channels <= limits.channels:
        raise errors.MediaLimits(f"there are {found.channels} channels; 1-{limits.channels} are allowed")
    if channel is not None and channel >= found.channels:
        raise errors.MediaLimits(f"there is no channel {channel}")
    if not found.frames:
        raise errors.MediaUndecodable("the recording has no samples")
    if found.frames / found.rate > limits.seconds:
        raise errors.MediaTooLong(f"the recording is longer than {limits.seconds:g} s")


class _PcmDecoding:
    def __init__(self, fd: int, plain: WavFormat, request: DecodeRequest) -> None:
        self._fd = fd
        self._plain = plain
        self._to_mono = ToMono(plain.rate, request.channel, PCM_RATE)
        self.info = MediaInfo(
            request.container, plain.codec, plain.rate, plain.channels, round(plain.frames / plain.rate, 3)
        )

    async def pcm(self) -> AsyncIterator[bytes]:
        at, end = self._plain.data_start, self._plain.data_start + self._plain.data_size
        block = _BLOCK_BYTES - _BLOCK_BYTES % self._plain.frame_bytes
        while at < end:
            wanted = min(block, end - at)
            converted, got = await asyncio.to_thread(self._read, at, wanted, at + wanted >= end)
            at += got or end  # the file shrank under us: what was there is what there is
            for piece in converted:
                yield piece

    def _read(self, at: int, length: int, last: bool) -> tuple[list[bytes], int]:
        """Converted pieces of the bytes at `at`, and how many bytes they were."""
        data = os.pread(self._fd, length, at)
        data = data[: len(data) - len(data) % self._plain.frame_bytes]
        out = self._to_mono.feed(_samples(data, self._plain))
        if last or not data:
            out += self._to_mono.flush()
        return pieces(out), len(data)


def _samples(data: bytes, plain: WavFormat) -> Samples:
    """(frames, channels): int16 as it is, everything else float in [-1, 1]."""
    return _CONVERTERS[plain.encoding](data, plain.width).reshape(-1, plain.channels)


def _signed(data: bytes, width: int) -> Samples:
    if width == 2:
        return np.frombuffer(data, "<i2")
    if width == 4:
        return np.frombuffer(data, "<i4") * np.float32(2.0**-31)
    upper = np.zeros((len(data) // 3, 4), np.uint8)  # 24 bit: the upper three bytes of 32
    upper[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return upper.view("<i4")[:, 0] * np.float32(2.0**-31)


def _unsigned(data: bytes, _width: int) -> Samples:
    return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) * np.float32(1 / 128)


def _float(data: bytes, width: int) -> Samples:
    return np.frombuffer(data, f"<f{width}")


_CONVERTERS: dict[Encoding, Callable[[bytes, int], Samples]] = {
    Encoding.SIGNED: _signed,
    Encoding.UNSIGNED: _unsigned,
    Encoding.FLOAT: _float,
    Encoding.MULAW: lambda data, _: np.frombuffer(decode_mulaw(data), "<i2"),
    Encoding.ALAW: lambda data, _: np.frombuffer(decode_alaw(data), "<i2"),
}
