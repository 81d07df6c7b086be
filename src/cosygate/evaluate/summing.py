"""All scores of one model, language by language, as the figures that are compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cosygate.evaluate.aligning import Errors, Rate, percentile, rate, share
from cosygate.evaluate.scoring import Score
from cosygate.evaluate.speakers import SpeakerErrors

ALL = "all"


@dataclass(frozen=True, slots=True)
class Summary:
    """None: nothing of the kind was known or asked for."""

    model: str
    language: str  # ALL: of every language together
    recordings: int
    failed: int
    wer: Rate | None
    cer: Rate | None
    der: Rate | None
    start_median_s: float | None  # by how much a word's start is wrong, early or late
    start_p90_s: float | None
    words_matched: int  # that these are measured on
    words_timed: int  # in the references
    rtf: float | None  # seconds of work per second of audio
    stages: dict[str, float]  # the same by what was done
    latency_median_s: float | None  # from the first byte sent to the transcript in hand
    latency_p90_s: float | None
    flagged: Rate | None  # recordings that the engine says are not in its language


def summaries(scores: Sequence[Score], seed: int) -> list[Summary]:
    """Model by model as they were asked for; each language, then all of them if there are several."""
    found = []
    for model in dict.fromkeys(score.model for score in scores):
        own = [score for score in scores if score.model == model]
        languages = sorted({score.recording.language for score in own})
        for language in languages:
            group = [score for score in own if score.recording.language == language]
            found.append(_summary(name_of(model, own), language, group, seed))
        if len(languages) > 1:
            found.append(_summary(name_of(model, own), ALL, own, seed))
    return found


def name_of(model: str | None, scores: Iterable[Score]) -> str:
    """The server's default is called what it says it is."""
    told = sorted({score.engine["model"] for score in scores if score.engine.get("model")})
    return model or " + ".join(told) or "default"


def _summary(model: str, language: str, scores: Sequence[Score], seed: int) -> Summary:
    done = [score for score in scores if score.failure is None]
    starts = [abs(late) for score in done for late in score.starts]
    latencies = [score.wall_s for score in done]
    return Summary(
        model=model,
        language=language,
        recordings=len(scores),
        failed=len(scores) - len(done),
        wer=_rate(scores, lambda score: score.words, seed),
        cer=_rate(scores, lambda score: score.characters, seed),
        der=_rate(scores, lambda score: score.speakers, seed),
        start_median_s=percentile(starts, 50),
        start_p90_s=percentile(starts, 90),
        words_matched=len(starts),
        words_timed=sum(score.words_timed for score in scores),
        rtf=_per_second(done, "recognise"),
        stages={
            name.removeprefix("engine_"): spent
            for name in sorted({name for score in done for name in score.timings if name.startswith("engine_")})
            if (spent := _per_second(done, name)) is not None
        },
        latency_median_s=percentile(latencies, 50),
        latency_p90_s=percentile(latencies, 90),
        flagged=share(sum(score.flagged for score in done), len(done)),
    )


def _rate(scores: Sequence[Score], of: Callable[[Score], Errors | SpeakerErrors | None], seed: int) -> Rate | None:
    known = [errors for score in scores if (errors := of(score)) is not None]
    return rate([errors.count for errors in known], [errors.of for errors in known], seed)


def _per_second(scores: Sequence[Score], stage: str) -> float | None:
    """Seconds of all recordings together over all seconds of audio."""
    audio = sum(score.duration for score in scores)
    return sum(score.timings.get(stage, 0.0) for score in scores) / audio if audio else None
