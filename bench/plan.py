"""What a benchmark run is made of: its settings, works, and the contestants of each work."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.stats import Figures, Results, Verdict


@dataclass(frozen=True, slots=True)
class Config:
    runs: int  # rounds of each work
    seconds: int  # of load in one run
    quick: bool  # small recordings and few repeats: shows that everything works, proves nothing
    folder: Path  # scratch; the file system that is measured
    audio: Path | None  # real speech: clips and manifest.tsv
    deadline: float  # on the monotonic clock: no further round is started after it

    @property
    def out_of_time(self) -> bool:
        return time.monotonic() > self.deadline


@dataclass(frozen=True, slots=True)
class Contestant:
    """`run` starts what it needs in an empty folder, measures once, and stops everything."""

    label: str
    run: Callable[[Path], Figures]


@dataclass(frozen=True, slots=True)
class Work:
    name: str  # also of its JSON file and plot
    title: str
    about: str  # how it is measured, for docs/benchmarks.md
    contestants: dict[str, Contestant]
    verdicts: Callable[[Results], Sequence[Verdict]]
    columns: dict[str, str]  # figure → heading with unit; the first one is plotted
    runs: int | None = None  # when repeating adds nothing
    listed: str = ""  # heading for all other figures, when they are worth showing
    skipped: str = ""  # why it cannot be measured here
