"""Who spoke when in a recording: its speech in, piece by piece; turns with a speaker each out, at the end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.engine.speakers import mel
from cosygate.engine.speakers.clustering import MOST_SPEAKERS, centroids, cluster
from cosygate.engine.speakers.ge2e import Encoder
from cosygate.engine.speakers.remembered import Remembered
from cosygate.engine.speakers.weights import Floats

MOST_GIVEN = 50  # speakers that can be asked for: the clustering's memory grows with their square
_CLUSTERED = 1000  # windows at most, some 8 minutes of speech (0.2 s, 50 MB); the others go to the nearest voice
_LATE = RATE // 10  # samples: an LSTM hears the end of a window best (without this 80 changes came 0.11 s early)


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch of speech by one speaker. Samples at RATE from the recording's start."""

    start: int
    end: int
    speaker: str  # S1, S2, … in order of first appearance


def check_order(before: tuple[int, int], piece: tuple[int, int]) -> None:
    """Each from its start to its end. Raises ValueError when speech at `piece` cannot follow speech at `before`."""
    (last_start, last_end), (start, end) = before, piece
    if start < last_start or end <= max(start, last_end):
        raise ValueError(f"speech from {start} to {end} cannot follow speech from {last_start} to {last_end}")


def check_numbers(num_speakers: int, max_speakers: int) -> None:
    """Raises ValueError for what is no number of speakers; 0 is not known."""
    if not (0 <= num_speakers <= MOST_GIVEN and 0 <= max_speakers <= MOST_GIVEN):
        raise ValueError(f"a number of speakers is from 0 (not known) to {MOST_GIVEN}")


class Diariser:
    """The loaded encoder: for any number of recordings at once, in any threads."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder

    @classmethod
    def load(cls) -> Diariser:
        """Raises CannotStart when the weights are missing or damaged."""
        return cls(Encoder.load())

    def voices(self, seed: int = 0) -> Voices:
        """`seed`: of the clustering's random starts. The same audio and seed give the same turns."""
        return Voices(self.encoder, seed)


class Voices:
    """Of one recording, for one thread at a time. A window lies within one piece: across the gap between two it would
    often hold two voices (joining neighbours made 2 points more errors). Windows of 1.6 s smooth enough: a mean over
    three of them changed one turn in 400."""

    def __init__(self, encoder: Encoder, seed: int) -> None:
        self._remembered = Remembered(encoder)
        self._seed = seed
        self._pieces: list[tuple[int, int]] = []  # start and end of each

    def hear(self, start: int, samples: Samples) -> None:
        """The next piece of speech, which begins at sample `start` of the recording: not empty, and neither its start
        nor its end before those of the piece before (their pads may overlap). Raises ValueError."""
        piece = start, start + len(samples)
        check_order(self._pieces[-1] if self._pieces else (0, 0), piece)
        self._pieces.append(piece)
        self._remembered.add(mel.windows(samples))

    def catch_up(self) -> None:
        """Nothing waits: `hear` has done its work."""

    def turns(self, num_speakers: int = 0, max_speakers: int = 0) -> list[Turn]:
        """All that was heard, in turns: in order, without overlap, none across a gap between pieces.

        `num_speakers`: how many there are; `max_speakers`: there are no more, when that is not known (0: not known
        either). Fewer are found when there is too little speech. Raises ValueError above MOST_GIVEN.
        """
        check_numbers(num_speakers, max_speakers)
        if not self._pieces:
            return []
        self._remembered.finish()
        sample = self._remembered.sample(_CLUSTERED)
        labels = cluster(
            sample,
            np.random.default_rng(self._seed),
            speakers=num_speakers,
            most=max_speakers or MOST_SPEAKERS,
        )
        names: dict[int, str] = {}
        return [
            Turn(start, end, names.setdefault(label, f"S{len(names) + 1}"))
            for start, end, label in self._stretches(self._remembered.likeness(centroids(sample, labels)))
        ]

    def _stretches(self, likeness: Floats) -> Iterator[tuple[int, int, int]]:
        """(windows, voices) → start, end and voice of each turn: it ends midway between two windows that differ."""
        first = heard = 0
        for start, end in self._pieces:
            centres = start + mel.centres(end - start) + _LATE
            voices = likeness[first : first + len(centres)].argmax(axis=1)
            first += len(centres)
            changes = np.flatnonzero(np.diff(voices)) + 1
            edges = [start, *(centres[changes - 1] + centres[changes]) // 2, end]
            edges = np.maximum(edges, heard).tolist()  # what two pieces share belongs to the first
            heard = end
            for (begin, finish), voice in zip(itertools.pairwise(edges), voices[[0, *changes]].tolist(), strict=True):
                if begin < finish:
                    yield begin, finish, voice
