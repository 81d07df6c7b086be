"""`python -m bench`: runs the works, stores what was measured, prints tables, writes docs/benchmarks.md.

Exit status 0 when everything was measured (or skipped with its reason), 1 when a work failed. A bar that is missed is
a result, shown as missed.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from bench import plots
from bench.contestants import REPOSITORY
from bench.plan import Config, Work
from bench.report import Outcome, circumstances, page, text
from bench.sections import others
from bench.stats import Figures, rounds
from bench.works import all_works

OUT = REPOSITORY / "bench" / "out"
DOCS = REPOSITORY / "docs"
NAMES = ("chunk", "short", "finish", "speech", "memory")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=NAMES, action="append", help="this work alone (may be repeated)")
    parser.add_argument("--runs", type=int, help="rounds of each work (5; quick: 1)")
    parser.add_argument("--seconds", type=int, help="load of one run (5; quick: 2)")
    parser.add_argument("--quick", action="store_true", help="small and once, about 3 minutes; docs stay as they are")
    parser.add_argument("--minutes", type=float, default=25.0, help="no further round is started after these")
    parser.add_argument("--audio", type=Path, help="folder with manifest.tsv and its clips (../shared/audio)")
    parser.add_argument("--folder", type=Path, help="where data is written: the file system that is measured")
    parser.add_argument("--report", action="store_true", help="write docs/benchmarks.md from stored results; no run")
    args = parser.parse_args()
    if args.report:
        write_docs()
        return 0

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped and folders removed then too
    given = args.audio or REPOSITORY.parent / "shared" / "audio"
    with tempfile.TemporaryDirectory(prefix="cosygate-bench-", dir=args.folder, ignore_cleanup_errors=True) as folder:
        config = Config(
            runs=args.runs or (1 if args.quick else 5),
            seconds=args.seconds or (2 if args.quick else 5),
            quick=args.quick,
            folder=Path(folder),
            audio=given if (given / "manifest.tsv").is_file() else None,
            deadline=time.monotonic() + 60 * args.minutes,
        )
        command = f"python -m bench --runs {config.runs} --seconds {config.seconds}"  # folders are this machine's own
        outcomes = []
        for work in all_works(config):
            if not args.only or work.name in args.only:
                results, failed = measure(work, config)
                outcome = Outcome.of(work, results, failed, circumstances(config.folder, args.quick, command))
                outcome.write(OUT / "quick" if args.quick else OUT)
                print(f"\n{outcome.title}\n\n{text(outcome)}", flush=True)
                outcomes.append(outcome)
    if args.quick:
        print("\nA quick run: docs/benchmarks.md stays as it is.")
    else:
        write_docs()
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def measure(work: Work, config: Config) -> tuple[dict[str, list[Figures]], str]:
    """Each contestant once a round, in an empty folder each time; (results, why it failed or nothing)."""
    results: dict[str, list[Figures]] = {key: [] for key in work.contestants}
    if work.skipped:
        return results, ""
    for number, order in rounds(list(work.contestants), work.runs or config.runs):
        if number and config.out_of_time:
            break
        for key in order:
            folder = config.folder / f"{work.name}-{number}-{key}"
            folder.mkdir()
            started = time.monotonic()
            try:
                figures = work.contestants[key].run(folder)
            except Exception as error:
                traceback.print_exc()
                return results, f"{work.contestants[key].label}: {type(error).__name__}: {str(error).splitlines()[0]}"
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            results[key].append(figures)
            shown = ", ".join(f"{figures[figure]:.4g} {heading}" for figure, heading in work.columns.items())
            took = time.monotonic() - started
            print(f"{work.name} {number + 1}: {work.contestants[key].label}: {shown} ({took:.0f} s)", flush=True)
    return results, ""


def write_docs() -> None:
    """docs/benchmarks.md and its plots, from the latest full result of each work."""
    outcomes = [Outcome.read(OUT / f"{name}.json") for name in NAMES if (OUT / f"{name}.json").is_file()]
    for outcome in outcomes:
        if not (outcome.skipped or outcome.failed):
            plots.draw(outcome, DOCS / "benchmarks" / f"{outcome.name}.svg")
    target = DOCS / "benchmarks.md"
    kept = others(target.read_text(encoding="utf-8")) if target.is_file() else ""
    target.write_text(page(outcomes) + kept, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
