"""Numbers as English speakers say them, each in the few ways that are common: an aligner takes the one it hears."""

from __future__ import annotations

Reading = tuple[str, ...]  # words, in lower case

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS = ("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
_ONES = _DIGITS + _TEENS
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_COUNTED_MAX = 15  # digits: longer ones are read digit by digit, as every number may be
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def readings(digits: str) -> list[Reading]:
    """`digits`: at least one, ASCII. 105 → one hundred five, one hundred and five, one oh five, one zero five; 1999 →
    also nineteen ninety nine; 018 → zero one eight, oh one eight."""
    found: list[Reading] = []
    if digits == "0" or (digits[0] != "0" and len(digits) <= _COUNTED_MAX):
        number = int(digits)
        rest = number % 100
        found.append(cardinal(number))
        if number > 100 and rest:
            found.append((*cardinal(number - rest), "and", *cardinal(rest)))
        if len(digits) in (3, 4):
            found.append((*cardinal(number // 100), *_pair(rest)))
    found += [tuple(zero if digit == "0" else _DIGITS[int(digit)] for digit in digits) for zero in ("zero", "oh")]
    return list(dict.fromkeys(found))


def cardinal(number: int) -> Reading:
    """From 0, below 10^15."""
    if number < 20:
        return (_ONES[number],)
    if number < 100:
        return (_TENS[number // 10], *(cardinal(number % 10) if number % 10 else ()))
    size, name = next(scale for scale in _SCALES if scale[0] <= number)
    return (*cardinal(number // size), name, *(cardinal(number % size) if number % size else ()))


def ordinal(reading: Reading) -> Reading:
    """twenty one → twenty first."""
    last = reading[-1]
    return (*reading[:-1], _ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th"))


def plural(reading: Reading) -> Reading:
    """nineteen ninety → nineteen nineties."""
    last = reading[-1]
    if last.endswith("y"):
        return (*reading[:-1], last[:-1] + "ies")
    return (*reading[:-1], last + ("es" if last.endswith("x") else "s"))


def _pair(number: int) -> Reading:
    """The last two digits of a year or a house number."""
    if number == 0:
        return ("hundred",)
    return ("oh", _ONES[number]) if number < 10 else cardinal(number)
