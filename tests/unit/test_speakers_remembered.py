"""Embeddings kept as bytes: what they are worth afterwards, and that how they came does not matter."""

from __future__ import annotations

import numpy as np
import pytest

from cosygate.engine.speakers.ge2e import BATCH, DIMENSIONS, Encoder
from cosygate.engine.speakers.mel import BANDS, WINDOW, Mels
from cosygate.engine.speakers.remembered import Remembered
from cosygate.engine.speakers.weights import Floats


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load()


@pytest.fixture(scope="module")
def mels() -> Mels:
    return np.random.default_rng(5).exponential(0.3, (BATCH + 9, WINDOW, BANDS)).astype(np.float32)


@pytest.fixture(scope="module")
def exact(encoder: Encoder, mels: Mels) -> Floats:
    return np.concatenate([encoder.embed(mels[:BATCH]), encoder.embed(mels[BATCH:])])


@pytest.mark.parametrize("step", [1, 7, BATCH, 1000])
def test_a_byte_for_each_number_is_near_enough(encoder: Encoder, mels: Mels, exact: Floats, step: int) -> None:
    remembered = Remembered(encoder)
    for at in range(0, len(mels), step):
        remembered.add(mels[at : at + step])
    remembered.finish()
    remembered.finish()
    kept = remembered.sample(1000)
    assert kept.shape == (len(mels), DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(kept, axis=1), 1, rtol=1e-5)
    assert np.sum(kept * exact, axis=1).min() > 0.9999
    np.testing.assert_allclose(remembered.likeness(exact[:3]), exact @ exact[:3].T, atol=0.01)


def test_a_sample_is_spread_evenly_from_the_first_to_the_last(encoder: Encoder, mels: Mels) -> None:
    remembered = Remembered(encoder)
    remembered.add(mels)
    remembered.finish()
    everything = remembered.sample(1000)
    assert len(mels) == 73
    np.testing.assert_array_equal(remembered.sample(5), everything[::18])
    np.testing.assert_array_equal(remembered.sample(1), everything[:1])


def test_more_may_follow_the_end(encoder: Encoder, mels: Mels) -> None:
    remembered = Remembered(encoder)
    for part in (mels[:3], mels[3:8]):
        remembered.add(part)
        remembered.finish()
    assert len(remembered.sample(1000)) == 8
