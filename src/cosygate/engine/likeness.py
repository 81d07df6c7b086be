"""Whether a recording is in the one language that its model knows.

A recogniser of English hears English in everything. But its text fits speech of other languages badly: how badly is
what forced alignment tells (words/forced.py), in nats per frame. The bound lies between recordings that were at hand,
31 in English and 10 in others (docs/models.md), and was not tried on any that were not. So one stretch of speech that
fits is enough: music, noise or a greeting in another language condemns no recording that goes on in English.
"""

from __future__ import annotations

from cosygate.engine.aligning import Aligned

ENOUGH_S = 10.0  # of speech, that are judged together
LEAST_S = 3.0  # what is left at the end is judged by itself when it is so much, or all there was
_LEAST = -3.0
_NO_WAY = -5.0  # what a text counts at most that fits badly, or cannot be said like that at all


class Likeness:
    """Of one recording, one stretch of speech after the other."""

    def __init__(self) -> None:
        self.fits = False  # a stretch did
        self._judged = self._ended = False
        self._start()

    def _start(self) -> None:
        self._heard_s = self._weight_s = self._sum = 0.0

    def add(self, aligned: Aligned, seconds: float) -> None:
        """The next piece, of so many seconds, which has words."""
        self._heard_s += seconds
        if aligned.likeness is not None:
            no_way = aligned.likeness <= _NO_WAY
            weight_s = seconds if no_way else sum(word.end - word.start for word in aligned.words)
            self._weight_s += weight_s
            self._sum += max(aligned.likeness, _NO_WAY) * weight_s
        if self._heard_s >= ENOUGH_S:
            self._judge()

    def end(self) -> None:
        """There are no more."""
        self._ended = True
        if not self._judged or self._heard_s >= LEAST_S:
            self._judge()

    @property
    def known(self) -> bool:
        return self.fits or self._ended

    @property
    def foreign(self) -> bool:
        """In the end: no stretch fitted."""
        return self._ended and not self.fits

    def _judge(self) -> None:
        """Nothing known is nothing against it."""
        self.fits = self.fits or self._weight_s == 0 or self._sum / self._weight_s >= _LEAST
        self._judged = True
        self._start()
