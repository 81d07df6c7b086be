"""Who said what: turns of speakers laid over segments and their words."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cosygate.model.transcript import Segment, Word


@dataclass(frozen=True, slots=True)
class SpeakerTurn:
    """Seconds from the recording's start."""

    start: float
    end: float
    speaker: str


def with_speakers(segments: Iterable[Segment], turns: Sequence[SpeakerTurn]) -> list[Segment]:
    """Each segment with the speaker who speaks longest in it, and, where others speak in it too, with each word's.
    `turns`: in order, not overlapping. What lies in no turn belongs to the nearest."""
    if not turns:
        return list(segments)
    ends = [turn.end for turn in turns]

    def speaker_of(start: float, end: float) -> str:
        spoken: dict[str, float] = {}
        for at in range(bisect_right(ends, start), len(turns)):
            turn = turns[at]
            if turn.start >= end:
                break
            spoken[turn.speaker] = spoken.get(turn.speaker, 0.0) + min(end, turn.end) - max(start, turn.start)
        return max(spoken, key=lambda who: spoken[who]) if spoken else _nearest(start, end)

    def _nearest(start: float, end: float) -> str:
        behind = bisect_right(ends, start)
        beside = turns[max(0, behind - 1) : behind + 1]
        return min(beside, key=lambda turn: max(turn.start - end, start - turn.end)).speaker

    def told(segment: Segment) -> Segment:
        words = [replace(word, speaker=speaker_of(word.start, word.end)) for word in segment.words]
        if len({word.speaker for word in words}) < 2:
            who = words[0].speaker if words else speaker_of(segment.start, segment.end)
            return replace(segment, speaker=who)
        return replace(segment, speaker=_longest(words), words=tuple(words))

    return [told(segment) for segment in segments]


def _longest(words: Iterable[Word]) -> str | None:
    spoken: dict[str | None, float] = {}
    for word in words:
        spoken[word.speaker] = spoken.get(word.speaker, 0.0) + word.end - word.start
    return max(spoken, key=lambda who: spoken[who])
