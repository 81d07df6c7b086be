"""Recordings in other languages than the model's: told, not invented."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.engine.aligning import Aligned, Aligner
from cosygate.engine.extras import Extras
from cosygate.engine.likeness import ENOUGH_S, Likeness
from cosygate.engine.recognisers.base import RATE, Hints, Model, Recognised, RecognisedWord, Recogniser, Samples
from cosygate.engine.service import EngineService
from cosygate.kit.clock import SystemClock
from cosygate.ports.engine import Done, SegmentFound
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc
from tests.support.engine_process import recognise, speech_pcm


def piece(likeness: float | None, words_s: float = 1.0) -> Aligned:
    return Aligned((RecognisedWord("word", 0.5, 0.5 + words_s),), likeness)


def test_what_fits_is_of_the_language() -> None:
    likeness = Likeness()
    assert not likeness.foreign and not likeness.enough
    likeness.add(piece(-1.5), 3.0)
    assert not likeness.foreign


def test_what_does_not_is_not() -> None:
    likeness = Likeness()
    likeness.add(piece(-3.5), 3.0)
    assert likeness.foreign
    likeness.add(piece(-1.0, words_s=4.0), 5.0)  # longer, so it counts for more
    assert not likeness.foreign


def test_a_text_that_cannot_be_said_counts_by_the_length_of_its_piece() -> None:
    likeness = Likeness()
    likeness.add(piece(-1.0, words_s=2.0), 3.0)
    likeness.add(piece(-math.inf, words_s=0.1), 2.0)
    assert likeness.foreign
    likeness = Likeness()
    likeness.add(piece(-1.0, words_s=9.0), 9.0)
    likeness.add(piece(-math.inf, words_s=0.1), 1.0)
    assert not likeness.foreign


def test_what_is_not_known_is_nothing_against_it_and_yet_heard() -> None:
    likeness = Likeness()
    likeness.add(piece(None), ENOUGH_S)
    assert likeness.enough and not likeness.foreign


class Fixed:
    """A recogniser that says the same of everything."""

    name, version = "fixed", "1"
    models: tuple[Model, ...] = (Model("fixed", ("en",)),)
    cut_s: float | None = None
    limit_s: float | None = None
    instant = False

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked = 0

    def recognise(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        self.asked += 1
        return Recognised(self.text)

    def close(self) -> None:
        pass


@contextlib.asynccontextmanager
async def serving(recogniser: Recogniser, folder: Path) -> AsyncIterator[GrpcEngine]:
    server = grpc.aio.server()
    extras = Extras(Aligner(workers=1))
    service = EngineService(recogniser, slots=1, line=1, clock=SystemClock(), extras=extras)
    pb_grpc.add_SpeechEngineServicer_to_server(service, server)
    server.add_insecure_port(f"unix:{folder}/s")
    await server.start()
    engine = GrpcEngine(f"unix:{folder}/s")
    try:
        yield engine
    finally:
        await engine.close()
        await service.drain(1)
        await server.stop(0)


@pytest.mark.parametrize("language", ["auto", "en"])
async def test_an_invented_text_is_not_told(language: str, tmp_path: Path) -> None:
    """Thirty seconds of speech, and a text that nobody said: after ten it is known, and nobody asks any more."""
    pcm, _ = speech_pcm()
    recogniser = Fixed("Perhaps the zoo's giraffes chew orange marmalade on Thursdays in Budapest with joy")
    async with serving(recogniser, tmp_path) as engine:
        events = await recognise(engine, pcm * 5, language=language)
    segments = [event for event in events if isinstance(event, SegmentFound)]
    assert isinstance(events[-1], Done)
    foreign = language == "auto"
    assert (events[-1].foreign, not segments) == (foreign, foreign)
    heard_s = recogniser.asked * len(pcm) / 2 / RATE
    assert recogniser.asked >= 2 and (heard_s < 25 or not foreign)


async def test_what_was_said_is_told_in_order_though_it_had_to_wait(tmp_path: Path) -> None:
    from cosygate.engine.recognisers.moonshine import Moonshine

    pcm, _ = speech_pcm()
    async with serving(Moonshine.load(1), tmp_path) as engine:
        events = await recognise(engine, pcm)
    segments = [event.segment for event in events if isinstance(event, SegmentFound)]
    assert isinstance(events[-1], Done) and not events[-1].foreign
    assert next(s.text for s in segments) == "This is a short note about the meeting on Friday."
    assert [s.id for s in segments] == list(range(len(segments)))
    assert [s.start for s in segments] == sorted(s.start for s in segments)
