"""Results as JSON under bench/out, as tables on the terminal, and as docs/benchmarks.md with a plot per work."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.plan import Work
from bench.stats import Results, Verdict, middle, spread


@dataclass(frozen=True, slots=True)
class Outcome:
    """One work as it is stored. Either `results` and `verdicts`, or the reason why there are none."""

    name: str
    title: str
    about: str
    columns: Mapping[str, str]
    listed: str
    labels: Mapping[str, str]
    results: Results
    verdicts: Sequence[Verdict]
    skipped: str
    failed: str
    circumstances: Mapping[str, Any]

    @classmethod
    def of(cls, work: Work, results: Results, failed: str, circumstances: Mapping[str, Any]) -> "Outcome":
        verdicts = [] if failed or work.skipped else work.verdicts(results)
        labels = {key: contestant.label for key, contestant in work.contestants.items()}
        return cls(
            work.name,
            work.title,
            " ".join(work.about.split()),
            work.columns,
            work.listed,
            labels,
            results,
            verdicts,
            work.skipped,
            failed,
            circumstances,
        )

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        data = {name: getattr(self, name) for name in self.__slots__}
        data["verdicts"] = [verdict.to_json() for verdict in self.verdicts]
        (folder / f"{self.name}.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Outcome":
        data = json.loads(path.read_text())
        return cls(**{**data, "verdicts": [Verdict.from_json(v) for v in data["verdicts"]]})


def circumstances(folder: Path, quick: bool, command: str) -> dict[str, Any]:
    """Where and when: nothing that names this machine or its paths."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": _output(["git", "rev-parse", "--short", "HEAD"]),
        "changed": bool(_output(["git", "status", "--porcelain", "--", "src", "bench"])),
        "command": command,
        "quick": quick,
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": _output(["df", "--output=fstype", str(folder)]).splitlines()[-1],
    }


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def number(value: float) -> str:
    """Three significant digits and no exponent: 1234, 12.3, 0.123."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, with columns aligned so that it reads well on a terminal too."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [head, *rows]
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def measured(outcome: Outcome) -> str:
    """Median of each figure, with the lowest and highest run of the first one."""
    first = next(iter(outcome.columns))
    rows = []
    for key, label in outcome.labels.items():
        low, high = spread(outcome.results, key, first)
        figures = [number(middle(outcome.results, key, figure)) for figure in outcome.columns]
        rows.append([label, *figures, f"{number(low)}-{number(high)}", str(len(outcome.results[key]))])
    return table(["", *outcome.columns.values(), "lowest-highest", "runs"], rows)


def listed(outcome: Outcome) -> str:
    """The figures of the last run that have no column, where a work wants them shown one by one."""
    rows = [
        [label, figure, number(value)]
        for key, label in outcome.labels.items()
        for figure, value in outcome.results[key][-1].items()
        if figure not in outcome.columns
    ]
    return table(["", "", outcome.listed], rows)


def judged(verdicts: Sequence[Verdict]) -> str:
    rows = [
        [
            verdict.what,
            f"{number(verdict.value)} {verdict.unit}",
            f"{'≥' if verdict.at_least else '≤'} {number(verdict.bar)} {verdict.unit}",
            "reached" if verdict.reached else "**missed**",
        ]
        for verdict in verdicts
    ]
    return table(["bar", "measured", "must be", ""], rows)


def text(outcome: Outcome) -> str:
    """One work, as terminal and page show it."""
    if outcome.skipped or outcome.failed:
        return f"Not measured: {outcome.skipped or 'it failed: ' + outcome.failed}"
    tables = [measured(outcome), *([listed(outcome)] if outcome.listed else []), judged(outcome.verdicts)]
    return "\n\n".join(tables)


def where(outcome: Outcome) -> str:
    """The command, and on which machine."""
    c = outcome.circumstances
    return (
        f"`{c['command']}`, {c['at']}, commit {c['commit']}{' with changes' if c['changed'] else ''}; "
        f"{c['cores']} cores ({c['cpu']}), {c['memory_gib']} GiB, Linux {c['kernel']}, {c['file_system']}, "
        f"Python {c['python']}."
    )


def page(outcomes: Sequence[Outcome]) -> str:
    """docs/benchmarks.md."""
    parts = [
        "# Benchmarks",
        "Written by `make bench` (`python -m bench`): do not edit. Every contestant is started fresh for each run, the "
        "runs of a work are interleaved, and load generator and servers share the machine's cores. Figures are "
        "medians, ratios are medians of the ratios within each round. `process` and `disk` are the two values of "
        "`COSYGATE_DURABILITY`. The article's design is built from its description in `bench/article/`.",
    ]
    for outcome in outcomes:
        parts += [f"## {outcome.title}", outcome.about]
        if not (outcome.skipped or outcome.failed):
            parts.append(f"![{outcome.title}](benchmarks/{outcome.name}.svg)")
        parts += [text(outcome), where(outcome)]
    return "\n\n".join(parts) + "\n"
