"""Turns of speakers laid over segments and words."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from cosygate.model.speakers import SpeakerTurn, with_speakers
from cosygate.model.transcript import Segment, Word, segment_dict, segment_from_dict

TURNS = (SpeakerTurn(0.0, 2.0, "S1"), SpeakerTurn(2.0, 5.0, "S2"), SpeakerTurn(7.0, 8.0, "S1"))


def segment(start: float, end: float, *words: tuple[str, float, float]) -> Segment:
    return Segment(0, start, end, " ".join(w for w, *_ in words), words=tuple(Word(*word) for word in words))


def test_a_segment_is_whose_turn_is_longest_in_it() -> None:
    told = with_speakers([segment(0.0, 1.9), segment(1.5, 3.5), segment(5.1, 5.4), segment(6.8, 9.0)], TURNS)
    assert [one.speaker for one in told] == ["S1", "S2", "S2", "S1"]


def test_words_say_who_where_several_speak() -> None:
    [told] = with_speakers([segment(1.0, 4.0, ("yes", 1.0, 1.5), ("no", 2.2, 2.6), ("never", 3.0, 4.0))], TURNS)
    assert told.speaker == "S2"
    assert [word.speaker for word in told.words] == ["S1", "S2", "S2"]
    assert segment_from_dict(segment_dict(told)) == told
    [alone] = with_speakers([segment(2.0, 4.0, ("no", 2.2, 2.6), ("never", 3.0, 4.0))], TURNS)
    assert alone.speaker == "S2"
    assert {word.speaker for word in alone.words} == {None}


def test_a_word_between_turns_is_the_nearest_ones() -> None:
    [told] = with_speakers([segment(5.0, 7.0, ("near", 5.1, 5.4), ("later", 6.6, 6.9))], TURNS)
    assert [word.speaker for word in told.words] == ["S2", "S1"]


def test_without_turns_nothing_is_said() -> None:
    before = [segment(0.0, 1.0)]
    assert with_speakers(before, ()) == before


@given(
    st.lists(st.floats(0, 100), min_size=2, max_size=20, unique=True).map(sorted),
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5)), min_size=1, max_size=10),
)
def test_everybody_is_one_of_those_who_spoke(cuts: list[float], spans: list[tuple[float, float]]) -> None:
    turns = [SpeakerTurn(a, b, f"S{n % 3}") for n, (a, b) in enumerate(itertools.pairwise(cuts))]
    for told in with_speakers([segment(start, start + length) for start, length in spans], turns):
        assert told.speaker in {turn.speaker for turn in turns}
        spoken = {w: sum(max(0.0, min(told.end, t.end) - max(told.start, t.start)) for t in turns if t.speaker == w)
                  for w in {t.speaker for t in turns}}  # fmt: skip
        if max(spoken.values()) > 1e-6:
            assert spoken[told.speaker] >= max(spoken.values()) - 1e-6
