"""Tokens with times become words."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosygate.engine.recognisers.base import RecognisedWord
from cosygate.engine.recognisers.sherpa.words import words_of


@pytest.mark.parametrize(
    ("tokens", "text", "words"),
    [
        ([" ran", "dom", " words"], "random words", ["random", "words"]),
        ([" don", "'", "t", ",", " you", "."], "don't, you.", ["don't,", "you."]),
        (["你", "好", "，", "世", "界", "。"], "你好，世界。", ["你", "好，", "世", "界。"]),
        (["今", "天", " very", " good", "吗"], "今天 very good吗", ["今", "天", "very", "good", "吗"]),
        (["カ", "タ", "カ", "ナ", "です"], "カタカナです", ["カ", "タ", "カ", "ナ", "です"]),
        ([" 안", "녕", " 하"], "안녕 하", ["안녕", "하"]),
        (["A", "P", "I", " is"], "API is", ["API", "is"]),
        (["我", "A", "P", "I"], "我API", ["我", "API"]),
    ],
)
def test_words_are_those_that_a_reader_sees(tokens: list[str], text: str, words: list[str]) -> None:
    found = words_of(tokens, [0.1 * at for at in range(len(tokens))], text, 5.0)
    assert [word.text for word in found] == words


def test_parts_that_go_on_are_joined() -> None:
    tokens = ["你", "hel@@", "l@@", "o", "yes", "好"]
    found = words_of(tokens, [0.0, 0.2, 0.3, 0.4, 0.6, 0.8], "你 hello yes 好", 1.0, joined=True)
    assert [(word.text, word.start, word.end) for word in found] == [
        ("你", 0.0, 0.2),
        ("hello", 0.2, 0.6),
        ("yes", 0.6, 0.8),
        ("好", 0.8, 1.0),
    ]


def test_a_word_lasts_until_the_next_but_not_through_a_pause() -> None:
    found = words_of([" so", " it", " is", "n't"], [0.1, 0.3, 2.0, 2.2], "so it isn't", 5.0)
    assert found == (
        RecognisedWord("so", 0.1, 0.3),
        RecognisedWord("it", 0.3, 0.8),
        RecognisedWord("isn't", 2.0, 2.7),
    )


def test_tokens_that_come_in_the_silence_behind_the_piece_lie_at_its_end() -> None:
    found = words_of([" so", " it"], [0.9, 1.4], "so it", 1.0)
    assert [(word.start, word.end) for word in found] == [(0.9, 1.0), (1.0, 1.0)]


@pytest.mark.parametrize(
    ("tokens", "times", "text"),
    [
        ([" so", " it"], [], "so it"),  # a model without times
        ([" so", " it"], [0.1], "so it"),  # one that keeps times of tokens that it drops
        (["Ġ", "ä"], [0.1, 0.2], "é"),  # one of bytes
        ([], [], ""),
    ],
)
def test_no_words_rather_than_wrong_ones(tokens: list[str], times: list[float], text: str) -> None:
    assert words_of(tokens, times, text, 1.0) == ()


TOKENS = st.builds("{}{}".format, st.sampled_from(["", " "]), st.text("ab你,.@", min_size=1, max_size=4))


@given(st.lists(st.tuples(TOKENS, st.floats(-1, 9)), max_size=12), st.booleans())
def test_words_are_in_order_inside_the_piece(heard: list[tuple[str, float]], joined: bool) -> None:
    tokens, times = [token for token, _ in heard], [time for _, time in heard]
    parts = [token.removesuffix("@@") for token in tokens] if joined else tokens
    text = "".join(parts).replace(" ", "")
    found = words_of(tokens, times, text, 5.0, joined=joined)
    assert "".join(word.text for word in found) == text
    assert all(0 <= word.start <= word.end <= 5 for word in found)
    assert all(before.end <= after.start for before, after in pairwise(found))
