"""What was said: segments and words with their times. Formats are written by model/formats.py."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    start: float  # seconds from the recording's start
    end: float
    confidence: float | None = None
    speaker: str | None = None  # where others speak in the same segment


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech. What an engine cannot tell is None, and absent in every output."""

    id: int  # from 0, rising by one in the order of `start`
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


LANGUAGE_MISMATCH = "language_mismatch"  # no language was named, and the model knows none that is spoken


@dataclass(frozen=True, slots=True)
class EngineName:
    name: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class Transcript:
    task_id: str
    duration: float  # seconds of decoded audio
    language: str | None
    text: str  # the segments' texts in order, joined as their language joins sentences
    segments: tuple[Segment, ...]
    engine: EngineName
    timings: dict[str, float] = field(default_factory=dict)  # seconds spent: queued, decode, recognise, total
    flags: tuple[str, ...] = ()  # what a reader should know: LANGUAGE_MISMATCH
    version: int = 1  # the recogniser's own; higher ones were edited (model/editing.py)


def _present(**fields: Any) -> dict[str, Any]:
    return {k: v for k, v in fields.items() if v is not None and v != ()}


def segment_dict(segment: Segment) -> dict[str, Any]:
    """A segment as JSON shows it: seconds with milliseconds, nothing that is not known."""
    return _present(
        id=segment.id,
        start=round(segment.start, 3),
        end=round(segment.end, 3),
        text=segment.text,
        speaker=segment.speaker,
        emotion=segment.emotion,
        language=segment.language,
        confidence=segment.confidence,
        channel=segment.channel,
        words=tuple(
            _present(
                text=w.text,
                start=round(w.start, 3),
                end=round(w.end, 3),
                confidence=w.confidence,
                speaker=w.speaker,
            )
            for w in segment.words
        ),
        events=segment.events,
    )


def segment_from_dict(data: dict[str, Any]) -> Segment:
    """The reverse of segment_dict."""
    words = tuple(Word(**word) for word in data.get("words", ()))
    return Segment(**{**data, "words": words, "events": tuple(data.get("events", ()))})


def transcript_dict(transcript: Transcript) -> dict[str, Any]:
    """A transcript as `format=json` shows it (wire.md, "Transcript (JSON)")."""
    return _present(
        task_id=transcript.task_id,
        duration=round(transcript.duration, 3),
        language=transcript.language,
        text=transcript.text,
        flags=transcript.flags,
    ) | {
        "segments": [segment_dict(s) for s in transcript.segments],
        "engine": {
            "name": transcript.engine.name,
            "model": transcript.engine.model,
            "version": transcript.engine.version,
        },
        "timings": {k: round(v, 3) for k, v in transcript.timings.items()},
        "version": transcript.version,
    }


def transcript_bytes(transcript: Transcript) -> bytes:
    """What a result store keeps: the JSON of transcript_dict."""
    return json.dumps(transcript_dict(transcript), ensure_ascii=False, separators=(",", ":")).encode()


def transcript_from_dict(data: dict[str, Any]) -> Transcript:
    """The reverse of transcript_dict."""
    return Transcript(
        task_id=data["task_id"],
        duration=data["duration"],
        language=data.get("language"),
        text=data["text"],
        segments=tuple(segment_from_dict(s) for s in data["segments"]),
        engine=EngineName(**data["engine"]),
        timings=data["timings"],
        flags=tuple(data.get("flags", ())),
        version=data.get("version", 1),
    )


def _joins_tight(char: str) -> bool:
    """Scripts that put no space between sentences: kana, CJK ideographs and punctuation, full-width forms."""
    return "\u3000" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\uff00" <= char <= "\uffef"


def join_texts(texts: Iterable[str]) -> str:
    """Segments' texts as one: a space between them, but none where both sides are written without."""
    joined = ""
    for text in (t.strip() for t in texts):
        if text:
            tight = joined and _joins_tight(joined[-1]) and _joins_tight(text[0])
            joined += text if not joined or tight else f" {text}"
    return joined


def common_language(segments: Iterable[Segment]) -> str | None:
    """The language most of the text is in, None when no engine said."""
    weight: dict[str, int] = {}
    for segment in segments:
        if segment.language:
            weight[segment.language] = weight.get(segment.language, 0) + len(segment.text)
    return max(weight, key=lambda k: weight[k]) if weight else None


_TEXT_SHOWN = 20_000  # characters of text in the task's own result; the transcript has all


def task_result(transcript: Transcript, filename: str | None) -> dict[str, Any]:
    """What a task shows of its transcript."""
    result: dict[str, Any] = {
        "text": transcript.text[:_TEXT_SHOWN],
        "duration": round(transcript.duration, 3),
        "segments": len(transcript.segments),
    }
    if filename:
        result["file"] = filename
    if transcript.language:
        result["language"] = transcript.language
    if transcript.flags:
        result["flags"] = list(transcript.flags)
    return result
