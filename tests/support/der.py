"""Diarisation error rate as one number, of turns as tuples: how tests of speakers ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cosygate.evaluate.references import Turn
from cosygate.evaluate.speakers import speaker_errors

Spoken = tuple[float, float, str]  # start and end in seconds, speaker


def der(reference: Sequence[Spoken], hypothesis: Sequence[Spoken], collar: float = 0.25) -> float:
    """`collar`: seconds on each side of every boundary of the reference (pyannote's `collar` is twice this)."""
    errors = speaker_errors([Turn(*turn) for turn in reference], [Turn(*turn) for turn in hypothesis], collar)
    return errors.count / errors.of


def read_rttm(path: Path) -> list[Spoken]:
    rows = [line.split() for line in path.read_text().splitlines() if line.startswith("SPEAKER ")]
    return [(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows]
