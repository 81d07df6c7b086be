"""Where speech is: cuts audio at its pauses, with Silero's model through sherpa-onnx.

Incremental, keyed by sample indexes alone (never by when audio arrived), in fixed memory: about 3 MB per cutter.
Constructing a detector costs 70 ms and resetting one nothing, so the idle ones are kept. Live calls (live_cutter.py)
take the bare `Detector`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import sherpa_onnx

from cosygate.engine.recognisers.base import RATE, CannotStart, Samples

WINDOW = 512  # samples per decision; with larger pieces false alarms rise from 3 % to 42 % (design notes, "What bites")
PAD = RATE // 5  # added on both sides of what the detector calls speech
LONGEST_S = 15.0  # from here on the detector takes any short pause
_LOOK_BACK = RATE * 6 // 10  # a piece starts, pad included, less than this before the detector notices speech
_FORCED = 28 * RATE  # speech without a pause is cut here, or the detector's buffer would grow
_RING = 32 * RATE  # past samples, enough for the longest piece with its pads


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of audio to recognise. Samples are counted from the first one pushed, at RATE."""

    start: int
    end: int
    samples: Samples


class Cutter(Protocol):
    """Cuts a stream of samples into pieces, in order. The pieces' samples may overlap by their pads."""

    def push(self, samples: Samples) -> list[Piece]: ...

    def finish(self) -> list[Piece]:
        """Ends the open piece; the next push starts afresh, and goes on counting."""

    def reset(self) -> None:
        """As new: the next sample pushed is number 0."""

    @property
    def decided(self) -> int:
        """No piece to come starts before this sample."""


class Resettable(Protocol):
    def reset(self) -> None:
        """As new."""


T = TypeVar("T", bound=Resettable)


class Pool(Generic[T]):
    """Idle cutters or detectors, for any thread (list.pop and list.append are atomic)."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._idle: list[T] = []

    def borrow(self) -> T:
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    def give_back(self, one: T) -> None:
        """Only one that no thread uses any more; so there are never more than calls at once."""
        one.reset()
        self._idle.append(one)


class FixedCutter:
    """Cuts every so many seconds, whatever is in there: for recognisers that want everything."""

    def __init__(self, seconds: float) -> None:
        self._length = max(1, round(seconds * RATE))
        self.reset()

    def reset(self) -> None:
        self._held: list[Samples] = []
        self._count = 0  # samples held
        self._decided = 0

    @property
    def decided(self) -> int:
        return self._decided

    def push(self, samples: Samples) -> list[Piece]:
        pieces = []
        while self._count + len(samples) >= self._length:
            take = self._length - self._count
            self._hold(samples[:take])
            samples = samples[take:]
            pieces += self.finish()
        self._hold(samples)
        return pieces

    def finish(self) -> list[Piece]:
        if not self._count:
            return []
        samples = self._held[0] if len(self._held) == 1 else np.concatenate(self._held)
        piece = Piece(self._decided, self._decided + self._count, samples)
        self._held, self._count = [], 0
        self._decided = piece.end
        return [piece]

    def _hold(self, samples: Samples) -> None:
        if len(samples):
            self._held.append(samples)
            self._count += len(samples)


class Detector:
    """Silero's bare decision per window, with hysteresis: on above 0.5 (for two windows), off below 0.35."""

    _CONTEXT = 64  # samples before a window that the model sees again

    def __init__(self, model: Path) -> None:
        config = _config(model)
        # Gaps and shortest speech are the caller's: one window decides.
        config.silero_vad.min_silence_duration = config.silero_vad.min_speech_duration = 0.001
        self._vad: Any = sherpa_onnx.VadModel.create(config)
        if self._vad.window_size() != self._CONTEXT + WINDOW:
            raise CannotStart("the speech detector's model takes other windows than this engine cuts")
        self._window = np.zeros(self._CONTEXT + WINDOW, np.float32)

    def reset(self) -> None:
        self._vad.reset()
        self._window[:] = 0

    def is_speech(self, samples: Samples) -> bool:
        """`samples`: the next WINDOW."""
        window = self._window
        window[: self._CONTEXT] = window[-self._CONTEXT :]
        window[self._CONTEXT :] = samples
        return bool(self._vad.is_speech(window.tolist()))  # a list crosses into C++ a sixth faster


