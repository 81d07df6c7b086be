"""Grouping embeddings: how many voices there are, and whose each one is."""

from __future__ import annotations

import numpy as np
import pytest

from cosygate.engine.messages import SPEAKERS_MAX
from cosygate.engine.speakers.clustering import MOST_SPEAKERS, Labels, centroids, cluster
from cosygate.engine.speakers.ge2e import DIMENSIONS, unit
from cosygate.engine.speakers.weights import Floats


def voices(sizes: list[int], seed: int = 0) -> tuple[Floats, Labels]:
    """Embeddings of so many voices, so many of each, mixed; and whose each is. Like the encoder's: no negatives."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    middles = rng.normal(size=(len(sizes), DIMENSIONS))
    spread = 0.8 * rng.normal(size=(len(truth), DIMENSIONS))
    return unit(np.maximum(middles[truth] + spread, 0).astype(np.float32)), truth


def same_groups(one: Labels, other: Labels) -> bool:
    return bool(np.array_equal(one[:, None] == one, other[:, None] == other))


@pytest.mark.parametrize(
    "sizes", [[60], [30, 30], [60, 15], [40, 20, 15], [25, 25, 25, 25, 25], [20] * 8, [20] * 12, [30, 10] * 10]
)
@pytest.mark.parametrize("seed", range(3))
def test_finds_how_many_voices_there_are(sizes: list[int], seed: int) -> None:
    embeddings, truth = voices(sizes, seed)
    assert same_groups(cluster(embeddings, np.random.default_rng(seed)), truth)


def test_finds_as_many_voices_as_the_api_lets_one_name() -> None:
    assert MOST_SPEAKERS == SPEAKERS_MAX
    embeddings, truth = voices([20] * MOST_SPEAKERS)
    assert same_groups(cluster(embeddings, np.random.default_rng(0)), truth)


@pytest.mark.parametrize("speakers", [1, 2, 3, 5])
def test_a_given_number_is_kept(speakers: int) -> None:
    embeddings, truth = voices([30, 30, 30])
    labels = cluster(embeddings, np.random.default_rng(0), speakers=speakers)
    assert sorted(set(labels.tolist())) == list(range(speakers))
    assert same_groups(labels, truth) is (speakers == 3)


def test_no_more_than_asked_for() -> None:
    embeddings, _ = voices([30, 30, 30, 30])
    assert cluster(embeddings, np.random.default_rng(0), most=2).max() + 1 <= 2
    assert not cluster(embeddings, np.random.default_rng(0), most=1).any()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("speakers", [0, 1, 2, 5])
def test_less_speech_than_speakers(count: int, speakers: int) -> None:
    labels = cluster(voices([count])[0], np.random.default_rng(0), speakers=speakers)
    assert len(labels) == count
    assert labels.max() < max(1, min(count, speakers or count))


@pytest.mark.parametrize("speakers", [0, 3])
def test_silence_and_repetition_end_and_are_finite(speakers: int) -> None:
    embeddings = np.concatenate([np.zeros((20, DIMENSIONS), np.float32), np.tile(voices([1])[0], (20, 1))])
    labels = cluster(embeddings, np.random.default_rng(0), speakers=speakers)
    assert np.isfinite(centroids(embeddings, labels)).all()


def test_the_same_seed_gives_the_same_labels() -> None:
    embeddings, _ = voices([12, 11, 9, 4])
    one, other = (cluster(embeddings, np.random.default_rng(7), speakers=6) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_a_centroid_is_the_middle_at_length_one() -> None:
    embeddings = np.eye(3, dtype=np.float32)
    middles = centroids(embeddings, np.array([0, 0, 1]))
    np.testing.assert_allclose(middles, [[0.5**0.5, 0.5**0.5, 0], [0, 0, 1]], rtol=1e-6)
