"""docs/benchmarks.md is written by several commands: `make bench` writes its beginning, each other one a section of its
own. Whoever writes keeps what the others wrote."""

from collections.abc import Callable, Sequence

from bench.report import Outcome, where

# As they stand in the page, behind what `make bench` writes.
LOAD, OVERLOAD, CLUSTER, LIVE = ORDER = ("## Load", "## Overload", "## Cluster", "## Live")


def section(
    heading: str,
    about: str,
    outcomes: Sequence[Outcome],
    text: Callable[[Outcome], str],
    plot: Callable[[Outcome], str] = lambda _: "",
) -> str:
    """`text` shows one work; `plot` names its picture's file, or nothing."""
    parts = [heading, about]
    for outcome in outcomes:
        parts += [f"### {outcome.title}", outcome.about]
        if not (outcome.skipped or outcome.failed) and (file := plot(outcome)):
            parts.append(f"![{outcome.title}](benchmarks/{file})")
        parts += [text(outcome), where(outcome)]
    return "\n\n".join(parts) + "\n"


def with_section(page: str, heading: str, new: str) -> str:
    """The page with this section in place of the old one, or where it belongs when there was none."""
    start = page.find(f"\n{heading}\n")
    if start >= 0:
        end = page.find("\n## ", start + 1)
    else:
        later = [at for other in ORDER[ORDER.index(heading) + 1 :] if (at := page.find(f"\n{other}\n")) >= 0]
        start = end = min(later, default=-1)
    start = len(page) if start < 0 else start
    rest = page[end:] if end >= 0 else ""
    return page[:start].rstrip("\n") + "\n\n" + new.rstrip("\n") + "\n" + rest


def others(page: str) -> str:
    """All of these sections as they stand in a page; empty when there are none."""
    starts = [at for heading in ORDER if (at := page.find(f"\n{heading}\n")) >= 0]
    return page[min(starts) :] if starts else ""
