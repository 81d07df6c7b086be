"""The aligner over its real child processes: what it promises whatever they do and whatever the text is."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
from structlog.testing import capture_logs

from cosygate.engine.aligning import Aligner
from cosygate.engine.recognisers.base import RATE, RecognisedWord, Stopped
from cosygate.engine.words import forced
from tests.support.engine_process import speech_samples

NOTE = "This is a short note about the meeting on Friday. Please send the recording to my office before lunch."
NEVER = threading.Event()


@pytest.fixture(scope="module")
def aligner() -> Iterator[Aligner]:
    aligner = Aligner(1)
    yield aligner
    aligner.close()


@pytest.fixture
def impatient() -> Iterator[Aligner]:
    """Gives a child two seconds and a fifth of the piece's length."""
    aligner = Aligner(1, patience_s=2.0)
    yield aligner
    aligner.close()


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "cosygate.engine.words.child" in p.cmdline()]


def the_child(known: list[psutil.Process]) -> psutil.Process:
    [child] = [p for p in children() if p not in known]
    return child


def within(seconds: float, fact: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not fact() and time.monotonic() < deadline:
        time.sleep(0.02)
    return fact()


def check(words: tuple[RecognisedWord, ...], text: str, seconds: float) -> None:
    """All words of the text, in order, inside the piece, not overlapping."""
    assert " ".join(word.text for word in words).split() == text.split()
    told = 0.0
    for word in words:
        assert told <= word.start <= word.end <= seconds
        told = word.end


def spread(words: tuple[RecognisedWord, ...], seconds: float) -> bool:
    """Over the whole piece, by letters: nothing was heard."""
    return words[0].start == 0.0 and words[-1].end == seconds


def test_words_get_their_times(aligner: Aligner) -> None:
    samples = speech_samples()
    words = aligner.aligned(samples, NOTE, NEVER).words
    check(words, NOTE, len(samples) / RATE)
    assert words[0].start > 0.05, "silence at the edge is no word"
    friday, please = words[9], words[10]
    assert please.start - friday.end > 0.2, "nor is the pause between the sentences"
    for word in words:
        assert 0.03 <= word.end - word.start < 1.0, word
    loud = np.abs(samples) > 0.02
    for word in words:
        heard = loud[round(word.start * RATE) : round(word.end * RATE)]
        assert heard.mean() > 0.05, f"{word} lies where nobody speaks"


def test_a_used_child_is_as_good_as_new(aligner: Aligner) -> None:
    samples = speech_samples()
    noise = np.random.default_rng(1).normal(0, 0.2, 4 * RATE).astype(np.float32)
    first = aligner.aligned(samples, NOTE, NEVER).words
    aligner.aligned(noise, "nothing of this was said", NEVER)
    assert aligner.aligned(samples, NOTE, NEVER).words == first


@pytest.mark.parametrize(
    "text",
    [
        "This is a short note about the zorblax on Friday. Please send the recording to my office before lunch.",
        "This is a short note about the 会议 on Friday. Please send the recording to my office before lunch.",
        "… this IS a short-note about the U.S. meeting on 5/6 Friday please $3.50 send — 018",
        "something else entirely was said by somebody who speaks about the weather",
        "会议 在 星期五",
        "word " * 600,
        "x" * 600,
        "1" * 100,
        "\ud800 broken \udfff",
        "<sil> [NOISE] (NULL) </s>",
        "a\u2028b\x00c\x1cd",
    ],
)
def test_no_text_is_too_bad(aligner: Aligner, text: str) -> None:
    samples = speech_samples()
    check(aligner.aligned(samples, text, NEVER).words, text, len(samples) / RATE)


@pytest.mark.parametrize("count", [0, 1, 100, 800, 3_000])
def test_no_piece_is_too_short(aligner: Aligner, count: int) -> None:
    words = aligner.aligned(speech_samples()[:count], "Hello there", NEVER).words
    check(words, "Hello there", count / RATE)


def test_silence_and_nothing(aligner: Aligner) -> None:
    assert aligner.aligned(speech_samples(), " ", NEVER).words == ()
    check(aligner.aligned(np.zeros(2 * RATE, np.float32), "Hello there", NEVER).words, "Hello there", 2.0)


def test_an_unknown_word_does_not_cost_the_others_their_times(aligner: Aligner) -> None:
    samples = speech_samples()
    known = aligner.aligned(samples, NOTE, NEVER).words
    for stranger in ("meteeng", "会议"):
        words = aligner.aligned(samples, NOTE.replace("meeting", stranger), NEVER).words
        for word, expected in zip(words, known, strict=True):
            assert word.start == pytest.approx(expected.start, abs=0.15), (word, expected)


def test_guessed_pronunciations_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forced, "_GUESSED_MAX", 2)
    alignment = forced.ForcedAlignment()
    pcm = (speech_samples() * 32767).astype("<i2").tobytes()
    words = ("meeteng", "meeteeng", "meetting")
    found = [alignment.find(NOTE.replace("meeting", word).split(), pcm) for word in words]
    assert None not in found[-1].places
    assert alignment.find(NOTE.replace("meeting", "meeteng").split(), pcm) == found[0]
    assert alignment._decoder.lookup_word("meeteeng") is None


