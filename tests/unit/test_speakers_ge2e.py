"""The speaker encoder in numpy against torch's definition of an LSTM, and against what resemblyzer's network gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from cosygate.engine.models import locate
from cosygate.engine.speakers.ge2e import DIMENSIONS, Encoder
from cosygate.engine.speakers.mel import BANDS, WINDOW, windows
from cosygate.engine.speakers.weights import GE2E, Floats, read_weights
from tests.support.engine_process import speech_samples

# The largest of the embedding of 1 to 2.59 s of note.wav, as another implementation of the network gave them.
KNOWN = {2: 0.19399, 20: 0.21916, 21: 0.17528, 168: 0.20998, 180: 0.18938, 198: 0.18263, 218: 0.21025, 220: 0.1732}


@pytest.fixture(scope="module")
def weights() -> dict[str, Floats]:
    with locate(GE2E)["encoder"].open("rb") as file:
        return read_weights(file)


def plain(weights: Mapping[str, Floats], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """One window, step by step, as torch.nn.LSTM's page has it, in doubles."""

    def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1 / (1 + np.exp(-x)))

    for layer in range(3):
        h, c, out = np.zeros(256), np.zeros(256), []
        for x in steps:
            z = weights[f"lstm.weight_ih_l{layer}"] @ x + weights[f"lstm.bias_ih_l{layer}"]
            z = z + weights[f"lstm.weight_hh_l{layer}"] @ h + weights[f"lstm.bias_hh_l{layer}"]
            i, f, g, o = z.reshape(4, 256)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            out.append(h)
        steps = np.array(out)
    e = np.maximum(weights["linear.weight"] @ steps[-1] + weights["linear.bias"], 0)
    return np.asarray(e / np.linalg.norm(e))


def test_as_the_definition_has_it(weights: dict[str, Floats]) -> None:
    mels = windows(speech_samples()[:48_000])
    embeddings = Encoder(weights).embed(mels)
    assert embeddings.shape == (len(mels), DIMENSIONS)
    for mel, embedding in zip(mels[::2], embeddings[::2], strict=True):
        np.testing.assert_allclose(embedding, plain(weights, mel.astype(np.float64)), atol=2e-6)


def test_the_known_embedding_of_a_known_recording(weights: dict[str, Floats]) -> None:
    embedding = Encoder(weights).embed(windows(speech_samples()[16_000:41_440]))[0]
    np.testing.assert_allclose(embedding[list(KNOWN)], list(KNOWN.values()), atol=1e-5)


def test_a_batch_is_each_of_its_windows(weights: dict[str, Floats]) -> None:
    encoder = Encoder(weights)
    mels = np.random.default_rng(3).uniform(0, 1, (5, WINDOW, BANDS)).astype(np.float32)
    alone = np.concatenate([encoder.embed(mel[None]) for mel in mels])
    np.testing.assert_allclose(encoder.embed(mels), alone, atol=1e-5)


def test_the_same_voice_is_nearer_than_another(weights: dict[str, Floats]) -> None:
    encoder = Encoder(weights)
    slt, rms = speech_samples("note.wav"), speech_samples("dialogue.wav")[56_000:96_000]
    one, same, other = (encoder.embed(windows(part)).mean(axis=0) for part in (slt[:40_000], slt[48_000:88_000], rms))
    one, same, other = (mean / np.linalg.norm(mean) for mean in (one, same, other))
    assert one @ same > one @ other + 0.1
