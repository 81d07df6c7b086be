"""Words of a text that somebody has corrected: those that are still there keep their times, the others get the time of
what they replace, in proportion to letters.

Which words are still there is found by what is the same at both ends, then by words that are there once in both texts
(or three in a row, where no single one is), and so on between those (Bram Cohen's patience diff): in time that grows
with the length alone, whatever the texts are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cosygate.model.subtitles.script import pieces
from cosygate.model.transcript import Segment, Word

_DEPTH = 6  # of looking between words that were found for others
_JOINED = 8  # ideographs at most that an engine tells as one word
_WHOLE = 1 << 30  # columns: no token is cut for its length

_Range = tuple[int, int]  # from, and to (not included)


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where new words go: between these seconds."""

    start: float
    end: float
    speaker: str | None


def retimed(segment: Segment, text: str) -> tuple[Word, ...]:
    """The words of `text`, said where `segment` is; none where the segment has none. In order, inside the segment,
    starts not after ends. A word that was changed has no confidence: nobody has heard it."""
    old = segment.words
    if not old:
        return ()
    had = [_letters(word.text) for word in old]
    tokens = list(_tokens(text, frozenset(had)))
    has = [_letters(token) for token in tokens]
    words: list[Word] = []
    for same, (a, b), (c, d) in _stretches(had, has, (0, len(had)), (0, len(has)), _DEPTH):
        if same:
            words += (replace(word, text=token) for word, token in zip(old[a:b], tokens[c:d], strict=True))
        elif c < d:
            words += _spread(tokens[c:d], _slot(segment, a, b))
    return tuple(words)


def _tokens(text: str, known: frozenset[str]) -> Iterator[str]:
    """What can be a word: what stands between spaces; each ideograph, or several that the engine told as one
    (`known`, by their letters). What has no letters is one only where the engine told it as one."""
    for token in text.split():
        parts = list(pieces(token, _WHOLE, wide=True))
        at = 0
        while at < len(parts):
            most = min(_JOINED, len(parts) - at)
            fits = (n for n in range(most, 1, -1) if _letters("".join(parts[at : at + n])) in known)
            until = at + next(fits, 1)
            word = "".join(parts[at:until])
            if any(map(str.isalnum, word)) or word in known:
                yield word
            at = until


def _letters(text: str) -> str:
    """What words are compared by; of what has none ("&"), all of it."""
    return "".join(filter(str.isalnum, text.lower())) or text


def _stretches(
    had: Sequence[str], has: Sequence[str], old: _Range, new: _Range, depth: int
) -> Iterator[tuple[bool, _Range, _Range]]:
    """In order: whether they are the same, and which of `had` and of `has` they are."""
    (a, b), (c, d) = old, new
    shorter = min(b - a, d - c)
    head = next((n for n in range(shorter) if had[a + n] != has[c + n]), shorter)
    tail = next((n for n in range(shorter - head) if had[b - 1 - n] != has[d - 1 - n]), shorter - head)
    yield True, (a, a + head), (c, c + head)
    a, b, c, d = a + head, b - tail, c + head, d - tail
    found: list[tuple[int, int]] = []
    if a < b and c < d and depth:
        found = _landmarks(had, has, (a, b), (c, d), 1) or _landmarks(had, has, (a, b), (c, d), 3)
    if found:
        for i, j in found:
            yield from _stretches(had, has, (a, i), (c, j), depth - 1)
            yield True, (i, i + 1), (j, j + 1)
            a, c = i + 1, j + 1
        yield from _stretches(had, has, (a, b), (c, d), depth - 1)
    else:
        yield False, (a, b), (c, d)
    yield True, (b, b + tail), (d, d + tail)


def _landmarks(had: Sequence[str], has: Sequence[str], old: _Range, new: _Range, row: int) -> list[tuple[int, int]]:
    """Words that begin a row of so many that is there once in both: as many as are in the same order in both (the
    longest rising sequence)."""
    here = {at: tuple(had[at : at + row]) for at in range(old[0], old[1] - row + 1)}
    there = {at: tuple(has[at : at + row]) for at in range(new[0], new[1] - row + 1)}
    once = {words for words, count in Counter(here.values()).items() if count == 1}
    once &= {words for words, count in Counter(there.values()).items() if count == 1}
    place = {words: at for at, words in there.items() if words in once}
    ends: list[int] = []  # the lowest place that a sequence of each length ends with
    chain: list[tuple[int, int, int]] = []  # in `had`, in `has`, and which one of the chain stands before it, or -1
    last: list[int] = []  # for each length, which of the chain ends it
    for at, words in here.items():
        if (to := place.get(words)) is None:
            continue
        length = bisect_left(ends, to)
        ends[length : length + 1] = [to]
        last[length : length + 1] = [len(chain)]
        chain.append((at, to, last[length - 1] if length else -1))
    found: list[tuple[int, int]] = []
    link = last[-1] if last else -1
    while link >= 0:
        at, to, link = chain[link]
        found.append((at, to))
    return found[::-1]


def _slot(segment: Segment, a: int, b: int) -> _Slot:
    """Of what stands instead of the old words from `a` to `b` (not included); between two where there are none."""
    old = segment.words
    if a < b:
        return _Slot(old[a].start, old[b - 1].end, old[a].speaker)
    start = old[a - 1].end if a else segment.start
    end = old[a].start if a < len(old) else segment.end
    return _Slot(start, max(start, end), old[max(0, a - 1)].speaker)


def _spread(tokens: Sequence[str], slot: _Slot) -> Iterator[Word]:
    letters = [len(_letters(token)) for token in tokens]
    all_of_them, before = sum(letters), 0
    length = slot.end - slot.start
    for token, its in zip(tokens, letters, strict=True):
        start = slot.start + length * before / all_of_them
        before += its
        end = slot.start + length * before / all_of_them
        yield Word(token, min(start, slot.end), min(max(start, end), slot.end), speaker=slot.speaker)
