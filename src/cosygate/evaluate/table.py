"""The figures as a table of texts, for a terminal and for the page, and everything as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from cosygate.evaluate.aligning import Rate
from cosygate.evaluate.scoring import Score
from cosygate.evaluate.summing import Summary

NOTHING = "–"
_LATENCY = "latency s, median / p90"
COLUMNS: Mapping[str, Callable[[Summary], str]] = {
    "model": lambda s: s.model,
    "language": lambda s: s.language,
    "recordings": lambda s: str(s.recordings),
    "failed": lambda s: str(s.failed),
    "WER %": lambda s: percent(s.wer),
    "CER %": lambda s: percent(s.cer),
    "DER %": lambda s: percent(s.der),
    "word starts ms, median / p90": lambda s: _two(s.start_median_s, s.start_p90_s, "{:.0f}", 1000),
    "words timed": lambda s: f"{s.words_matched} of {s.words_timed}" if s.words_timed else NOTHING,
    "RTF": lambda s: NOTHING if s.rtf is None else f"{s.rtf:.3f}",
    _LATENCY: lambda s: _two(s.latency_median_s, s.latency_p90_s, "{:.2f}"),
    "other language": lambda s: NOTHING if s.flagged is None else f"{s.flagged.value * s.flagged.of:.0f}",
}


def percent(rate: Rate | None) -> str:
    if rate is None:
        return NOTHING
    interval = "" if rate.low is None or rate.high is None else f" ({rate.low * 100:.1f}-{rate.high * 100:.1f})"
    return f"{rate.value * 100:.1f}{interval}"


def _two(first: float | None, second: float | None, written: str, times: float = 1.0) -> str:
    if first is None or second is None:
        return NOTHING
    return f"{written.format(first * times)} / {written.format(second * times)}"


def rows(summaries: Sequence[Summary]) -> list[list[str]]:
    """A header, then a row for each; columns that nothing is known in are left out."""
    columns = [(title, [text(summary) for summary in summaries]) for title, text in COLUMNS.items()]
    told = [[title, *cells] for title, cells in columns if any(cell != NOTHING for cell in cells)]
    return [list(row) for row in zip(*told, strict=True)]


def text(summaries: Sequence[Summary]) -> str:
    table = rows(summaries)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]]) + "\n"


def as_json(about: Mapping[str, Any], summaries: Sequence[Summary], scores: Sequence[Score]) -> dict[str, Any]:
    """`about`: what was run. Shares are 0 to 1, times seconds; what is not known is null."""
    return {
        **about,
        "summaries": [asdict(summary) for summary in summaries],
        "recordings": [_score(score) for score in scores],
    }


def _score(score: Score) -> dict[str, Any]:
    """What was compared is told as text; the alignment follows from it."""
    told = {field.name: getattr(score, field.name) for field in fields(score)}
    del told["recording"], told["pairs"]
    for name in ("words", "characters", "speakers"):
        told[name] = asdict(told[name]) if told[name] else None
    for name in ("engine", "timings"):
        told[name] = dict(told[name])
    recording = {"file": score.recording.name, "reference_language": score.recording.language}
    return recording | told | {"reference": " ".join(score.reference), "heard": " ".join(score.heard)}
