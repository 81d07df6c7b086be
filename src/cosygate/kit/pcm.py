"""Samples of any rate and number of channels in, s16le of one rate and one channel out, piece by piece.

Both decoders end here, so a recording gives the same samples whichever way it was decoded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

Samples = NDArray[Any]  # shape (frames, channels); float32 or float64 in [-1, 1], or int16
PIECE_BYTES = 64 * 1024  # largest piece of PCM handed on


def warm_up_samples(rate: int, at: int, native: int) -> int:
    """How many samples before `at` a resampler from `rate` is fed first, so that from `at` on it says the same as one
    that was fed everything: a quarter of a second, if there is so much. None when nothing is resampled."""
    return 0 if rate == native else min(at, rate // 4)


class ToMono:
    """A stream of interleaved samples → s16le mono at `out_rate`. Memory is that of one `feed`.

    `channel` (from 0) picks one channel, which is silent where the stream has no such channel; None averages all.
    Resampling is soxr's HQ: 20 bit, linear phase. NaN becomes 0, what is beyond full scale is clipped.
    """

    def __init__(self, rate: int, channel: int | None, out_rate: int) -> None:
        self._channel = channel
        # A rate that fits needs no arithmetic at all: the commonest recording is speech at 16 kHz already.
        self._resampler = soxr.ResampleStream(rate, out_rate, 1, dtype="float32") if rate != out_rate else None

    def feed(self, samples: Samples) -> bytes:
        if self._resampler is None and samples.dtype == np.int16 and samples.shape[1] == 1 and not self._channel:
            return samples.tobytes()
        return self._convert(self._mono(samples), last=False)

    def flush(self) -> bytes:
        """What the resampler still holds; nothing may be fed afterwards."""
        return self._convert(np.zeros(0, np.float32), last=True) if self._resampler else b""

    def _mono(self, samples: Samples) -> Samples:
        if self._channel is None:
            # Column by column: numpy's mean over a short axis takes five times as long.
            mono = _as_float(samples[:, 0])
            for channel in range(1, samples.shape[1]):
                mono += _as_float(samples[:, channel])
            mono *= np.float32(1 / samples.shape[1])
            return mono
        if self._channel < samples.shape[1]:
            return _as_float(samples[:, self._channel])
        return np.zeros(len(samples), np.float32)

    def _convert(self, mono: Samples, *, last: bool) -> bytes:
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono, last=last)
        mono = np.rint(mono * np.float32(32768))
        return np.clip(mono, -32768, 32767, out=mono).astype("<i2").tobytes()


def _as_float(column: Samples) -> Samples:
    """A new float32 array, finite and in [-1, 1]."""
    if column.dtype == np.int16:
        return column.astype(np.float32) * np.float32(1 / 32768)
    floats = np.clip(column, -1.0, 1.0).astype(np.float32)
    floats[np.isnan(floats)] = 0.0
    return floats


def pieces(pcm: bytes) -> list[bytes]:
    """At most PIECE_BYTES each, none empty."""
    return [pcm[at : at + PIECE_BYTES] for at in range(0, len(pcm), PIECE_BYTES)]
