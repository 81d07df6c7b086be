"""Puts a model's punctuation into a text and its words: nothing else of either changes.

The model gives the text back with full-width marks, and with spaces of its own. So only its marks are taken: each goes
behind the letter that it stood behind, in the script of that letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from cosygate.engine.recognisers.base import RecognisedWord

_PLAIN = {"，": ",", "。": ".", "？": "?", "、": ",", "！": "!"}
_PUNCTUATED = re.compile(r"[，。？！、；：]|[.,?!;:](?=\s|$)")
_SPACELESS = re.compile(r"[\u3000-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]")

Marks = Mapping[int, str]  # behind which character of those that are no space, from 0


def is_plain(text: str) -> bool:
    """Whether there is something to punctuate, and no punctuation."""
    return any(map(str.isalnum, text)) and _PUNCTUATED.search(text) is None


def marks_of(text: str, said: str) -> Marks | None:
    """What `said` has beyond `text`; None when it is not the text with marks."""
    letters = "".join(text.split())
    marks: dict[int, str] = {}
    at = -1
    for character in "".join(said.split()):
        if at + 1 < len(letters) and character == letters[at + 1]:
            at += 1
        elif at >= 0 and at not in marks and character in _PLAIN:
            marks[at] = character if _SPACELESS.match(letters[at]) else _PLAIN[character]
        else:
            return None
    return marks if at + 1 == len(letters) else None


def punctuated(text: str, marks: Marks) -> str:
    told = ""
    at = -1
    after = ""  # the mark that was just set
    for character in text:
        if character.isspace():
            if not _SPACELESS.match(after):
                told += character
            continue
        if after and not told[-1].isspace() and not _SPACELESS.match(after):
            told += " "
        at += 1
        after = marks.get(at, "")
        told += character + after
    return told


def punctuated_words(words: Iterable[RecognisedWord], text: str, marks: Marks) -> tuple[RecognisedWord, ...]:
    """The words with the marks that stand in or behind them; as they are, when they do not spell the text."""
    words = tuple(words)
    if "".join("".join(word.text.split()) for word in words) != "".join(text.split()):
        return words
    told: list[RecognisedWord] = []
    at = -1
    for word in words:
        spelt = ""
        for character in word.text:
            at += not character.isspace()
            spelt += character + (marks.get(at, "") if not character.isspace() else "")
        told.append(replace(word, text=spelt))
    return tuple(told)
