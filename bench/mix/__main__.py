"""`python -m bench.mix`: the article's mix of users against both designs, and what protection costs; stores what was
measured, prints tables, writes the section Load of docs/benchmarks.md. `python -m bench.mix --users N` (`make load`)
runs the mix with live users against one server and leaves Locust's page.

Exit status 0 when everything was measured, 1 when a work failed. A bar that is missed is a result, shown as missed.
"""

import argparse
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from bench.contestants import REPOSITORY, cosygate
from bench.live.report import text
from bench.measuring import measured
from bench.mix import cost, driving, report, steps
from bench.mix.climbing import Climb
from bench.plan import Work
from bench.report import Outcome, circumstances
from bench.sections import LOAD, section, with_section
from bench.stats import Figures

OUT = REPOSITORY / "bench" / "out" / "mix"
DOCS = REPOSITORY / "docs"
HOW, QUICK = Climb(), Climb(most=8, halvings=1)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.mix", description=__doc__)
    parser.add_argument("--only", choices=["mix", "cost"], action="append", help="this work alone")
    parser.add_argument("--seconds", type=int, help="of one row (mix: 20, cost: 5, load: 60)")
    parser.add_argument("--runs", type=int, default=3, help="rounds of `cost`")
    parser.add_argument("--quick", action="store_true", help="small; docs stay as they are")
    parser.add_argument("--report", action="store_true", help="write the docs from stored results; no run")
    parser.add_argument("--users", type=int, help="run the mix once with so many, and leave a page")
    parser.add_argument("--live", type=int, default=2, help="live users among them")
    parser.add_argument("--url", help="of a server that runs, with --token; else one is started")
    parser.add_argument("--token", default="")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped and folders removed then too
    if args.report:
        write_docs()
        return 0
    if args.users is not None:
        return load(args)
    command = "python -m bench.mix" + (f" --seconds {args.seconds}" if args.seconds else "")
    outcomes = []
    if not args.only or "mix" in args.only:
        outcomes.append(mix(args.seconds or (5 if args.quick else 20), args.quick, command))
    if not args.only or "cost" in args.only:
        work = cost.work(args.seconds or (2 if args.quick else 5))
        outcomes.append(run(work, 1 if args.quick else args.runs, args.quick, command))
    if args.quick:
        print("\nA quick run: docs/benchmarks.md stays as it is.")
    else:
        write_docs()
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def load(args: argparse.Namespace) -> int:
    """One run, and its page."""
    OUT.mkdir(parents=True, exist_ok=True)
    page = OUT / "load.html"
    with tempfile.TemporaryDirectory(prefix="cosygate-load-", ignore_cleanup_errors=True) as name:
        options = {"users": args.users, "seconds": args.seconds or 60, "live": args.live, "page": page}
        folder = Path(name)
        if args.url:
            found = driving.locust(args.url, args.token, folder=folder, **options)
        else:
            settings = {"workers": 2, "recogniser": "scripted", "live_sessions_each": 1000}
            with cosygate(folder, **settings) as target:
                found = driving.locust(target.url, target.token, folder=folder, **options)
    print("  ".join(f"{name} {value:g}" for name, value in found.items()))
    print(f"page: {page.relative_to(REPOSITORY)}")
    return 1 if found["failures"] or found["unfinished"] or found["live_failures"] else 0


def mix(seconds: float, quick: bool, command: str) -> Outcome:
    """The mix: how far each design comes."""
    how, failed = QUICK if quick else HOW, ""
    found: dict[str, dict[int, Figures]] = {design: {} for design in steps.servers()}
    with tempfile.TemporaryDirectory(prefix="cosygate-mix-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            for design in found:
                found[design] = steps.rows(design, seconds, how, folder)
        except Exception as error:
            traceback.print_exc()
            failed = f"{design}: {type(error).__name__}: {str(error).splitlines()[0]}"
        work, results = steps.work(seconds, how, found)
        return kept(Outcome.of(work, results, failed, circumstances(folder, quick, command)), quick)


def run(work: Work, runs: int, quick: bool, command: str) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="cosygate-mix-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        outcome = measured(work, runs, folder, circumstances(folder, quick, command))
    return kept(outcome, quick)


def kept(outcome: Outcome, quick: bool) -> Outcome:
    outcome.write(OUT / "quick" if quick else OUT)
    print(f"\n{outcome.title}\n\n{text(outcome)}\n", flush=True)
    return outcome


def write_docs() -> None:
    """The section, from the latest full result of each work."""
    outcomes = [Outcome.read(path) for name in ("mix", "cost") if (path := OUT / f"{name}.json").is_file()]
    for outcome in outcomes:
        if not (outcome.skipped or outcome.failed):
            report.draw(outcome, DOCS / "benchmarks" / f"load-{outcome.name}.svg")
    page = DOCS / "benchmarks.md"
    new = section(LOAD, report.ABOUT, outcomes, text, lambda outcome: f"load-{outcome.name}.svg")
    page.write_text(with_section(page.read_text(encoding="utf-8"), LOAD, new), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
