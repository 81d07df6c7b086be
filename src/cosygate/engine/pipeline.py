"""One recording on its way through an engine: PCM in, pieces out, each piece recognised.

What every recogniser needs lives here, once: resampling, cutting, trying again, measuring, sample indexes. Incremental:
`push` takes audio as it comes, `finalize` ends the open utterance. Synchronous: the server calls it in a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import soxr

from cosygate.engine.extras import SPEAKERS, WORDS, Extras, english
from cosygate.engine.likeness import Likeness
from cosygate.engine.recognisers.base import RATE, Hints, Recognised, Recogniser, Samples, Stopped, Transient
from cosygate.engine.speakers.sherpa.diariser import FolderVoices
from cosygate.engine.speakers.voices import Voices
from cosygate.engine.vad import Cutter, Piece
from cosygate.kit import logs

_log = logs.logger()
SAMPLE_RATES = (RATE, 8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # native first
_TRIES = 3
_RETRY_WAIT_S = 0.1


@dataclass(frozen=True, slots=True)
class HeardWord:
    text: str
    start: int
    end: int
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Heard:
    """A recognised piece. Samples count at the rate of the audio that was sent, from its sample 0."""

    start: int  # not before the end of the piece before
    end: int
    recognised: Recognised
    words: tuple[HeardWord, ...]  # inside [start, end]


@dataclass(slots=True)
class Timings:
    """Seconds spent."""

    vad: float = 0.0
    recognise: float = 0.0
    words: float = 0.0
    speakers: float = 0.0


def recognise(recogniser: Recogniser, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
    """Tries again what is Transient. Raises what the recogniser raises, Stopped when the caller is gone."""
    for attempt in range(_TRIES):
        if stop.is_set():
            raise Stopped
        try:
            return recogniser.recognise(samples, hints, stop)
        except Transient:
            if attempt == _TRIES - 1:
                raise
            stop.wait(_RETRY_WAIT_S)
    raise AssertionError("unreachable")


class Pipeline:
    """For one call, by one thread at a time."""

    def __init__(
        self,
        recogniser: Recogniser,
        extras: Extras,
        cutter: Cutter,
        hints: Hints,
        *,
        sample_rate: int,
        first_sample: int,
        stop: threading.Event,
        monotonic: Callable[[], float],
        doubts: bool = False,
    ) -> None:
        """`doubts`: nobody knows whether the recording is in the model's language: it is found out, if the model knows
        English alone."""
        self._recogniser = recogniser
        self._cutter = cutter
        model = next(model for model in recogniser.models if model.name == hints.model)
        self._aligner = extras.aligner if english(model) else None
        self._words = WORDS in hints.features
        self._likeness = Likeness() if doubts and self._aligner is not None else None
        tells_speakers = SPEAKERS in hints.features and SPEAKERS not in model.capabilities
        self._voices = extras.voices(stop) if tells_speakers else None
        self._hints = hints
        self._rate = sample_rate
        self._first = first_sample
        self._stop = stop
        self._monotonic = monotonic
        self._resampler: Any = None
        self._index = 0  # of the next piece
        self._told = first_sample  # the end of the last segment: reported times never overlap
        self.received = 0  # samples, as sent
        self.timings = Timings()
        self._fresh_resampler()

    def push(self, pcm: bytes) -> list[Piece]:
        """s16le mono; returns the pieces that ended in it, in order, for `recognise`."""
        started = self._monotonic()
        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        samples *= np.float32(1 / 32768)
        self.received += len(samples)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples)
        pieces = self._cutter.push(samples)
        self.timings.vad += self._monotonic() - started
        self._catch_up()
        return pieces

    def finalize(self) -> list[Piece]:
        """Ends the open utterance; more audio may follow."""
        started = self._monotonic()
        pieces = []
        if self._resampler is not None:
            pieces += self._cutter.push(self._resampler.resample_chunk(np.empty(0, np.float32), last=True))
            self._fresh_resampler()
        pieces += self._cutter.finish()
        self.timings.vad += self._monotonic() - started
        return pieces

    def recognise(self, piece: Piece) -> Heard | None:
        """None when nothing is said in it. Raises what the recogniser raises, Stopped when the caller is gone."""
        hints = replace(self._hints, index=self._index)
        self._index += 1
        started = self._monotonic()
        recognised = recognise(self._recogniser, piece.samples, hints, self._stop)
        recognised_at = self._monotonic()
        self.timings.recognise += recognised_at - started
        if not recognised.text:
            return None
        recognised = self._aligned(piece.samples, recognised)
        aligned_at = self._monotonic()
        self.timings.words += aligned_at - recognised_at
        if self._voices is not None:
            self._hear(self._voices, piece)
            self.timings.speakers += self._monotonic() - aligned_at
        start = max(self._told, self._sent(piece.start))
        end = max(start, self._sent(piece.end))
        self._told = end

        def inside(seconds: float) -> int:
            return min(max(start, self._sent(piece.start + round(seconds * RATE))), end)

        words = tuple(HeardWord(w.text, inside(w.start), inside(w.end), w.confidence) for w in recognised.words)
        return Heard(start, end, recognised, words)

    def _aligned(self, samples: Samples, recognised: Recognised) -> Recognised:
        words = self._words and not recognised.words
        if self._aligner is None or not (words or not self.language_known):
            return recognised
        aligned = self._aligner.aligned(samples, recognised.text, self._stop)
        if self._likeness is not None and not self.language_known:
            self._likeness.add(aligned, len(samples) / RATE)
        return replace(recognised, words=aligned.words) if words else recognised

    def _hear(self, voices: Voices | FolderVoices, piece: Piece) -> None:
        """Whose fault it ever is: a text is not lost for want of a speaker."""
        try:
            voices.hear(piece.start, piece.samples)
        except Exception:
            _log.exception("speakers.failed")
            self._voices = None

    def _catch_up(self) -> None:
        """Audio waits for what tells speakers apart: here, since the threads that recognise are live calls' too."""
        if self._voices is None:
            return
        started = self._monotonic()
        try:
            self._voices.catch_up()
        except Stopped:
            raise
        except Exception:
            _log.exception("speakers.failed")
            self._voices = None
        self.timings.speakers += self._monotonic() - started

    def end(self) -> None:
        """All was recognised; or what was has to be enough to know the language."""
        if self._likeness is not None:
            self._likeness.end()

    @property
    def language_known(self) -> bool:
        """Until then, what is recognised may not be said by anybody."""
        return self._likeness is None or self._likeness.known

    @property
    def foreign(self) -> bool:
        """In the end: it did not sound like the model's language."""
        return self._likeness is not None and self._likeness.foreign

    def speakers(self, num_speakers: int, max_speakers: int) -> list[tuple[int, int, str]]:
        """Who spoke when in all that was recognised: first sample and end, as sent, in order. 0: not known."""
        if self._voices is None:
            return []
        started = self._monotonic()
        try:
            turns = self._voices.turns(num_speakers, max_speakers)
        except Stopped:
            raise
        except Exception:
            _log.exception("speakers.failed")
            return []
        self.timings.speakers += self._monotonic() - started
        return [(self._sent(turn.start), self._sent(turn.end), turn.speaker) for turn in turns]

    @property
    def decided(self) -> int:
        """Once all pieces so far are recognised: no segment to come starts before this sample, as sent."""
        return max(self._told, self._sent(self._cutter.decided))

    def _sent(self, sample: int) -> int:
        """An index at RATE → the index as sent, never beyond what was sent."""
        sent = sample if self._rate == RATE else round(sample * self._rate / RATE)
        return self._first + min(sent, self.received)

    def _fresh_resampler(self) -> None:
        if self._rate != RATE:
            self._resampler = soxr.ResampleStream(self._rate, RATE, 1, dtype="float32")
