"""A model's tokens, with the time at which each was heard, as words.

Families write tokens in two ways: SenseVoice and zipformers begin a word with a space, Paraformer ends every part of a
word but the last with @@. Chinese and Japanese have no spaces: there each token, a character as a rule, is a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import accumulate

from cosygate.engine.recognisers.base import RecognisedWord

JOINED = "@@"  # at the end of a token of Paraformer: the word goes on
_SPACELESS = re.compile(r"[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_TOKEN_S = 0.5  # no token is longer: what comes later until the next word is a pause


def words_of(
    tokens: Sequence[str], times: Sequence[float], text: str, seconds: float, *, joined: bool = False
) -> tuple[RecognisedWord, ...]:
    """In order and without overlap, inside [0, seconds]. `times`: seconds at which each token begins. `joined`: parts
    of words end with @@. Models tell no ends: a word lasts until the next, or half a second from its last token.

    Empty when the tokens do not spell the text: a model of bytes, or one without times."""
    if len(tokens) != len(times):
        return ()
    found: list[tuple[str, float, float]] = []  # a word, when it began, when its last token did
    goes_on = False
    for token, time in zip(tokens, times, strict=True):
        part = token.removesuffix(JOINED).strip() if joined else token.strip()
        if not part:
            continue
        if found and (goes_on or (not joined and _belongs(token, found[-1][0])) or _punctuation(part)):
            word, start, _ = found[-1]
            found[-1] = (word + part, start, time)
        else:
            found.append((part, time, time))
        goes_on = joined and token.endswith(JOINED)
    if not found or "".join(word for word, _, _ in found) != "".join(text.split()):
        return ()
    begins = list(accumulate((min(max(start, 0.0), seconds) for _, start, _ in found), max))
    ends = [*begins[1:], seconds]
    return tuple(
        RecognisedWord(word, start, max(start, min(end, last + _TOKEN_S)))
        for (word, _, last), start, end in zip(found, begins, ends, strict=True)
    )


def _belongs(token: str, word: str) -> bool:
    """Whether the token goes on with the word before it."""
    return not (token[0].isspace() or _SPACELESS.match(token) or _SPACELESS.match(word[-1]))


def _punctuation(part: str) -> bool:
    return all(unicodedata.category(character).startswith("P") for character in part)
