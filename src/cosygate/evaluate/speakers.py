"""Diarisation error rate: missed, falsely heard and confused speaker time as a share of what was spoken.

As NIST's md-eval and pyannote.metrics count it (Bredin, "pyannote.metrics: a toolkit for reproducible evaluation",
Interspeech 2017): near the boundaries of the reference nothing counts; where several speak, each of them counts; and
the names that were heard are matched to the reference's speakers one to one as suits them best.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from cosygate.evaluate.references import Turn

COLLAR_S = 0.25  # on each side of a boundary: `collar=0.5` of pyannote.metrics


@dataclass(frozen=True, slots=True)
class SpeakerErrors:
    """Seconds of speakers: where two speak, a second counts twice."""

    of: float  # in the reference
    missed: float = 0.0
    false: float = 0.0
    confused: float = 0.0

    @property
    def count(self) -> float:
        return self.missed + self.false + self.confused


def speaker_errors(reference: Sequence[Turn], heard: Sequence[Turn], collar_s: float = COLLAR_S) -> SpeakerErrors:
    """`reference`: of at most a dozen speakers (the search takes 2ⁿ steps for each name that was heard)."""
    of = missed = false = both = 0.0
    together: defaultdict[tuple[str, str], float] = defaultdict(float)
    for length, spoken, told in _stretches(reference, heard, collar_s):
        of += length * len(spoken)
        missed += length * max(0, len(spoken) - len(told))
        false += length * max(0, len(told) - len(spoken))
        both += length * min(len(spoken), len(told))
        for pair in product(spoken, told):
            together[pair] += length
    return SpeakerErrors(of, missed, false, max(0.0, both - _best_match(together)))


def _stretches(
    reference: Sequence[Turn], heard: Sequence[Turn], collar_s: float
) -> Iterator[tuple[float, list[str], list[str]]]:
    """Between all boundaries and outside of collars: seconds, who speaks, who was heard."""
    spoken, told, collars = Counter[str](), Counter[str](), Counter[str]()
    edges: list[tuple[float, Counter[str], str, int]] = []
    for turns, active in ((reference, spoken), (heard, told)):
        for turn in turns:
            edges += [(turn.start, active, turn.speaker, 1), (turn.end, active, turn.speaker, -1)]
    if collar_s:
        for edge in {edge for turn in reference for edge in (turn.start, turn.end)}:
            edges += [(edge - collar_s, collars, "", 1), (edge + collar_s, collars, "", -1)]
    edges.sort(key=lambda edge: edge[0])
    last = 0.0
    for at, active, name, step in edges:
        if at > last and not +collars:
            yield at - last, list(+spoken), list(+told)
        active[name] += step
        last = at


def _best_match(together: Mapping[tuple[str, str], float]) -> float:
    """Seconds in which names and speakers agree under the best match: name by name, what each set of speakers that are
    taken is worth at most."""
    speakers = sorted({speaker for speaker, _ in together})
    best = {0: 0.0}  # bits of the speakers taken → seconds
    for name in sorted({name for _, name in together}):
        after = dict(best)
        for taken, seconds in best.items():
            for bit, speaker in enumerate(speakers):
                if not taken >> bit & 1 and (speaker, name) in together:
                    more = taken | 1 << bit
                    after[more] = max(after.get(more, 0.0), seconds + together[speaker, name])
        best = after
    return max(best.values())
