"""A transcript's words as they are spoken: numbers, symbols and abbreviations in words, in every usual way.

A word is a sequence of parts that are said one after the other, a part a choice of readings, a reading a sequence of
lower-case words: "$25" is one part, of "twenty five", "twenty five dollars", "two five" and so on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from cosygate.engine.words.numerals import Reading, ordinal, plural, readings

Part = list[Reading]

_SYMBOLS = {
    "&": "and",
    "@": "at",
    "+": "plus",
    "=": "equals",
    "%": "percent",
    "°": "degrees",
    "#": "number",
    "$": "dollars",
    "€": "euros",
    "£": "pounds",
}
_APOSTROPHES = str.maketrans("\u2018\u2019\u02bc", "'''")
_AROUND = re.compile(r"^[^\w']+|[^\w'.]+$")  # quotes, brackets, commas: never part of a dictionary's word
_PARTS = re.compile(
    r"(?P<money>[$€£])?(?P<digits>\d+(?:,\d{3})*)(?:\.(?P<decimals>\d+))?(?P<ending>(?:st|nd|rd|th|'?s)(?![a-z])|%)?"
    r"|(?P<letters>[a-z]+(?:'[a-z]+)*)"
    r"|(?P<symbol>[&@+=%°#$€£])",
    re.ASCII,
)
_SPELLED = range(2, 7)  # letters of what may be an abbreviation: USA is said as a word or letter by letter


def shown(text: str) -> list[str]:
    """The words of a text as they are shown: what whitespace parts, but what cannot be said ("-", "…") is shown with
    the word before it, at the start of the text with the one behind."""
    words: list[str] = []
    silent = True
    for token in text.split():
        says = any(c.isalnum() or c in _SYMBOLS for c in token)
        if words and (silent or not says):
            words[-1] += f" {token}"
        else:
            words.append(token)
        silent = silent and not says
    return words


def spoken(word: str, known: Callable[[str], bool]) -> list[Part]:
    """How a shown word may be said; nothing for what has neither Latin letters nor digits. `known`: whether the
    dictionary has a word."""
    plain = _plain(word)
    capitals = word.upper() == word
    core = _AROUND.sub("", plain)
    whole = [w for w in dict.fromkeys((core, core.rstrip("."), core.strip("'"), core.strip("'."))) if w and known(w)]
    if whole:
        return [[*((w,) for w in whole), *(_spelled(core) if capitals else ())]]
    return [part for match in _PARTS.finditer(plain) for part in _parts(match, capitals)]


def _plain(word: str) -> str:
    """In lower case, without accents."""
    decomposed = unicodedata.normalize("NFKD", word.translate(_APOSTROPHES).lower())
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def _parts(match: re.Match[str], capitals: bool) -> list[Part]:
    if match["digits"]:
        return _number(match)
    if match["symbol"]:
        return [[(_SYMBOLS[match["symbol"]],)]]
    return [[(match["letters"],), *(_spelled(match["letters"]) if capitals else ())]]


def _spelled(word: str) -> Part:
    letters = tuple(re.sub(r"[^a-z]", "", word))
    return [letters] if len(letters) in _SPELLED else []


def _number(match: re.Match[str]) -> list[Part]:
    ending = match["ending"] or ""
    money = (_SYMBOLS[match["money"]],) if match["money"] else ()
    parts = [readings(match["digits"].replace(",", ""))]
    if match["decimals"]:  # 3.14, and what else is written with a point: $2.50, 9.30
        between = dict.fromkeys(((), ("point",), money))
        parts.append([(*words, *reading) for words in between for reading in readings(match["decimals"])])
    last = parts[-1]
    if ending == "%":
        parts[-1] = [(*reading, "percent") for reading in last]
    elif ending.endswith("s"):
        parts[-1] = [plural(reading) for reading in last]
    elif ending:
        parts[-1] = [ordinal(reading) for reading in last]
    elif money:  # "$2.5 million" says it later
        parts[-1] = last + [(*reading, *money) for reading in last]
    return parts
