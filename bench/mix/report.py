"""What the section Load of docs/benchmarks.md says first, and its plots."""

from pathlib import Path

from bench import plots
from bench.mix.steps import ARTICLE_CPU, ARTICLE_GB, P99_MS
from bench.report import Outcome
from bench.stats import middle

ABOUT = (
    "Written by `make bench-mix` (`python -m bench.mix`): do not edit. Load generator and servers share the machine's "
    f"cores. The article says of its design: CPU at {ARTICLE_CPU:.0f} %, {ARTICLE_GB:.0f} GB of memory, p99 "
    f"{P99_MS:.0f} ms."
)
_INK, _LIGHT, _BAR = "#2f6f6d", "#a9b4b8", "#b5533c"


def draw(outcome: Outcome, path: Path) -> None:
    if outcome.name == "mix":
        _mix(outcome, path)
    else:
        plots.draw(outcome, path)


def _mix(outcome: Outcome, path: Path) -> None:
    """p99 against requests/s, one line a design. The same results draw the same file."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "mix", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    canvas, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
    for design, colour in (("article", _LIGHT), ("cosygate", _INK)):
        keys = [key for key in outcome.labels if key.startswith(design)]
        rates = [middle(outcome.results, key, "rate") for key in keys]
        axes.plot(rates, [middle(outcome.results, key, "p99_ms") for key in keys], "o-", color=colour, label=design)
        for key, rate in zip(keys, rates, strict=True):
            users = key.rpartition("-")[2]
            axes.annotate(users, (rate, middle(outcome.results, key, "p99_ms")), (0, 5), textcoords="offset points")
    axes.axhline(P99_MS, color=_BAR, linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xlabel("requests/s (numbers: users)")
    axes.set_ylabel("p99, ms")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, metadata={"Date": None})
    pyplot.close(canvas)
