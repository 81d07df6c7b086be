"""The embeddings of a whole recording, made in batches as its speech comes, and kept small."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cosygate.engine.speakers.ge2e import BATCH, DIMENSIONS, Encoder, unit
from cosygate.engine.speakers.mel import BANDS, WINDOW, Mels
from cosygate.engine.speakers.weights import Floats

_BLOCK = 4096  # rows at once as floats: 4 MB


class Remembered:
    """256 bytes for each window: 55 MB for 24 hours of speech without a pause."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._rows = bytearray()  # a byte for each number of an embedding: all are from 0 to 1
        self._waiting: Mels = np.empty((0, WINDOW, BANDS), np.float32)  # windows that do not fill a batch yet

    def add(self, windows: Mels) -> None:
        self._waiting = np.concatenate([self._waiting, windows])
        while len(self._waiting) >= BATCH:
            self._embed(BATCH)

    def finish(self) -> None:
        """Embeds what waits for a full batch; more may follow."""
        if len(self._waiting):
            self._embed(len(self._waiting))

    def sample(self, most: int) -> Floats:
        """At most so many of the embeddings, evenly spread: (windows, DIMENSIONS)."""
        rows = self._table()
        return _floats(rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(np.int64)])

    def likeness(self, voices: Floats) -> Floats:
        """The cosine of each embedding with each voice, (voices, DIMENSIONS) → (windows, voices)."""
        rows = self._table()
        return np.concatenate([_floats(rows[at : at + _BLOCK]) @ voices.T for at in range(0, len(rows), _BLOCK)])

    def _embed(self, count: int) -> None:
        embeddings = self._encoder.embed(self._waiting[:count])
        self._rows += np.rint(embeddings * 255).astype(np.uint8).tobytes()
        self._waiting = self._waiting[count:]

    def _table(self) -> NDArray[np.uint8]:
        return np.frombuffer(self._rows, np.uint8).reshape(-1, DIMENSIONS)


def _floats(rows: NDArray[np.uint8]) -> Floats:
    return unit(rows.astype(np.float32))
