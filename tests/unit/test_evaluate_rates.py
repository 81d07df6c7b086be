"""Alignments and rates against jiwer, against a table filled by hand, and against what statistics promise."""

from __future__ import annotations

import random
import time

import jiwer
import pytest

from cosygate.evaluate.aligning import Errors, align, errors, percentile, rate, share

GIVEN = random.Random(6)


def texts(count: int) -> list[tuple[list[str], list[str]]]:
    """Random words, of few kinds so that many alignments are possible."""
    return [([*GIVEN.choices("abcde", k=GIVEN.randint(1, 12))], GIVEN.choices("abcde", k=GIVEN.randint(0, 12)))
            for _ in range(count)]  # fmt: skip


def least_edits(reference: list[str], heard: list[str]) -> int:
    """The textbook's table."""
    row = list(range(len(heard) + 1))
    for n, said in enumerate(reference, 1):
        before, row = row, [n]
        for m, word in enumerate(heard, 1):
            row.append(min(before[m] + 1, row[-1] + 1, before[m - 1] + (said != word)))
    return row[-1]


def test_errors_are_the_fewest_and_as_jiwer_counts_them() -> None:
    for reference, heard in texts(300):
        found = errors(reference, heard)
        assert found.count == least_edits(reference, heard)
        told = jiwer.process_words(" ".join(reference), " ".join(heard))
        assert found.count == told.substitutions + told.deletions + told.insertions
        assert found.of == len(reference)


def test_an_alignment_has_everything_in_order_and_costs_what_errors_say() -> None:
    for reference, heard in texts(300):
        pairs = align(reference, heard)
        assert [n for n, _ in pairs if n is not None] == list(range(len(reference)))
        assert [m for _, m in pairs if m is not None] == list(range(len(heard)))
        wrong = sum(n is None or m is None or reference[n] != heard[m] for n, m in pairs)
        assert wrong == errors(reference, heard).count


def test_a_worked_example() -> None:
    reference, heard = ["the", "cat", "sat", "on", "the", "mat"], ["oh", "the", "cat", "sit", "on", "mat"]
    assert errors(reference, heard) == Errors(of=6, substituted=1, deleted=1, inserted=1)
    assert errors("kitten", "sitting") == Errors(6, 2, 0, 1)
    assert errors(["a", "b"], []) == Errors(2, 0, 2, 0)


def test_the_longest_reference_there_may_be_is_aligned_in_time() -> None:
    reference = GIVEN.choices([str(n) for n in range(3000)], k=20_000)
    heard = [word if GIVEN.random() > 0.3 else "x" for word in reference]
    began = time.process_time()
    assert len(align(reference, heard)) >= 20_000
    assert errors("".join(reference), "".join(heard)).of > 60_000
    assert time.process_time() - began < 20


def test_rates_pool_words_and_do_not_average_recordings() -> None:
    told = rate([1, 0], [1, 99], seed=1)
    assert told and told.value == 0.01 and told.of == 100


def test_an_interval_is_the_seeds_and_holds_the_truth_as_often_as_it_says() -> None:
    assert rate([1, 2, 3], [10, 10, 10], seed=5) == rate([1, 2, 3], [10, 10, 10], seed=5)
    inside = 0
    for n in range(200):
        wrong = [sum(GIVEN.random() < 0.1 for _ in range(20)) for _ in range(40)]
        told = rate(wrong, [20] * 40, seed=n)
        assert told and told.low is not None and told.high is not None and told.low <= told.value <= told.high
        inside += told.low <= 0.1 <= told.high
    assert 178 <= inside <= 199  # 190 of 200, three standard deviations and a bit


def test_a_rate_of_nothing_is_none_and_of_one_recording_has_no_interval() -> None:
    assert rate([], [], seed=0) is None
    assert rate([1.0], [0.0], seed=0) is None
    told = rate([1], [4], seed=0)
    assert told and (told.value, told.low, told.high) == (0.25, None, None)
    mixed = rate([1.0, 1.0], [0.0, 10.0], seed=0)  # a draw without any reference has no rate
    assert mixed and mixed.value == 0.2 and mixed.high == 0.2


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(0, 22, 0.0, 0.1487), (7, 10, 0.3968, 0.8922), (10, 10, 0.7225, 1.0)],  # Wilson, as R's binom.confint tells them
)
def test_shares(count: int, of: int, low: float, high: float) -> None:
    told = share(count, of)
    assert told and told.low == pytest.approx(low, abs=1e-4) and told.high == pytest.approx(high, abs=1e-4)
    assert share(0, 0) is None


def test_percentiles() -> None:
    assert percentile([3, 1, 2], 50) == 2
    assert percentile([], 50) is None
