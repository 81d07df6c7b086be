"""Voices of many chunks, joined by how they sound."""

from __future__ import annotations

import time

import numpy as np
import pytest

from cosygate.engine.speakers.sherpa.joining import Joining, Sound

DIMENSIONS = 64


def middles(count: int, seed: int = 1) -> list[Sound]:
    """Voices that have nothing in common."""
    rows, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(DIMENSIONS, count)))
    return [row.astype(np.float32) for row in rows.T]


def near(middle: Sound, rng: np.random.Generator, noise: float = 0.05) -> Sound:
    sound = middle + noise * rng.normal(size=DIMENSIONS)
    return np.asarray(sound / np.linalg.norm(sound), np.float32)


def same(told: list[int | None], truth: list[int]) -> bool:
    pairs = set(zip(told, truth, strict=True))
    return len(pairs) == len(set(told)) == len(set(truth)) and None not in told


def test_voices_are_found_again() -> None:
    rng = np.random.default_rng(0)
    known, truth, joining = middles(4), [int(n) for n in rng.integers(4, size=60)], Joining(0.5)
    assert [joining.add(near(known[who], rng), 5.0) for who in truth] == list(range(60))
    assert same(joining.speakers(0, 50), truth)


@pytest.mark.parametrize(
    ("num", "most", "left"), [(2, 50, 2), (1, 50, 1), (0, 3, 3), (0, 1, 1), (0, 50, 4), (9, 50, 9)]
)
def test_as_many_as_were_asked_for(num: int, most: int, left: int) -> None:
    rng = np.random.default_rng(0)
    joining = Joining(0.5)
    for who in [0, 1, 2, 3] * 5:
        joining.add(near(middles(4)[who], rng), 5.0)
    assert len(set(joining.speakers(num, most))) == left


def test_fewer_than_asked_for_when_there_are_no_more() -> None:
    joining = Joining(0.5)
    for middle in middles(2):
        joining.add(middle, 5.0)
    assert len(set(joining.speakers(5, 50))) == 2


def test_a_short_remark_founds_no_voice() -> None:
    rng = np.random.default_rng(0)
    one, two, stranger = middles(3)
    joining = Joining(0.5)
    for sound, seconds in ((one, 5.0), (two, 5.0), (near(two, rng, 0.2), 0.4), (stranger, 0.4), (np.zeros(64), 0.1)):
        joining.add(np.asarray(sound, np.float32), seconds)
    told = joining.speakers(0, 50)
    assert told[2] == told[1] != told[0]
    assert told[3] in told[:2], "it goes to the nearest"
    assert told[4] is None, "and nobody knows whose a sound without a sound is"


def test_short_remarks_alone_are_told_apart() -> None:
    joining = Joining(0.5)
    for middle in [*middles(2)] * 2:
        joining.add(middle, 0.5)
    assert same(joining.speakers(0, 50), [0, 1, 0, 1])


def test_nothing() -> None:
    assert Joining(0.5).speakers(0, 50) == []
    assert Joining(0.5).speakers(2, 50) == []


def test_a_day_long_recording_takes_no_more_time_for_each_voice() -> None:
    """Twelve hours: 720 chunks with four voices each, of ten people."""
    rng = np.random.default_rng(0)
    known, truth, joining = middles(10), [int(n) for n in rng.integers(10, size=2880)], Joining(0.5)
    sounds = [near(known[who], rng) for who in truth]
    started = time.process_time()
    for sound in sounds:
        joining.add(sound, 5.0)
    assert len(joining._groups) <= 400
    assert same(joining.speakers(0, 50), truth)
    assert time.process_time() - started < 10
