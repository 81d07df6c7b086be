"""Who speaks, told with each utterance as it becomes final: by the likeness to the voices heard so far.

A recording's turns wait for its end (voices.py); here a label is told at once, and never another one for the same
speech. So an utterance has one speaker, and one who was taken for another stays it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.engine.speakers import mel
from cosygate.engine.speakers.ge2e import BATCH, Encoder, unit
from cosygate.engine.speakers.weights import Floats
from cosygate.kit import logs
from cosygate.kit.clock import Clock

MOST_VOICES = 30  # of one call, when nobody says how many there are
ALIKE = 0.68  # cosine from which two utterances are of one voice: docs/benchmarks.md says what other values gave
FOUNDS_S = 1.2  # of an utterance, its padding included: in less, a known voice is often taken for a new one
_FEW = 8  # windows: fewer take less time one by one, as BLAS packs the weights for every step of two and more
_REMEMBERED_S = 60.0  # of speech, the most that a voice's middle weighs: so it follows who moves away or tires
_FAINT = 0.2  # what a second weighs that is too short to found a voice, where there is none yet
_log = logs.logger()


@dataclass(frozen=True, slots=True)
class Voice:
    """How an utterance sounds."""

    print: Floats  # of length 1
    seconds: float


class Voiceprints:
    """The loaded encoder: for any number of calls at once, in any threads."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    @classmethod
    def load(cls) -> Voiceprints:
        """Raises CannotStart when the weights are missing or damaged."""
        return cls(Encoder.load())

    def of(self, samples: Samples) -> Voice:
        """`samples`: an utterance, not empty. Takes about 0.03 s a second of it: never in an event loop."""
        windows = mel.windows(samples)
        batch = 1 if len(windows) < _FEW else BATCH
        prints = [self._encoder.embed(windows[at : at + batch]) for at in range(0, len(windows), batch)]
        return Voice(unit(np.concatenate(prints).mean(axis=0, keepdims=True))[0], len(samples) / RATE)


class Labels:
    """Of one call, for one thread."""

    def __init__(self, before: int = 0, most: int = MOST_VOICES) -> None:
        """`before`: S1 to this one are somebody's already, whose voices are not known here; `most`: voices that are
        told apart beside those."""
        self._before = before
        self._most = most
        self._middles: list[Floats] = []
        self._weights: list[float] = []  # seconds

    def label(self, voice: Voice) -> str:
        """Of the next utterance."""
        founds = voice.seconds >= FOUNDS_S
        likeness = [float(unit(middle[None])[0] @ voice.print) for middle in self._middles]
        nearest = int(np.argmax(likeness)) if likeness else None
        if nearest is None or (founds and likeness[nearest] < ALIKE and len(self._middles) < self._most):
            nearest = len(self._middles)
            self._middles.append(voice.print)
            self._weights.append(voice.seconds * (1.0 if founds else _FAINT))
        elif founds:
            weight = self._weights[nearest] + voice.seconds
            share = np.float32(voice.seconds / weight)
            self._middles[nearest] = self._middles[nearest] + (voice.print - self._middles[nearest]) * share
            self._weights[nearest] = min(weight, _REMEMBERED_S)
        return f"S{self._before + nearest + 1}"


class LiveSpeakers:
    """Of one call. Whose fault it ever is: a text is not lost for want of a speaker."""

    def __init__(self, prints: Voiceprints, labels: Labels, clock: Clock) -> None:
        self._prints = prints
        self._labels = labels
        self._clock = clock
        self.failed = False  # then nobody is told apart any more
        self.seconds = 0.0  # spent

    def hear(self, samples: Samples) -> Voice | None:
        """In a thread. None once it has failed."""
        if self.failed:
            return None
        started = self._clock.monotonic()
        try:
            return self._prints.of(samples)
        except Exception:
            self._fails()
            return None
        finally:
            self.seconds += self._clock.monotonic() - started

    def label(self, voice: Voice | None) -> str | None:
        """Once for each utterance with a text, in order."""
        if voice is None or self.failed:
            return None
        try:
            return self._labels.label(voice)
        except Exception:
            self._fails()
            return None

    def _fails(self) -> None:
        _log.exception("speakers.failed")
        self.failed = True
