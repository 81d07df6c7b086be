"""Transcripts against references, and many scores as the figures of a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cosygate.client import Segment, Transcript, Word
from cosygate.evaluate.aligning import Errors
from cosygate.evaluate.references import Recording, SpokenWord, Turn
from cosygate.evaluate.running import Asked, Outcome
from cosygate.evaluate.scoring import MISMATCH, Score, score, spoken
from cosygate.evaluate.summing import ALL, summaries


def recording(reference: str = "", language: str = "en", **known: Any) -> Recording:
    return Recording(Path("a.wav"), "a.wav", language, reference, **known)


def transcript(*segments: Segment, text: str = "", duration: float = 10.0, **timings: float) -> Transcript:
    engine = {"name": "e", "model": "m1", "version": "1"}
    return Transcript("t", duration, text, segments, "en", engine, timings)


def segment(*words: Word, start: float = 0.0, end: float = 10.0, **told: Any) -> Segment:
    return Segment(0, start, end, " ".join(word.text for word in words), words=words, **told)


def scored(known: Recording, told: Transcript | None, failure: str | None = None, model: str | None = None) -> Score:
    return score(Outcome(known, model, told, 2.5, failure), timed=True, diarized=True)


# --- one recording -----------------------------------------------------------------------------------------------


def test_words_and_characters() -> None:
    told = scored(recording("Twenty-five cats, please."), transcript(text="25 hats please"))
    assert told.words == Errors(4, substituted=1)
    assert told.characters == Errors(len("25catsplease"), substituted=1)


def test_without_a_reference_nothing_is_counted() -> None:
    told = scored(recording(), transcript(text="something"))
    assert (told.words, told.characters, told.speakers, told.starts) == (None, None, None, ())
    assert (told.text, told.duration, told.wall_s) == ("something", 10.0, 2.5)


def test_a_recording_that_fails_has_all_words_deleted_and_all_speakers_missed() -> None:
    told = scored(recording("one two three", turns=(Turn(0, 5, "A"),)), None, "engine_failed: no")
    assert told.words == Errors(3, deleted=3)
    assert told.speakers and told.speakers.missed == told.speakers.of > 0
    assert told.failure == "engine_failed: no"


def test_starts_of_words_that_match() -> None:
    known = recording(
        words=(SpokenWord("Hello,", 0.5, 1), SpokenWord("big", 1, 2), SpokenWord("world", 2, 3), SpokenWord("25", 3, 4))
    )
    heard = segment(
        Word("hello", 0.6, 1), Word("pig", 5, 6), Word("World!", 1.7, 3), Word("-", 3, 3), Word("25.", 3, 4)
    )
    told = scored(known, transcript(heard))
    assert told.starts == pytest.approx((0.1, -0.3, 0.0))
    assert told.words_timed == 4


def test_who_speaks_is_told_by_segments_and_where_they_mix_by_words() -> None:
    alone = segment(Word("a", 0, 1), Word("b", 1, 2), start=0, end=3, speaker="S1")
    mixed = segment(
        Word("c", 4, 5, speaker="S1"),
        Word("d", 5, 6, speaker="S2"),
        Word("e", 6, 7, speaker="S2"),
        Word("f", 8, 9, speaker="S1"),
        start=3,
        end=10,
        speaker="S2",
    )
    nobody = segment(Word("g", 11, 12), start=11, end=12)
    assert list(spoken(transcript(alone, mixed, nobody))) == [
        Turn(0, 3, "S1"),
        Turn(4, 5, "S1"),
        Turn(5, 7, "S2"),
        Turn(8, 9, "S1"),
    ]


def test_what_was_not_asked_for_is_not_judged() -> None:
    known = recording("x", turns=(Turn(0, 5, "A"),), words=(SpokenWord("x", 0, 1),))
    told = score(Outcome(known, None, transcript(text="x"), 1.0), timed=False, diarized=False)
    assert (told.speakers, told.starts, told.words_timed) == (None, (), 0)


def test_an_engine_that_says_another_language() -> None:
    heard = transcript(segment(Word("x", 0, 1)))
    assert scored(recording("x"), replace(heard, flags=(MISMATCH,))).flagged
    assert not scored(recording("x"), heard).flagged


def test_what_the_server_is_asked_for() -> None:
    two = recording("x", speakers=2)
    assert Asked().options(None, two) == {}
    assert Asked(words=True, diarize=True).options("m", two) == {"model": "m", "words": "true", "diarize": "true"}
    from_reference = Asked(diarize=True, num_speakers="from-reference")
    assert from_reference.options(None, two) == {"diarize": "true", "num_speakers": "2"}
    assert from_reference.options(None, recording("x")) == {"diarize": "true"}
    assert Asked(diarize=True, num_speakers="3").options(None, two)["num_speakers"] == "3"


# --- all of them -------------------------------------------------------------------------------------------------


def test_figures_pool_what_was_measured_and_leave_failures_out_of_times() -> None:
    quick = transcript(text="one two", duration=10, recognise=1.0, engine_recognise=0.6, engine_vad=0.1)
    slow = transcript(text="one two three four", duration=30, recognise=1.0, engine_recognise=0.6)
    known = recording("one two three four")
    [told] = summaries([scored(known, quick), scored(known, slow), scored(known, None, "no")], seed=0)
    assert told.model == "m1"  # asked for the default: called what the server says
    assert (told.language, told.recordings, told.failed) == ("en", 3, 1)
    assert told.wer and told.wer.value == pytest.approx(6 / 12)
    assert told.rtf == pytest.approx(2 / 40)
    assert told.stages == pytest.approx({"recognise": 1.2 / 40, "vad": 0.1 / 40})
    assert (told.latency_median_s, told.latency_p90_s) == (2.5, 2.5)
    assert told.flagged and told.flagged.of == 2


def test_each_model_has_its_languages_and_all_of_them_together() -> None:
    scores = [
        scored(recording(text, language), transcript(text=text), model=model)
        for model in ("b", "a")
        for language, text in (("zh", "欢迎"), ("en", "welcome home now"))
    ]
    told = summaries(scores, seed=0)
    assert [(s.model, s.language) for s in told] == [
        *[("b", "en"), ("b", "zh"), ("b", ALL)],
        *[("a", "en"), ("a", "zh"), ("a", ALL)],
    ]
    assert told[2].wer and (told[2].wer.value, told[2].wer.of) == (0.0, 5)


def test_word_starts_are_summed_early_or_late() -> None:
    known = recording(words=tuple(SpokenWord(f"w{n}", n, n + 1) for n in range(3)))
    heard = segment(Word("w0", 0.1, 1), Word("w1", 0.8, 2), Word("w2", 2.4, 3))
    [told] = summaries([scored(known, transcript(heard))], seed=0)
    assert told.start_median_s == pytest.approx(0.2)
    assert told.start_p90_s == pytest.approx(0.36)
    assert (told.words_matched, told.words_timed) == (3, 3)


def test_without_any_transcript_there_are_no_times() -> None:
    [told] = summaries([scored(recording("x"), None, "no")], seed=0)
    assert (told.model, told.rtf, told.latency_median_s, told.flagged, told.stages) == ("default", None, None, None, {})
    assert told.wer and told.wer.value == 1.0
