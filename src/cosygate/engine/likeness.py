"""Whether a recording is in the one language that its model knows.

A recogniser of English hears English in everything. But its text fits speech of other languages badly: how badly is
what forced alignment tells (words/forced.py), in nats per frame, averaged over the words.

In the end all speech is judged together, so a verdict grows surer with length. Callers need not wait for it: a stretch
that fits better than by a hair is sure, and settles it for good. So music, noise or a minute in another language at the
start condemns no recording that goes on in English. The stretch is long once there is enough, since among many short
ones of another language one would fit by chance. What was measured: docs/models.md.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from cosygate.engine.aligning import Aligned

ENOUGH_S = 10.0  # of speech, before which nothing is sure
STRETCH_S = 60.0  # of the latest speech, that are judged together while more may come; less while there is less
_LEAST = -3.3  # of all, in the end
_SURE = -2.5  # of a stretch; English has -0.7 to -2.1, where one person speaks at a time
_NO_WAY = -5.0  # what a text counts at most that fits badly, or cannot be said like that at all


class _Fit(NamedTuple):
    heard_s: float  # of speech
    weight_s: float  # what of it is judged
    total: float  # nats × weight_s


class Likeness:
    """Of one recording, piece by piece."""

    def __init__(self) -> None:
        self.fits = False
        self._ended = False
        self._all = _Fit(0.0, 0.0, 0.0)
        self._latest: deque[_Fit] = deque()  # pieces, of STRETCH_S or one more

    def add(self, aligned: Aligned, seconds: float) -> None:
        """The next piece, of so many seconds, which has words."""
        fit = _fit(aligned, seconds)
        self._all = _together(self._all, fit)
        self._latest.append(fit)
        while sum(one.heard_s for one in self._latest) - self._latest[0].heard_s >= STRETCH_S:
            self._latest.popleft()
        stretch = _together(*self._latest)
        self.fits = self.fits or (stretch.heard_s >= ENOUGH_S and _at_least(_SURE, stretch))

    def end(self) -> None:
        """There are no more; or what there was has to be enough."""
        self._ended = True
        self.fits = self.fits or _at_least(_LEAST, self._all)

    @property
    def known(self) -> bool:
        return self.fits or self._ended

    @property
    def foreign(self) -> bool:
        """In the end: no stretch was sure to fit, nor did all of it."""
        return self._ended and not self.fits


def _fit(aligned: Aligned, seconds: float) -> _Fit:
    if aligned.likeness is None:
        return _Fit(seconds, 0.0, 0.0)
    no_way = aligned.likeness <= _NO_WAY  # then its words are where they are by chance
    weight_s = seconds if no_way else sum(word.end - word.start for word in aligned.words)
    return _Fit(seconds, weight_s, max(aligned.likeness, _NO_WAY) * weight_s)


def _together(*fits: _Fit) -> _Fit:
    return _Fit(*map(sum, zip(*fits, strict=True)))


def _at_least(bound: float, fit: _Fit) -> bool:
    """Nothing known is nothing against it."""
    return fit.total >= bound * fit.weight_s
