"""Loaded models: samples in, what was heard out. Each is used by one thread at a time."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from cosygate.engine.recognisers.base import (
    RATE,
    Hints,
    Recognised,
    RecognisedWord,
    RecogniserError,
    Samples,
    Stopped,
)
from cosygate.engine.recognisers.sherpa.hotwords import Speller
from cosygate.engine.recognisers.sherpa.words import words_of

_UNTOLD = frozenset({"nospeech", "emo_unknown", "event_unk", "speech"})  # tags of SenseVoice that tell nothing
_FRAME = RATE // 100  # samples: what models count in
_LATE = 25  # frames that a streaming model may be behind what is spoken, beyond those it looks ahead


class Ear(Protocol):
    def hear(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        """Raises RecogniserError, Stopped."""


class Offline:
    def __init__(self, recogniser: Any, *, language: str | None = None, joined: bool = False) -> None:
        """`recogniser`: a sherpa_onnx.OfflineRecognizer. `language`: of all that it hears, when it has only one.
        `joined`: as of words_of."""
        self._recogniser = recogniser
        self._language = language
        self._joined = joined

    def hear(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        stream = self._recogniser.create_stream()
        stream.accept_waveform(RATE, samples)
        self._recogniser.decode_stream(stream)
        return self._told(stream.result, samples, hints)

    def _told(self, result: Any, samples: Samples, hints: Hints) -> Recognised:
        text = " ".join(result.text.split())
        return Recognised(
            text,
            words=_words(result, text, samples, hints, joined=self._joined),
            language=result.lang or self._language,
        )


class SenseVoice(Offline):
    """Tells the language, the mood and what else is heard, each as a tag such as <|HAPPY|>."""

    def __init__(self, recogniser: Any, *, events: bool) -> None:
        super().__init__(recogniser)
        self._events = events

    def _told(self, result: Any, samples: Samples, hints: Hints) -> Recognised:
        if not result.lang:  # there is always one, unless the model failed, which sherpa-onnx only prints
            raise RecogniserError("the model failed on this piece")
        event = _tag(result.event)
        return replace(
            super()._told(result, samples, hints),
            language=_tag(result.lang),
            emotion=_tag(result.emotion) if "emotion" in hints.features else None,
            events=(event,) if event and self._events else (),
        )


class Streaming:
    """A streaming model that gets a whole piece, and then silence until it has told all of it."""

    def __init__(self, recogniser: Any, *, ahead: int, language: str | None, speller: Speller | None) -> None:
        """`recogniser`: a sherpa_onnx.OnlineRecognizer. `ahead`: frames that it takes at once. `speller`: when it
        takes hotwords."""
        self._recogniser = recogniser
        self._silence = np.zeros((ahead + _LATE) * _FRAME, np.float32)
        self._language = language
        self._speller = speller

    def hear(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        hotwords = self._speller.spell(hints.hotwords) if self._speller else ""
        stream = self._recogniser.create_stream(hotwords or None)
        stream.accept_waveform(RATE, samples)
        stream.accept_waveform(RATE, self._silence)
        stream.input_finished()
        while self._recogniser.is_ready(stream):
            if stop.is_set():
                raise Stopped
            self._recogniser.decode_stream(stream)
        result = self._recogniser.get_result_all(stream)
        text = " ".join(result.text.split())
        return Recognised(text, words=_words(result, text, samples, hints), language=self._language)


def _words(
    result: Any, text: str, samples: Samples, hints: Hints, *, joined: bool = False
) -> tuple[RecognisedWord, ...]:
    if "words" not in hints.features:
        return ()
    return words_of(result.tokens, result.timestamps, text, len(samples) / RATE, joined=joined)


def _tag(tag: str) -> str | None:
    """<|HAPPY|> → happy; None when it tells nothing."""
    name = tag.strip("<|>").lower()
    return None if name in _UNTOLD or not name else name
