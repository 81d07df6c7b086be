"""`python -m bench.live`: runs the live works, stores what was measured, prints tables, writes the section Live of
docs/benchmarks.md.

Exit status 0 when everything was measured (or skipped with its reason), 1 when a work failed: a transcript that differs
is a failure. A bar that is missed is a result, shown as missed.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.contestants import REPOSITORY
from bench.live import cuts, memory, report, speech, streams
from bench.live.serving import LiveConfig
from bench.plan import Work
from bench.report import Outcome, circumstances
from bench.sections import LIVE, section, with_section
from bench.stats import Figures

OUT = REPOSITORY / "bench" / "out" / "live"
DOCS = REPOSITORY / "docs"
WORKS: dict[str, Callable[[LiveConfig], Work]] = {
    "streams": streams.work,
    "memory": memory.work,
    "speech": speech.work,
    "cuts": cuts.cuts,
    "engine_kills": cuts.engine_kills,
    "restart": cuts.restart,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    parser.add_argument("--only", choices=list(WORKS), action="append", help="this work alone (may be repeated)")
    parser.add_argument("--seconds", type=float, help="steady seconds of one row (15; quick: 4)")
    parser.add_argument("--streams", type=int, action="append", help="a row of the latency table (may be repeated)")
    parser.add_argument("--cuts", type=int, help="(1000; quick: 40)")
    parser.add_argument("--kills", type=int, help="of engines (20; quick: 3)")
    parser.add_argument("--seed", type=int, default=1, help="of the cuts")
    parser.add_argument("--quick", action="store_true", help="small, about 3 minutes; docs stay as they are")
    parser.add_argument(
        "--audio", type=Path, help="folder with manifest.tsv and its clips (../shared/audio, or samples)"
    )
    parser.add_argument("--folder", type=Path, help="where data is written: the file system that is measured")
    parser.add_argument("--report", action="store_true", help="write the docs from stored results; no run")
    args = parser.parse_args()
    if args.report:
        write_docs()
        return 0

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped and folders removed then too
    given = args.audio or REPOSITORY.parent / "shared" / "audio"
    with tempfile.TemporaryDirectory(prefix="cosygate-live-", dir=args.folder, ignore_cleanup_errors=True) as folder:
        config = LiveConfig(
            seconds=args.seconds or (4.0 if args.quick else 15.0),
            warm_s=1.0 if args.quick else 5.0,
            streams=tuple(args.streams or ((20, 200) if args.quick else (50, 100, 200, 300, 400))),
            cuts=args.cuts or (40 if args.quick else 1000),
            kills=args.kills or (3 if args.quick else 20),
            seed=args.seed,
            repeats=1 if args.quick else 2,
            quick=args.quick,
            folder=Path(folder),
            audio=given if (given / "manifest.tsv").is_file() else REPOSITORY / "samples",
        )
        command = f"python -m bench.live --seconds {config.seconds:g}"  # folders are this machine's own
        outcomes = [
            run(make(config), config, command) for name, make in WORKS.items() if not args.only or name in args.only
        ]
    if args.quick:
        print("\nA quick run: docs/benchmarks.md stays as it is.")
    else:
        write_docs()
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def run(work: Work, config: LiveConfig, command: str) -> Outcome:
    results, failed = measure(work, config)
    measured = {key: contestant for key, contestant in work.contestants.items() if results[key]}
    outcome = Outcome.of(
        replace(work, contestants=measured),
        {key: results[key] for key in measured},
        failed,
        circumstances(config.folder, config.quick, command),
    )
    outcome.write(OUT / "quick" if config.quick else OUT)
    print(f"\n{outcome.title}\n\n{report.text(outcome)}\n", flush=True)
    return outcome


def measure(work: Work, config: LiveConfig) -> tuple[dict[str, list[Figures]], str]:
    """Each row once, in an empty folder; (results, why it failed or nothing). Rows that were passed have none."""
    results: dict[str, list[Figures]] = {key: [] for key in work.contestants}
    for key, contestant in work.contestants.items():
        folder = config.folder / f"{work.name}-{key}"
        folder.mkdir()
        started = time.monotonic()
        try:
            figures = contestant.run(folder)
        except streams.Passed:
            continue
        except Exception as error:
            traceback.print_exc()
            while isinstance(error, ExceptionGroup):  # of a task group: the first one says what happened
                error = error.exceptions[0]
            return results, f"{contestant.label}: {type(error).__name__}: {str(error).splitlines()[0]}"
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        results[key].append(figures)
        shown = ", ".join(f"{figures[figure]:.4g} {heading}" for figure, heading in work.columns.items())
        print(f"{work.name}: {contestant.label}: {shown} ({time.monotonic() - started:.0f} s)", flush=True)
    return results, ""


def write_docs() -> None:
    """The section, from the latest full result of each work."""
    outcomes = [Outcome.read(OUT / f"{name}.json") for name in WORKS if (OUT / f"{name}.json").is_file()]
    for outcome in outcomes:
        if not (outcome.skipped or outcome.failed) and outcome.name in report.PLOTTED:
            report.draw(outcome, DOCS / "benchmarks" / f"live-{outcome.name}.svg")
    page = DOCS / "benchmarks.md"
    new = section(LIVE, report.ABOUT, outcomes, report.text, _plot)
    page.write_text(with_section(page.read_text(encoding="utf-8"), LIVE, new), encoding="utf-8")


def _plot(outcome: Outcome) -> str:
    return f"live-{outcome.name}.svg" if outcome.name in report.PLOTTED else ""


if __name__ == "__main__":
    sys.exit(main())
