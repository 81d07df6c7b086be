"""Punctuation: whose texts get it, and that nothing of them or of their words is lost, whatever the model says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from cosygate.engine.punctuation.checking import checked, try_out
from cosygate.engine.punctuation.marks import is_plain, marks_of, punctuated, punctuated_words
from cosygate.engine.punctuation.punctuated import Punctuated
from cosygate.engine.recognisers.base import CannotStart, Hints, Model, Recognised, RecognisedWord, Samples
from tests.support import tiny_extras

DESCRIPTION = "cosygate-model.json"
SOUND = np.zeros(16_000, np.float32)


class Says:
    """A recogniser that says what it is told to."""

    name, version, cut_s, limit_s, instant = "says", "1", None, 5.0, True

    def __init__(self, said: Recognised, *languages: str) -> None:
        self.models: tuple[Model, ...] = (Model("m", languages or ("zh",), ("words",)),)
        self.said = said
        self.closed = False

    def recognise(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        return self.said

    def close(self) -> None:
        self.closed = True


def words(*texts: str) -> tuple[RecognisedWord, ...]:
    return tuple(RecognisedWord(text, float(n), n + 0.5, 0.9) for n, text in enumerate(texts))


def texts(said: tuple[RecognisedWord, ...]) -> list[str]:
    return [word.text for word in said]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_extras.punctuation(tmp_path_factory.mktemp("punctuation"))


@pytest.fixture(scope="module")
def add(folder: Path) -> Callable[[Recognised], Punctuated]:
    """With the real model behind it."""
    loaded = Punctuated.load(Says(Recognised("")), folder)
    return lambda said: Punctuated(Says(said, "zh", "en"), loaded._add_punctuation, ("zh", "en"))


def heard(recogniser: Punctuated, language: str = "auto") -> Recognised:
    return recogniser.recognise(SOUND, Hints("m", language), threading.Event())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("今天你好吗", "今天，你好。吗？"),
        ("hello world it is a fine day today", "hello world, it is a fine day. today."),
        ("hello", "hello."),
        ("你好 hello world 今天", "你好。hello world, 今天。"),
        ("don't 3.5 🎉 天", "don't 3.5 🎉 天。"),
        ("天 " * 99 + "天", "天，" * 99 + "天。"),
    ],
)
def test_plain_text_is_punctuated(add: Callable[[Recognised], Punctuated], text: str, told: str) -> None:
    assert heard(add(Recognised(text))).text == told


def test_words_get_the_marks_behind_them(add: Callable[[Recognised], Punctuated]) -> None:
    said = Recognised("今天 你好吗 hello world", words("今", "天", "你好", "吗", "hello", "world"), confidence=0.5)
    told = heard(add(said))
    assert told.text == "今天，你好。吗？hello world."
    assert texts(told.words) == ["今", "天，", "你好。", "吗？", "hello", "world."]
    assert [(w.start, w.end, w.confidence) for w in told.words] == [(w.start, w.end, w.confidence) for w in said.words]
    assert told.confidence == 0.5
    other = Recognised("今天 你好吗", words("今", "大"))
    assert heard(add(other)).words == other.words, "words that do not spell the text stay as they are"


@pytest.mark.parametrize("text", ["Hello, world", "今天，你好", "Is it fine?", "10:30 it is.", "", "…", "?!"])
def test_what_has_punctuation_stays(add: Callable[[Recognised], Punctuated], text: str) -> None:
    assert heard(add(Recognised(text))).text == text


def test_numbers_are_no_punctuation() -> None:
    assert is_plain("at 10:30 for 3.5 or 1,000")


@pytest.mark.parametrize(
    ("claims", "models", "told", "asked", "does"),
    [
        (("zh",), ("zh",), None, "auto", True),
        (("zh",), ("zh-CN",), None, "auto", True),
        (("zh",), ("zh", "yue"), None, "auto", False),
        (("zh",), ("zh", "yue"), "yue", "auto", False),
        (("zh",), ("zh", "yue"), "zh", "auto", True),
        (("zh",), ("zh", "yue"), None, "zh-TW", True),
        (("zh",), ("*",), None, "auto", False),
        (("zh",), ("*",), None, "ja", False),
        (("zh",), ("zh",), "en", "zh", False),  # what was heard counts
        (("mul",), ("*",), None, "auto", True),
    ],
)
def test_only_in_languages_that_the_folder_claims(
    claims: tuple[str, ...], models: tuple[str, ...], told: str | None, asked: str, does: bool
) -> None:
    recogniser = Punctuated(Says(Recognised("今天", language=told), *models), lambda text: text + "。", claims)
    assert heard(recogniser, asked).text == ("今天。" if does else "今天")


@pytest.mark.parametrize("says", ["今", "今天今天。", "今大。", "。今天", "今天。？", "<unk>今天", ""])
def test_a_model_that_says_something_else_changes_nothing(says: str) -> None:
    recogniser = Punctuated(Says(Recognised("今天", words("今", "天"))), lambda _: says, ("zh",))
    with capture_logs() as logs:
        told = heard(recogniser)
    assert (told.text, texts(told.words)) == ("今天", ["今", "天"])
    assert [line["event"] for line in logs] == ["punctuation.failed"]
    assert "今" not in str(logs)


def test_a_model_that_fails_costs_no_text() -> None:
    def fails(text: str) -> str:
        raise RuntimeError(text)

    with capture_logs() as logs:
        assert heard(Punctuated(Says(Recognised("今天")), fails, ("zh",))).text == "今天"
    assert [line["event"] for line in logs] == ["punctuation.failed"]
    assert "今天" not in str(logs)


def test_a_text_that_nobody_says_is_left_alone() -> None:
    text = "今" * 5001
    assert heard(Punctuated(Says(Recognised(text)), lambda text: text + "。", ("zh",))).text == text


def test_is_what_the_recogniser_is() -> None:
    inner = Says(Recognised(""))
    recogniser = Punctuated(inner, str, ("zh",))
    for name in ("name", "version", "cut_s", "limit_s"):
        assert getattr(recogniser, name) == getattr(inner, name)
    [model] = inner.models
    assert recogniser.models == (replace(model, capabilities=(*model.capabilities, "punctuation")),)
    assert Punctuated(inner, str, ("en",)).models == inner.models, "not in a language that it does not know"
    assert not recogniser.instant, "it takes longer than what runs without a thread may"
    recogniser.close()
    assert inner.closed


def test_many_threads_at_once(add: Callable[[Recognised], Punctuated]) -> None:
    said = ["今天你好吗", "hello world", "你好 hello world 今天"] * 60
    alone = {text: heard(add(Recognised(text))).text for text in said[:3]}
    with ThreadPoolExecutor(4) as threads:
        told = list(threads.map(lambda text: heard(add(Recognised(text))).text, said))
    assert told == [alone[text] for text in said]


@given(st.text(max_size=40), st.lists(st.tuples(st.integers(0, 50), st.sampled_from("，。？、")), max_size=6))
def test_nothing_but_marks_and_spaces_changes(text: str, extra: list[tuple[int, str]]) -> None:
    letters = "".join(text.split())
    said = dict(extra)
    marks = marks_of(text, "".join(letter + said.get(n, "") for n, letter in enumerate(letters)))
    if marks is None:
        return  # it had such marks already
    told = punctuated(text, marks)
    plain = iter("".join(told.split()))
    assert all(any(letter == candidate for candidate in plain) for letter in letters)
    assert len("".join(told.split())) == len(letters) + len(marks)
    each = tuple(RecognisedWord(word, 0.0, 1.0) for word in text.split())
    assert "".join(texts(punctuated_words(each, text, marks))) == "".join(told.split())


def said(folder: Path, **members: object) -> None:
    whole = json.loads((folder / DESCRIPTION).read_text()) | members
    (folder / DESCRIPTION).write_text(json.dumps(whole))


@pytest.mark.parametrize(
    ("damage", "names", "says"),
    [
        (lambda p: said(p, family="moonshine"), "", "family 'moonshine'; punctuation takes one of 'punctuation'"),
        (lambda p: said(p, files={"tokens": "model.onnx"}), "", "no file as 'model'"),
        (lambda p: (p / "model.onnx").unlink(), "model.onnx", "cannot be read"),
        (lambda p: (p / "model.onnx").write_bytes((p / "model.onnx").read_bytes()[:-9]), "model.onnx", "cut off"),
        (lambda p: tiny_extras.punctuation(p, tokens=None), "model.onnx", "has nothing as tokens"),
        (lambda p: tiny_extras.punctuation(p, vocab_size=99), "model.onnx", "has '99' as vocab_size"),
        (lambda p: tiny_extras.punctuation(p, vocab_size="1_1"), "model.onnx", "has '1_1' as vocab_size"),
        (lambda p: tiny_extras.punctuation(p, vocab_size="11,11"), "model.onnx", "has '11,11' as vocab_size"),
        (lambda p: tiny_extras.punctuation(p, unk_symbol="[UNK]"), "model.onnx", "as unk_symbol"),
        (lambda p: tiny_extras.punctuation(p, punctuations="_|。"), "model.onnx", "as punctuations"),
    ],
)
def test_what_is_damaged_is_refused_by_name(
    damage: Callable[[Path], object], names: str, says: str, tmp_path: Path
) -> None:
    folder = tiny_extras.punctuation(tmp_path)
    damage(folder)
    with pytest.raises(CannotStart, match=says) as refused:
        checked(folder)
    assert str(folder / names) in str(refused.value)


def test_what_only_loading_shows_costs_a_process_of_its_own(tmp_path: Path) -> None:
    """A model with fewer tokens than it says: the table has no row for the last one."""
    folder = tiny_extras.punctuation(tmp_path)
    more = [*tiny_extras.TOKENS, "it"]
    tiny_extras.punctuation(tmp_path, tokens="|".join(more), vocab_size=len(more))
    with pytest.raises(CannotStart, match=r"cannot be used: loading it ended with status") as refused:
        try_out(checked(folder))
    assert str(folder) in str(refused.value)
