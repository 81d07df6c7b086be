"""What the figures of `rolling` and `redis` are made of, out of what steady users saw. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.live.load import spread_of


@dataclass(frozen=True, slots=True)
class Span:
    """Of the monotonic clock, seconds."""

    began: float
    ended: float

    def holds(self, at: float) -> bool:
        return self.began <= at < self.ended

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def requests(found: Mapping[str, Any], span: Span) -> dict[str, float]:
    """Those that began in it, however long they took: how many, p50 and p99 in ms."""
    times = [took for began, took, _ in found["requests"] if span.holds(began)]
    shares = spread_of(times)
    return {"requests": len(times), "p50_ms": 1000 * shares["p50"], "p99_ms": 1000 * shares["p99"]}


def accepted(found: Mapping[str, Any], span: Span) -> dict[str, float]:
    """Uploads that were due in it: how many a second were accepted in it, p50 and p99 in ms from when they were due."""
    due = [one for one in found["uploads"] if span.holds(one["due"])]
    times = [one["accepted"] - one["due"] for one in due if one["accepted"] is not None]
    within = sum(one["accepted"] is not None and span.holds(one["accepted"]) for one in found["uploads"])
    shares = spread_of(times)
    return {"rate": within / span.seconds, "p50_ms": 1000 * shares["p50"], "p99_ms": 1000 * shares["p99"]}


def last_done(found: Mapping[str, Any], accepted_until: float) -> float:
    """When the last of those that were accepted before that moment was finished; 0 when there is none."""
    before = [x for x in found["uploads"] if x["accepted"] is not None and x["accepted"] < accepted_until]
    return max((one["done"] for one in before if one["done"] is not None), default=0.0)


def promises(found: Mapping[str, Any]) -> dict[str, int]:
    """What must be nothing. `failed`: calls of the client that failed in spite of its retries, and live sessions that
    did once they had begun. `lost`: uploads that were accepted and never finished, and tasks that the server does not
    list. `doubled`: tasks that it lists, and that nobody was told of. `different`: texts, and live transcripts, that
    are not as they should be."""
    uploads: Sequence[Mapping[str, Any]] = found["uploads"]
    begun = [one for one in found["speeches"] if one["begun"]]
    return {
        "failed": sum(one["failed"] for one in uploads) + sum("error" in one for one in begun),
        "lost": sum(x["accepted"] is not None and x["done"] is None for x in uploads) + found["missing"],
        "doubled": found["unknown"],
        "different": sum(not one.get("equal", True) for one in (*uploads, *begun))
        + sum(one["ended"] is None and "error" not in one for one in begun),
    }


def failures(found: Mapping[str, Any], most: int = 5) -> list[str]:
    """The first ones, for whoever looks at the terminal."""
    codes = [f"request: {code}" for _, _, code in found["requests"] if code]
    errors = [one["error"] for one in (*found["uploads"], *found["speeches"]) if "error" in one]
    return [*codes[:most], *errors[:most]]


def speeches(found: Mapping[str, Any], span: Span) -> dict[str, float]:
    """Live sessions that were open in it at some time: how many, how many had been connected anew, the longest time
    without a connection, and starts that were refused."""
    there = [x for x in found["speeches"] if x["began"] < span.ended and (x["ended"] or span.ended) >= span.began]
    begun = [one for one in there if one["begun"]]
    return {
        "sessions": len(begun),
        "cut": sum(one["cuts"] > 0 for one in begun),
        "longest_cut_s": max((one["longest_cut_s"] for one in begun), default=0.0),
        "refused": len(there) - len(begun),
    }
