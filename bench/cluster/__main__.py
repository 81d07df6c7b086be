"""`python -m bench.cluster`: runs the cluster works, stores what was measured, prints tables, writes the section
Cluster of docs/benchmarks.md and the table of docs/scaling.md.

Exit status 0 when everything was measured, 1 when a work failed. A bar that is missed is a result, shown as missed.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.cluster import engines, outage, rate, rolling
from bench.cluster.report import ABOUT, text, with_carried
from bench.cluster.serving import Config
from bench.contestants import REPOSITORY
from bench.measuring import measured
from bench.plan import Work
from bench.report import Outcome, circumstances
from bench.sections import CLUSTER, section, with_section

OUT = REPOSITORY / "bench" / "out" / "cluster"
DOCS = REPOSITORY / "docs"
WORKS: dict[str, Callable[[Config], Work]] = {
    "rate": rate.work,
    "engines": engines.work,
    "rolling": rolling.work,
    "redis": outage.work,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    parser.add_argument("--only", choices=list(WORKS), action="append", help="this work alone (may be repeated)")
    parser.add_argument("--runs", type=int, help="rounds of `rate` and `engines` (5; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="small and once, under two minutes each; docs stay")
    parser.add_argument("--audio", type=Path, help="folder with manifest.tsv and its clips (../shared/audio, samples)")
    parser.add_argument("--report", action="store_true", help="write the docs from stored results; no run")
    args = parser.parse_args()
    if args.report:
        write_docs()
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is stopped and folders removed then too
    shared = REPOSITORY.parent / "shared" / "audio"
    audio = args.audio or (shared if (shared / "manifest.tsv").is_file() else REPOSITORY / "samples")
    runs = args.runs or (1 if args.quick else 5)
    command = f"python -m bench.cluster --runs {runs}"
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="cosygate-bc-", ignore_cleanup_errors=True) as folder:
        config = Config(runs, args.quick, Path(folder), audio)
        for name, make in WORKS.items():
            if not args.only or name in args.only:
                outcomes.append(run(make(config), config, command))
    if args.quick:
        print("\nA quick run: docs/benchmarks.md stays as it is.")
    else:
        write_docs()
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def run(work: Work, config: Config, command: str) -> Outcome:
    outcome = measured(work, config.runs, config.folder, circumstances(config.folder, config.quick, command))
    outcome.write(OUT / "quick" if config.quick else OUT)
    print(f"\n{outcome.title}\n\n{text(outcome)}\n", flush=True)
    return outcome


def write_docs() -> None:
    """The section and the table, from the latest full result of each work."""
    outcomes = [Outcome.read(OUT / f"{name}.json") for name in WORKS if (OUT / f"{name}.json").is_file()]
    page = DOCS / "benchmarks.md"
    new = section(CLUSTER, ABOUT, outcomes, text)
    page.write_text(with_section(page.read_text(encoding="utf-8"), CLUSTER, new), encoding="utf-8")
    page = DOCS / "scaling.md"
    for outcome in outcomes:
        if outcome.name == "rate" and not outcome.failed:
            page.write_text(with_carried(page.read_text(encoding="utf-8"), outcome), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
