"""One small SVG per work: bars of the medians with each single run as a dot. The same results draw the same file."""

from pathlib import Path
from statistics import median

from bench.report import Outcome, number

_OURS, _THEIRS, _DOT = "#2f6f6d", "#a9b4b8", "#1c2b2b"


def draw(outcome: Outcome, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": outcome.name, "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    figure, heading = next(iter(outcome.columns.items()))
    keys = list(outcome.labels)
    runs = [[run[figure] for run in outcome.results[key]] for key in keys]
    colours = [_OURS if outcome.labels[key].startswith("CosyGate") else _THEIRS for key in keys]

    canvas, axes = pyplot.subplots(figsize=(7, 0.6 + 0.42 * len(keys)), layout="constrained")
    axes.barh(range(len(keys)), [median(values) for values in runs], color=colours, height=0.62)
    for row, values in enumerate(runs):
        axes.plot(values, [row] * len(values), ".", color=_DOT, markersize=3)
        axes.annotate(number(median(values)), (max(values), row), (6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(keys)), [outcome.labels[key] for key in keys])
    axes.invert_yaxis()
    axes.set_xlabel(heading)
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, metadata={"Date": None})
    pyplot.close(canvas)
