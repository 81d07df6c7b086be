"""Families of models through sherpa-onnx's real code, on tiny models: what each tells, and how models are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosygate.engine.folders.folder import ModelFolder
from cosygate.engine.models import MOONSHINE_TINY_EN, locate, tokens_txt
from cosygate.engine.recognisers.base import RATE, CannotStart, Hints, Recognised, Samples, Stopped
from cosygate.engine.recognisers.sherpa.families import Variant
from cosygate.engine.recognisers.sherpa.recogniser import Ears, Sherpa
from tests.support import tiny_models
from tests.support.engine_process import speech_samples
from tests.support.tiny_onnx import describe

NOISE = np.random.default_rng(0).normal(size=3 * RATE // 2).astype(np.float32)


def load(folder: Path, slots: int = 1) -> Sherpa:
    return Sherpa.load(folder, slots=slots)


def hear(recogniser: Sherpa, samples: Samples = 0.1 * NOISE, **hints: Any) -> Recognised:
    return recogniser.recognise(samples, Hints(recogniser.models[0].name, **hints), threading.Event())


@pytest.fixture(scope="module")
def sense_voice(tmp_path_factory: pytest.TempPathFactory) -> Sherpa:
    return load(tiny_models.sense_voice(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module")
def zipformer(tmp_path_factory: pytest.TempPathFactory) -> Sherpa:
    return load(tiny_models.zipformer(tmp_path_factory.mktemp("model")))


def test_a_folder_must_be_named() -> None:
    with pytest.raises(CannotStart, match="--model-dir"):
        Sherpa.load(None, slots=1)


# --- what each family tells --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "told"), [("auto", "en"), ("zh", "zh"), ("zh-CN", "zh"), ("JA", "ja"), ("yue", "yue"), ("ko-KR", "ko")]
)
def test_sense_voice_hears_in_the_language_that_was_asked_for(sense_voice: Sherpa, asked: str, told: str) -> None:
    assert hear(sense_voice, language=asked).language == told


@pytest.mark.parametrize(
    ("level", "emotion", "events"), [(0.1, "angry", ("laughter",)), (0.001, "neutral", ()), (0.0001, "sad", ())]
)
def test_sense_voice_tells_mood_and_events(
    sense_voice: Sherpa, level: float, emotion: str, events: tuple[str, ...]
) -> None:
    told = hear(sense_voice, level * NOISE, features=("emotion",))
    assert (told.emotion, told.events) == (emotion, events)
    assert hear(sense_voice, level * NOISE).emotion is None, "nobody asked"


def test_sense_voice_normalises_when_asked(sense_voice: Sherpa) -> None:
    plain = hear(sense_voice).text
    assert plain not in ("", "thing")
    assert hear(sense_voice, features=("itn",)).text == "thing"
    assert hear(sense_voice).text == plain


def check_words(told: Recognised, seconds: float) -> None:
    assert len(told.words) > 1
    assert "".join(word.text for word in told.words) == told.text.replace(" ", "")
    assert told.words[0].start >= 0
    assert told.words[-1].end <= seconds
    assert all(word.start <= word.end for word in told.words)
    assert all(before.end <= after.start for before, after in pairwise(told.words))


@pytest.mark.parametrize(
    ("make", "level"), [(tiny_models.sense_voice, 0.1), (tiny_models.paraformer, 0.01), (tiny_models.zipformer, 0.1)]
)
def test_words_lie_in_order_inside_the_piece(make: Callable[[Path], Path], level: float, tmp_path: Path) -> None:
    recogniser = load(make(tmp_path))
    told = hear(recogniser, level * NOISE, features=("words",))
    check_words(told, len(NOISE) / RATE)
    assert hear(recogniser, level * NOISE) == Recognised(told.text, language=told.language, events=told.events)


def test_paraformer_writes_chinese_without_spaces_and_english_with(tmp_path: Path) -> None:
    told = hear(load(tiny_models.paraformer(tmp_path)), 0.01 * NOISE, features=("words",))
    assert {word.text for word in told.words} == {"界", "lo"}
    assert "界 lo" in told.text
    assert "界界" in told.text
    assert told.language is None, "it may be either"


def test_whisper_finds_the_language_or_is_told(tmp_path: Path) -> None:
    recogniser = load(tiny_models.whisper(tmp_path))
    assert hear(recogniser) == Recognised("so it is", language="de")
    assert hear(recogniser, language="en-GB") == Recognised("so it is", language="en")


def test_a_streaming_model_hears_the_whole_piece(zipformer: Sherpa) -> None:
    told = hear(zipformer, features=("words",))
    assert told.words[0].start < 0.1
    assert told.words[-1].start > len(NOISE) / RATE - 0.1
    longer = hear(zipformer, np.concatenate([0.1 * NOISE, 0.1 * NOISE]))
    assert len(longer.text) > 1.8 * len(told.text)


def test_a_streaming_model_stops_when_nobody_listens(zipformer: Sherpa) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        zipformer.recognise(NOISE, Hints("tiny-zipformer"), stop)


def test_hotwords_are_heard_more(zipformer: Sherpa) -> None:
    plain = hear(zipformer, hotwords=("zzz",)).text  # beam search too, but nothing to look for
    assert hear(zipformer, hotwords=("Model",)).text.count("model") > 2 * plain.count("model")
    assert hear(zipformer, hotwords=("hello",)).text.count("hello") > plain.count("hello")


def test_hotwords_are_never_printed(zipformer: Sherpa, capfd: pytest.CaptureFixture[str]) -> None:
    hear(zipformer, hotwords=("Žluťoučký", "secret :x", "@phrase", "#9 lives", "a/b"))
    assert capfd.readouterr() == ("", "")


def test_moonshine_from_a_folder_hears_real_speech(tmp_path: Path) -> None:
    wheel = locate(MOONSHINE_TINY_EN)
    for role in ("encoder", "decoder"):
        (tmp_path / f"{role}.ort").symlink_to(wheel[role])
    (tmp_path / "tokens.txt").write_text(tokens_txt(wheel["tokenizer"].read_bytes()))
    files = {"encoder": "encoder.ort", "decoder": "decoder.ort", "tokens": "tokens.txt"}
    recogniser = load(describe(tmp_path, "moonshine", ["en"], ["punctuation"], files))
    assert recogniser.models[0].capabilities == ("punctuation",)
    told = hear(recogniser, speech_samples()[: 5 * RATE])
    assert told.language == "en"
    assert "short note about the meeting" in told.text


@pytest.mark.parametrize("make", [tiny_models.sense_voice, tiny_models.paraformer, tiny_models.zipformer])
def test_any_length_is_answered(make: Callable[[Path], Path], tmp_path: Path) -> None:
    recogniser = load(make(tmp_path))
    for samples in (1, 100, RATE // 10 - 1, RATE // 10, RATE // 10 + 1, 15 * RATE):
        told = hear(recogniser, np.resize(0.01 * NOISE, samples), features=("words",))
        assert bool(told.text) == (samples >= RATE // 10), "less than one window is nothing"


# --- how models are kept -----------------------------------------------------------------------------------------


class Made:
    """A made-up model that knows how many of its kind there are."""

    alive = 0

    def __init__(self) -> None:
        Made.alive += 1

    def __del__(self) -> None:
        Made.alive -= 1

    def hear(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        return Recognised("")


ENGLISH, GERMAN, FRENCH = Variant("en"), Variant("de"), Variant("fr")


@pytest.mark.parametrize(
    ("make", "asked", "variants"),
    [
        (tiny_models.whisper, ["en", "en-GB", "auto", "de"], {Variant("en"), Variant(), Variant("de")}),
        (tiny_models.paraformer, ["zh", "en", "auto"], {Variant()}),  # cannot be told
    ],
)
def test_languages_take_models_of_their_own_where_they_are_told(
    make: Callable[[Path], Path], asked: list[str], variants: set[Variant], tmp_path: Path
) -> None:
    loaded: list[Variant] = []
    ears = Ears(lambda variant: loaded.append(variant) or Made(), most=5)
    recogniser = Sherpa(ModelFolder.read(make(tmp_path)), ears)
    for language in asked:
        hear(recogniser, language=language)
    assert set(loaded) == variants
    assert len(loaded) == len(variants)


def test_what_is_at_hand_is_used_again() -> None:
    loaded: list[Variant] = []
    ears = Ears(lambda variant: loaded.append(variant) or Made(), most=2)
    for variant in (ENGLISH, GERMAN, ENGLISH, GERMAN, FRENCH, GERMAN, ENGLISH):
        with ears.borrow(variant):
            pass
    assert loaded == [ENGLISH, GERMAN, FRENCH, ENGLISH], "the one that was not needed for longest has to go"


def test_no_more_are_loaded_than_may_be() -> None:
    ears = Ears(lambda _: Made(), most=3)
    for language in "abcdefg":
        with ears.borrow(Variant(language)), ears.borrow(Variant(language)):
            assert Made.alive <= 3
    assert Made.alive == 3
    del ears
    assert Made.alive == 0


def test_each_is_used_by_one_thread_at_a_time() -> None:
    ears = Ears(lambda _: Made(), most=2)
    with ears.borrow(ENGLISH) as first:
        pass
    with ears.borrow(ENGLISH) as one, ears.borrow(ENGLISH) as other:
        assert one is first
        assert other is not first
    with ears.borrow(ENGLISH) as again:
        assert again in (one, other)


def test_one_that_cannot_be_loaded_takes_no_room() -> None:
    failures = [MemoryError()] * 3

    def load_in_the_end(_: Variant) -> Made:
        if failures:
            raise failures.pop()
        return Made()

    ears = Ears(load_in_the_end, most=1)
    for _ in range(3):
        with pytest.raises(MemoryError), ears.borrow(ENGLISH):
            pass
    with ears.borrow(ENGLISH) as one:
        pass
    with ears.borrow(ENGLISH) as again:
        assert again is one