def test_how_well_text_and_speech_fit(aligner: Aligner) -> None:
    samples = speech_samples()
    fits = aligner.aligned(samples, NOTE, NEVER).likeness
    wrong = NOTE.replace("short note", "wide gate").replace("office", "kitchen").replace("recording", "potatoes")
    worse = aligner.aligned(samples, wrong, NEVER).likeness
    assert fits is not None
    assert worse is not None
    assert -2.0 < fits < 0
    assert worse < fits - 0.3
    other = "something else entirely was said by somebody who speaks about the weather"
    assert aligner.aligned(samples, other, NEVER).likeness == -math.inf
    assert aligner.aligned(samples, "会议", NEVER).likeness is None


def test_children_are_started_when_needed_and_no_more_than_allowed() -> None:
    before = children()
    aligner = Aligner(2)
    try:
        assert children() == before
        samples = speech_samples()
        aligner.aligned(samples, NOTE, NEVER)
        aligner.aligned(samples, NOTE, NEVER)
        assert len(children()) == len(before) + 1, "one is enough for one at a time"
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: aligner.aligned(samples, NOTE, NEVER).words, range(12)))
        assert len(set(answers)) == 1
        assert len(children()) == len(before) + 2
    finally:
        aligner.close()
    assert children() == before


def test_a_child_that_died_is_replaced_and_its_piece_has_words() -> None:
    before = children()
    samples = speech_samples()
    with contextlib.closing(Aligner(1)) as aligner:
        good = aligner.aligned(samples, NOTE, NEVER).words
        the_child(before).kill()
        with capture_logs() as lines:
            lost = aligner.aligned(samples, NOTE, NEVER).words
        check(lost, NOTE, len(samples) / RATE)
        assert spread(lost, len(samples) / RATE)
        assert [line["event"] for line in lines] == ["words.aligner_lost"]
        assert "Friday" not in str(lines)
        assert aligner.aligned(samples, NOTE, NEVER).words == good


def test_a_child_that_hangs_is_replaced(impatient: Aligner) -> None:
    before = children()
    samples = speech_samples()[: 3 * RATE]
    good = impatient.aligned(samples, NOTE[:49], NEVER).words
    the_child(before).suspend()
    started = time.monotonic()
    lost = impatient.aligned(samples, NOTE[:49], NEVER).words
    assert 2.5 < time.monotonic() - started < 8
    assert spread(lost, 3.0)
    assert impatient.aligned(samples, NOTE[:49], NEVER).words == good


def test_a_caller_that_leaves_is_let_go() -> None:
    samples = speech_samples()
    before = children()
    with contextlib.closing(Aligner(1)) as aligner:
        aligner.aligned(samples, NOTE, NEVER)
        the_child(before).suspend()
        stop = threading.Event()
        started = time.monotonic()
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(Stopped):
            aligner.aligned(samples, NOTE, stop)
        assert time.monotonic() - started < 1.3
        assert not spread(aligner.aligned(samples, NOTE, NEVER).words, len(samples) / RATE), "the next one is served"


def test_whoever_waits_for_a_child_can_leave_too() -> None:
    samples = speech_samples()
    before = children()
    with contextlib.closing(Aligner(1)) as aligner, ThreadPoolExecutor(1) as pool:
        aligner.aligned(samples, NOTE, NEVER)
        the_child(before).suspend()
        stop_first, stop = threading.Event(), threading.Event()
        first = pool.submit(aligner.aligned, samples, NOTE, stop_first)
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(Stopped):
            aligner.aligned(samples, NOTE, stop)
        assert not first.done()
        stop_first.set()
        assert isinstance(first.exception(), Stopped)


def test_children_die_with_their_parent() -> None:
    program = (
        "import sys, threading, time, numpy, psutil\n"
        "from cosygate.engine.aligning import Aligner\n"
        "Aligner(1).aligned(numpy.zeros(16000, 'f4'), 'hello', threading.Event())\n"
        "[child] = psutil.Process().children()\n"
        "child.suspend()\n"  # it sees no end of its socket
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        os.kill(parent.pid, signal.SIGKILL)
    assert within(5, lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
