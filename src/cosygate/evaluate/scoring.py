"""One transcript against what is known of its recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby

from cosygate.client import Segment, Transcript
from cosygate.evaluate.aligning import Errors, Pair, align, errors
from cosygate.evaluate.normal import words
from cosygate.evaluate.references import Recording, Turn
from cosygate.evaluate.running import Outcome
from cosygate.evaluate.speakers import SpeakerErrors, speaker_errors

MISMATCH = "language_mismatch"  # the flag of a recording in no language of the model's


@dataclass(frozen=True, slots=True)
class Score:
    """What is not known, or was not asked for, is None."""

    recording: Recording
    model: str | None  # as asked for
    failure: str | None
    text: str = ""
    engine: Mapping[str, str] = field(default_factory=dict)  # name, model, version
    language: str | None = None  # as the transcript tells it
    flagged: bool = False  # the engine says that this is not its language
    duration: float = 0.0  # seconds of audio
    wall_s: float = 0.0  # from the first byte sent to the transcript in hand
    timings: Mapping[str, float] = field(default_factory=dict)  # seconds, as the transcript has them
    reference: tuple[str, ...] = ()  # words as compared
    heard: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()  # of the two
    words: Errors | None = None
    characters: Errors | None = None
    speakers: SpeakerErrors | None = None
    starts: tuple[float, ...] = ()  # seconds by which each word that matches was told late; early is negative
    words_timed: int = 0  # in the reference


def score(outcome: Outcome, *, timed: bool, diarized: bool) -> Score:
    """`timed`, `diarized`: word times, speakers were asked for. A recording that failed has heard nothing."""
    recording, transcript = outcome.recording, outcome.transcript
    reference = words(recording.reference, recording.language)
    heard = words(transcript.text, recording.language) if transcript else []
    told = tuple(spoken(transcript)) if transcript else ()
    found = Score(
        recording,
        outcome.model,
        outcome.failure,
        reference=tuple(reference),
        heard=tuple(heard),
        pairs=tuple(align(reference, heard)) if reference else (),
        words=errors(reference, heard) if reference else None,
        characters=errors("".join(reference), "".join(heard)) if reference else None,
        speakers=speaker_errors(recording.turns, told) if diarized and recording.turns else None,
        words_timed=len(recording.words) if timed else 0,
    )
    if transcript is None:
        return found
    return replace(
        found,
        text=transcript.text,
        engine=transcript.engine,
        language=transcript.language,
        flagged=MISMATCH in transcript.flags,
        duration=transcript.duration,
        wall_s=outcome.wall_s,
        timings=transcript.timings,
        starts=tuple(start_errors(recording, transcript)) if timed else (),
    )


def spoken(transcript: Transcript) -> Iterator[Turn]:
    """Who speaks when: segments, and where several speak in one, the runs of each one's words."""
    for segment in transcript.segments:
        if len({word.speaker for word in segment.words} - {None}) > 1:
            yield from _runs(segment)
        elif segment.speaker:
            yield Turn(segment.start, segment.end, segment.speaker)


def _runs(segment: Segment) -> Iterator[Turn]:
    for speaker, run in groupby(segment.words, key=lambda word: word.speaker):
        said = list(run)
        if speaker:
            yield Turn(said[0].start, said[-1].end, speaker)


def start_errors(recording: Recording, transcript: Transcript) -> Iterator[float]:
    """Of each word that matches in the alignment of reference and transcript. Each word is compared as a whole, however
    many words its numbers become."""
    known = [(key, word.start) for word in recording.words if (key := _key(word.text, recording.language))]
    told = [
        (key, word.start)
        for segment in transcript.segments
        for word in segment.words
        if (key := _key(word.text, recording.language))
    ]
    for n, m in align([key for key, _ in known], [key for key, _ in told]):
        if n is not None and m is not None and known[n][0] == told[m][0]:
            yield told[m][1] - known[n][1]


def _key(text: str, language: str) -> str:
    return " ".join(words(text, language))
