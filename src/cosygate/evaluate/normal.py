"""What counts as the same word. Both sides of a comparison are written alike before they are compared: without case,
punctuation or hyphens, with numbers as digits and common abbreviations spelt out. docs/evaluate.md has the list."""

from __future__ import annotations

import re
import unicodedata

from cosygate.evaluate import numbers

UNKNOWN = "und"  # BCP 47 for a language that nobody told
_REMARK = re.compile(r"\[[^][]*\]")
_CHARACTERS = str.maketrans("’‘`´〇零一二三四五六七八九", "''''00123456789")
# Written without spaces: kana, ideographs and their repetition marks.
_OF_ITS_OWN = re.compile("[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_ABBREVIATIONS = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "prof": "professor",
    "jr": "junior",
    "sr": "senior",
    "vs": "versus",
    "etc": "et cetera",
    "ok": "okay",
}


def without_remarks(text: str) -> str:
    """The text without what is in [brackets], which nobody said."""
    return _REMARK.sub(" ", text).strip()


def language_of(tag: str) -> str:
    """The language alone of a BCP 47 tag, lower-case: "en-GB" → "en"."""
    return tag.lower().partition("-")[0]


def words(text: str, language: str = UNKNOWN) -> list[str]:
    """The words that are compared; of scripts without spaces each character is one. English rules also hold where the
    language is not known."""
    english = language_of(language) in ("en", UNKNOWN)
    text = unicodedata.normalize("NFKC", without_remarks(text)).lower().translate(_CHARACTERS)
    text = "".join(map(_plain, numbers.signs(text) if english else text))
    found = [word for part in text.split() if (word := part.strip("'"))]
    if english:
        found = [_ABBREVIATIONS.get(word, word) for word in found]
    text = " ".join(found)
    return _OF_ITS_OWN.sub(r" \g<0> ", numbers.digits(text) if english else numbers.apart(text)).split()


def _plain(character: str) -> str:
    """Letters, their marks, digits (of any script, as 0-9) and apostrophes; everything else is a space."""
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    return character if character == "'" or unicodedata.category(character)[0] in "LMN" else " "
