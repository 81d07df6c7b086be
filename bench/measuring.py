"""How a work is run: every contestant in each round, and nothing left behind."""

import shutil
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.plan import Work
from bench.report import Outcome
from bench.stats import Figures, rounds


def measured(work: Work, runs: int, folder: Path, circumstances: dict[str, Any]) -> Outcome:
    """`runs` rounds, each contestant of a round in an empty folder. The first failure ends the work."""
    results, failed = measure(work, runs, folder)
    seen = {key: contestant for key, contestant in work.contestants.items() if results[key]}
    return Outcome.of(replace(work, contestants=seen), {key: results[key] for key in seen}, failed, circumstances)


def measure(work: Work, runs: int, folder: Path) -> tuple[dict[str, list[Figures]], str]:
    """(results, why it failed or nothing)"""
    results: dict[str, list[Figures]] = {key: [] for key in work.contestants}
    if work.skipped:
        return results, ""
    for number, order in rounds(list(work.contestants), work.runs or runs):
        for key in order:
            contestant, place = work.contestants[key], folder / f"{work.name}-{key}-{number}"
            place.mkdir()
            started = time.monotonic()
            try:
                figures = contestant.run(place)
            except Exception as error:
                traceback.print_exc()
                said = (str(error).splitlines() or [""])[0]
                return results, f"{contestant.label}: {type(error).__name__}: {said}"
            finally:
                shutil.rmtree(place, ignore_errors=True)
            results[key].append(figures)
            shown = ", ".join(f"{figures[figure]:.4g} {heading}" for figure, heading in work.columns.items())
            took = time.monotonic() - started
            print(f"{work.name} {number + 1}: {contestant.label}: {shown} ({took:.0f} s)", flush=True)
    return results, ""
