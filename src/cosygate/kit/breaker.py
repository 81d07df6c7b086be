"""A circuit breaker as a value: what is known of one engine's calls, and what may be done because of it. It looks at no
clock and draws no lots, so that several processes can share one by changing it in turns (ports/breaker.py).

    closed ── too many failures ──► open ── its time is over ──► half-open ── the probe went well ──► closed, cleared
                                      ▲                              │
                                      └────── the probe failed ──────┘

Too many: of the calls of the last 30 s, at least 20, more than 5 % failed, and some in each 10 s slice (a burst is not
a state); or 5 in a row. Time is counted in quarters of a second, so that any number of calls takes the same room. Where
a quarter lies only partly in the window, its failures are left out and its successes counted: rounding opens nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

_SAME_DEATH_S = 1.0  # in which all who were connected to a process learn that it is gone
WINDOW_S = 30.0
CALLS_MIN = 20  # in the window
FAILED_SHARE = 20  # one in so many may fail
IN_A_ROW = 5
PROBE_S = 60.0  # after so long without a word from its engine a probe is forgotten: its process may have died
_RENEW_S = 2.0  # a probe is renewed no sooner after it was: others have to be told each time
JITTER = 0.1  # of the time that it stays open
_A_SECOND = 4  # quarters
_SLICE = 10 * _A_SECOND
_SLICES = 3
_WINDOW = _SLICE * _SLICES


class Phase(StrEnum):
    CLOSED = "closed"  # calls go through
    HALF_OPEN = "half_open"  # one call may find out
    OPEN = "open"  # nobody calls


@dataclass(frozen=True, slots=True)
class Breaker:
    """All times are seconds of the one monotonic clock that the machine's processes share."""

    quarters: tuple[tuple[int, int, int], ...] = ()  # (which, successes, failures), in order, of the window
    streak: int = 0  # failures since the last success
    open_until: float | None = None  # None: closed
    probe: str = ""  # whose probe runs
    probe_until: float = 0.0  # when it is forgotten
    gone_at: float | None = None  # when an engine's death was last counted

    def phase(self, now: float) -> Phase:
        if self.open_until is None:
            return Phase.CLOSED
        return Phase.OPEN if now < self.open_until else Phase.HALF_OPEN

    def wait_s(self, now: float) -> float:
        """Seconds until it is open no more."""
        return max(0.0, self.open_until - now) if self.open_until is not None else 0.0

    def probed(self, now: float) -> bool:
        """Whether somebody's probe is running."""
        return self.phase(now) is Phase.HALF_OPEN and bool(self.probe) and now < self.probe_until

    def callable(self, now: float) -> bool:
        """Whether a call may begin now: any, or a probe."""
        return self.phase(now) is not Phase.OPEN and not self.probed(now)

    # --- steps ---

    def probing(self, now: float, who: str) -> Breaker:
        """`who` takes the probe, if it is to be had: then `probe` is `who` afterwards."""
        if self.phase(now) is not Phase.HALF_OPEN or self.probed(now):
            return self
        return replace(self, probe=who, probe_until=now + PROBE_S)

    def heard(self, now: float, who: str) -> Breaker:
        """The engine told something in the probe of `who`, if it still is: it is not forgotten for as long again. A
        slow engine may take minutes to its first words. Often the same, so that not every event needs to be told."""
        mine = self.open_until is not None and bool(who) and self.probe == who
        if not mine or now + PROBE_S < self.probe_until + _RENEW_S:
            return self
        return replace(self, probe_until=now + PROBE_S)

    def released(self, who: str) -> Breaker:
        """The probe of `who` ended without telling anything: another may begin."""
        return replace(self, probe="") if who and self.probe == who else self

    def succeeded(self, now: float, who: str = "", *, open_s: float) -> Breaker:
        """`who`: the call's own probe, if it is one; one that was forgotten counts until another takes its place.
        `open_s`: how long it stays open if this opens it."""
        if self.open_until is not None:  # a call from before tells nothing new
            return Breaker(gone_at=self.gone_at) if who and self.probe == who else self
        return replace(self._counted(now, failed=False), streak=0)._judged(now, open_s)

    def failed(self, now: float, who: str = "", *, open_s: float) -> Breaker:
        if self.open_until is not None:
            return self._opened(now, open_s) if who and self.probe == who else self
        return replace(self._counted(now, failed=True), streak=self.streak + 1)._judged(now, open_s)

    def gone(self, now: float, who: str = "", *, heard_at: float, open_s: float) -> Breaker:
        """A call found the engine's process gone. One death ends many calls and is one failure: of those who last heard
        of the engine before it was counted, nobody counts it again."""
        if self.gone_at is not None and heard_at <= self.gone_at and not (who and self.probe == who):
            return self
        return replace(self.failed(now, who, open_s=open_s), gone_at=now)

    def excused(self, now: float) -> Breaker:
        """The process is gone, and that tells nothing of the engine: of those who last heard of it before, nobody
        counts this death. One who was faster has counted it; that is taken back from the streak."""
        counted = self.gone_at is not None and now - self.gone_at < _SAME_DEATH_S
        return replace(self, gone_at=now, streak=max(0, self.streak - counted))

    def _opened(self, now: float, open_s: float) -> Breaker:
        return Breaker(open_until=now + open_s, gone_at=self.gone_at)

    def _judged(self, now: float, open_s: float) -> Breaker:
        return self._opened(now, open_s) if self.streak >= IN_A_ROW or self._too_many() else self

    def _counted(self, now: float, *, failed: bool) -> Breaker:
        """With one more outcome. Processes may tell theirs a little out of order."""
        which = math.floor(now * _A_SECOND)
        newest = max(which, self.quarters[-1][0]) if self.quarters else which
        counts = {q: (good, bad) for q, good, bad in self.quarters}
        good, bad = counts.get(which, (0, 0))
        counts[which] = (good + (not failed), bad + failed)
        kept = sorted((q, good, bad) for q, (good, bad) in counts.items() if newest - q <= _WINDOW)
        return replace(self, quarters=tuple(kept))

    def _too_many(self) -> bool:
        newest = self.quarters[-1][0]
        inside = [(newest - q, good, bad) for q, good, bad in self.quarters if newest - q < _WINDOW]
        failures = sum(bad for _, _, bad in inside)
        if sum(good for _, good, _ in inside) + failures < CALLS_MIN:
            return False
        calls = sum(good for _, good, _ in self.quarters) + failures
        slices = {age // _SLICE for age, _, bad in inside if bad}
        return failures * FAILED_SHARE > calls and len(slices) == _SLICES

    # --- as plain data ---

    def to_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Breaker:
        return cls(**{**data, "quarters": tuple((q, good, bad) for q, good, bad in data["quarters"])})
