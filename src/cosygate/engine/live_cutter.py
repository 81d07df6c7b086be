"""Where utterances begin and end in live audio. Sample indexes alone decide, never when or how the audio came.

Everything begins afresh at every restart point: at the end of each utterance (and of each sound too short for one),
where an utterance is cut because it became too long, in long silence, and where the caller finalizes. What was heard of
the audio behind a restart point is heard again.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.engine.rewind import Rewind
from cosygate.engine.vad import PAD, WINDOW, Detector

GAP = RATE * 4 // 10  # silence that ends an utterance
SHORTEST = RATE // 5  # speech below this is a click or a cough
LONGEST = 15 * RATE
_SEARCH = 5 * RATE  # a long utterance is cut in its last so many samples, where they are quietest
_QUIET = 5  # windows that are quiet together: longer than the silence inside a consonant
SILENCE = 5 * RATE  # a restart point comes after so much without speech…
LOOK_BACK = RATE * 6 // 10  # …and so much before its end, or the beginning of a word would be lost


@dataclass(frozen=True, slots=True)
class Began:
    """An utterance opened. Samples here count as sent, from the session's sample 0."""

    sample: int


@dataclass(frozen=True, slots=True)
class Utterance:
    """[start, end) as sent, and the same at RATE. Of a closed one, `end` is a restart point."""

    start: int
    end: int
    samples: Samples


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nobody spoke before `sample`, a restart point."""

    sample: int


Found = Began | Utterance | Nothing


@dataclass(frozen=True, slots=True)
class Open:
    """The utterance that goes on. `settled`: it would end exactly so, if nobody speaks on."""

    start: int
    end: int  # as sent
    length: int  # at RATE
    settled: bool


class LiveCutter(ABC):
    """For one call. `push` and `finalize` by one thread at a time; `open` and `so_far` by any."""

    def __init__(self, audio: Rewind) -> None:
        self._audio = audio
        self._lock = threading.Lock()
        self.open: Open | None = None
        self._afresh()

    @property
    def received(self) -> int:
        return self._audio.received

    def push(self, pcm: bytes) -> list[Found]:
        """s16le mono as sent → what was found in it, in order."""
        found: list[Found] = []
        with self._lock:
            self._audio.push(pcm)
            self._hear(found)
            self.open = self._look()
        return found

    def finalize(self) -> list[Found]:
        """The open utterance ends here, and here is a restart point."""
        found: list[Found] = []
        audio = self._audio
        with self._lock:
            if audio.received <= audio.restart:
                return found
            while self._unfinished(found):
                pass
            if audio.restart < audio.received:
                found.append(Nothing(audio.received))
            self._restart(audio.received)
            self.open = None
        return found

    def so_far(self) -> Utterance | None:
        """The open utterance up to now, or None."""
        with self._lock:
            bounds = self._bounds()
            return None if bounds is None else self._utterance(*bounds)

    def _unfinished(self, found: list[Found]) -> bool:
        """False once the audio to its last sample is heard and no utterance is open."""
        self._hear(found)
        if self._audio.flush():
            return True
        bounds = self._bounds()
        if bounds is not None:
            self._close(found, *bounds)
        return bounds is not None

    @abstractmethod
    def _hear(self, found: list[Found]) -> None:
        """Goes through all that was pushed."""

    @abstractmethod
    def _bounds(self) -> tuple[int, int] | None:
        """The open utterance, at RATE, as it would be were it to end now."""

    def _is_settled(self) -> bool:
        return False

    @abstractmethod
    def _afresh(self) -> None:
        """Forgets all that came before the restart point."""

    def _restart(self, sample: int) -> None:
        self._audio.rewind(sample)
        self._afresh()

    def _close(self, found: list[Found], start: int, end: int) -> None:
        utterance = self._utterance(start, end)
        found.append(utterance)
        self._restart(utterance.end)

    def _utterance(self, start: int, end: int) -> Utterance:
        audio = self._audio
        return Utterance(audio.sent(start), audio.sent(end), audio.samples(start, end))

    def _look(self) -> Open | None:
        bounds = self._bounds()
        if bounds is None:
            return None
        start, end = bounds
        return Open(self._audio.sent(start), self._audio.sent(end), end - start, self._is_settled())


class FixedLiveCutter(LiveCutter):
    """Cuts every so many seconds from the restart point, whatever is in there."""

    def __init__(self, audio: Rewind, seconds: float) -> None:
        self._length = max(1, round(seconds * RATE))
        super().__init__(audio)

    def _afresh(self) -> None:
        self._told = False

    def _hear(self, found: list[Found]) -> None:
        audio = self._audio
        while True:
            if audio.count and not self._told:
                found.append(Began(audio.restart))
                self._told = True
            if audio.count >= self._length:
                self._close(found, 0, self._length)
            elif not audio.more():
                return

    def _bounds(self) -> tuple[int, int] | None:
        return (0, self._audio.count) if self._told else None


class SpeechLiveCutter(LiveCutter):
    """Cuts at pauses: at least SHORTEST of speech, a GAP of silence, PAD on both sides, at most LONGEST."""

    def __init__(self, audio: Rewind, detector: Detector) -> None:
        self.detector = detector
        super().__init__(audio)

    def _afresh(self) -> None:
        self.detector.reset()
        self._at = 0  # at RATE: the end of the last window
        self._first: int | None = None  # where speech was noticed
        self._last = 0  # the end of the last window with speech
        self._told = False

    def _hear(self, found: list[Found]) -> None:
        audio = self._audio
        while True:
            if audio.count - self._at >= WINDOW:
                self._window(found)
            elif not audio.more():
                return

    def _window(self, found: list[Found]) -> None:
        before, self._at = self._at, self._at + WINDOW
        if self.detector.is_speech(self._audio.samples(before, self._at)):
            if self._first is None:
                self._first = max(0, before - WINDOW)  # the detector wants two windows before it says so
            self._last = self._at
            if not self._told and self._last - self._first >= SHORTEST:
                self._told = True
                found.append(Began(self._audio.sent(self._start())))
        elif self._first is not None and self._at - self._last >= GAP:
            self._end(found)
            return
        if self._told and self._at - self._start() >= LONGEST:
            self._close(found, self._start(), self._quietest())
        elif self._first is None and self._at >= SILENCE:
            sample = self._audio.sent(self._at - LOOK_BACK)
            found.append(Nothing(sample))
            self._restart(sample)

    def _end(self, found: list[Found]) -> None:
        if self._told:
            self._close(found, self._start(), self._last + PAD)
        else:
            sample = self._audio.sent(self._last + PAD)
            found.append(Nothing(sample))
            self._restart(sample)

    def _start(self) -> int:
        return max(0, (self._first or 0) - PAD)

    def _bounds(self) -> tuple[int, int] | None:
        if not self._told:
            return None
        # At the very end of the audio less than a window was not looked at: it belongs to what is open.
        return self._start(), min(self._last + PAD, self._audio.count)

    def _is_settled(self) -> bool:
        return self._audio.count >= self._last + PAD

    def _quietest(self) -> int:
        """Where to cut. In whole numbers: sums of floats depend on how they lie in memory."""
        start = self._at - _SEARCH
        level = np.rint(self._audio.samples(start, self._at) * np.float32(32768)).astype(np.int64)
        level = level[: len(level) - len(level) % WINDOW].reshape(-1, WINDOW)
        energy = np.convolve((level * level).sum(axis=1), np.ones(_QUIET, np.int64), "valid")
        return int(start + (energy.argmin() + _QUIET / 2) * WINDOW)
