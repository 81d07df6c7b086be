"""How text is written: the width of characters, where a line may break, and what readers of a script can take."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Reading:
    """Limits of a script. A column is a Latin character; a full-width one takes two."""

    columns: int  # of a line
    speed: float  # columns per second
    wide: bool = False  # what is as wide as its neighbours (UAX #11, "ambiguous") is full-width


ENGLISH = Reading(42, 20.0)
ALPHABETIC = Reading(42, 17.0)
CHINESE = Reading(32, 22.0, wide=True)  # 16 characters, 11 a second
JAPANESE = Reading(32, 14.0, wide=True)  # 16 and 7
KOREAN = Reading(32, 28.0, wide=True)  # 16 and 14

_KANA = re.compile("[\u3040-\u30ff\uff66-\uff9f]")
_HAN = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7ff]")


def reading(text: str, language: str | None) -> Reading:
    """By the script of at least a third of the letters; `language` (BCP 47) tells those apart that share one."""
    spoken = (language or "").lower().split("-")[0]
    if not text.isascii():
        kana, han, hangul = (len(script.findall(text)) for script in (_KANA, _HAN, _HANGUL))
        if kana + han + hangul and 3 * (kana + han + hangul) >= sum(map(str.isalnum, text)):
            if hangul > kana + han:
                return KOREAN
            return JAPANESE if spoken == "ja" or (kana and spoken not in ("zh", "yue")) else CHINESE
    return ENGLISH if spoken == "en" else ALPHABETIC


@lru_cache(8192)
def _columns(char: str, wide: bool) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("WFA" if wide else "WF") else 1


def width(text: str, wide: bool) -> int:
    """Columns (https://www.unicode.org/reports/tr11/)."""
    return len(text) if text.isascii() else sum(_columns(char, wide) for char in text)


def clean(text: str) -> str:
    """One line without what no file can hold: control characters and halves of surrogate pairs (XML forbids them), and
    the arrow that separates times."""
    line = " ".join(text.split())
    if not line.isprintable():
        line = "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cs", "Cn"))
    return " ".join(line.replace("-->", "→").split())


# Kinsoku (JIS X 4051; https://www.w3.org/TR/clreq/, https://www.w3.org/TR/jlreq/): what begins no line, what ends none.
_BEGINS_NONE = frozenset(
    "、。，．：；？！,.:;?!)]}）］｝」』】〉》〕〗〙”’…‥・·ーゝゞヽヾ々〻～％%℃‐–—―"
    "ぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶｧｨｩｪｫｬｭｮｯｰ｡､｣"
)
_ENDS_NONE = frozenset("([{（［｛「『【〈《〔〖〘“‘$£€¥￥#＃\u200d")
_DASHES = frozenset("—")  # the short one stands in ranges of numbers


@lru_cache(8192)
def _joins(char: str) -> bool:
    """Belongs to the character before it: marks, joiners, skin tones, and what kinsoku binds."""
    return char in _BEGINS_NONE or unicodedata.category(char) in ("Mn", "Mc", "Me", "Cf", "Sk")


@lru_cache(8192)
def ideographic(char: str) -> bool:
    """Written without spaces, so a line may break beside it: Han, kana, full-width forms. Korean has spaces."""
    return unicodedata.east_asian_width(char) in "WF" and not _HANGUL.match(char)


def pieces(token: str, columns: int, wide: bool) -> Iterator[str]:
    """A token without spaces, cut where a line may break; what is wider than `columns` without such a place is cut all
    the same, but never between a letter and its marks."""
    if token.isascii() and len(token) <= columns:
        yield token
        return
    piece, used = token[0], _columns(token[0], wide)
    for char in token[1:]:
        last, more = piece[-1], _columns(char, wide)
        may = not _joins(char) and last not in _ENDS_NONE
        if (may and (ideographic(char) or ideographic(last) or last in _DASHES)) or (more and used + more > columns):
            yield piece
            piece, used = char, more
        else:
            piece, used = piece + char, used + more
    yield piece
