"""The state of a live session: what is accepted, what is asked for again, and that it can be rebuilt at any point."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosygate import errors
from cosygate.model.timeline import LABELS_MAX, Timeline

FINAL = {"type": "final", "text": "x"}


def final(number: int, end: int) -> dict[str, Any]:
    return {**FINAL, "id": number, "start_sample": 0, "end_sample": end}


def test_overlap_is_told_and_a_gap_is_refused() -> None:
    timeline = Timeline(received=100)
    assert timeline.frame(100, 50) == 0
    assert timeline.frame(80, 50) == 20
    assert timeline.frame(50, 50) == 50
    assert timeline.frame(0, 20) == 20
    with pytest.raises(errors.LiveGap) as gap:
        timeline.frame(101, 50)
    assert gap.value.extra == {"expected": 100}
    assert gap.value.code == "gap"


def test_after_the_end_there_is_nothing_but_repeats() -> None:
    timeline = Timeline(received=100)
    assert timeline.end(100)
    timeline.apply({"type": "end", "samples": 100})
    assert not timeline.end(100)
    assert timeline.frame(50, 50) == 50
    for late in (lambda: timeline.frame(90, 20), lambda: timeline.end(90), lambda: timeline.gap(100, 120, 1000)):
        with pytest.raises(errors.LiveProtocol):
            late()


@pytest.mark.parametrize("samples", [0, 99, 101])
def test_an_end_elsewhere_than_where_the_audio_ends_is_refused(samples: int) -> None:
    with pytest.raises(errors.LiveProtocol) as refused:
        Timeline(received=100).end(samples)
    assert isinstance(refused.value, errors.LiveGap) == (samples > 100)


def test_finalize_marks_once() -> None:
    timeline = Timeline(received=100)
    assert timeline.finalize(None, 100) == 100
    timeline.apply({"type": "finalize", "samples": 100})
    assert timeline.finalize(None, 100) is None
    assert timeline.finalize(100, 100) is None
    timeline.received = 200
    assert timeline.finalize(150, 120) == 150, "nobody has heard beyond it"
    timeline.apply({"type": "finalize", "samples": 150})
    timeline.apply({"type": "finalize", "samples": 120})
    assert timeline.marks == [100, 120, 150]
    assert timeline.finalize(160, 170) == 200, "late: what has arrived is marked"
    timeline.decide(200)
    assert timeline.marks == []
    assert timeline.finalize(100, 200) is None
    assert timeline.finalize(None, 200) is None
    with pytest.raises(errors.LiveGap):
        timeline.finalize(201, 200)


def test_a_gap_moves_what_is_expected() -> None:
    timeline = Timeline(received=100)
    assert timeline.gap(100, 300, 1000) == (100, 300)
    timeline.apply({"type": "gap", "from": 100, "to": 300})
    assert timeline.received == 300
    assert timeline.gap(100, 300, 1000) is None
    assert timeline.gap(250, 350, 1000) == (300, 350)
    assert timeline.next_break(0) == (100, 300)
    assert timeline.gap_at_restart() is None
    timeline.decide(100)
    assert timeline.gap_at_restart() == 300
    timeline.decide(300)
    assert timeline.gap_at_restart() is None
    with pytest.raises(errors.LiveGap):
        timeline.gap(301, 400, 1000)
    with pytest.raises(errors.LiveProtocol):
        timeline.gap(300, 1400, 1000)


def test_breaks_come_in_order_and_a_gap_ends_an_utterance_that_is_marked_there_too() -> None:
    timeline = Timeline(received=100)
    for event in ({"type": "finalize", "samples": 40}, {"type": "gap", "from": 100, "to": 200}):
        timeline.apply(event)
    assert timeline.next_break(0) == (40, None)
    assert timeline.next_break(40) == (100, 200)
    assert timeline.next_break(100) == (100, 200), "nothing was heard behind the mark"
    assert timeline.next_break(101) is None
    timeline.marks.append(100)
    assert timeline.next_break(40) == (100, 200)


def test_a_final_that_a_replay_gives_again_is_not_news() -> None:
    timeline = Timeline(received=1000)
    assert timeline.accepts(0, 400)
    timeline.apply(final(0, 400))
    assert (timeline.finals, timeline.restart, timeline.last_end) == (1, 400, 400)
    assert not timeline.accepts(0, 400)
    assert not timeline.accepts(100, 500), "overlaps the one before"
    assert timeline.accepts(400, 500)
    timeline.decide(600)
    assert not timeline.accepts(450, 590), "decided to be silence"


def test_it_knows_which_labels_of_speakers_are_somebodys() -> None:
    timeline = Timeline(received=10_000)
    for number, speaker in enumerate(["S1", "S3", None, "S2", "anna", "S0", "S", "S1x", "s9", 7]):
        timeline.apply(final(number, 10 * number + 10) | ({} if speaker is None else {"speaker": speaker}))
    assert timeline.speakers == 3
    snapshot = timeline.snapshot()
    assert Timeline.restored(snapshot).speakers == 3
    del snapshot["speakers"]  # of a version before
    assert Timeline.restored(snapshot).speakers == 0
    timeline.apply(final(10, 200) | {"speaker": "S9999999"})
    assert timeline.speakers == LABELS_MAX


def test_labels_of_finals_that_were_lost_are_taken_too() -> None:
    timeline = Timeline()
    timeline.apply(final(0, 10) | {"speaker": "S1"})
    timeline.known_to_client(0)
    timeline.known_to_client(1)
    assert timeline.speakers == 1, "nothing was lost"
    timeline.known_to_client(4)
    assert timeline.speakers == 4
    timeline.known_to_client(1 << 53)
    assert timeline.speakers == LABELS_MAX


EVENTS = st.lists(
    st.one_of(
        st.builds(lambda n: ("frame", n), st.integers(1, 400)),
        st.just(("finalize", 0)),
        st.builds(lambda n: ("gap", n), st.integers(1, 300)),
        st.builds(lambda n: ("final", n), st.integers(1, 500)),
        st.builds(lambda n: ("decided", n), st.integers(1, 500)),
        st.just(("end", 0)),
    ),
    max_size=30,
)


@given(EVENTS, st.integers(0, 30))
def test_a_snapshot_at_any_point_and_the_events_after_it_give_the_same_state(moves: list[Any], cut: int) -> None:
    """As a claim rebuilds it, from JSON, with the sound's length beside it."""
    timeline, journal, snapshot = Timeline(), [], Timeline().snapshot()
    for number, (kind, amount) in enumerate(moves):
        if number == cut:
            snapshot, journal = timeline.snapshot(), []
        event = step(timeline, kind, amount)
        if event is not None:
            timeline.apply(event)
            journal.append(event)
    rebuilt = Timeline.restored(json.loads(json.dumps(snapshot)))
    for event in json.loads(json.dumps(journal)):
        rebuilt.apply(event)
    rebuilt.received = max(rebuilt.received, timeline.received)  # the journal's sound says so
    assert rebuilt == timeline
    assert timeline.marks == sorted(set(timeline.marks))
    assert all(mark > timeline.restart for mark in timeline.marks)


def step(timeline: Timeline, kind: str, amount: int) -> dict[str, Any] | None:
    """The event that a move of the world makes, if it may happen now."""
    if kind == "frame":
        if timeline.ended is None:
            assert timeline.frame(timeline.received, amount) == 0
            timeline.received += amount
        return None
    if kind == "finalize":
        mark = timeline.finalize(None, timeline.received)
        return None if mark is None else {"type": "finalize", "samples": mark}
    if kind == "gap" and timeline.ended is None:
        gap = timeline.gap(timeline.received, timeline.received + amount, 1000)
        return None if gap is None else {"type": "gap", "from": gap[0], "to": gap[1]}
    if kind == "end":
        return {"type": "end", "samples": timeline.received} if timeline.ended is None else None
    sample = min(timeline.restart + amount, timeline.received)
    if kind == "final" and timeline.accepts(timeline.restart, sample):
        speaker = {"speaker": f"S{amount % 4}"} if amount % 3 else {}
        return final(timeline.finals, sample) | {"start_sample": timeline.restart} | speaker
    return {"type": "decided", "sample": sample} if kind == "decided" else None
