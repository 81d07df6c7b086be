"""From where words were heard to what is shown: a place for every word, in order, inside the piece."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from cosygate.engine.recognisers.base import RecognisedWord

Place = tuple[float, float]  # start and end, in seconds from the piece's start
_LETTER_S = 0.03  # a gap of less than that for each letter is not where a word was said


def fitted(words: Sequence[str], heard: Sequence[Place | None], seconds: float) -> tuple[RecognisedWord, ...]:
    """`heard`: the place of each word, None where it is not known. Such words share the gap between their neighbours,
    by their letters; where there is none, they share the place of the neighbour before (else behind) with it.
    `seconds`: the piece's length."""
    places = _in_order(heard, seconds)
    for first in range(len(words)):
        if places[first] is not None:
            continue
        last = next((i for i in range(first, len(words)) if places[i] is not None), len(words))
        before = places[first - 1] if first else None
        behind = places[last] if last < len(words) else None
        start, end = before[1] if before else 0.0, behind[0] if behind else seconds
        if end - start < _LETTER_S * sum(map(_letters, words[first:last])):
            if before:
                first, start = first - 1, before[0]
            elif behind:
                last, end = last + 1, behind[1]
        places[first:last] = _shared(words[first:last], start, end)
    return tuple(RecognisedWord(word, *place) for word, place in zip(words, places, strict=True) if place)


def _in_order(heard: Sequence[Place | None], seconds: float) -> list[Place | None]:
    places: list[Place | None] = []
    told = 0.0
    for place in heard:
        if place is not None:
            start = min(max(place[0], told), seconds)
            told = min(max(place[1], start), seconds)
            place = (start, told)
        places.append(place)
    return places


def _shared(words: Sequence[str], start: float, end: float) -> list[Place]:
    """The stretch, divided by letters."""
    total = sum(map(_letters, words))
    edges, told = [start], 0
    for word in words:
        told += _letters(word)
        edges.append(start + (end - start) * told / total)
    edges[-1] = end
    return list(itertools.pairwise(edges))


def _letters(word: str) -> int:
    return sum(c.isalnum() for c in word) or 1
