"""A text's words: which there are, how they are said, and where they are shown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosygate.engine.words.fitting import fitted
from cosygate.engine.words.numerals import cardinal, ordinal, readings
from cosygate.engine.words.sounding import sounds
from cosygate.engine.words.spoken import shown, spoken

DICTIONARY = frozenset({"i'm", "mr.", "mr", "smith's", "hello", "you", "usa", "twenty-five", "'em", "em", "cafe", "us"})


def said(word: str) -> list[list[str]]:
    """The readings of each part, as text."""
    return [[" ".join(reading) for reading in part] for part in spoken(word, DICTIONARY.__contains__)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello - you … & me.", ["Hello -", "you …", "&", "me."]),
        ("- — Hello", ["- — Hello"]),
        ("...", ["..."]),
        (" \n\t", []),
        ("5 % of $ 3", ["5", "%", "of", "$", "3"]),
        ("你好 world", ["你好", "world"]),
    ],
)
def test_what_cannot_be_said_joins_its_neighbour(text: str, words: list[str]) -> None:
    assert shown(text) == words


@given(st.text())
def test_no_text_is_lost(text: str) -> None:
    assert " ".join(shown(text)).split() == text.split()


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("I’m", [["i'm"]]),
        ("“Hello”,", [["hello"]]),
        ("hello).", [["hello"]]),
        ("Mr.", [["mr.", "mr"]]),
        ("'em", [["'em", "em"]]),
        ("Café", [["cafe"]]),
        ("twenty-five", [["twenty-five"]]),
        ("forty-five", [["forty"], ["five"]]),
        ("USA", [["usa", "u s a"]]),
        ("us", [["us"]]),
        ("25,", [["twenty five", "two five"]]),
        ("018", [["zero one eight", "oh one eight"]]),
        ("22nd", [["twenty second", "two second"]]),
        ("90s", [["nineties", "nine zeros", "nine ohs"]]),
        ("5%", [["five percent"]]),
        ("$5", [["five", "five dollars"]]),
        ("£5", [["five", "five pounds"]]),
        ("3.1", [["three"], ["one", "point one"]]),
        ("12pm", [["twelve", "one two"], ["pm"]]),
        ("1,000", [["one thousand", "ten hundred", "one zero zero zero", "one oh oh oh"]]),
        ("1999", [["one thousand nine hundred ninety nine", "one thousand nine hundred and ninety nine",
                   "nineteen ninety nine", "one nine nine nine"]]),
        ("&", [["and"]]),
        ("你好", []),
        ("-", []),
    ],
)  # fmt: skip
def test_how_a_word_is_said(word: str, parts: list[list[str]]) -> None:
    assert said(word) == parts


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (19, "nineteen"),
        (40, "forty"),
        (99, "ninety nine"),
        (700, "seven hundred"),
        (1_015, "one thousand fifteen"),
        (2_000_001, "two million one"),
        (10**15 - 1, "nine hundred ninety nine trillion nine hundred ninety nine billion nine hundred ninety nine "
                     "million nine hundred ninety nine thousand nine hundred ninety nine"),
    ],
)  # fmt: skip
def test_numbers_in_words(number: int, words: str) -> None:
    assert " ".join(cardinal(number)) == words


def test_ordinals() -> None:
    assert [" ".join(ordinal(cardinal(n))) for n in (1, 2, 3, 5, 8, 9, 12, 20, 31, 100)] == [
        *("first", "second", "third", "fifth", "eighth", "ninth", "twelfth", "twentieth"),
        *("thirty first", "one hundredth"),
    ]


@given(st.text("0123456789", min_size=1, max_size=60))
def test_every_number_has_a_few_readings(digits: str) -> None:
    found = readings(digits)
    assert 1 <= len(found) <= 5
    assert all(word.isalpha() for reading in found for word in reading)


@given(st.text())
def test_any_word_can_be_said_in_latin_words(word: str) -> None:
    for part in spoken(word, lambda _: False):
        assert part
        for reading in part:
            assert reading
            assert all(word.isascii() and word.strip("'").replace("'", "").isalpha() for word in reading)


@given(st.from_regex(r"[a-z]+('[a-z]+)*", fullmatch=True))
def test_every_word_has_sounds(word: str) -> None:
    assert sounds(word)


def test_sounds_are_those_of_english_spelling() -> None:
    assert sounds("kubernetes") == "K AH B ER N EH T S"
    assert sounds("zaphod's") == "Z AE F AA D S"
    assert sounds("brexit") == "B R EH K S IH T"


TIME = st.floats(-1, 20)
PLACES = st.lists(st.tuples(st.text("ab1-", min_size=1, max_size=9), st.none() | st.tuples(TIME, TIME)), max_size=12)


@given(PLACES, st.floats(0, 10))
def test_words_are_in_order_inside_the_piece_whatever_was_heard(
    heard: list[tuple[str, tuple[float, float] | None]], seconds: float
) -> None:
    words = fitted([word for word, _ in heard], [place for _, place in heard], seconds)
    assert [word.text for word in words] == [word for word, _ in heard]
    told = 0.0
    for word in words:
        assert told <= word.start <= word.end <= seconds
        told = word.end
        assert word.confidence is None


def test_a_word_that_was_not_found_takes_the_gap_between_its_neighbours() -> None:
    words = fitted(["a", "bb", "c", "d"], [(0.5, 1.0), None, None, (2.5, 3.0)], 4.0)
    assert [(w.start, w.end) for w in words] == [(0.5, 1.0), (1.0, 2.0), (2.0, 2.5), (2.5, 3.0)]


def test_without_a_gap_it_shares_its_neighbours_place() -> None:
    before = fitted(["aa", "bb", "c"], [(1.0, 2.0), None, (2.0, 3.0)], 4.0)
    assert [(w.start, w.end) for w in before] == [(1.0, 1.5), (1.5, 2.0), (2.0, 3.0)]
    behind = fitted(["aa", "bb"], [None, (0.0, 1.0)], 4.0)
    assert [(w.start, w.end) for w in behind] == [(0.0, 0.5), (0.5, 1.0)]


def test_a_text_of_which_nothing_was_found_is_spread_by_letters() -> None:
    words = fitted(["One", "…two", "three,"], [None, None, None], 11.0)
    assert [(w.start, w.end) for w in words] == [(0.0, 3.0), (3.0, 6.0), (6.0, 11.0)]
    assert math.isclose(words[-1].end, 11.0)
