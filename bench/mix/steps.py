"""The article's mix with more and more users: how many requests a second each design sustains."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench.contestants import Target, article, cosygate
from bench.mix import driving
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle

P99_MS = 480.0  # the article's own bar
TIMES = 5.0
ARTICLE_CPU, ARTICLE_GB = 70.0, 2.0  # what the article says its design uses

ABOUT = f"""
Locust (FastHttpUser): three users with a short recording (6 s, one request) for each with an upload of 20 chunks (17 s
of speech), each waiting 1-2 s between recordings and polling its task twice a second until it has ended; unique ids,
real WAVs, forms as the article's clients send them. The scripted engine answers at once; the article's Celery task does
nothing. CosyGate keeps everything durable against kill -9 (`process`), two workers, its limits raised beyond the load
and on. Each row is {{seconds}} s with a fresh server after its users have come; a row sustains its rate when p99 is at
most {P99_MS:.0f} ms and nothing failed. CPU is that of all server processes in percent of one core (the machine has
two, which the load generator shares), resident memory their sum. """


class Passed(Exception):
    """A smaller number of users was too many already."""


class _Steps:
    """One design's rows, in rising order; after the first that is too slow the others are passed."""

    def __init__(self, server: Callable[[Path], AbstractContextManager[Target]], seconds: int) -> None:
        self._server = server
        self._seconds = seconds
        self._over = False

    def run(self, users: int, folder: Path) -> Figures:
        if self._over:
            raise Passed
        with self._server(folder) as target, driving.watched() as servers:
            driving.locust(target.url, target.token, users=users, seconds=self._seconds, out=folder / "mix")
        found = driving.aggregated(folder / "mix")
        self._over = found["p99_ms"] > P99_MS or found["failures"] > 0
        return {**found, "cpu_percent": servers.cpu_percent, "peak_mib": servers.peak_mib}


def work(seconds: int, users: dict[str, tuple[int, ...]]) -> Work:
    """`users`: the rows of each design."""
    settings = {"rate_limits": "1000000/minute", "durability": "process", "open_uploads": 100_000}
    designs = {
        "article": ("article", _Steps(article, seconds)),
        "cosygate": ("CosyGate", _Steps(partial(cosygate, workers=2, recogniser="scripted", **settings), seconds)),
    }
    rows = {
        f"{name}-{count}": Contestant(f"{label}, {count} users", partial(steps.run, count))
        for name, (label, steps) in designs.items()
        for count in users[name]
    }
    return Work(
        name="mix",
        title="The article's mix of users",
        about=ABOUT.format(seconds=seconds),
        contestants=rows,
        verdicts=_verdicts,
        columns={
            "rate": "requests/s",
            "p50_ms": "p50 ms",
            "p99_ms": "p99 ms",
            "failures": "failures",
            "cpu_percent": "CPU %",
            "peak_mib": "resident MiB",
        },
    )


def sustained(results: Results, design: str) -> tuple[float, str]:
    """The highest rate that a design sustained, and its row; (0, "") when it sustained none."""
    good = [
        (middle(results, key, "rate"), key)
        for key in results
        if key.startswith(design) and middle(results, key, "p99_ms") <= P99_MS and middle(results, key, "failures") == 0
    ]
    return max(good, default=(0.0, ""))


def _verdicts(results: Results) -> list[Verdict]:
    theirs, _ = sustained(results, "article")
    against = "the article's"
    if not theirs:  # it is that slow with a single user: then against the most that it answered at all
        theirs = max(middle(results, key, "rate") for key in results if key.startswith("article"))
        against = "the article's most, which it answers late"
    ours, row = sustained(results, "cosygate")
    found = [Verdict(f"requests/s at p99 ≤ {P99_MS:.0f} ms, against {against}", ours / theirs, TIMES, "×")]
    if row:
        memory = middle(results, row, "peak_mib") / 1024
        found.append(Verdict("resident memory there", memory, ARTICLE_GB, "GB", at_least=False))
    return found
