"""How well word times are found, on speech whose word times are known: flite's, and recordings spliced of it.

What is measured here is in docs/benchmarks.md; the limits leave room for another release of flite.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from cosygate.engine.aligning import Aligner
from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.engine.words.fitting import Place
from tests.support import flite

pytestmark = pytest.mark.needs("flite")
NEVER = threading.Event()
SENTENCES = (
    "This is a short note about the meeting on Friday.",
    "Please send the recording to my office before lunch.",
    "The quick brown fox jumps over the lazy dog, and then it sleeps.",
    "I'm 25, and Mr. Smith's daughter is 7.",
    "In 1999 we moved to a house with 3 floors and 12 windows.",
    "Nobody could remember who had opened the kubernetes dashboard yesterday.",
    "She said that Zaphod's brother would never drink the blue tea again.",
    "Well, if you ask me, it was a complete waste of time.",
    "Turn left after the second bridge and follow the river for about 5 miles.",
    "Every autumn the leaves fall, the days grow short, and the streets are quiet.",
    "You owe me $20, but I would rather have the book back.",
    "What on earth happened to the 22nd chapter of this manual?",
)


@pytest.fixture(scope="module")
def aligner() -> Iterator[Aligner]:
    with contextlib.closing(Aligner(1)) as aligner:
        yield aligner


@pytest.mark.parametrize("voice", flite.VOICES)
def test_word_starts_of_sentences(aligner: Aligner, voice: str) -> None:
    late: list[float] = []
    for text in SENTENCES:
        samples, truth = flite.say(voice, text)
        late += errors(aligner, samples, text, truth)
    judge(voice, late)


@pytest.mark.parametrize("cut", ["sentences", "words"])
def test_word_starts_of_spliced_recordings(aligner: Aligner, cut: str) -> None:
    """Clips of several voices in turn, with pauses of several lengths between them, and noise over all."""
    random = np.random.default_rng(7)
    late: list[float] = []
    for first in range(0, len(SENTENCES), 3):
        clips = SENTENCES[first : first + 3] if cut == "sentences" else SENTENCES[first].split()
        late += errors(aligner, *spliced(random, clips))
    judge(f"spliced {cut}", late)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("The code is zero one eight today", "The code is 018 today"),
        ("It was nine eleven then", "It was 911 then"),
        ("That was in nineteen ninety nine I think", "That was in 1999 I think"),
        ("That was in two thousand and five I think", "That was in 2005 I think"),
        ("It costs two dollars fifty in Rome", "It costs $2.50 in Rome"),
        ("The U S A won the game", "The USA won the game"),
        ("It is nearly three point one four metres", "It is nearly 3.14 metres"),
        ("She came in twenty second of thirty", "She came in 22nd of 30"),
    ],
)
def test_a_number_lasts_as_long_as_its_words(aligner: Aligner, said: str, text: str) -> None:
    """Whichever way it is read."""
    samples, truth = flite.say("slt", said)
    words = aligner.aligned(samples, text, NEVER).words
    same = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(said.split(), text.split(), strict=False)))
    at, behind = len(same), len(text.split()) - len(same) - 1
    assert words[at].start == pytest.approx(truth[at][0], abs=0.06)
    assert words[at].end == pytest.approx(truth[-behind - 1][1], abs=0.06)


def spliced(random: np.random.Generator, clips: Sequence[str]) -> tuple[Samples, str, list[Place]]:
    """Samples, text, start and end of each word."""
    pieces: list[Samples] = []
    truth: list[Place] = []
    for voice, clip in zip(itertools.cycle(flite.VOICES), clips, strict=False):
        pieces.append(np.zeros(round(random.uniform(0.05, 1.0) * RATE), np.float32))
        at = sum(map(len, pieces)) / RATE
        samples, words = flite.say(voice, clip)
        pieces.append(samples)
        truth += [(at + start, at + end) for start, end in words]
    joined = np.concatenate(pieces)
    assert len(joined) <= 30 * RATE, "no piece that an engine recognises is longer"
    return joined + random.normal(0, 0.002, len(joined)).astype(np.float32), " ".join(clips), truth


def errors(aligner: Aligner, samples: Samples, text: str, truth: list[Place]) -> list[float]:
    """Seconds by which each word's start is late."""
    words = aligner.aligned(samples, text, NEVER).words
    return [word.start - start for word, (start, _) in zip(words, truth, strict=True)]


def judge(what: str, late: list[float]) -> None:
    median, most = np.percentile(np.abs(late), (50, 90))
    print(f"{what}: {len(late)} word starts, median {1000 * median:.0f} ms, 90 % within {1000 * most:.0f} ms, "
          f"on average {1000 * np.mean(late):+.0f} ms")  # fmt: skip
    assert median <= 0.030
    assert most <= 0.100
