"""English numbers, however they are written: "25" and "twenty five", "018" and "zero one eight", "1908" and "nineteen
oh eight" become the same digits, each a word of its own.

Both sides of a comparison go through the same rules, so a wrong guess ("one" that is no number) costs nothing.
"""

from __future__ import annotations

import re
from functools import partial

_TEENS = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_ONES, _ORDINALS, _TENS = map(
    str.split,
    (
        f"zero one two three four five six seven eight nine {_TEENS}",
        "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth "
        + " ".join(f"{teen}th" for teen in _TEENS.split()[3:]),
        "twenty thirty forty fifty sixty seventy eighty ninety",
    ),
)
_VALUES = {
    **{word: str(n) for n, word in enumerate(_ONES)},
    **{word: f"{n}th" for n, word in enumerate(_ORDINALS)},
    **{word: f"{n}0" for n, word in enumerate(_TENS, 2)},
    **{f"{word[:-1]}ieth": f"{n}0th" for n, word in enumerate(_TENS, 2)},
}
_ALONE = r"(?<![\w'])(?:{})(?![\w'])"  # a whole word
_WORD = re.compile(
    _ALONE.format(f"({'|'.join(_TENS)}) ({'|'.join(_ONES[1:10] + _ORDINALS[1:10])})|({'|'.join(_VALUES)})")
)
_ORDINAL = re.compile(_ALONE.format(r"(\d+)(?:st|nd|rd|th)"))
_OH = re.compile(r"(?<=\d)(?: oh?)+(?= \d)")
# "two hundred and five", "a hundred", "2 million": what stands behind belongs to it unless it begins the next number.
_SCALES = [
    (
        10**zeros,
        re.compile(
            rf"(?<![\w'])(?:(\d{{1,9}})|an?) {word}(?![\w'])"
            rf"(?:(?: and)? ([1-9]\d{{0,{zeros - 1}}})(th)?(?![\w']| {word}(?![\w'])))?"
        ),
    )
    for word, zeros in (("hundred", 2), ("thousand", 3), ("million", 6), ("billion", 9))
]
_BETWEEN_DIGITS = re.compile(r"(?<=\d)(?=\d)")

_CURRENCIES = {"$": "dollars", "£": "pounds", "€": "euros"}
_PRICE = re.compile(r"([$£€]) ?(\d[\d,]*(?:\.\d+)?)( (?:hundred|thousand|million|billion))?")
_POINT = re.compile(r"(?<=\d)\.(?=\d)")


def signs(text: str) -> str:
    """Lower-case text, punctuation and all, with the signs around numbers as they are spoken: "$5" → "5 dollars",
    "3.5 %" → "3 point 5  percent "."""
    text = _PRICE.sub(_price, text)
    return _POINT.sub(" point ", text).replace("%", " percent ").replace("&", " and ")


def digits(text: str) -> str:
    """Lower-case words with a space between them → the same with each digit of each number as a word; ordinals end in
    "th" ("21st" → "2 1th")."""
    text = _ORDINAL.sub(r"\1th", _WORD.sub(_value, text))
    text = _OH.sub(lambda oh: " 0" * oh[0].count("o"), text)
    for scale, pattern in _SCALES:
        text = pattern.sub(partial(_scaled, scale), text)
    return apart(text)


def apart(text: str) -> str:
    """Each digit a word."""
    return _BETWEEN_DIGITS.sub(" ", text)


def _price(match: re.Match[str]) -> str:
    sign, number, scale = match.groups(default="")
    currency = _CURRENCIES[sign]
    return f"{number}{scale} {currency[:-1] if (number, scale) == ('1', '') else currency} "


def _scaled(scale: int, match: re.Match[str]) -> str:
    before, behind, ordinal = match.groups()
    return f"{int(before or 1) * scale + int(behind or 0)}{ordinal or ''}"


def _value(match: re.Match[str]) -> str:
    ten, unit, alone = match.groups()
    return _VALUES[alone] if alone else _VALUES[ten][0] + _VALUES[unit]
