"""Forced alignment with pocketsphinx: where in English speech the words of a known text were said.

The text becomes a graph of everything that it may sound like (numbers have several readings), in which the decoder
looks for the best path; it puts silence, noise and alternative pronunciations in by itself.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pocketsphinx import Decoder

from cosygate.engine.words.sounding import sounds
from cosygate.engine.words.spoken import spoken

if TYPE_CHECKING:
    from cosygate.engine.words.fitting import Place  # whose module loads numpy, which a child can do without

_FRAME_S = 0.01
# Frame n sees the 25.6 ms from 10 n ms on: the border between two frames lies between the middles of what they see.
_FIRST_BORDER_S = 0.0256 / 2 - _FRAME_S / 2
_SCORE_UNIT = 1 << 10  # pocketsphinx's SENSCR_SHIFT: it tells acoustic scores in steps of that
_GUESSED_MAX = 20_000  # pronunciations that are kept beside the dictionary's: a few MB
_VARIANT = re.compile(r"\(\d+\)$")  # the(2): the dictionary's second pronunciation


class Arc(NamedTuple):
    """One spoken word, on the way from the text's start to its end."""

    start: int  # states
    end: int
    said: str
    word: int  # index of the shown word that it belongs to


class Segment(NamedTuple):
    said: str
    first: int  # frames, both included
    last: int
    score: float  # log likelihood, in nats: of its frames, each compared with the likeliest sound that was looked at


class Found(NamedTuple):
    places: list[Place | None]  # of each shown word; None: neither Latin letters nor digits, or nothing was found
    likeness: float | None  # see aligning.Aligned


class ForcedAlignment:
    """For one thread."""

    def __init__(self) -> None:
        # No language model: the text is known. Wide beams, for speech that does not quite say the text.
        self._decoder: Any = Decoder(lm=None, bestpath=False, loglevel="FATAL", beam=1e-80, wbeam=1e-60, pbeam=1e-80)
        self._guessed = 0

    def find(self, words: Sequence[str], pcm: bytes) -> Found:
        """Where each shown word was said in `pcm` (s16le, mono, 16 kHz, not empty)."""
        places: list[Place | None] = [None] * len(words)
        arcs, final = self._graph(words)
        if not arcs:
            return Found(places, None)
        segments = self._segments(arcs, final, pcm)
        if not segments:
            return Found(places, -math.inf)
        for segment, word in zip(segments, _follow(arcs, final, segments), strict=True):
            before = places[word]
            start = before[0] if before else _FIRST_BORDER_S + segment.first * _FRAME_S
            places[word] = start, _FIRST_BORDER_S + (segment.last + 1) * _FRAME_S
        frames = sum(segment.last + 1 - segment.first for segment in segments)
        return Found(places, sum(segment.score for segment in segments) / frames)

    def _graph(self, words: Sequence[str]) -> tuple[list[Arc], int]:
        """From state 0; with the final state."""
        if self._guessed > _GUESSED_MAX:
            self._decoder.reinit()  # reads its dictionary again
            self._guessed = 0
        arcs: list[Arc] = []
        here = states = 0
        for number, word in enumerate(words):
            for part in spoken(word, self._known):
                end = states = states + 1
                for reading in part:
                    at = here
                    for said in reading[:-1]:
                        states += 1
                        arcs.append(Arc(at, states, self._sayable(said), number))
                        at = states
                    arcs.append(Arc(at, end, self._sayable(reading[-1]), number))
                here = end
        return arcs, here

    def _known(self, word: str) -> bool:
        return self._decoder.lookup_word(word) is not None

    def _sayable(self, word: str) -> str:
        if not self._known(word):
            self._decoder.add_word(word, sounds(word), False)
            self._guessed += 1
        return word

    def _segments(self, arcs: list[Arc], final: int, pcm: bytes) -> list[Segment]:
        """The best path's spoken words; none when no path fits."""
        decoder = self._decoder
        graph = decoder.create_fsg("text", 0, final, [(arc.start, arc.end, 1.0, arc.said) for arc in arcs])
        decoder.add_fsg("text", graph)
        decoder.activate_search("text")
        decoder.reinit_feat()  # or what it has learnt of the last piece's noise leaks into this one
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        if decoder.hyp() is None:
            return []
        return [
            Segment(_VARIANT.sub("", s.word), s.start_frame, s.end_frame, _SCORE_UNIT * math.log(s.ascore))
            for s in decoder.seg()
            if s.word[0] not in "<[("  # silence, noise, empty arcs
        ]


def _follow(arcs: list[Arc], final: int, segments: list[Segment]) -> list[int]:
    """The shown word of each segment, by the one way (or one of those) that says the same through the graph."""
    saying: dict[str, list[Arc]] = defaultdict(list)
    for arc in arcs:
        saying[arc.said].append(arc)
    ways: list[dict[int, Arc]] = []  # for each segment: the arcs that may have been it, by the state they lead to
    reached = {0}
    for segment in segments:
        ways.append({arc.end: arc for arc in saying[segment.said] if arc.start in reached})
        reached = set(ways[-1])
    words: list[int] = []
    state = final
    for way in reversed(ways):
        words.append(way[state].word)
        state = way[state].start
    return words[::-1]
