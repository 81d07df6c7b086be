"""The scorer of speaker turns, on cases that can be reckoned by hand.

Compared with another that tries every match, on 2,000 random conversations with and without a collar: less than 1e-9
apart. That one was compared with pyannote.metrics 4.2, on 165 results for 55 conversations.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.der import Spoken, der, read_rttm

TWO: list[Spoken] = [(0, 10, "A"), (10, 20, "B")]


def test_labels_are_matched_not_compared() -> None:
    assert der(TWO, [(0, 10, "B"), (10, 20, "A")], collar=0) == 0
    assert der(TWO, [(0, 10, "x"), (10, 20, "y")]) == 0


def test_everything_as_one_speaker_confuses_the_shorter_one() -> None:
    assert der([(0, 15, "A"), (15, 20, "B")], [(0, 20, "x")], collar=0) == pytest.approx(0.25)


def test_a_speaker_too_many_is_confusion() -> None:
    assert der(TWO, [(0, 10, "x"), (10, 16, "y"), (16, 20, "z")], collar=0) == pytest.approx(0.2)


def test_missed_and_false_speech() -> None:
    assert der(TWO, [(2, 10, "x"), (10, 23, "y")], collar=0) == pytest.approx((2 + 3) / 20)
    assert der(TWO, []) == 1


def test_who_speaks_at_the_same_time_counts_each() -> None:
    overlapping: list[Spoken] = [(0, 10, "A"), (8, 12, "B")]
    assert der(overlapping, [(0, 10, "x"), (10, 12, "y")], collar=0) == pytest.approx(2 / 14)


def test_near_boundaries_nothing_counts() -> None:
    late: list[Spoken] = [(0.2, 10.2, "x"), (10.2, 20.2, "y")]
    assert der(TWO, late, collar=0) == pytest.approx(0.6 / 20)
    assert der(TWO, late, collar=0.25) == 0
    # 0.25 s at both ends of both turns are left out of what is spoken too.
    assert der(TWO, [(0, 10, "x")], collar=0.25) == pytest.approx(9.5 / 19)


def test_rttm_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.rttm"
    file.write_text("SPKR-INFO a\nSPEAKER a 1 1.5 2.25 <NA> <NA> bob <NA> <NA>\n")
    assert read_rttm(file) == [(1.5, 3.75, "bob")]
