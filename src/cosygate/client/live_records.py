"""What a live session tells: small frozen records, as in records.py. Times are seconds from its first sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cosygate.client.records import Word


@dataclass(frozen=True, slots=True)
class Partial:
    """What the open utterance seems to say so far. The next one replaces it, and so does a final that ends after its
    start."""

    start: float
    end: float
    text: str

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Partial:
        return cls(float(data["start"]), float(data["end"]), str(data["text"]))


@dataclass(frozen=True, slots=True)
class Final:
    """An utterance, decided: it never changes, and none is told twice."""

    id: int  # from 0 by one
    start: float
    end: float
    text: str
    start_sample: int  # at the rate that was sent
    end_sample: int
    speaker: str | None = None
    emotion: str | None = None
    language: str | None = None
    confidence: float | None = None
    words: tuple[Word, ...] = ()
    events: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Final:
        known = ("speaker", "emotion", "language", "confidence")
        return cls(
            int(data["id"]),
            float(data["start"]),
            float(data["end"]),
            str(data["text"]),
            int(data["start_sample"]),
            int(data["end_sample"]),
            **{k: data[k] for k in known if k in data},
            words=tuple(Word(w["text"], w["start"], w["end"], w.get("confidence")) for w in data.get("words", ())),
            events=tuple(data.get("events", ())),
        )


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    at: float


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    at: float


@dataclass(frozen=True, slots=True)
class Gap:
    """Speech that is not in the transcript: the buffer ran over while there was no connection, the session's window
    passed, or (then with a `code` of docs/errors.md) every engine failed on it."""

    start: float
    end: float
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection was lost; another is being made, and nothing is lost yet."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reconnected:
    after_s: float  # without a connection


@dataclass(frozen=True, slots=True)
class Done:
    """Every final has been told; the session is a task now."""

    task_id: str
    finals: int
    samples: int

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Done:
        return cls(str(data["task_id"]), int(data["finals"]), int(data["samples"]))


LiveEvent = Partial | Final | SpeechStarted | SpeechEnded | Gap | Disconnected | Reconnected | Done


def joined(finals: Iterable[Final]) -> str:
    """Their texts as one: a space between them, but none where both sides are written without (Chinese, Japanese)."""
    pieces: list[str] = []
    for text in (final.text.strip() for final in finals):
        if text:
            if pieces and not (_joins_tight(pieces[-1][-1]) and _joins_tight(text[0])):
                pieces.append(" ")
            pieces.append(text)
    return "".join(pieces)


def _joins_tight(char: str) -> bool:
    return "\u3000" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\uff00" <= char <= "\uffef"
