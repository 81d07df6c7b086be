"""What the section Cluster of docs/benchmarks.md says first, and how a work is shown there and on the terminal."""

import bench.live.report
import bench.report
from bench.report import Outcome

ABOUT = (
    "Written by `make bench-cluster` (`python -m bench.cluster`): do not edit. Each row of a round has an installation "
    "of its own, started fresh by deploy/local_cluster: every process is on this machine, on loopback, and shares its "
    "cores with the load generators. Figures are medians, ratios are medians of the ratios within each round."
)


def text(outcome: Outcome) -> str:
    """With the spread of the runs where there are several; counts as what they are where there is one."""
    several = any(len(runs) > 1 for runs in outcome.results.values())
    return bench.report.text(outcome) if several else bench.live.report.text(outcome)
