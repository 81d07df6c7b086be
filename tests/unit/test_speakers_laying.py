"""Turns that overlap, laid one behind the other; stretches where one speaks alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosygate.engine.speakers.sherpa.laying import Stretch, alone, in_line

turns = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 20), st.integers(0, 3)).map(lambda t: (t[0], t[0] + t[1], t[2])),
    max_size=8,
)


@pytest.mark.parametrize(
    ("heard", "told"),
    [
        ([(0, 10, 0), (10, 20, 1)], [(0, 10, 0), (10, 20, 1)]),
        ([(0, 12, 0), (9, 20, 1)], [(0, 12, 0), (12, 20, 1)]),  # who speaks keeps the floor
        ([(0, 20, 0), (5, 8, 1)], [(0, 20, 0)]),  # a remark
        ([(0, 5, 0), (0, 9, 1)], [(0, 9, 1)]),
        ([(5, 9, 1), (0, 3, 0)], [(0, 3, 0), (5, 9, 1)]),
        ([], []),
    ],
)
def test_who_speaks_keeps_the_floor(heard: list[Stretch], told: list[Stretch]) -> None:
    assert in_line(heard) == told


@given(turns)
def test_what_is_told_is_in_order_and_was_heard(heard: list[Stretch]) -> None:
    told = in_line(heard)
    edges = [edge for start, end, _ in told for edge in (start, end)]
    assert edges == sorted(edges)
    spoken = {at for start, end, _ in heard for at in range(start, end)}
    assert {at for start, end, _ in told for at in range(start, end)} == spoken, "nobody's speech is nobody's"
    for start, end, speaker in told:
        assert start < end
        assert any(first <= start and end <= last and who == speaker for first, last, who in heard)


@given(turns)
def test_alone_is_where_one_speaks(heard: list[Stretch]) -> None:
    speaking = [{who for start, end, who in heard if start <= at < end} for at in range(61)]
    told = {at: who for start, end, who in alone(heard) for at in range(start, end)}
    assert told == {at: next(iter(who)) for at, who in enumerate(speaking) if len(who) == 1}
