"""Which embeddings are of one voice, and how many voices there are: spectral clustering of their similarities.

Ng, Jordan and Weiss 2001 ("On spectral clustering: analysis and an algorithm"); the number of voices by the eigengap
(von Luxburg 2007, "A tutorial on spectral clustering").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cosygate.engine.speakers.ge2e import unit
from cosygate.engine.speakers.weights import Floats

# That are looked for when nobody says how many there are, as many as the API knows. Conversations of few have their
# widest gap where it was when ten were the most; with ten, twelve voices became some eight.
MOST_SPEAKERS = 30
_UNRELATED = 0.55  # cosine up to which windows are strangers: 6 in 7 pairs of two voices, 1 in 200 of one voice
_STARTS = 8  # of k-means; the best one counts
_ROUNDS = 50

Labels = NDArray[np.intp]


def cluster(embeddings: Floats, rng: np.random.Generator, *, speakers: int = 0, most: int = MOST_SPEAKERS) -> Labels:
    """(n, dimensions), each of length 1 → labels 0, 1, … without a hole. Takes n² numbers of memory and n³ steps.

    `speakers`: how many there are (never more than n are found); 0 looks for at most `most`.
    """
    values, vectors = np.linalg.eigh(_laplacian(np.maximum(embeddings @ embeddings.T - _UNRELATED, 0)))
    gaps = np.diff(values[: most + 1])
    count = speakers or (int(np.argmax(gaps)) + 1 if len(gaps) else 1)
    return _kmeans(unit(vectors[:, :count]), min(count, len(values)), rng)


def centroids(embeddings: Floats, labels: Labels) -> Floats:
    """The middle of each label's embeddings, at length 1: (labels, dimensions)."""
    return unit(np.stack([embeddings[labels == label].mean(axis=0) for label in range(labels.max() + 1)]))


def _laplacian(weights: Floats) -> Floats:
    """Symmetric, normalised: (n, n). Its smallest eigenvalues are near 0, one for each group that holds together."""
    scale = 1 / np.sqrt(np.maximum(weights.sum(axis=1), 1e-9))
    return np.asarray(np.eye(len(weights)) - scale[:, None] * weights * scale, np.float32)


def _kmeans(points: Floats, groups: int, rng: np.random.Generator) -> Labels:
    """Lloyd's, from starts that lie far from each other (Arthur and Vassilvitskii 2007, "k-means++")."""
    tries = [_lloyd(points, _starts(points, groups, rng)) for _ in range(_STARTS)]
    labels, _ = min(tries, key=lambda one: one[1])
    return np.unique(labels, return_inverse=True)[1]


def _starts(points: Floats, groups: int, rng: np.random.Generator) -> Floats:
    chosen = [points[rng.integers(len(points))]]
    while len(chosen) < groups:
        far = _distances(points, np.stack(chosen)).min(axis=1)
        total = far.sum()
        chosen.append(points[rng.choice(len(points), p=far / total) if total > 0 else rng.integers(len(points))])
    return np.stack(chosen)


def _lloyd(points: Floats, middles: Floats) -> tuple[Labels, float]:
    """Labels, and the sum of squares that they leave."""
    for _ in range(_ROUNDS):
        distances = _distances(points, middles)
        labels = distances.argmin(axis=1)
        moved = np.stack([points[labels == g].mean(axis=0) if g in labels else m for g, m in enumerate(middles)])
        if np.allclose(moved, middles):
            break
        middles = moved
    return labels, float(distances.min(axis=1).sum())


def _distances(points: Floats, middles: Floats) -> NDArray[np.float64]:
    """Squared: (points, middles)."""
    return np.asarray(np.square(points[:, None].astype(np.float64) - middles).sum(axis=2))
