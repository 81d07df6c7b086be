"""What Locust's process heard, as figures. Its own table counts everything there is, and keeps times above 100 ms in
steps of ten; so 484 ms would pass as 480. Pure."""

import math
from collections.abc import Mapping
from typing import Any

from bench.live.load import spread_of
from bench.load import BadRun

LONGEST_S = 10.0
WARM_S = 1.0  # from when all users are there until it counts


def bound_s(seconds: float) -> float:
    """How long a recording may take in a row of `seconds`."""
    return min(LONGEST_S, seconds / 2)


def figures(heard: Mapping[str, Any]) -> dict[str, float]:
    """Of the counted time: HTTP requests that were answered in it (rate, ms, failures), recordings that came to their
    result in it (rate, ms), those that failed (`unfinished`), and the share of those begun that were finished; failures
    of live speech, whenever.

    A recording that is under way at the end is nobody's fault when it is younger than half of what it may take: it is
    left out. An older one counts as begun and not finished. Raises BadRun when nothing was answered.
    """
    began, ended = heard["began"], heard["ended"]
    seconds = ended - began
    requests = [(ms, good) for at, ms, good in heard["requests"] if began <= at < ended]
    if not requests:
        raise BadRun("no request was answered in the counted time")
    results = [(at - since, good) for since, at, good in heard["recordings"] if at is not None and began <= at < ended]
    finished = [took for took, good in results if good]
    due = done = 0
    for since, at, good in heard["recordings"]:
        if not began <= since < ended:
            continue
        if at is not None and at < ended:
            due, done = due + 1, done + bool(good)
        elif since < ended - bound_s(seconds) / 2:
            due += 1
    spread = spread_of([ms for ms, _ in requests])
    return {
        "rate": len(requests) / seconds,
        "p50_ms": spread["p50"],
        "p99_ms": spread["p99"],
        "failures": sum(not good for _, good in requests),
        "requests": len(requests),
        "recordings": len(finished) / seconds,
        "recording_p99_ms": 1000 * spread_of(finished)["p99"] if finished else math.inf,
        "unfinished": sum(not good for _, good in results),
        "finished": done / due if due else 0.0,
        "live_failures": sum(not good for good in heard["live"]),
    }
