"""Turns laid one behind the other: the model hears people who speak at once, a transcript has one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

Stretch = tuple[int, int, int]  # first sample, end, speaker


def in_line(turns: Iterable[Stretch]) -> list[Stretch]:
    """Without overlap, in order: who speaks keeps the floor until the turn's end. So where two speak at once, it is the
    turn that began earlier (the longer one, if both began at once), and a remark within another turn is not told."""
    told: list[Stretch] = []
    heard = 0
    for start, end, speaker in sorted(turns, key=lambda turn: (turn[0], -turn[1], turn[2])):
        if end > max(start, heard):
            told.append((max(start, heard), end, speaker))
            heard = end
    return told


def alone(turns: Iterable[Stretch]) -> Iterator[Stretch]:
    """The stretches in which exactly one speaks, in order."""
    edges = sorted(edge for start, end, who in turns for edge in ((start, 1, who), (end, -1, who)))
    speaking: dict[int, int] = {}
    before = 0
    for at, step, who in edges:
        if len(speaking) == 1 and at > before:
            yield before, at, next(iter(speaking))
        before = at
        speaking[who] = speaking.get(who, 0) + step
        if not speaking[who]:
            del speaking[who]
