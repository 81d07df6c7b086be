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
        mono = self._pick(samples)
        if self._resampler is None and mono.dtype == np.int16:
            return mono.tobytes()
        return self._convert(_as_float(mono), last=False)

    def flush(self) -> bytes:
        """What the resampler still holds; nothing may be fed afterwards."""
        return self._convert(np.zeros(0, np.float32), last=True) if self._resampler else b""

    def _pick(self, samples: Samples) -> Samples:
        channels = samples.shape[1]
        if self._channel is not None:
            return samples[:, self._channel] if self._channel < channels else np.zeros(len(samples), samples.dtype)
        if channels == 1:
            return samples[:, 0]
        return np.asarray(_as_float(samples).mean(axis=1, dtype=np.float32))

    def _convert(self, mono: Samples, *, last: bool) -> bytes:
        if self._resampler is not None:
            mono = self._resampler.resample_chunk(mono, last=last)
        return np.clip(np.rint(mono * 32768.0), -32768, 32767).astype("<i2").tobytes()


def _as_float(samples: Samples) -> Samples:
    if samples.dtype == np.int16:
        return samples.astype(np.float32) * np.float32(1 / 32768)
    finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)
    return np.asarray(np.clip(finite, -1.0, 1.0), np.float32)


def pieces(pcm: bytes) -> list[bytes]:
    """At most PIECE_BYTES each, none empty."""
    return [pcm[at : at + PIECE_BYTES] for at in range(0, len(pcm), PIECE_BYTES)]
