"""The report as one HTML page that needs nothing else: figures, plots, and each recording word by word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from cosygate.evaluate import plots, table
from cosygate.evaluate.aligning import Rate
from cosygate.evaluate.scoring import Score
from cosygate.evaluate.summing import Summary, name_of

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { padding: .3rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid #8885; }
figure { margin: 1.5rem 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; font-size: 12px; } svg text { fill: currentColor; } .grid { stroke: #8885; }
details { border-bottom: 1px solid #8885; padding: .4rem 0; } summary { cursor: pointer; }
del { color: #a8324a; } ins { color: #0b6e99; text-decoration: none; font-weight: 600; }
.failed { color: #a8324a; } small { opacity: .75; }
@media (prefers-color-scheme: dark) { del, .failed { color: #ff8fa3; } ins { color: #7cc7e8; } }
"""
# It shows texts from recordings and file names: should one ever get through unescaped, nothing runs and nothing loads.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(about: Mapping[str, Any], summaries: Sequence[Summary], scores: Sequence[Score]) -> str:
    """`about`: what was run, shown as names and values."""
    said = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in about.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>CosyGate: models compared</title><style>{_STYLE}</style></head><body><h1>Models compared</h1>"
        f"{_table(table.rows(summaries))}"
        "<p><small>WER, CER, DER: per cent, with 95 % intervals. RTF: seconds of work per second of audio.</small></p>"
        f"{''.join(_plots(summaries, scores))}<h2>Recordings</h2>"
        "<p><small>As they were compared. <del>Said and not heard</del>, <ins>heard and not said</ins>.</small></p>"
        f"{''.join(map(_recording, sorted(scores, key=_worst_first)))}"
        f"<h2>What was run</h2><dl>{said}</dl></body></html>\n"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{row(rows[0], 'th')}{''.join(row(cells, 'td') for cells in rows[1:])}</table>"


def _plots(summaries: Sequence[Summary], scores: Sequence[Score]) -> Iterator[str]:
    models = list(dict.fromkeys(summary.model for summary in summaries))
    for name, title in (("wer", "Word error rate, %"), ("cer", "Character error rate, %"), ("der", "Speakers, DER %")):
        told: list[tuple[str, int, Rate]] = [
            (f"{summary.model}, {summary.language}", models.index(summary.model), rate)
            for summary in summaries
            if (rate := getattr(summary, name)) is not None
        ]
        if told:
            yield plots.rates(told, title)
    done: dict[str | None, list[Score]] = {}
    for score in scores:
        if score.failure is None:
            done.setdefault(score.model, []).append(score)
    named = {name_of(model, own): own for model, own in done.items()}
    late = {name: sorted(abs(s) * 1000 for score in own for s in score.starts) for name, own in named.items()}
    if any(late.values()):
        yield plots.over(
            {name: [(ms, 100 * n / len(all_)) for n, ms in enumerate(all_, 1)] for name, all_ in late.items()},
            "Words whose start is told at most so wrong, %",
            "milliseconds",
            lines=True,
        )
    if named:
        waited = {name: [(score.duration, score.wall_s) for score in own] for name, own in named.items()}
        yield plots.over(waited, "Seconds from the first byte sent to the transcript", "seconds of audio")


def _worst_first(score: Score) -> tuple[bool, float]:
    wrong = [found.count / found.of for found in (score.words, score.speakers) if found is not None and found.of]
    return score.failure is None, -max(wrong, default=0.0)


def _recording(score: Score) -> str:
    told = [score.recording.language, score.model or score.engine.get("model", "")]
    if score.words:
        told.append(f"{score.words.count} of {score.words.of} words wrong")
    if score.speakers:
        told.append(f"{score.speakers.count:.1f} of {score.speakers.of:.1f} s of speakers wrong")
    if score.flagged:
        told.append("the engine says: another language")
    body = f'<p class="failed">{escape(score.failure)}</p>' if score.failure else f"<p>{_words(score)}</p>"
    return (
        f"<details><summary>{escape(score.recording.name)} <small>{escape(' · '.join(filter(None, told)))}</small>"
        f"</summary>{body}</details>"
    )


def _words(score: Score) -> str:
    """Reference and what was heard, laid over each other; without a reference the text alone."""
    if not score.pairs:
        return escape(score.text)
    parts = []
    for n, m in score.pairs:
        said = None if n is None else escape(score.reference[n])
        heard = None if m is None else escape(score.heard[m])
        if said is not None and said == heard:
            parts.append(said)
        else:
            parts += [f"<del>{said}</del>"] * (said is not None) + [f"<ins>{heard}</ins>"] * (heard is not None)
    return " ".join(parts)
