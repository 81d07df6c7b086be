"""RateLimit and RateLimit-Policy, as draft-ietf-httpapi-ratelimit-headers has them, and Retry-After beside them."""

from __future__ import annotations

import math

from cosygate.model.standing import Standing

RETRY_AFTER_S = 2  # of what is not known better
_SPREAD = 0.25  # of the wait: as much later, at most, so that those who were refused together do not come back together
_SPREAD_S = (2.0, 60.0)  # at least, at most


def retry_after(wait_s: float, trace_id: str) -> int:
    """Whole seconds from which on to try again: never before `wait_s`. How much later is drawn from the trace id, which
    is random where it counts (W3C Trace Context, "trace-id": its right-most part)."""
    drawn = int(trace_id[-8:] or "0", 16) / 0xFFFFFFFF
    spread = min(max(wait_s * _SPREAD, _SPREAD_S[0]), _SPREAD_S[1])
    return math.ceil(wait_s + drawn * spread)


def limit_fields(standing: Standing | None) -> dict[str, str]:
    """None: nothing was counted."""
    if standing is None:
        return {}
    return fields(standing.name, standing.limit, standing.window_s, standing.remaining, math.ceil(standing.reset_s))


def fields(name: str, limit: int, window_s: int, remaining: int, reset_s: int) -> dict[str, str]:
    return {
        "RateLimit-Policy": f'"{name}";q={limit};w={window_s}',
        "RateLimit": f'"{name}";r={remaining};t={reset_s}',
    }
