"""Who speaks, told with each utterance: synthesised conversations through the real network, and the rules by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from cosygate.engine.models import locate
from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.engine.speakers.ge2e import DIMENSIONS, Encoder
from cosygate.engine.speakers.live import ALIKE, FOUNDS_S, Labels, LiveSpeakers, Voice, Voiceprints
from cosygate.engine.speakers.weights import GE2E, read_weights
from cosygate.kit.clock import SystemClock
from tests.support.flite import MEETING as SAID
from tests.support.flite import say


@pytest.fixture(scope="module")
def prints() -> Voiceprints:
    return Voiceprints.load()


def voice(*parts: tuple[int, float], seconds: float = 3.0) -> Voice:
    """Made of directions that have nothing to do with each other, each with its share."""
    made = np.zeros(DIMENSIONS, np.float32)
    for direction, share in parts:
        made[direction] = share
    return Voice(made / np.linalg.norm(made), seconds)


def like(of: int, other: int, cosine: float, seconds: float = 3.0) -> Voice:
    """As alike to the direction `of` as `cosine` says; the rest of it is of `other`."""
    return voice((of, cosine), (other, float(np.sqrt(1 - cosine**2))), seconds=seconds)


# --- the real network --------------------------------------------------------------------------------------------


@pytest.mark.needs("flite")
@pytest.mark.parametrize("pair", [("rms", "slt"), ("awb", "slt"), ("kal16", "rms")])
def test_two_who_take_turns_keep_their_labels(prints: Voiceprints, pair: tuple[str, str]) -> None:
    labels = Labels()
    told = [labels.label(prints.of(say(pair[n % 2], SAID[n % len(SAID)])[0])) for n in range(12)]
    assert told == ["S1", "S2"] * 6


@pytest.mark.needs("flite")
def test_the_longest_utterance_and_the_shortest(prints: Voiceprints) -> None:
    said = say("slt", SAID[1])[0]
    long: Samples = np.resize(said, 30 * RATE)
    labels = Labels()
    assert labels.label(prints.of(long)) == "S1"
    assert labels.label(prints.of(say("rms", SAID[0])[0])) == "S2"
    assert labels.label(prints.of(said[RATE // 2 : RATE // 2 + RATE // 5])) in ("S1", "S2")
    assert prints.of(long).seconds == 30.0


# --- the rules ---------------------------------------------------------------------------------------------------


def test_a_new_voice_is_one_that_is_like_no_other() -> None:
    labels = Labels()
    assert labels.label(voice((0, 1))) == "S1"
    assert labels.label(like(0, 1, ALIKE + 0.02)) == "S1"
    assert labels.label(like(0, 2, ALIKE - 0.1)) == "S2"
    assert labels.label(voice((3, 1))) == "S3"
    assert [labels.label(v) for v in (voice((3, 1)), like(0, 2, ALIKE - 0.1), voice((0, 1)))] == ["S3", "S2", "S1"]


def test_no_more_voices_than_there_may_be() -> None:
    labels = Labels(most=2)
    assert [labels.label(voice((n, 1))) for n in (0, 1)] == ["S1", "S2"]
    assert labels.label(like(1, 9, 0.3)) == "S2", "the nearest, far as it is"
    assert {labels.label(voice((n, 1))) for n in range(2, 20)} <= {"S1", "S2"}


def test_a_short_utterance_is_of_a_known_voice_and_changes_none() -> None:
    labels, short = Labels(), FOUNDS_S - 0.01
    assert [labels.label(voice((n, 1))) for n in (0, 1)] == ["S1", "S2"]
    for _ in range(100):
        assert labels.label(like(1, 5, 0.3, short)) == "S2"
    assert labels.label(like(1, 6, ALIKE + 0.02)) == "S2"
    assert labels.label(voice((5, 1))) == "S3", "a hundred grunts had not moved S2 there"


def test_somebody_has_to_be_the_first_however_short() -> None:
    labels = Labels()
    assert labels.label(like(0, 1, 0.8, 0.5)) == "S1"
    assert labels.label(voice((0, 1))) == "S1"
    assert labels.label(like(0, 2, ALIKE + 0.02)) == "S1", "what is longer counts for more than that"
    assert labels.label(voice((1, 1))) == "S2"


def test_a_voice_that_changes_slowly_is_followed_after_hours_too() -> None:
    labels = Labels()
    assert [labels.label(voice((n, 1), seconds=15)) for n in (0, 1)] == ["S1", "S2"]
    assert {labels.label(voice((0, 1), seconds=15)) for _ in range(1000)} == {"S1"}
    for step in range(1, 91):
        turned = np.radians(step)
        assert labels.label(voice((0, float(np.cos(turned))), (2, float(np.sin(turned))), seconds=15)) == "S1"
    assert labels.label(voice((2, 1), seconds=15)) == "S1"


@given(
    before=st.integers(0, 1000),
    most=st.integers(1, 5),
    said=st.lists(st.tuples(st.integers(0, 9), st.floats(0.2, 15)), max_size=40),
)
def test_labels_are_counted_in_the_order_of_their_first_words(
    before: int, most: int, said: list[tuple[int, float]]
) -> None:
    labels = Labels(before, most)
    told = [labels.label(voice((direction, 1), seconds=seconds)) for direction, seconds in said]
    first = list(dict.fromkeys(told))
    assert first == [f"S{before + n + 1}" for n in range(len(first))]
    assert len(first) <= most


# --- failure -----------------------------------------------------------------------------------------------------


def test_a_failure_costs_the_labels_and_nothing_else() -> None:
    with Path(locate(GE2E)["encoder"]).open("rb") as file:
        weights = dict(read_weights(file))
    weights["linear.weight"] = weights["linear.weight"][:, :-1]  # as if it were for another network
    speakers = LiveSpeakers(Voiceprints(Encoder(weights)), Labels(), SystemClock())
    with capture_logs() as logs:
        assert speakers.hear(np.zeros(RATE, np.float32)) is None
        assert speakers.failed
        assert speakers.label(None) is None
        assert speakers.hear(np.zeros(RATE, np.float32)) is None
        assert speakers.label(voice((0, 1))) is None
    assert [line["event"] for line in logs] == ["speakers.failed"], "told once"


def test_a_first_word_weighs_little_against_what_follows() -> None:
    """A voice founded by less than a second is soon that of its next utterance."""
    labels = Labels()
    angles = [(0.0, FOUNDS_S / 3), (45.0, 3.0), (89.0, 3.0)]
    told = [labels.label(like(0, 1, float(np.cos(np.radians(angle))), seconds)) for angle, seconds in angles]
    assert told == ["S1", "S1", "S1"]
