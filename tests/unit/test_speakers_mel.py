"""Mel spectrograms and windows for the speaker encoder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.engine.speakers import mel


def sine(hertz: float, seconds: float = 1.0, level: float = 0.1) -> Samples:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


# Centres of librosa's 40 bands up to 8 kHz, 1.1035 mel apart: 66.7 Hz each up to 15 mel, then 27 for a factor of 6.4.
@pytest.mark.parametrize(("hertz", "band"), [(74, 0), (147, 1), (441, 5), (1031, 13), (2982, 27), (6872, 38)])
def test_a_tone_is_loudest_in_its_band(hertz: float, band: int) -> None:
    frames = mel.spectrogram(sine(hertz))
    assert frames.shape == (101, mel.BANDS)
    assert int(frames[50].argmax()) == band


def test_power_not_amplitude_and_no_logarithm() -> None:
    quiet, loud = (mel.spectrogram(sine(440, level=level))[5:-5] for level in (0.1, 0.2))
    np.testing.assert_allclose(loud, 4 * quiet, rtol=1e-3)


def test_quiet_speech_is_raised_and_loud_speech_left() -> None:
    samples = sine(300, 2.0, level=0.01)
    np.testing.assert_allclose(mel.windows(samples), mel.windows(samples / 20), rtol=1e-3, atol=1e-6)
    loud = sine(300, 2.0, level=0.5)
    np.testing.assert_array_equal(mel.windows(loud)[0], mel.spectrogram(loud)[: mel.WINDOW])


def test_silence_is_no_division_by_zero() -> None:
    assert not mel.windows(np.zeros(RATE, np.float32)).any()


def test_a_short_stretch_is_repeated() -> None:
    samples = sine(300, 0.5)
    (window,) = mel.windows(samples)
    np.testing.assert_array_equal(window[:51], window[51:102])
    assert mel.centres(len(samples)).tolist() == [pytest.approx(len(samples) / 2, abs=mel.FRAME)]


@given(st.integers(1, 20 * RATE))
def test_windows_lie_evenly_over_the_whole_stretch(count: int) -> None:
    centres = mel.centres(count)
    if count < 1.6 * RATE - mel.FRAME:
        assert len(centres) == 1
        return
    half = mel.WINDOW * mel.FRAME // 2
    assert centres[0] == half
    assert count - half - mel.FRAME < centres[-1] <= count - half + mel.FRAME
    gaps = np.diff(centres)
    assert (gaps > 0).all()
    assert (gaps <= mel.HOP * mel.FRAME).all()


@pytest.mark.parametrize("count", [1, 159, 160, 25_439, 25_440, 25_600, 25_601, 100_000])
def test_each_window_has_its_centre(count: int) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, count).astype(np.float32)
    assert len(mel.windows(samples)) == len(mel.centres(count))
