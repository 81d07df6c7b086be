"""The section Load of docs/benchmarks.md, and its plot. The other sections are kept."""

from collections.abc import Sequence
from pathlib import Path

from bench import plots
from bench.live.report import text
from bench.mix.steps import ARTICLE_CPU, ARTICLE_GB, P99_MS
from bench.report import Outcome
from bench.stats import middle

HEADING = "## Load"
_INK, _LIGHT, _BAR = "#2f6f6d", "#a9b4b8", "#b5533c"


def section(outcomes: Sequence[Outcome]) -> str:
    parts = [
        HEADING,
        "Written by `make bench-mix` (`python -m bench.mix`): do not edit. Load generator and servers share the "
        f"machine's cores. The article says of its design: CPU at {ARTICLE_CPU:.0f} %, {ARTICLE_GB:.0f} GB of memory, "
        f"p99 {P99_MS:.0f} ms.",
    ]
    for outcome in outcomes:
        c = outcome.circumstances
        parts += [f"### {outcome.title}", outcome.about]
        if not (outcome.skipped or outcome.failed):
            parts.append(f"![{outcome.title}](benchmarks/load-{outcome.name}.svg)")
        parts.append(text(outcome))
        parts.append(
            f"`{c['command']}`, {c['at']}, commit {c['commit']}{' with changes' if c['changed'] else ''}; "
            f"{c['cores']} cores ({c['cpu']}), {c['memory_gib']} GiB, Linux {c['kernel']}, {c['file_system']}, "
            f"Python {c['python']}."
        )
    return "\n\n".join(parts) + "\n"


def with_section(page: str, new: str) -> str:
    """The page with this section in place of the old one; before the section Live when it is new."""
    start = page.find(f"\n{HEADING}\n")
    if start < 0:
        live = page.find("\n## Live\n")
        start = end = live if live >= 0 else len(page)
    else:
        end = page.find("\n## ", start + 1)
        end = len(page) if end < 0 else end
    return page[:start].rstrip("\n") + "\n\n" + new.rstrip("\n") + "\n" + page[end:]


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
