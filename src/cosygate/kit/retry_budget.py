"""How many calls may be repeats of calls that failed: one for every ten first ones, and one a second beside them, so
that a quiet server can repeat at all: that second is the whole server's, and each of its processes has its share of it.
Without a bound, what fails is called again and again just when it is in trouble (Google's SRE book, chapter 22,
"Retries"; Finagle's RetryBudget)."""

from __future__ import annotations

from enum import Enum

EARNED = 0.1  # by a first call
EARNED_MAX = 50.0  # what calls of long ago allow is bounded
RESERVE = 10.0  # repeats at once in a quiet moment, by all processes; it fills again by one a second
RESERVE_PER_S = 1.0


class Purse(Enum):
    EARNED = "earned"
    RESERVE = "reserve"


class RetryBudget:
    """For one event loop. `now` is monotonic."""

    def __init__(self, now: float, *, sharers: int = 1) -> None:
        """`sharers`: how many processes share the reserve. Each may hold one repeat at least, or had none ever."""
        self._earned = 0.0
        self._holds = max(1.0, RESERVE / sharers)
        self._per_s = RESERVE_PER_S / sharers
        self._reserve = self._holds
        self._filled_at = now

    def called(self) -> None:
        """A first call was made."""
        self._earned = min(EARNED_MAX, self._earned + EARNED)

    def take(self, now: float) -> Purse | None:
        """From where one more repeat may be made, and is counted; None: it may not be."""
        self._reserve = min(self._holds, self._reserve + self._per_s * max(0.0, now - self._filled_at))
        self._filled_at = max(self._filled_at, now)
        if self._earned >= 1:
            self._earned -= 1
            return Purse.EARNED
        if self._reserve >= 1:
            self._reserve -= 1
            return Purse.RESERVE
        return None

    def give_back(self, purse: Purse) -> None:
        """A repeat that was allowed was not made after all. It goes back to where it came from: the reserve must not
        become what no first call has earned."""
        if purse is Purse.EARNED:
            self._earned = min(EARNED_MAX, self._earned + 1)
        else:
            self._reserve = min(self._holds, self._reserve + 1)
