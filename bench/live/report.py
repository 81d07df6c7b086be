"""What the section Live of docs/benchmarks.md says, how one row a run is shown, and plots."""

from pathlib import Path

from bench import plots
from bench.report import Outcome, judged, number, table
from bench.stats import middle

ABOUT = (
    "Written by `make bench-live` (`python -m bench.live`): do not edit. Each row is one run with a fresh server; load "
    "generator, gateway and engine share the machine's cores."
)
_INK, _LIGHT, _BAR = "#2f6f6d", "#a9b4b8", "#b5533c"


def text(outcome: Outcome) -> str:
    """One work, as terminal and page show it."""
    if outcome.skipped or outcome.failed:
        return f"Not measured: {outcome.skipped or 'it failed: ' + outcome.failed}"
    rows = [
        [label, *(_shown(middle(outcome.results, key, figure)) for figure in outcome.columns)]
        for key, label in outcome.labels.items()
    ]
    more = [
        [label, figure, _shown(value)]
        for key, label in outcome.labels.items()
        for figure, value in outcome.results[key][-1].items()
        if outcome.listed and figure not in outcome.columns
    ]
    tables = [table(["", *outcome.columns.values()], rows), judged(outcome.verdicts)]
    if more:
        tables.insert(1, table(["", "", outcome.listed], more))
    return "\n\n".join(tables)


def _shown(value: float) -> str:
    """Counts as what they are."""
    return f"{value:,}" if isinstance(value, int) else number(value)


def draw(outcome: Outcome, path: Path) -> None:
    PLOTTED[outcome.name](outcome, path)


def _latencies(outcome: Outcome, path: Path) -> None:
    """p50 and p99 against the number of streams. The same results draw the same file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "live streams", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    canvas, axes = pyplot.subplots(figsize=(7, 3.4), layout="constrained")
    for durability, colour in (("process", _INK), ("disk", _LIGHT)):
        keys = [key for key in outcome.labels if key.startswith(durability)]
        counts = [int(key.partition("-")[2]) for key in keys]
        for figure, style in (("p99_ms", "o-"), ("p50_ms", "o:")):
            values = [middle(outcome.results, key, figure) for key in keys]
            axes.plot(counts, values, style, color=colour, markersize=3, label=f"{durability}, {figure[:3]}")
    axes.axhline(100, color=_BAR, linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xlabel("streams")
    axes.set_ylabel("ms until acknowledged")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, metadata={"Date": None})
    pyplot.close(canvas)


PLOTTED = {"streams": _latencies, "memory": plots.draw, "restart": plots.draw}
