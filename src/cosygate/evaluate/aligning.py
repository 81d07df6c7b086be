"""Words against words: which stand for which, how many are wrong, and how sure a rate is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

RESAMPLES = 1_000
_Z95 = 1.959964  # standard normal quantile of 97.5 %
Pair = tuple[int | None, int | None]  # index in the reference, index in what was heard; None: nothing there


@dataclass(frozen=True, slots=True)
class Errors:
    """Of words or characters."""

    of: int  # in the reference
    substituted: int = 0
    deleted: int = 0
    inserted: int = 0

    @property
    def count(self) -> int:
        return self.substituted + self.deleted + self.inserted


@dataclass(frozen=True, slots=True)
class Rate:
    """`value` = wrong / of. From `low` to `high` with 95 % confidence; None where one recording alone is known."""

    value: float
    low: float | None
    high: float | None
    of: float


def align(reference: Sequence[str], heard: Sequence[str]) -> list[Pair]:
    """The alignment with the fewest substitutions, deletions and insertions (Levenshtein), in order."""
    pairs: list[Pair] = []
    for step in Levenshtein.opcodes(reference, heard):
        said, told = range(step.src_start, step.src_end), range(step.dest_start, step.dest_end)
        if step.tag == "delete":
            pairs += [(n, None) for n in said]
        elif step.tag == "insert":
            pairs += [(None, n) for n in told]
        else:  # equal, or each replaced by one
            pairs += zip(said, told, strict=True)
    return pairs


def errors(reference: Sequence[str], heard: Sequence[str]) -> Errors:
    """The fewest."""
    counted = Counter(step.tag for step in Levenshtein.editops(reference, heard))
    return Errors(len(reference), counted["replace"], counted["delete"], counted["insert"])


def rate(wrong: Sequence[float], of: Sequence[float], seed: int) -> Rate | None:
    """The errors of all recordings over what all references hold; None when they hold nothing.

    The interval: percentiles 2.5 and 97.5 of RESAMPLES draws of as many recordings, with replacement (Bisani and Ney,
    "Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004).
    """
    errors_, sizes = np.asarray(wrong, float), np.asarray(of, float)
    if not (whole := sizes.sum()):
        return None
    value = float(errors_.sum() / whole)
    if len(sizes) < 2:
        return Rate(value, None, None, float(whole))
    random = np.random.default_rng(seed)
    draws = (random.integers(len(sizes), size=len(sizes)) for _ in range(RESAMPLES))
    rates = [errors_[drawn].sum() / drawn_of for drawn in draws if (drawn_of := sizes[drawn].sum())]
    low, high = np.percentile(rates, [2.5, 97.5])
    return Rate(value, float(low), float(high), float(whole))


def share(count: int, of: int) -> Rate | None:
    """A proportion with Wilson's score interval, which also holds for few and for none (Wilson 1927)."""
    if not of:
        return None
    value, z2 = count / of, _Z95**2
    middle = (value + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z95 / (1 + z2 / of) * math.sqrt(value * (1 - value) / of + z2 / (4 * of * of))
    return Rate(value, max(0.0, middle - half), min(1.0, middle + half), of)


def percentile(values: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None