def _config(model: Path) -> Any:
    config = sherpa_onnx.VadModelConfig()
    config.silero_vad.model = str(model)
    config.silero_vad.threshold = 0.5
    config.sample_rate = RATE
    return config


class SpeechCutter:
    """Cuts at pauses: speech above 0.5, a gap of 0.4 s, at least 0.2 s of speech, 0.2 s of padding."""

    def __init__(self, model: Path) -> None:
        """`model`: silero_vad.onnx, checked before: a wrong one ends the process."""
        config = _config(model)
        config.silero_vad.min_silence_duration = 0.4
        config.silero_vad.min_speech_duration = 0.2
        config.silero_vad.max_speech_duration = LONGEST_S
        self._vad: Any = sherpa_onnx.VoiceActivityDetector(config, buffer_size_in_seconds=_RING / RATE)
        self._past = np.zeros(_RING, np.float32)
        self._begin(0)

    def reset(self) -> None:
        self._vad.reset()
        self._begin(0)

    def _begin(self, base: int) -> None:
        self._base = base  # the stream's index of the detector's sample 0
        self._seen = base  # samples in the ring
        self._rest: Samples = np.empty(0, np.float32)  # less than a window
        self._found: list[tuple[int, int]] = []  # padded ranges whose end is not in the ring yet
        self._open: int | None = None  # where the detector noticed the speech that goes on
        self._decided = base

    @property
    def decided(self) -> int:
        return self._decided

    def push(self, samples: Samples) -> list[Piece]:
        if len(self._rest):
            samples = np.concatenate([self._rest, samples])
        whole = len(samples) - len(samples) % WINDOW
        pieces: list[Piece] = []
        for at in range(0, whole, WINDOW):
            pieces += self._window(samples[at : at + WINDOW])
        self._rest = samples[whole:].copy()
        return pieces

    def finish(self) -> list[Piece]:
        rest, self._rest = self._rest, self._rest[:0]
        pieces = self._window(rest) if len(rest) else []
        self._vad.flush()
        self._drain()
        pieces += [self._cut(start, min(end, self._seen)) for start, end in self._found]
        self._vad.reset()
        self._begin(self._seen)
        return pieces

    def _window(self, samples: Samples) -> list[Piece]:
        self._remember(samples)
        self._vad.accept_waveform(samples)
        if not self._vad.is_speech_detected():
            self._open = None
        elif self._open is None:
            self._open = self._seen
        elif self._seen - self._open >= _FORCED:
            self._vad.flush()
            self._open = None
        self._drain()
        pieces = [self._cut(start, end) for start, end in self._found if end <= self._seen]
        del self._found[: len(pieces)]
        self._decided = self._first_open()
        return pieces

    def _first_open(self) -> int:
        if self._found:
            return self._found[0][0]
        return max(self._decided, (self._seen if self._open is None else self._open) - _LOOK_BACK)

    def _drain(self) -> None:
        while not self._vad.empty():
            segment = self._vad.front
            start = self._base + segment.start
            end = start + len(segment.samples)
            self._found.append((max(self._base, start - PAD), end + PAD))
            self._vad.pop()

    def _remember(self, samples: Samples) -> None:
        at = self._seen % _RING
        room = min(len(samples), _RING - at)
        self._past[at : at + room] = samples[:room]
        self._past[: len(samples) - room] = samples[room:]
        self._seen += len(samples)

    def _cut(self, start: int, end: int) -> Piece:
        first, last = start % _RING, end % _RING
        if first < last:
            samples = self._past[first:last].copy()
        else:
            samples = np.concatenate([self._past[first:], self._past[:last]])
        return Piece(start, end, samples)
