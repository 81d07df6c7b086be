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
from cosygate.engine.likeness import ENOUGH_S, LEAST_S, Likeness
from cosygate.engine.recognisers.base import Hints, Model, Recognised, RecognisedWord, Recogniser, Samples
from cosygate.engine.service import EngineService
from cosygate.kit.clock import SystemClock
from cosygate.ports.engine import Done, SegmentFound
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc
from tests.support.engine_process import recognise, speech_pcm


def piece(likeness: float | None, words_s: float = 1.0) -> Aligned:
    return Aligned((RecognisedWord("word", 0.5, 0.5 + words_s),), likeness)


def judged(*pieces: tuple[float | None, float, float]) -> bool:
    """Whether it fits; pieces: likeness, seconds, seconds of words."""
    likeness = Likeness()
    for value, seconds, words_s in pieces:
        likeness.add(piece(value, words_s), seconds)
    likeness.end()
    return likeness.fits


def test_it_is_judged_by_how_well_its_words_fit() -> None:
    assert judged((-1.5, 3.0, 2.0))
    assert not judged((-3.5, 3.0, 2.0))
    assert judged((-3.5, 3.0, 1.0), (-1.0, 5.0, 4.0)), "longer, so it counts for more"


def test_one_piece_that_cannot_be_said_condemns_nobody() -> None:
    assert judged((-1.5, 8.0, 6.5), (-math.inf, 2.0, 0.1))
    assert not judged((-1.0, 3.0, 0.5), (-math.inf, 2.0, 0.1))
    assert not judged((-math.inf, 2.0, 1.0))


def test_one_stretch_that_fits_is_enough() -> None:
    music = [(-math.inf, 5.0, 4.0)] * 6
    assert not judged(*music)
    assert judged(*music, *[(-1.5, 5.0, 4.0)] * 2)
    assert judged(*music, (-1.5, LEAST_S, 2.0)), "what is left at the end"
    assert not judged(*music, (-1.5, LEAST_S - 0.5, 2.0)), "but not a word"


def test_it_is_known_as_soon_as_a_stretch_fits() -> None:
    likeness = Likeness()
    likeness.add(piece(-1.5), ENOUGH_S - 1)
    assert not likeness.fits
    likeness.add(piece(-1.5), 1.0)
    assert likeness.fits


def test_what_is_not_known_is_nothing_against_it() -> None:
    assert judged()
    assert judged((None, ENOUGH_S, 1.0))


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


@pytest.mark.parametrize(("language", "doubts"), [("auto", True), ("auto", False), ("en", True)])
async def test_an_invented_text_is_not_told(language: str, doubts: bool, tmp_path: Path) -> None:
    """Thirty seconds of speech, and a text that nobody said; callers that know nothing of doubts are told all."""
    pcm, _ = speech_pcm()
    recogniser = Fixed("Perhaps the zoo's giraffes chew orange marmalade on Thursdays in Budapest with joy")
    async with serving(recogniser, tmp_path) as engine:
        events = await recognise(engine, pcm * 5, language=language, doubts=doubts)
    segments = [event for event in events if isinstance(event, SegmentFound)]
    assert isinstance(events[-1], Done)
    foreign = language == "auto" and doubts
    assert (events[-1].foreign, not segments) == (foreign, foreign)
    assert len(segments) == (0 if foreign else recogniser.asked) and recogniser.asked >= 5


async def test_what_was_said_is_told_in_order_though_it_had_to_wait(tmp_path: Path) -> None:
    from cosygate.engine.recognisers.moonshine import Moonshine

    pcm, _ = speech_pcm()
    async with serving(Moonshine.load(1), tmp_path) as engine:
        events = await recognise(engine, pcm, doubts=True)
    segments = [event.segment for event in events if isinstance(event, SegmentFound)]
    assert isinstance(events[-1], Done) and not events[-1].foreign
    assert next(s.text for s in segments) == "This is a short note about the meeting on Friday."
    assert [s.id for s in segments] == list(range(len(segments)))
    assert [s.start for s in segments] == sorted(s.start for s in segments)
