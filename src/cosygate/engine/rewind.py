"""The audio of one live call since its last restart point, as it was sent and at RATE.

At a restart point everything begins afresh: the resampler too, warmed with the quarter second before. soxr's stream
says the same in whatever pieces it is fed (measured, bit for bit), so what follows depends on samples alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr

from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.kit.pcm import warm_up_samples

_SCALE = np.float32(1 / 32768)


class Rewind:
    """Indexes "as sent" count from the session's sample 0; indexes "at RATE" from the restart point. Holds what was
    pushed since a quarter second before the restart point: who pushes must rewind, or it grows."""

    def __init__(self, rate: int, first_sample: int, restart_sample: int) -> None:
        """The first sample pushed is `first_sample`; what comes before `restart_sample` only warms the resampler."""
        self._rate = rate
        self._kept = bytearray()  # s16le as sent, from `_kept_from`
        self._kept_from = first_sample
        self.received = first_sample  # as sent: the end of what was pushed
        self.restart: int
        self.count: int  # samples available at RATE
        self._fed: int  # as sent: the end of what the resampler got
        self._flushed: bool
        self._resampler: Any
        self._begin(restart_sample)

    def push(self, pcm: bytes) -> None:
        self._kept += pcm
        self.received += len(pcm) // 2

    def more(self) -> bool:
        """Makes a little more of what was pushed available at RATE; False when there is no more."""
        if self._fed >= self.received:
            return False
        if self._resampler is None:
            self._fed = self.received
            self.count = max(0, self._fed - self.restart)
            return True
        upto = min(self.received, self._fed + self._rate // 10)
        self._append(self._resampler.resample_chunk(self._sent_samples(self._fed, upto)))
        self._fed = upto
        return True

    def flush(self) -> bool:
        """The audio ends here: makes available what the resampler holds back (False: nothing). `rewind` must follow."""
        if self._resampler is None or self._flushed:
            return False
        self._append(self._resampler.resample_chunk(np.empty(0, np.float32), last=True))
        self._flushed = True
        return True

    def samples(self, start: int, end: int) -> Samples:
        """A copy of [start, end) at RATE, below `count`."""
        if self._resampler is None:
            return self._sent_samples(self.restart + start, self.restart + end)
        return self._ready[start:end].copy()

    def sent(self, at: int) -> int:
        """An index at RATE → the index as sent, never beyond what was sent."""
        if self._flushed and at >= self.count:
            return self.received
        beyond = at if self._rate == RATE else round(at * self._rate / RATE)
        return min(self.restart + beyond, self.received)

    def rewind(self, sample: int) -> None:
        """`sample` (as sent, not before the last one) is the new restart point."""
        warm_from = max(self._kept_from, sample - warm_up_samples(self._rate, sample, RATE))
        del self._kept[: 2 * (warm_from - self._kept_from)]
        self._kept_from = warm_from
        self._begin(sample)

    def _begin(self, restart: int) -> None:
        self.restart = restart
        self.count = 0
        self._fed = self._kept_from
        self._flushed = False
        self._resampler = None
        if self._rate != RATE:
            self._resampler = soxr.ResampleStream(self._rate, RATE, 1, dtype="float32")
            self._skip = round((restart - self._kept_from) * RATE / self._rate)  # what the warm-up gives
            self._ready = np.empty(RATE, np.float32)

    def _append(self, samples: Samples) -> None:
        skipped = min(self._skip, len(samples))
        self._skip -= skipped
        samples = samples[skipped:]
        end = self.count + len(samples)
        if end > len(self._ready):
            self._ready = np.concatenate([self._ready[: self.count], np.empty(end, np.float32)])  # doubles
        self._ready[self.count : end] = samples
        self.count = end

    def _sent_samples(self, start: int, end: int) -> Samples:
        view = np.frombuffer(self._kept, "<i2", end - start, 2 * (start - self._kept_from))
        samples = view.astype(np.float32)
        samples *= _SCALE
        return samples
