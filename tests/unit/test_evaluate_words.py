"""What counts as the same word when texts are compared."""

from __future__ import annotations

import time

import pytest

from cosygate.evaluate.normal import words


def same(first: str, second: str, language: str = "en") -> bool:
    return words(first, language) == words(second, language)


@pytest.mark.parametrize(
    ("written", "compared"),
    [
        ("Hello, World!", "hello world"),
        ("It’s the dogs' — 'quoted' o'clock", "it's the dogs quoted o'clock"),
        ("ill-disposed", "ill disposed"),
        ("Mr. Quilter and Mrs. Allen vs. Dr. No, etc.", "mister quilter and missus allen versus doctor no et cetera"),
        ("yes [laughs] no [unclosed", "yes no unclosed"),
        ("snake_case  \t\n two", "snake case 2"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("R&B", "r and b"),
        ("...", ""),
    ],
)
def test_case_punctuation_abbreviations_and_remarks(written: str, compared: str) -> None:
    assert " ".join(words(written, "en")) == compared


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("zero one eight", "018"),
        ("one zero zero zero one nine oh two one oh zero one eight zero three", "10001 90210 01803"),
        ("nine o two", "902"),
        ("twenty five", "25"),
        ("twenty-five", "two five"),
        ("nineteen oh eight", "1908"),
        ("nineteen hundred eight", "1908"),
        ("one thousand nine hundred and eight", "1,908"),
        ("twenty twenty four", "2024"),
        ("two thousand and five", "2005"),
        ("a hundred", "100"),
        ("one hundred two hundred", "100 200"),
        ("one hundred two thousand", "102,000"),
        ("two million five hundred thousand", "2,500,000"),
        ("2 million", "two million"),
        ("two point five million dollars", "$2.5 million"),
        ("one dollar", "$1"),
        ("three point five percent", "3.5%"),
        ("the twenty first of may", "the 21st of May"),
        ("the fifth and the twentieth", "the 5th and the 20th"),
        ("one hundred and first", "101st"),
        ("ten thirty", "10:30"),
        ("ten of clubs", "10 of clubs"),
    ],
)
def test_numbers_as_words_and_as_digits_are_the_same(first: str, second: str) -> None:
    assert same(first, second), (words(first, "en"), words(second, "en"))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("twenty five", "26"),
        ("zero one eight", "18"),
        ("oh my", "0 my"),
        ("someone", "some 1"),
        ("hundreds", "100"),
        ("fifth", "five"),
        ("a thousand", "a million"),
        ("weighty", "we80"),
    ],
)
def test_other_numbers_are_not(first: str, second: str) -> None:
    assert not same(first, second)


def test_each_digit_is_a_word_so_that_one_wrong_digit_is_one_error() -> None:
    assert words("10001", "en") == ["1", "0", "0", "0", "1"]
    assert words("21st", "en") == ["2", "1th"]


def test_scripts_without_spaces_are_compared_by_characters() -> None:
    assert words("欢迎，大家 CosyGate!", "zh") == ["欢", "迎", "大", "家", "cosygate"]
    assert words("ジャズ々", "ja") == ["ジ", "ャ", "ズ", "々"]
    assert same("一九零八年", "1908年", "zh")
    assert words("그는 이리저리", "ko") == ["그는", "이리저리"]


def test_marks_of_letters_are_part_of_them() -> None:
    assert words("हिन्दी है", "hi") == ["हिन्दी", "है"]
    assert same("forêts", "fore\u0302ts", "fr")
    assert same("٣٤", "34", "ar")


def test_english_rules_are_for_english_and_for_what_is_not_known() -> None:
    assert words("six and 25 dr", "fr") == ["six", "and", "2", "5", "dr"]
    assert words("six dr", "en-GB") == words("six dr") == ["6", "doctor"]


@pytest.mark.parametrize("bad", ["[" * 200_000, "9" * 200_000, "hundred " * 30_000, "1 oh " * 30_000, "$1," * 60_000])
def test_no_text_takes_long(bad: str) -> None:
    began = time.process_time()
    words(bad, "en")
    assert time.process_time() - began < 2
