"""Cutting audio into pieces: the speech detector against the bare one, and the fixed cutter."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import sherpa_onnx
from hypothesis import given
from hypothesis import strategies as st

from cosygate.engine.models import SILERO_VAD, locate
from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.engine.vad import PAD, WINDOW, Cutter, FixedCutter, Piece, Pool, SpeechCutter
from tests.support.engine_process import speech_samples


@pytest.fixture(scope="module")
def cutter() -> SpeechCutter:
    return SpeechCutter(locate(SILERO_VAD)["model"])


def cut(cutter: Cutter, samples: Samples, step: int = 65_536) -> list[Piece]:
    cutter.reset()
    pieces = [piece for at in range(0, len(samples), step) for piece in cutter.push(samples[at : at + step])]
    return pieces + cutter.finish()


def bare(samples: Samples) -> list[tuple[int, int]]:
    """The measured pipeline (design notes on engines): the whole recording is in memory, one detector for it."""
    config = sherpa_onnx.VadModelConfig()
    config.silero_vad.model = str(locate(SILERO_VAD)["model"])
    config.silero_vad.threshold = 0.5
    config.silero_vad.min_silence_duration = 0.4
    config.silero_vad.min_speech_duration = 0.2
    config.silero_vad.max_speech_duration = 15
    vad = sherpa_onnx.VoiceActivityDetector(config, buffer_size_in_seconds=600)
    found = []
    for at in range(0, len(samples) + 1, WINDOW):
        vad.accept_waveform(samples[at : at + WINDOW])
        if at + WINDOW >= len(samples):
            vad.flush()
        while not vad.empty():
            start, length = vad.front.start, len(vad.front.samples)
            found.append((max(0, start - PAD), min(len(samples), start + length + PAD)))
            vad.pop()
    return found


@pytest.mark.parametrize("name", ["note.wav", "dialogue.wav"])
def test_cuts_as_the_bare_detector_does(cutter: SpeechCutter, name: str) -> None:
    samples = speech_samples(name)
    pieces = cut(cutter, samples)
    assert [(p.start, p.end) for p in pieces] == bare(samples)
    assert len(pieces) >= 2
    for piece in pieces:
        np.testing.assert_array_equal(piece.samples, samples[piece.start : piece.end])


@pytest.mark.parametrize("step", [160, 512, 777, 10_000_000])
def test_what_it_finds_depends_on_samples_alone_not_on_how_they_come(cutter: SpeechCutter, step: int) -> None:
    samples = speech_samples()
    expected = [(p.start, p.end) for p in cut(cutter, samples)]
    assert [(p.start, p.end) for p in cut(cutter, samples, step)] == expected


def test_a_used_detector_is_as_good_as_new(cutter: SpeechCutter) -> None:
    samples = speech_samples()
    expected = [(p.start, p.end) for p in cut(SpeechCutter(locate(SILERO_VAD)["model"]), samples)]
    cutter.reset()
    cutter.push(samples[: 3 * RATE])  # left in the middle of a word
    assert [(p.start, p.end) for p in cut(cutter, samples)] == expected


def test_silence_and_noise_have_no_speech(cutter: SpeechCutter) -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, 5 * RATE).astype(np.float32)
    assert cut(cutter, np.zeros(5 * RATE, np.float32)) == []
    assert cut(cutter, noise) == []
    assert cut(cutter, np.empty(0, np.float32)) == []


def test_speech_without_a_pause_is_cut_and_memory_stays(cutter: SpeechCutter) -> None:
    samples = speech_samples()
    first = cut(cutter, samples)[0]
    endless = np.tile(samples[first.start + PAD + 4000 : first.end - PAD - 4000], 60)
    pieces = cut(cutter, endless)
    assert len(endless) > 90 * RATE
    assert max(p.end - p.start for p in pieces) <= 30 * RATE
    assert all(b.start <= a.end for a, b in itertools.pairwise(pieces)), "a forced cut loses nothing"
    for piece in pieces:
        np.testing.assert_array_equal(piece.samples, endless[piece.start : piece.end])


def test_after_finish_it_goes_on_counting(cutter: SpeechCutter) -> None:
    samples = speech_samples()
    alone = [(p.start, p.end) for p in cut(cutter, samples)]
    cutter.reset()
    cutter.push(samples)
    cutter.finish()
    again = cutter.push(samples) + cutter.finish()
    assert [(p.start - len(samples), p.end - len(samples)) for p in again] == alone


def test_no_piece_starts_before_what_was_decided(cutter: SpeechCutter) -> None:
    samples = speech_samples("dialogue.wav")
    cutter.reset()
    decided = [0]
    for at in range(0, len(samples), WINDOW):
        for piece in cutter.push(samples[at : at + WINDOW]):
            assert piece.start >= decided[-1]
        decided.append(cutter.decided)
    assert decided == sorted(decided)
    assert decided[-1] > len(samples) * 0.8


def test_a_pool_gives_back_what_was_returned_as_new() -> None:
    pool = Pool(lambda: FixedCutter(1.0))
    one = pool.borrow()
    one.push(np.zeros(100, np.float32))
    pool.give_back(one)
    assert pool.borrow() is one
    assert one.finish() == []
    assert pool.borrow() is not one


@given(st.lists(st.integers(0, 40_000), max_size=12), st.sampled_from([0.1, 1.0, 0.73]))
def test_fixed_pieces_tile_the_recording(sizes: list[int], seconds: float) -> None:
    samples = np.arange(sum(sizes), dtype=np.float32)
    cutter = FixedCutter(seconds)
    pieces, at = [], 0
    for size in sizes:
        pieces += cutter.push(samples[at : at + size])
        at += size
    pieces += cutter.finish()
    assert [p.start for p in pieces] == [0, *(p.end for p in pieces[:-1])][: len(pieces)]
    assert all(p.end - p.start == round(seconds * RATE) for p in pieces[:-1])
    joined = np.concatenate([p.samples for p in pieces]) if pieces else samples
    np.testing.assert_array_equal(joined, samples)
