"""Words of a text that somebody has corrected: those that are still there keep their times, the others get the time of
what they replace, in proportion to letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from cosygate.model.subtitles.script import pieces
from cosygate.model.transcript import Segment, Word

_COMPARED = 120  # words at most, behind what is the same at both ends: comparing takes up to the cube of them
_JOINED = 8  # ideographs at most that an engine tells as one word
_WHOLE = 1 << 30  # columns: no token is cut for its length


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
    for same, (a, b), (c, d) in _stretches(had, has):
        if same:
            words += (replace(word, text=token) for word, token in zip(old[a:b], tokens[c:d], strict=True))
        elif c < d:
            words += _spread(tokens[c:d], _slot(segment, a, b))
    return tuple(words)


def _tokens(text: str, known: frozenset[str]) -> Iterator[str]:
    """What can be a word: what stands between spaces; each ideograph, or several that the engine told as one
    (`known`, by their letters). Nothing without letters."""
    for token in text.split():
        parts = list(pieces(token, _WHOLE, wide=True))
        at = 0
        while at < len(parts):
            most = min(_JOINED, len(parts) - at)
            fits = (n for n in range(most, 1, -1) if _letters("".join(parts[at : at + n])) in known)
            until = at + next(fits, 1)
            word = "".join(parts[at:until])
            if _letters(word):
                yield word
            at = until


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))


def _stretches(had: Sequence[str], has: Sequence[str]) -> Iterator[tuple[bool, tuple[int, int], tuple[int, int]]]:
    """Whether they are the same, from and to in `had`, from and to in `has`."""
    shorter = min(len(had), len(has))
    head = next((n for n in range(shorter) if had[n] != has[n]), shorter)
    tail = next((n for n in range(shorter - head) if had[-1 - n] != has[-1 - n]), shorter - head)
    yield True, (0, head), (0, head)
    a, b, c, d = head, len(had) - tail, head, len(has) - tail
    if max(b - a, d - c) > _COMPARED:
        yield False, (a, b), (c, d)
    else:
        matcher = SequenceMatcher(None, had[a:b], has[c:d], autojunk=False)
        for kind, low, high, new_low, new_high in matcher.get_opcodes():
            yield kind == "equal", (a + low, a + high), (c + new_low, c + new_high)
    yield True, (b, len(had)), (d, len(has))


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
