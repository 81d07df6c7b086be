"""The article's mix with more and more users: how many requests a second each design sustains."""

import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench.client import Client
from bench.contestants import REPOSITORY, Target, article, cosygate
from bench.mix import driving
from bench.mix.climbing import Climb, climb
from bench.mix.counting import LONGEST_S, WARM_S
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle

P99_MS = 480.0  # the article's own bar
TIMES = 5.0
FINISHED = 0.95  # of the recordings that were begun
WARMING = 24  # recordings before the first user: whatever loads something at its first request has done so
ARTICLE_CPU, ARTICLE_GB = 70.0, 2.0  # what the article says its design uses

ABOUT = f"""
Locust (FastHttpUser): three users with a short recording (6 s, one request) for each with an upload of 20 chunks (17 s
of speech), each waiting 1-2 s between recordings and polling its task twice a second until it has ended; unique ids,
real WAVs, forms as the article's clients send them. The scripted engine answers at once; the article's Celery task does
nothing. CosyGate keeps everything durable against kill -9 (`process`), two workers, its limits raised beyond the load
and on. Each row is {{seconds:g}} s with a fresh server that has had {WARMING} recordings, from {WARM_S:g} s after its
users have come. Requests are chunks and polls that were answered in that time; a recording is counted from its first
byte to its result, beside the requests, and fails when that takes longer than {LONGEST_S:.0f} s (or half the row). A
row is sustained when the requests' p99 is at most {P99_MS:.0f} ms, no request and no recording failed, and at least
{100 * FINISHED:.0f} % of the recordings begun in its time were finished (those begun at its very end and still under
way left out). Both designs climb alike: from {{first}} users by the factor {{times}} until a row is not sustained, then
{{halvings}} times halfway between the last that was and the first that was not; a row that is not sustained is run once
more, and that run counts. CPU is that of all server processes over the counted time in percent of one core (the machine
has two, which the load generator shares), resident memory the most of their sum. """


def servers() -> dict[str, tuple[str, Callable[[Path], AbstractContextManager[Target]]]]:
    """How each design is called, and started."""
    settings = {"rate_limits": "1000000/minute", "durability": "process", "open_uploads": 100_000}
    ours = partial(cosygate, workers=2, recogniser="scripted", **settings)
    return {"article": ("article", article), "cosygate": ("CosyGate", ours)}


def sustains(found: Figures) -> bool:
    return (
        found["p99_ms"] <= P99_MS
        and not found["failures"]
        and not found["unfinished"]
        and found["finished"] >= FINISHED
    )


def rows(design: str, seconds: float, how: Climb, folder: Path) -> dict[int, Figures]:
    """All rows of one design, each with a fresh server in an empty folder. Raises NotServing, BadRun."""
    label, server = servers()[design]

    def run(users: int) -> Figures:
        place = folder / f"{design}-{users}"
        place.mkdir()
        try:
            with server(place) as target:
                warm(target)
                found = driving.locust(target.url, target.token, users=users, seconds=seconds, folder=place)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        shown = ", ".join(f"{found[name]:.4g} {heading}" for name, heading in COLUMNS.items() if name in found)
        print(f"mix: {label}, {users} users{'' if sustains(found) else ' (not sustained)'}: {shown}", flush=True)
        return found

    return climb(how, run, sustains)


def warm(target: Target) -> None:
    """Each on a connection of its own, eight at a time: so that each process of the server has its share."""
    recording = (REPOSITORY / "samples" / "note.wav").read_bytes()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: Client(target).post(f"warm-{number}", 0, recording, True), range(WARMING)))


COLUMNS = {
    "rate": "requests/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "failures": "failures",
    "recordings": "recordings/s",
    "recording_p99_ms": "their p99 ms",
    "unfinished": "unfinished",
    "finished": "finished of begun",
    "cpu_percent": "CPU %",
    "peak_mib": "resident MiB",
    "runs": "runs",
}


def work(seconds: float, how: Climb, found: dict[str, dict[int, Figures]]) -> tuple[Work, Results]:
    """What was measured, by design and users, as a work and its results."""

    def measured(_: Path) -> Figures:
        raise AssertionError("its rows are measured already")

    labels = {
        f"{design}-{users}": f"{servers()[design][0]}, {users} users" for design in found for users in found[design]
    }
    results = {f"{design}-{users}": [row] for design, rows in found.items() for users, row in rows.items()}
    work = Work(
        name="mix",
        title="The article's mix of users",
        about=ABOUT.format(seconds=seconds, first=how.first, times=how.times, halvings=how.halvings),
        contestants={key: Contestant(label, measured) for key, label in labels.items()},
        verdicts=verdicts,
        columns=COLUMNS,
    )
    return work, results


def sustained(results: Results, design: str, by: str = "rate") -> str:
    """The row with the most `by` of those that a design sustained; "" when it sustained none."""
    good = [key for key in results if key.startswith(design) and sustains(results[key][-1])]
    return max(good, key=lambda key: middle(results, key, by), default="")


def verdicts(results: Results) -> list[Verdict]:
    """For requests and for recordings, each by the row with the most of them that a design sustained."""
    found = []
    for by, what in (("rate", f"requests/s at p99 ≤ {P99_MS:.0f} ms"), ("recordings", "recordings/s in such a row")):
        theirs, ours = sustained(results, "article", by), sustained(results, "cosygate", by)
        if theirs:
            most, against = middle(results, theirs, by), "the article's"
        else:  # it is that slow with a single user: then against the most that it did at all
            most = max(middle(results, key, by) for key in results if key.startswith("article"))
            against = "the article's most, which it answers late"
        mine = middle(results, ours, by) if ours else 0.0
        found.append(Verdict(f"{what}, against {against}", _times(mine, most), TIMES, "×"))
    if ours := sustained(results, "cosygate"):
        memory = middle(results, ours, "peak_mib") / 1024
        found.append(Verdict("resident memory with the most requests/s", memory, ARTICLE_GB, "GB", at_least=False))
    return found


def _times(ours: float, theirs: float) -> float:
    """Infinite where they finished nothing at all, and we did."""
    if theirs:
        return ours / theirs
    return math.inf if ours else 0.0
