"""What the speaker encoder sees: mel spectrograms of 40 bands, cut into windows of 1.6 s.

The very features that resemblyzer was trained on: librosa's `melspectrogram` with its defaults (power, no logarithm,
centred frames of 25 ms every 10 ms, Slaney's mel scale and area norm: Auditory Toolbox, 1998).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cosygate.engine.recognisers.base import RATE, Samples

BANDS = 40
FRAME = RATE // 100  # samples from one frame to the next
WINDOW = 160  # frames that the encoder sees at once: 1.6 s
HOP = 40  # frames from one window to the next, at most: 0.4 s
_FFT = RATE // 40
_LINEAR_HZ = 200 / 3  # Hz per mel below 1 kHz, which is mel 15
_LOG_STEP = np.log(6.4) / 27  # from there 27 mels for each factor of 6.4
_QUIETEST = 1e-3  # mean square: what is below -30 dBFS is raised to it, as in training

Mels = NDArray[np.float32]


def windows(samples: Samples) -> Mels:
    """A stretch of speech → (windows, WINDOW, BANDS), spread evenly over it; a short one is repeated to fill one."""
    mel = spectrogram(samples)
    mel *= np.float32(max(1.0, _QUIETEST / max(float(np.mean(np.square(samples))), 1e-12)))
    if len(mel) < WINDOW:
        return np.resize(mel, (1, WINDOW, BANDS))
    return np.asarray(mel[_firsts(len(mel))[:, None] + np.arange(WINDOW)])


def centres(samples: int) -> NDArray[np.int64]:
    """The sample in the middle of each of `windows` of so many samples."""
    frames = 1 + samples // FRAME
    return (_firsts(frames) + min(frames, WINDOW) // 2) * FRAME


def spectrogram(samples: Samples) -> Mels:
    """(1 + samples // FRAME, BANDS), power."""
    padded = np.pad(samples, _FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::FRAME]
    spectrum = np.fft.rfft(frames * _HANN, axis=1)
    return np.asarray(np.square(np.abs(spectrum)) @ _FILTERS, np.float32)


def _firsts(frames: int) -> NDArray[np.int64]:
    last = max(0, frames - WINDOW)
    return np.linspace(0, last, 1 + -(-last // HOP)).round().astype(np.int64)


def _filters() -> NDArray[np.float32]:
    """Triangles from the mel before to the mel behind, each of area 1: (frequencies, BANDS)."""
    top = 15 + np.log(RATE / 2 / 1000) / _LOG_STEP
    mels = np.linspace(0, top, BANDS + 2)
    edges = np.where(mels < 15, mels * _LINEAR_HZ, 1000 * np.exp(_LOG_STEP * (mels - 15)))
    hertz = np.linspace(0, RATE / 2, _FFT // 2 + 1)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2]), np.float32)


_FILTERS = _filters()
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)).astype(np.float32)
