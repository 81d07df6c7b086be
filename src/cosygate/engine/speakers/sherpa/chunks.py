"""Pieces of speech laid one behind the other, so that the models hear speech and no hours of silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.engine.speakers.sherpa.laying import Stretch

_GAP = RATE // 2  # samples of silence that stay of a longer one between two pieces


class _Laid(NamedTuple):
    at: int  # its first sample in the chunk
    start: int  # and in the recording
    length: int


class Chunk:
    """As s16le, with what it takes to tell where in the recording something lies."""

    def __init__(self) -> None:
        self.pcm = bytearray()
        self._laid: list[_Laid] = []

    def __len__(self) -> int:
        """Samples."""
        return len(self.pcm) // 2

    def add(self, start: int, samples: Samples) -> None:
        """The next piece, which begins at sample `start` of the recording, behind all before."""
        if self._laid:
            last = self._laid[-1]
            self.pcm += bytes(2 * min(start - last.start - last.length, _GAP))
        self._laid.append(_Laid(len(self), start, len(samples)))
        self.pcm += (np.clip(samples, -1, 32767 / 32768) * 32768).astype("<i2").tobytes()

    def in_recording(self, turns: list[Stretch]) -> Iterator[Stretch]:
        """Turns of the chunk (in order, without overlap) as turns of the recording; none lies across a gap."""
        first = 0
        for piece in self._laid:
            end = piece.at + piece.length
            while first < len(turns) and turns[first][1] <= piece.at:
                first += 1
            for begin, finish, voice in turns[first:]:
                if begin >= end:
                    break
                moved = piece.start - piece.at
                yield max(begin, piece.at) + moved, min(finish, end) + moved, voice
