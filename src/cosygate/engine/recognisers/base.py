"""What a recogniser is: the one interface that somebody adds a model family through. docs/engines.md has an example.

A recogniser gets a piece of audio and says what it hears. Everything else lives outside, once: cutting the audio into
pieces, resampling, slots, retries, metrics, time limits, cancellation of the call, the wire.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RATE = 16_000  # samples per second of everything a recogniser gets
Samples = NDArray[np.float32]  # one channel, -1 to 1


@dataclass(frozen=True, slots=True)
class Model:
    """One model and what it can tell. An ability that is not listed is refused by name before any audio is read."""

    name: str
    languages: tuple[str, ...]  # BCP 47; ("*",) when it does not care
    capabilities: tuple[str, ...] = ()  # of ports.engine.CAPABILITIES; what can be asked for, and what comes unasked


@dataclass(frozen=True, slots=True)
class Hints:
    """What the caller asked for, as far as the model can honour it, and where the piece lies in the recording."""

    model: str
    language: str = "auto"
    features: tuple[str, ...] = ()
    hotwords: tuple[str, ...] = ()
    index: int = 0  # of the piece in its recording, from 0


@dataclass(frozen=True, slots=True)
class RecognisedWord:
    text: str
    start: float  # seconds from the start of the piece
    end: float
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Recognised:
    """What was heard in one piece. An empty text means nothing was said; what is not known stays None."""

    text: str
    words: tuple[RecognisedWord, ...] = ()
    language: str | None = None
    confidence: float | None = None  # 0 to 1
    speaker: str | None = None
    emotion: str | None = None
    events: tuple[str, ...] = ()


class RecogniserError(Exception):
    """The piece could not be recognised. The message is for the log; the caller learns only the status, one of
    INVALID_ARGUMENT (the audio or the options are at fault), UNAVAILABLE, DATA_LOSS, INTERNAL."""

    def __init__(self, message: str, status: str = "INTERNAL") -> None:
        super().__init__(message)
        self.status = status


class Transient(RecogniserError):
    """A failure that has nothing to do with the audio, and that may be gone in a moment: tried again, twice."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "UNAVAILABLE")


class Stopped(Exception):
    """The caller is gone: raised by a recogniser that noticed `stop`."""


class CannotStart(Exception):
    """The recogniser cannot work here (files missing or damaged, no such program). The message says what to do."""


class Recogniser(Protocol):
    """`recognise` is called in worker threads, in several at once (as many as the engine has slots).

    name, version: what the engine calls itself.
    models: at least one; the first is the default.
    cut_s: None cuts the audio at its pauses (voice activity; pieces of at most 30 s); a number cuts it every so many
        seconds.
    limit_s: the longest one `recognise` takes, because it ends by itself then; None when there is no such limit. Up to
        there the engine tells its caller that it is alive; without a limit, silence is taken for a hang.
    instant: `recognise` takes well under a millisecond: it is called without a thread.
    """

    name: str
    version: str
    models: tuple[Model, ...]
    cut_s: float | None
    limit_s: float | None
    instant: bool

    def recognise(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        """`samples`: the piece, mono at RATE, never empty. Raises RecogniserError; any other exception counts as
        INTERNAL. When `stop` is set nobody wants the answer any more: whatever runs longer than a second must then
        end and raise Stopped."""

    def close(self) -> None:
        """Ends what it started. No call is running."""
