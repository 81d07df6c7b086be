"""What the client returns: small frozen records. A field that the server leaves out is None or empty, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

FINISHED = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a task has no transcript."""

    code: str  # stable, docs/errors.md
    detail: str


@dataclass(frozen=True, slots=True)
class Task:
    """One recording's way to its transcript."""

    id: str
    state: str  # queued, running, succeeded, failed, cancelled
    percent: int  # 0-100
    file: str | None = None  # the name it was sent under
    text: str | None = None  # once succeeded
    duration: float | None = None  # seconds of audio, once succeeded
    language: str | None = None  # BCP 47, when the engine tells
    error: Failure | None = None  # once failed
    created_at: datetime | None = None
    flags: tuple[str, ...] = ()  # language_mismatch: none was named, and the model knows none that is spoken

    @property
    def finished(self) -> bool:
        return self.state in FINISHED

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Task:
        result = data.get("result") or {}
        error = data.get("error")
        return cls(
            id=data["task_id"],
            state=data["state"],
            percent=data["percent"],
            file=result.get("file") or data.get("file"),
            text=result.get("text"),
            duration=result.get("duration"),
            language=result.get("language"),
            flags=tuple(result.get("flags", ())),
            error=Failure(error["code"], error["detail"]) if error else None,
            created_at=datetime.fromisoformat(data["created_at"]) if "created_at" in data else None,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a task's story: `progress`, `segment`, `restarted` (earlier segments are void), and one of `done`,
    `failed`, `cancelled` as the last."""

    id: str  # what `Client.events(after=…)` continues behind
    kind: str
    data: Mapping[str, Any]

    @property
    def last(self) -> bool:
        return self.kind in ("done", "failed", "cancelled")

    @property
    def percent(self) -> int | None:
        """0-100, when the event says it."""
        value = self.data.get("percent")
        return value if isinstance(value, int) else None


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start: float  # seconds from the recording's start
    end: float
    confidence: float | None = None
    speaker: str | None = None  # where others speak in the same segment


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech."""

    id: int
    start: float  # seconds from the recording's start
    end: float
    text: str
    speaker: str | None = None
    emotion: str | None = None
    language: str | None = None
    confidence: float | None = None
    channel: int | None = None  # from 0, with channels=split
    words: tuple[Word, ...] = ()
    events: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Segment:
        known = ("id", "start", "end", "text", "speaker", "emotion", "language", "confidence", "channel")
        return cls(
            **{k: data[k] for k in known if k in data},
            words=tuple(
                Word(w["text"], w["start"], w["end"], w.get("confidence"), w.get("speaker"))
                for w in data.get("words", ())
            ),
            events=tuple(data.get("events", ())),
        )


@dataclass(frozen=True, slots=True)
class Transcript:
    task_id: str
    duration: float  # seconds of audio
    text: str
    segments: tuple[Segment, ...]
    language: str | None = None
    engine: Mapping[str, str] = field(default_factory=dict)  # name, model, version
    timings: Mapping[str, float] = field(default_factory=dict)  # seconds
    flags: tuple[str, ...] = ()  # language_mismatch: none was named, and the model knows none that is spoken

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Transcript:
        return cls(
            task_id=data["task_id"],
            duration=data["duration"],
            text=data["text"],
            segments=tuple(Segment.parse(s) for s in data["segments"]),
            language=data.get("language"),
            engine=data.get("engine", {}),
            timings=data.get("timings", {}),
            flags=tuple(data.get("flags", ())),
        )


@dataclass(frozen=True, slots=True)
class Model:
    """What one model can tell."""

    name: str
    languages: tuple[str, ...]  # BCP 47; ("*",) when it does not care
    abilities: frozenset[str] = frozenset()  # words, speakers, live_speakers, emotion, itn, …: those it has

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Model:
        return cls(data["name"], tuple(data["languages"]), frozenset(k for k, v in data.items() if v is True))


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine behind the gateway; its first model is the default."""

    name: str
    version: str
    models: tuple[Model, ...]

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Engine:
        return cls(data["name"], data["version"], tuple(Model.parse(m) for m in data["models"]))
