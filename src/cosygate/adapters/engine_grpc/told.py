"""What an engine tells, as the records of the port."""

from __future__ import annotations

from typing import Any

from cosygate.model.speakers import SpeakerTurn
from cosygate.model.transcript import EngineName, Segment, Word
from cosygate.ports.engine import Done, SpeakersFound
from cosygate.proto import speech_engine_pb2 as pb


def segment(number: int, told: pb.Segment, rate: int) -> Segment:
    words = tuple(
        Word(w.text, w.start_sample / rate, w.end_sample / rate, _known(w, "confidence"), _known(w, "speaker"))
        for w in told.words
    )
    return Segment(
        id=number,
        start=told.start_sample / rate,
        end=told.end_sample / rate,
        text=told.text,
        speaker=_known(told, "speaker"),
        emotion=_known(told, "emotion"),
        language=_known(told, "language"),
        confidence=_known(told, "confidence"),
        words=words,
        events=tuple(told.events),
    )


def speakers(told: pb.Speakers, rate: int) -> SpeakersFound:
    return SpeakersFound(
        tuple(SpeakerTurn(turn.start_sample / rate, turn.end_sample / rate, turn.speaker) for turn in told.turns)
    )


def done(told: pb.Done) -> Done:
    name = EngineName(name=told.engine, model=told.model, version=told.version)
    return Done(engine=name, samples=told.samples, foreign=told.foreign, stats=dict(told.stats))


def _known(message: Any, field: str) -> Any:
    """An optional field's value, None when the engine did not say."""
    return getattr(message, field) if message.HasField(field) else None
