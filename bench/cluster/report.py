"""What the section Cluster of docs/benchmarks.md says first, how a work is shown there and on the terminal, and the
table of docs/scaling.md."""

import bench.live.report
import bench.report
from bench.report import Outcome, number, table, where
from bench.stats import middle

ABOUT = (
    "Written by `make bench-cluster` (`python -m bench.cluster`): do not edit. Each row of a round has an installation "
    "of its own, started fresh by deploy/local_cluster: every process is on this machine, on loopback, and shares its "
    "cores with the load generators. Figures are medians, ratios are medians of the ratios within each round. Why bars "
    "are missed: [scaling.md](scaling.md#bars-that-are-missed-and-why). The chaos run: [chaos.md](chaos.md)."
)


_BEGIN, _END = "<!-- bench-cluster: begin -->", "<!-- bench-cluster: end -->"
_CARRIERS = {"gateways": "gateways", "workers": "workers", "postgres": "PostgreSQL", "redis": "Redis", "nginx": "nginx"}


def text(outcome: Outcome) -> str:
    """With the spread of the runs where there are several; counts as what they are where there is one."""
    several = any(len(runs) > 1 for runs in outcome.results.values())
    return bench.report.text(outcome) if several else bench.live.report.text(outcome)


def carried(outcome: Outcome) -> str:
    """What one recording of the work `rate` costs each kind, with an object store, and so what a core of it carries.
    Engines recognise nothing there, and its store stands for no real one: both are left out."""
    rows = []
    for part, name in _CARRIERS.items():
        cost_ms = middle(outcome.results, "store", f"{part}_ms")
        rows.append([name, number(cost_ms), number(1000 / cost_ms) if cost_ms else "-"])
    return f"{table(['', 'CPU ms a recording', 'recordings/s a core'], rows)}\n\n{where(outcome)}"


def with_carried(page: str, outcome: Outcome) -> str:
    """The page with this table between its marks. Raises ValueError when it has none."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"no {_BEGIN} … {_END}")
    return f"{before}{begin}\n{carried(outcome)}\n{end}{after}"
