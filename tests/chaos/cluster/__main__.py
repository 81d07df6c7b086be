"""`python -m tests.chaos.cluster` (`make chaos`): the whole of it under load while its parts die. See docs/chaos.md.

Exit status 0 when every promise was kept, 1 when one was not, or when too little worked, or too little happened,
to say so.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.cluster.running import Plan, cluster, embedded, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.cluster", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of everything that is left to chance")
    parser.add_argument("--recordings", type=int, default=2000)
    parser.add_argument("--live", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=300.0, help="for which there are faults, and clients begin")
    parser.add_argument("--every", type=float, default=2.5, help="seconds between two faults, on average; 0: none")
    parser.add_argument("--at-once", type=int, default=16, help="recordings that are on their way at once")
    parser.add_argument("--embedded", action="store_true", help="one `cosygate serve` instead of a cluster")
    parser.add_argument("--keep", type=Path, help="keeps journal, report and logs in this folder")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is stopped then, too
    asked = Plan(args.seed, args.recordings, args.live, args.seconds, args.every, args.at_once)
    folder = Path(tempfile.mkdtemp(prefix="cosygate-chaos-"))
    kept = False
    try:
        with (embedded if args.embedded else cluster)(folder) as installation:
            outcome = run(installation, folder, asked)
        print(outcome.text(), flush=True)
        kept = outcome.passed
        return 0 if kept else 1
    finally:
        if args.keep:
            shutil.copytree(
                folder, args.keep, dirs_exist_ok=True, ignore=shutil.ignore_patterns("blobs", "run", "control")
            )
        if kept or args.keep:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"journal, report and logs: {folder}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
