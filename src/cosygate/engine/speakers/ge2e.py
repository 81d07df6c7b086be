"""The speaker encoder: 1.6 s of speech → a point on the unit sphere, near those of the same voice.

Resemblyzer's network (Wan et al. 2018, "Generalized end-to-end loss for speaker verification", arXiv:1710.10467):
three LSTM layers of 256 units over 40 mel bands, a linear layer on what the last one ends with, no negatives, length 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cosygate.engine.models import locate
from cosygate.engine.speakers.mel import Mels
from cosygate.engine.speakers.weights import GE2E, Floats, read_weights

UNITS = 256
DIMENSIONS = 256  # of an embedding
_ROWS = 1024  # of a layer's inputs that pass through its weights at once: 4 MB
BATCH = 64  # windows at once: the weights pass through the caches once per step for all of them


class _Layer(NamedTuple):
    into: Floats  # (inputs, 4 UNITS); gates in torch's order: input, forget, cell, output
    back: Floats  # (UNITS, 4 UNITS)
    bias: Floats


class Encoder:
    """Has no state between calls: any number of threads may share it."""

    def __init__(self, weights: Mapping[str, Floats]) -> None:
        """`weights`: as torch names them, from `read_weights`."""
        # sigmoid(z) = (1 + tanh(z / 2)) / 2: with three gates halved, one tanh does for all four.
        halved = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], np.float32), UNITS)

        def layer(index: int) -> _Layer:
            into, back = (weights[f"lstm.weight_{side}_l{index}"].T * halved for side in ("ih", "hh"))
            bias = weights[f"lstm.bias_ih_l{index}"] + weights[f"lstm.bias_hh_l{index}"]
            return _Layer(into, back, bias * halved)

        self._layers = [layer(index) for index in range(3)]
        self._linear = weights["linear.weight"].T
        self._bias = weights["linear.bias"]

    @classmethod
    def load(cls) -> Encoder:
        """From the wheel that has the weights. Raises CannotStart when they are missing or damaged."""
        with locate(GE2E)["encoder"].open("rb") as file:
            return cls(read_weights(file))

    def embed(self, windows: Mels) -> Floats:
        """(windows, WINDOW, BANDS), at most BATCH of them (memory) → (windows, DIMENSIONS)."""
        steps = windows.transpose(1, 0, 2)
        for layer in self._layers:
            steps = _lstm(steps, layer)
        return unit(np.maximum(steps[-1] @ self._linear + self._bias, 0))


def unit(rows: Floats) -> Floats:
    """Each row at length 1; a row of zeros stays."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)


def _lstm(inputs: Floats, layer: _Layer) -> Floats:
    """(steps, windows, inputs) → (steps, windows, UNITS)."""
    steps, windows, width = inputs.shape
    outputs = np.empty((steps, windows, UNITS), np.float32)
    hidden = cell = np.zeros((windows, UNITS), np.float32)
    together = max(1, _ROWS // windows)
    for first in range(0, steps, together):
        some = inputs[first : first + together]
        driven = (some.reshape(-1, width) @ layer.into + layer.bias).reshape(len(some), windows, -1)
        for step, drive in enumerate(driven, first):
            gates = np.tanh(drive + hidden @ layer.back)
            write, keep, new, show = np.split(gates, 4, axis=1)
            cell = ((1 + keep) * cell + (1 + write) * new) * np.float32(0.5)
            hidden = outputs[step] = (1 + show) * np.tanh(cell) * np.float32(0.5)
    return outputs
