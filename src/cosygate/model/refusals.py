"""Refusals that are remembered for a moment, so that who is over the limit costs little: counters in other processes
are not asked again about them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from cosygate.model.standing import Standing

KEPT_S = 1.0
MOST = 4_096


class Refusals:
    """`now` is of a monotonic clock of this process."""

    def __init__(self) -> None:
        self._refused: OrderedDict[tuple[str, str], tuple[float, Standing]] = OrderedDict()

    def remember(self, name: str, key: str, standing: Standing, now: float) -> None:
        self._refused[name, key] = (now, standing)
        if len(self._refused) > MOST:
            self._refused.popitem(last=False)

    def known(self, name: str, key: str, now: float) -> Standing | None:
        """None once there may be room again, and a second after it was remembered."""
        found = self._refused.get((name, key))
        if found is None:
            return None
        at, standing = found
        since = now - at
        if since >= min(KEPT_S, standing.reset_s):
            del self._refused[name, key]
            return None
        return replace(standing, reset_s=standing.reset_s - since)

    def forget(self, name: str, key: str) -> None:
        self._refused.pop((name, key), None)
