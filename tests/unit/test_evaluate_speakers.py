"""Diarisation error rate: pyannote.metrics' own worked examples, and any conversation against a count of moments."""

from __future__ import annotations

import itertools
import random

import pytest

from cosygate.evaluate.references import Turn
from cosygate.evaluate.speakers import COLLAR_S, SpeakerErrors, speaker_errors

# tests/test_diarization.py of pyannote.metrics 4.2 (MIT).
REFERENCE = [Turn(0, 10, "A"), Turn(12, 20, "B"), Turn(24, 27, "A"), Turn(30, 40, "C")]
HEARD = [Turn(2, 13, "a"), Turn(13, 14, "d"), Turn(14, 20, "b"), Turn(22, 38, "c"), Turn(38, 40, "d")]


def test_pyannotes_example() -> None:
    assert speaker_errors(REFERENCE, HEARD, 0) == SpeakerErrors(of=31, missed=2, false=7, confused=7)


def test_pyannotes_collar_is_twice_ours() -> None:
    assert speaker_errors([Turn(0, 10, "A")], [], collar_s=0.5) == SpeakerErrors(of=9, missed=9)
    assert speaker_errors([Turn(0, 10, "A")], [], collar_s=0) == SpeakerErrors(of=10, missed=10)


def test_overlap_counts_for_each_speaker() -> None:
    both = [Turn(0, 10, "A"), Turn(4, 6, "B")]
    assert speaker_errors(both, [Turn(0, 10, "x")], 0) == SpeakerErrors(of=12, missed=2)
    assert speaker_errors([Turn(0, 10, "A")], [Turn(0, 10, "x"), Turn(4, 6, "y")], 0) == SpeakerErrors(10, false=2)


def test_nothing_counts_near_the_references_boundaries() -> None:
    found = speaker_errors([Turn(1, 5, "A"), Turn(5, 9, "B")], [Turn(0.8, 5.2, "x"), Turn(5.2, 9.2, "y")])
    assert (found.of, found.count) == (pytest.approx(7), 0)


def test_names_are_matched_one_to_one() -> None:
    """Both halves under one name: it stands for one speaker alone. Names may outnumber speakers, and the reverse."""
    halves = [Turn(0, 6, "A"), Turn(6, 10, "B")]
    assert speaker_errors(halves, [Turn(0, 10, "x")], 0) == SpeakerErrors(10, confused=4)
    assert speaker_errors([Turn(0, 10, "A")], [Turn(0, 3, "x"), Turn(3, 10, "y")], 0) == SpeakerErrors(10, confused=3)
    assert speaker_errors(halves, [Turn(0, 6, "B"), Turn(6, 10, "A")], 0) == SpeakerErrors(10)


def test_the_best_match_is_not_the_greedy_one() -> None:
    """x suits A best (5 s), but leaving A to y gains more."""
    said = [Turn(0, 9, "A"), Turn(9, 13, "B")]
    heard = [Turn(0, 5, "x"), Turn(5, 9, "y"), Turn(9, 13, "x")]
    assert speaker_errors(said, heard, 0) == SpeakerErrors(13, confused=5)


def by_moments(reference: list[Turn], heard: list[Turn], collar: int) -> tuple[int, int]:
    """Turns in whole moments: each looked at, every match tried. What is spoken, what is wrong."""
    edges = {edge for turn in reference for edge in (turn.start, turn.end)}
    moments = [n for n in range(-5, 60) if not any(edge - collar <= n < edge + collar for edge in edges)]
    at = [
        tuple({turn.speaker for turn in turns if turn.start <= n < turn.end} for turns in (reference, heard))
        for n in moments
    ]
    speakers, names = sorted({t.speaker for t in reference}), sorted({t.speaker for t in heard})
    names += [""] * len(speakers)
    agreed = max(
        sum(len({match.get(name) for name in told} & spoken) for spoken, told in at)
        for chosen in itertools.permutations(names, len(speakers))
        for match in [{name: speaker for name, speaker in zip(chosen, speakers, strict=True) if name}]
    )
    return sum(len(spoken) for spoken, _ in at), sum(max(map(len, pair)) for pair in at) - agreed


@pytest.mark.parametrize("seed", range(40))
def test_any_conversation_is_counted_right(seed: int) -> None:
    given = random.Random(seed)

    def turns(names: str) -> list[Turn]:
        starts = [given.randint(0, 40) for _ in range(given.randint(1, 8))]
        return [Turn(start, start + given.randint(1, 12), given.choice(names)) for start in starts]

    reference, heard, collar = turns("ABC"), turns("wxyz"), given.randint(0, 2)
    found = speaker_errors(reference, heard, collar)
    assert (found.of, found.count) == pytest.approx(by_moments(reference, heard, collar))


def test_a_dozen_speakers_and_thirty_names_are_matched_in_time() -> None:
    given = random.Random(1)
    said = [Turn(n, n + 1, f"s{given.randrange(12)}") for n in range(2000)]
    heard = [Turn(n, n + 1, f"n{given.randrange(30)}") for n in range(2000)]
    assert 0 < speaker_errors(said, heard, 0).count < 2000


def test_the_collar_is_the_issues() -> None:
    assert COLLAR_S == 0.25
