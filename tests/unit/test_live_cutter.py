"""Utterances in live audio: what is found depends on samples alone, and is found again from every restart point."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import soxr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cosygate.engine.live_cutter import (
    GAP,
    LONGEST,
    Began,
    FixedLiveCutter,
    Found,
    LiveCutter,
    Nothing,
    SpeechLiveCutter,
    Utterance,
)
from cosygate.engine.models import SILERO_VAD, locate
from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.engine.rewind import Rewind
from cosygate.engine.vad import WINDOW, Detector
from cosygate.kit.pcm import warm_up_samples
from tests.support.engine_process import speech_samples

Told = tuple[str, int, int, int]  # kind, start, end, digest of the samples


@functools.cache
def detector() -> Detector:
    return Detector(locate(SILERO_VAD)["model"])


def pcm(samples: Samples, rate: int = RATE) -> bytes:
    sent = soxr.resample(samples, RATE, rate) if rate != RATE else samples
    return np.clip(np.rint(sent * 32768), -32768, 32767).astype("<i2").tobytes()


def cutter(rate: int = RATE, first: int = 0, restart: int = 0, *, every_s: float | None = None) -> LiveCutter:
    audio = Rewind(rate, first, restart)
    return SpeechLiveCutter(audio, detector()) if every_s is None else FixedLiveCutter(audio, every_s)


def told(found: Found) -> Told:
    if isinstance(found, Utterance):
        return ("utterance", found.start, found.end, hash(found.samples.tobytes()))
    return (type(found).__name__, found.sample, found.sample, 0)


def run(cut: LiveCutter, audio: bytes, steps: Sequence[int], finalizes: Sequence[int] = ()) -> list[Found]:
    """`audio` begins at the cutter's first sample and comes in messages of `steps` samples (cycled), cut where somebody
    finalizes."""
    found: list[Found] = []
    at, end = cut.received, cut.received + len(audio) // 2
    first, marks = at, iter([f for f in sorted(finalizes) if f > at] + [end])
    mark = next(marks)
    for step in itertools.cycle(steps):
        upto = min(at + step, mark)
        found += cut.push(audio[2 * (at - first) : 2 * (upto - first)])
        at = upto
        if at == mark:
            found += cut.finalize()
            if at == end:
                return found
            mark = next(marks)
    raise AssertionError


def restarts(found: Sequence[Found]) -> list[int]:
    return [f.end if isinstance(f, Utterance) else f.sample for f in found if not isinstance(f, Began)]


def after(found: Sequence[Found], restart: int) -> list[Told]:
    """What was found behind a restart point."""

    def ends(f: Found) -> int:
        return f.end if isinstance(f, Utterance) else f.sample + isinstance(f, Began)

    return [told(f) for f in found if ends(f) > restart]


@st.composite
def mixes(draw: st.DrawFn) -> Samples:
    """Stretches of speech, of any length and from anywhere, between silences, clicks and noise."""
    speech = speech_samples("dialogue.wav")
    parts: list[Samples] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["speech", "speech", "silence", "noise"]))
        length = draw(st.integers(RATE // 20, RATE * 7))
        if kind == "speech":
            start = draw(st.integers(0, len(speech) - length - 1))
            parts.append(speech[start : start + length])
        elif kind == "silence":
            parts.append(np.zeros(length, np.float32))
        else:
            parts.append(np.random.default_rng(length).normal(0, 0.02, length).astype(np.float32))
    return np.concatenate(parts)


# --- the core promise --------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    mixes(),
    st.sampled_from([8_000, 11_025, 16_000, 44_100, 48_000]),
    st.lists(st.integers(1, 9_000), min_size=1, max_size=5),
    st.lists(st.integers(1, 9_000), min_size=1, max_size=5),
    st.lists(st.floats(0, 1), max_size=2),
    st.data(),
)
def test_a_run_from_any_restart_point_finds_the_same(
    samples: Samples, rate: int, steps: list[int], others: list[int], finalizes: list[float], data: st.DataObject
) -> None:
    audio = pcm(samples, rate)
    count = len(audio) // 2
    marks = [round(f * count) for f in finalizes]
    steps, others = ([max(20, s) for s in each] for each in (steps, others))
    undisturbed = run(cutter(rate), audio, steps, marks)
    points = restarts(undisturbed)
    assert points[-1] == count, "all of the audio lies before a restart point in the end"
    assert points == sorted(set(points))
    restart = data.draw(st.sampled_from(points))
    first = restart - warm_up_samples(rate, restart, RATE)
    again = run(cutter(rate, first, restart), audio[2 * first :], others, [m for m in marks if m > restart])
    assert [told(f) for f in again] == after(undisturbed, restart)


@settings(max_examples=30, deadline=None)
@example(2, 0.1, 44_100, [20], 1, 0)  # a first piece too short for a single sample at 16 kHz
@given(
    st.integers(1, 20) | st.integers(1, 60_000),
    st.sampled_from([0.1, 0.73, 1.0]),
    st.sampled_from([8_000, 16_000, 44_100]),
    st.lists(st.integers(20, 9_000), min_size=1, max_size=4),
    st.integers(0, 20) | st.integers(0, 60_000),
    st.integers(0, 1_000),
)
def test_so_does_one_that_cuts_by_time(
    count: int, every_s: float, rate: int, steps: list[int], mark: int, pick: int
) -> None:
    audio = np.random.default_rng(count).integers(-9000, 9000, count).astype("<i2").tobytes()
    marks = [mark] if mark < count else []
    undisturbed = run(cutter(rate, every_s=every_s), audio, steps, marks)
    points = restarts(undisturbed)
    assert points[-1] == count
    ends = 0
    for found in undisturbed:  # they tile the audio, but for pieces too short for one sample at 16 kHz
        match found:
            case Began(sample):
                assert sample == ends
            case Utterance(start, end):
                assert start == ends
                ends = end
            case Nothing(sample):
                assert (sample - ends) * RATE < rate
                ends = sample
    restart = points[pick % len(points)]
    first = restart - warm_up_samples(rate, restart, RATE)
    again = run(cutter(rate, first, restart, every_s=every_s), audio[2 * first :], [777], marks)
    assert [told(f) for f in again] == after(undisturbed, restart)


# --- where utterances begin and end ------------------------------------------------------------------------------


def found_in(samples: Samples, step: int = 1600) -> list[Found]:
    return run(cutter(), pcm(samples), [step])


def test_they_are_where_the_speech_is_with_their_pads_and_never_overlap() -> None:
    samples = speech_samples("dialogue.wav")
    found = found_in(samples)
    utterances = [f for f in found if isinstance(f, Utterance)]
    assert len(utterances) == 5
    for one in utterances:
        np.testing.assert_array_equal(one.samples, samples[one.start : one.end])
    assert all(a.end <= b.start for a, b in itertools.pairwise(utterances))
    outside = np.ones(len(samples), bool)
    for one in utterances:
        outside[one.start : one.end] = False
    assert 0 < np.abs(samples[outside]).max() < 0.05
    began = [f.sample for f in found if isinstance(f, Began)]
    assert began == [u.start for u in utterances]


def test_silence_is_decided_every_few_seconds_and_a_beginning_in_it_is_not_lost() -> None:
    speech = speech_samples("dialogue.wav")
    word = speech[round(0.29 * RATE) : round(2.59 * RATE)]
    alone = next(f for f in found_in(np.concatenate([np.zeros(RATE, np.float32), word])) if isinstance(f, Utterance))
    for quiet, restarts_before in ((4.9, 0), (5.0, 1), (5.05, 1), (5.1, 1), (9.5, 2), (9.8, 2)):
        found = found_in(np.concatenate([np.zeros(round(quiet * RATE), np.float32), word]))
        (one,) = (f for f in found if isinstance(f, Utterance))
        assert abs((one.start - quiet * RATE) - (alone.start - RATE)) <= 2 * WINDOW, quiet
        assert len([f for f in found if isinstance(f, Nothing) and f.sample <= one.start]) == restarts_before


def test_a_click_is_no_utterance_but_a_restart_point() -> None:
    speech = speech_samples("dialogue.wav")
    click = speech[8_000:9_400]
    found = found_in(np.concatenate([np.zeros(RATE, np.float32), click, np.zeros(2 * RATE, np.float32)]))
    assert [type(f) for f in found] == [Nothing, Nothing]
    assert RATE + 1_400 < restarts(found)[0] < RATE + 7_000


def test_speech_without_a_pause_is_cut_where_it_is_quietest() -> None:
    speech = speech_samples("dialogue.wav")
    talk = np.tile(speech[round(3.6 * RATE) : round(6.9 * RATE)], 8)
    talk[round(12.0 * RATE) : round(12.25 * RATE)] *= np.float32(0.01)
    utterances = [f for f in found_in(talk) if isinstance(f, Utterance)]
    assert 12.0 * RATE < utterances[0].end < 12.25 * RATE
    assert all(u.end - u.start <= LONGEST + GAP for u in utterances)
    assert all(a.end == b.start for a, b in itertools.pairwise(utterances)), "nothing is lost at a cut"


def test_what_is_open_and_settled_is_what_the_utterance_will_be() -> None:
    samples = speech_samples("dialogue.wav")[: 3 * RATE]
    audio, cut = pcm(samples), cutter()
    settled: Utterance | None = None
    closed: list[Found] = []
    lengths: list[int] = []
    for at in range(0, len(audio), 1024):
        closed += [f for f in cut.push(audio[at : at + 1024]) if isinstance(f, Utterance)]
        if cut.open is not None:
            lengths.append(cut.open.length)
            so_far = cut.so_far()
            assert so_far is not None
            assert (so_far.start, so_far.end) == (cut.open.start, cut.open.end)
            settled = so_far if cut.open.settled else None
    closed += [f for f in cut.finalize() if isinstance(f, Utterance)]
    (final,) = closed
    assert settled is not None
    assert told(settled) == told(final)
    assert lengths == sorted(lengths)


def test_finalize_ends_what_is_open_there_and_says_nothing_twice() -> None:
    samples = speech_samples("dialogue.wav")
    cut = cutter()
    assert cut.finalize() == []
    middle = round(1.5 * RATE)
    assert [type(f) for f in cut.push(pcm(samples[:middle]))] == [Began]
    (final,) = cut.finalize()
    assert isinstance(final, Utterance)
    assert final.end == middle
    assert cut.open is None
    assert cut.finalize() == []
    assert isinstance(next(iter(cut.push(pcm(samples[middle : middle + RATE])))), Began), "it goes on afresh"


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_memory_stays_with_audio_without_end(rate: int) -> None:
    cut = cutter(rate)
    talk = np.tile(speech_samples("dialogue.wav")[round(3.6 * RATE) : round(6.9 * RATE)], 4)
    audio = pcm(np.concatenate([talk, np.zeros(13 * RATE, np.float32)]), rate)
    most = 0
    for _ in range(3):
        for at in range(0, len(audio), 6400):
            cut.push(audio[at : at + 6400])
            most = max(most, len(cut._audio._kept))
    assert most < (5 + 15 + 1) * rate * 2, "the longest silence and the longest utterance"
