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
from cosygate.engine.likeness import ENOUGH_S, STRETCH_S, Likeness
from cosygate.engine.recognisers.base import Hints, Model, Recognised, RecognisedWord, Recogniser, Samples
from cosygate.engine.service import EngineService
from cosygate.kit.clock import SystemClock
from cosygate.ports.engine import Done, SegmentFound
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc
from tests.support.engine_process import recognise, speech_pcm

INVENTED = "Perhaps the zoo's giraffes chew orange marmalade on Thursdays in Budapest with joy"


def piece(likeness: float | None, words_s: float = 1.0) -> Aligned:
    return Aligned((RecognisedWord("word", 0.5, 0.5 + words_s),), likeness)


def told(likeness: Likeness, *pieces: tuple[float | None, float, float]) -> float | None:
    """Seconds of speech after which it was known, of pieces (likeness, seconds, seconds of words) before the end."""
    heard_s = 0.0
    for value, seconds, words_s in pieces:
        likeness.add(piece(value, words_s), seconds)
        heard_s += seconds
        if likeness.known:
            return heard_s
    return None


def judged(*pieces: tuple[float | None, float, float]) -> bool:
    """Whether it fits."""
    likeness = Likeness()
    told(likeness, *pieces)
    likeness.end()
    assert likeness.known and likeness.foreign is not likeness.fits
    return likeness.fits


ENGLISH = (-1.5, 5.0, 4.0)
FOREIGN = (-4.0, 5.0, 4.0)
DOUBTFUL = (-2.75, 5.0, 4.0)  # some noise; or a language that sounds much like English


def test_it_is_judged_by_how_well_its_words_fit() -> None:
    assert judged((-1.5, 3.0, 2.0))
    assert not judged((-3.5, 3.0, 2.0))
    assert judged((-3.5, 3.0, 1.0), (-1.0, 5.0, 4.0)), "longer, so it counts for more"


def test_one_piece_that_cannot_be_said_condemns_nobody() -> None:
    assert judged((-1.5, 8.0, 6.5), (-math.inf, 2.0, 0.1))
    assert not judged((-1.0, 3.0, 0.5), (-math.inf, 2.0, 0.1))
    assert not judged((-math.inf, 2.0, 1.0))


def test_it_is_known_after_ten_seconds_that_are_sure() -> None:
    assert told(Likeness(), (-1.5, ENOUGH_S - 1, 7.0)) is None
    assert told(Likeness(), ENGLISH, ENGLISH, ENGLISH) == ENOUGH_S
    assert told(Likeness(), FOREIGN, *[ENGLISH] * 9) == 15, "-2.33 on average by then"


def test_what_is_doubtful_is_known_in_the_end() -> None:
    assert told(Likeness(), *[DOUBTFUL] * 50) is None
    assert judged(*[DOUBTFUL] * 50)


def test_length_does_not_undo_a_verdict() -> None:
    """Ten seconds of it fit by chance, now and then: those were enough once."""
    chance = [FOREIGN, FOREIGN, FOREIGN, DOUBTFUL, DOUBTFUL]
    assert not judged(*chance)
    assert told(Likeness(), *chance * 400) is None
    assert not judged(*chance * 400)
    lucky = [*[FOREIGN] * 9, ENGLISH, ENGLISH]
    assert not judged(*lucky * 100)


def test_what_goes_on_in_english_is_told_soon_however_long_it_was_foreign() -> None:
    for minutes in (1, 5, 60):
        foreign = [FOREIGN] * (12 * minutes)
        known_s = told(Likeness(), *foreign, *[ENGLISH] * 24)
        assert known_s is not None
        assert 60 * minutes + 30 <= known_s <= 60 * minutes + STRETCH_S
        assert not judged(*foreign, *[ENGLISH] * 3), "fifteen seconds are nothing sure any more"


def test_in_the_end_all_of_it_counts() -> None:
    assert judged(*[DOUBTFUL] * 120, *[FOREIGN] * 12)
    assert not judged(*[FOREIGN] * 120, *[DOUBTFUL] * 12)


def test_once_known_it_stays_known() -> None:
    likeness = Likeness()
    for value, seconds, words_s in (ENGLISH, ENGLISH, *[FOREIGN] * 100):
        likeness.add(piece(value, words_s), seconds)
    assert likeness.known
    likeness.end()
    assert not likeness.foreign


def test_only_the_latest_pieces_are_remembered() -> None:
    likeness = Likeness()
    told(likeness, *[FOREIGN] * 1000)
    assert STRETCH_S <= 5 * len(likeness._latest) < STRETCH_S + 5


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
    recogniser = Fixed(INVENTED)
    async with serving(recogniser, tmp_path) as engine:
        events = await recognise(engine, pcm * 5, language=language, doubts=doubts)
    segments = [event for event in events if isinstance(event, SegmentFound)]
    assert isinstance(events[-1], Done)
    foreign = language == "auto" and doubts
    assert (events[-1].foreign, not segments) == (foreign, foreign)
    assert len(segments) == (0 if foreign else recogniser.asked) and recogniser.asked >= 5


class Late(Fixed):
    """Invents the first two texts, then hears what is said."""

    def __init__(self, text: str) -> None:
        from cosygate.engine.recognisers.moonshine import Moonshine

        super().__init__(text)
        self._hears = Moonshine.load(1)

    def recognise(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        invented = super().recognise(samples, hints, stop)
        return invented if self.asked <= 2 else self._hears.recognise(samples, hints, stop)


@pytest.mark.parametrize("bound", [None, 150])
async def test_what_waits_is_bounded(bound: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is too much, what was heard so far has to be enough for a verdict: here two invented texts."""
    if bound is not None:
        monkeypatch.setattr("cosygate.engine.call._UNTOLD_MAX", bound)  # two such segments are more, one is not
    pcm, _ = speech_pcm()
    recogniser = Late(INVENTED)
    async with serving(recogniser, tmp_path) as engine:
        events = await recognise(engine, pcm * 8, doubts=True)
    segments = [event.segment for event in events if isinstance(event, SegmentFound)]
    assert isinstance(events[-1], Done) and events[-1].foreign is (bound is not None)
    assert recogniser.asked >= 8, "it is heard to its end"
    assert [s.text for s in segments[:2]] == ([INVENTED] * 2 if bound is None else [])
    assert len(segments) == (recogniser.asked if bound is None else 0)


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
