"""Whether a recording is in the one language that its model knows.

A recogniser of English hears English in everything. But its text fits speech of other languages badly: how badly is
what forced alignment tells (words/forced.py), in nats per frame. The bound lies between recordings that were at hand,
31 in English and 10 in others (docs/models.md), and was not tried on any that were not.
"""

from __future__ import annotations

from cosygate.engine.aligning import Aligned

ENOUGH_S = 10.0  # of speech: more of it told no more
_LEAST = -3.0
_NO_WAY = -10.0  # what a text counts that cannot be said like that at all


class Likeness:
    """Of one recording, by its first ENOUGH_S seconds of speech."""

    def __init__(self) -> None:
        self._heard_s = 0.0
        self._weight_s = 0.0
        self._sum = 0.0

    def add(self, aligned: Aligned, seconds: float) -> None:
        """The next piece, of so many seconds, which has words."""
        self._heard_s += seconds
        if aligned.likeness is None:
            return
        no_way = aligned.likeness < _NO_WAY
        weight_s = seconds if no_way else sum(word.end - word.start for word in aligned.words)
        self._weight_s += weight_s
        self._sum += max(aligned.likeness, _NO_WAY) * weight_s

    @property
    def enough(self) -> bool:
        return self._heard_s >= ENOUGH_S

    @property
    def foreign(self) -> bool:
        """By what was added so far. Nothing known is nothing against it."""
        return self._weight_s > 0 and self._sum / self._weight_s < _LEAST
