"""Where a caller stands against a limit: what 429 answers, and the RateLimit fields of others, are made from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one limit, the tightest when there are several."""

    name: str  # of the policy: recordings, live, unauthenticated
    limit: int  # how many in one window
    window_s: int  # seconds
    remaining: int
    reset_s: float  # seconds until there is room for more than `remaining`
    at: float  # when this was so, by the counters' own clock: what was counted then is given back by it
