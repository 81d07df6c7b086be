"""What every recogniser gets for nothing: resampling, retries, sample indexes, times that never overlap."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import soxr

from cosygate.engine.extras import Extras
from cosygate.engine.models import SILERO_VAD, locate
from cosygate.engine.pipeline import SAMPLE_RATES, Heard, Pipeline
from cosygate.engine.recognisers.base import (
    Hints,
    Model,
    Recognised,
    RecognisedWord,
    Recogniser,
    Samples,
    Stopped,
    Transient,
)
from cosygate.engine.recognisers.scripted import Scripted
from cosygate.engine.vad import Cutter, FixedCutter, Piece, SpeechCutter
from tests.support.engine_process import silence, speech_pcm, speech_samples


class Moody(Scripted):
    """Fails `bad` times before each success."""

    def __init__(self, bad: int) -> None:
        super().__init__()
        self.bad = bad
        self.calls = 0

    def recognise(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        self.calls += 1
        if self.calls <= self.bad:
            raise Transient("not now")
        return super().recognise(samples, hints, stop)


class Echo:
    """Says how long each piece was, with a word that claims to go beyond it."""

    name, version = "echo", "1"
    models: tuple[Model, ...] = (Model("echo", ("*",), ("words",)),)
    cut_s: float | None = None
    limit_s: float | None = None
    instant = False

    def recognise(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        seconds = len(samples) / 16_000
        return Recognised(f"{seconds:.2f}", words=(RecognisedWord("w", -1.0, 0.1), RecognisedWord("w", 0.1, 99.0)))

    def close(self) -> None: ...


def pipeline(recogniser: Recogniser, cutter: Cutter, *, rate: int = 16_000, first: int = 0) -> Pipeline:
    hints = Hints(recogniser.models[0].name)
    stop = threading.Event()
    return Pipeline(
        recogniser, Extras(), cutter, hints, sample_rate=rate, first_sample=first, stop=stop, monotonic=time.monotonic
    )


def run(line: Pipeline, pcm: bytes, step: int = 65_536) -> list[Heard]:
    pieces = [piece for at in range(0, len(pcm), step) for piece in line.push(pcm[at : at + step])] + line.finalize()
    return [heard for piece in pieces if (heard := line.recognise(piece)) is not None]


@pytest.mark.parametrize("rate", [r for r in SAMPLE_RATES if r != 16_000])
def test_other_rates_are_resampled_and_times_count_at_the_rate_that_was_sent(rate: int) -> None:
    samples = speech_samples()
    sent = (soxr.resample(samples, 16_000, rate) * 32767).astype("<i2").tobytes()
    cutter = SpeechCutter(locate(SILERO_VAD)["model"])
    native = run(pipeline(Echo(), cutter), speech_pcm()[0])
    cutter.reset()
    line = pipeline(Echo(), cutter, rate=rate)
    heard = run(line, sent)
    assert line.received == len(sent) // 2
    assert len(heard) == len(native)
    for one, other in zip(heard, native, strict=True):
        assert one.start / rate == pytest.approx(other.start / 16_000, abs=0.25)
        assert one.end / rate == pytest.approx(other.end / 16_000, abs=0.25)
        assert one.end <= line.received


def test_reported_times_never_overlap_and_words_stay_inside() -> None:
    line = pipeline(Echo(), FixedCutter(30))
    line.push(silence(3))
    padded = [Piece(start, end, np.zeros(end - start, np.float32)) for start, end in ((0, 20_000), (16_000, 48_000))]
    first, second = (line.recognise(piece) for piece in padded)
    assert first is not None
    assert second is not None
    assert (first.start, first.end) == (0, 20_000)
    assert (second.start, second.end) == (20_000, 48_000)
    assert second.recognised.text == "2.00", "the recogniser hears the pad all the same"
    assert [(w.start, w.end) for w in second.words] == [(20_000, 20_000), (20_000, 48_000)]


def test_indexes_count_from_the_first_sample_that_is_named() -> None:
    line = pipeline(Scripted(), FixedCutter(1.0), rate=8_000, first=80_000)
    heard = run(line, bytes(2 * 8_000 * 2))
    assert [(h.start, h.end) for h in heard] == [(80_000, 88_000), (88_000, 96_000)]
    assert line.decided == 96_000


def test_an_empty_text_is_no_segment() -> None:
    recogniser = Scripted({"texts": ["", "said"]})
    heard = run(pipeline(recogniser, FixedCutter(1.0)), silence(2))
    assert [h.recognised.text for h in heard] == ["said"]


def test_a_transient_failure_is_tried_again_twice() -> None:
    recogniser = Moody(bad=2)
    assert len(run(pipeline(recogniser, FixedCutter(1.0)), silence(1))) == 1
    assert recogniser.calls == 3
    with pytest.raises(Transient):
        run(pipeline(Moody(bad=3), FixedCutter(1.0)), silence(1))


def test_nothing_is_recognised_once_the_caller_is_gone() -> None:
    recogniser = Moody(bad=0)
    line = pipeline(recogniser, FixedCutter(1.0))
    (piece,) = line.push(silence(1))
    line._stop.set()
    with pytest.raises(Stopped):
        line.recognise(piece)
    assert recogniser.calls == 0


def test_time_is_measured() -> None:
    line = pipeline(Scripted({"delay_s": 0.05}), FixedCutter(1.0))
    run(line, silence(2))
    assert 0.1 <= line.timings.recognise < 1
    assert 0 < line.timings.vad < 1
