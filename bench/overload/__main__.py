"""`python -m bench.overload`: runs the overload works, stores what was measured, prints tables, writes the section
Overload of docs/benchmarks.md.

Exit status 0 when everything was measured, 1 when a work failed. A bar that is missed is a result, shown as missed.
"""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.contestants import REPOSITORY
from bench.live.report import text
from bench.measuring import measured
from bench.overload import failing, hung, noisy, slowloris, tenfold
from bench.overload.serving import Config
from bench.plan import Work
from bench.report import Outcome, circumstances
from bench.sections import OVERLOAD, section, with_section

OUT = REPOSITORY / "bench" / "out" / "overload"
DOCS = REPOSITORY / "docs"
ABOUT = (
    "Written by `make bench-overload` (`python -m bench.overload`): do not edit. Load generators and servers share the "
    "machine's cores."
)
WORKS: dict[str, Callable[[Config], Work]] = {
    "tenfold": tenfold.work,
    "noisy": noisy.work,
    "failing": failing.work,
    "hung": hung.work,
    "slowloris": slowloris.work,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--only", choices=list(WORKS), action="append", help="this work alone (may be repeated)")
    parser.add_argument("--seconds", type=float, help="of overload (60; quick: 10)")
    parser.add_argument("--quick", action="store_true", help="small; docs stay as they are")
    parser.add_argument("--report", action="store_true", help="write the docs from stored results; no run")
    args = parser.parse_args()
    if args.report:
        write_docs()
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped and folders removed then too
    with tempfile.TemporaryDirectory(prefix="cosygate-overload-", ignore_cleanup_errors=True) as folder:
        seconds = args.seconds or (10.0 if args.quick else 60.0)
        config = Config(seconds, 6.0 if args.quick else 20.0, args.quick, Path(folder))
        command = f"python -m bench.overload --seconds {seconds:g}"
        outcomes = [
            run(make(config), config, command) for name, make in WORKS.items() if not args.only or name in args.only
        ]
    if args.quick:
        print("\nA quick run: docs/benchmarks.md stays as it is.")
    else:
        write_docs()
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def run(work: Work, config: Config, command: str) -> Outcome:
    outcome = measured(work, 1, config.folder, circumstances(config.folder, config.quick, command))
    outcome.write(OUT / "quick" if config.quick else OUT)
    print(f"\n{outcome.title}\n\n{text(outcome)}\n", flush=True)
    return outcome


def write_docs() -> None:
    """The section, from the latest full result of each work."""
    outcomes = [Outcome.read(OUT / f"{name}.json") for name in WORKS if (OUT / f"{name}.json").is_file()]
    page = DOCS / "benchmarks.md"
    new = section(OVERLOAD, ABOUT, outcomes, text)
    page.write_text(with_section(page.read_text(encoding="utf-8"), OVERLOAD, new), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
