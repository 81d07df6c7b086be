"""A breaker in Redis's time. Its times are of a monotonic clock, and each host has its own; in Redis they are by the
clock there, which is the same for all.

Of its fields `open_until`, `probe_until` and `gone_at` are times, and `quarters` are numbered by one; `streak` and
`probe` are none.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

from cosygate.kit.breaker import Breaker

_A_SECOND = 4  # quarters (kit/breaker.py)


class Offset:
    """Seconds from this process's monotonic clock to Redis's. An answer tells Redis's time at some moment between its
    asking and its coming, which bounds the offset; it is moved no farther than into those bounds. So it is wrong by the
    shortest of the latest round trips at most, follows a clock that is set at once, and else hardly ever changes."""

    def __init__(self) -> None:
        self.seconds: float | None = None  # until it was measured

    def measured(self, sent: float, came: float, told: float) -> None:
        """`sent`, `came`: by our clock; `told`: by Redis's."""
        least, most = told - came, told - sent
        if self.seconds is None:
            self.seconds = (least + most) / 2
        self.seconds = min(max(self.seconds, least), most)


def packed(breaker: Breaker, offset: float) -> bytes:
    return json.dumps(_moved(breaker, offset).to_json(), separators=(",", ":")).encode()


def unpacked(body: bytes, offset: float) -> Breaker:
    """Raises ValueError for what is no breaker."""
    try:
        breaker = _moved(Breaker.from_json(json.loads(body)), -offset)
        times = (breaker.open_until, breaker.probe_until, breaker.gone_at)
        if not all(time is None or math.isfinite(time) for time in times) or not isinstance(breaker.probe, str):
            raise ValueError("it has other times")
        return breaker
    except (TypeError, KeyError, AttributeError, OverflowError) as error:
        raise ValueError(str(error)) from error


def _moved(breaker: Breaker, by: float) -> Breaker:
    """Quarters begin at another moment on each host: they are moved by whole ones, so that what a host reads and writes
    again stays what it was."""
    quarters = round(by * _A_SECOND)
    return replace(
        breaker,
        quarters=tuple((which + quarters, good, bad) for which, good, bad in breaker.quarters),
        open_until=None if breaker.open_until is None else breaker.open_until + by,
        probe_until=breaker.probe_until + by if breaker.probe else 0.0,
        gone_at=None if breaker.gone_at is None else breaker.gone_at + by,
    )
