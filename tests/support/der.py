"""Diarisation error rate, exact: missed, falsely heard and confused speaker time as a share of what was spoken.

As NIST's md-eval and pyannote.metrics count it: near the boundaries of the reference nothing counts, where several
speak each of them counts, and the hypothesis' labels are matched to the reference's speakers as suits it best.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

Spoken = tuple[float, float, str]  # start and end in seconds, speaker


def der(reference: Sequence[Spoken], hypothesis: Sequence[Spoken], collar: float = 0.25) -> float:
    """`collar`: seconds on each side of every boundary of the reference (pyannote's `collar` is twice this)."""
    edges = {edge for start, end, _ in reference for edge in (start, end)}
    ignored = [(edge - collar, edge + collar, "") for edge in edges] if collar else []
    total = wrong = 0.0
    together: Counter[tuple[str, str]] = Counter()
    for start, end in _stretches(reference, hypothesis, ignored):
        middle, length = (start + end) / 2, end - start
        if _at(ignored, middle):
            continue
        spoken, heard = _at(reference, middle), _at(hypothesis, middle)
        total += length * len(spoken)
        wrong += length * max(len(spoken), len(heard))
        for pair in itertools.product(spoken, heard):
            together[pair] += length
    return (wrong - _best_match(together)) / total


def read_rttm(path: Path) -> list[Spoken]:
    rows = [line.split() for line in path.read_text().splitlines() if line.startswith("SPEAKER ")]
    return [(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows]


def _stretches(*turns: Iterable[Spoken]) -> Iterable[tuple[float, float]]:
    """Between all boundaries: within each nobody begins or ends."""
    return itertools.pairwise(sorted({edge for start, end, _ in itertools.chain(*turns) for edge in (start, end)}))


def _at(turns: Iterable[Spoken], moment: float) -> set[str]:
    return {speaker for start, end, speaker in turns if start < moment < end}


def _best_match(together: Counter[tuple[str, str]]) -> float:
    """Seconds in which labels and speakers agree under the best one-to-one match; every match is tried."""
    speakers = sorted({speaker for speaker, _ in together})
    labels = sorted({label for _, label in together})
    labels += ["nobody"] * (len(speakers) - len(labels))
    return max(
        sum(together[pair] for pair in zip(speakers, match, strict=True))
        for match in itertools.permutations(labels, len(speakers))
    )
