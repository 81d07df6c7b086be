"""Moving windows: how much was counted in the last so many seconds, exactly bounded, in at most 2 KiB a rate.

Up to GRAINS a window each count is remembered by its time. Beyond, counts share the marks of a grid of so many per
window, and each leaves with its mark: at most a GRAINS-th of the window late, never early. So no window of that length,
wherever it begins, ever holds more than the rate's amount.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from cosygate.model.rates import Rate
from cosygate.model.standing import Standing

GRAINS = 128


class Windows:
    """What was counted under one key: a window a rate. `now` is of a clock that never goes back."""

    __slots__ = ("_entries", "_used")

    def __init__(self, rates: Sequence[Rate], packed: bytes = b"") -> None:
        """`packed`: as `pack` gave it, for the same rates."""
        self._entries = [array("d") for _ in rates]  # each: mark, count, mark, count, …; the oldest first
        at = 0
        for entries in self._entries if packed else ():
            length = int.from_bytes(packed[at : at + 2], "little")
            entries.frombytes(packed[at + 2 : at + 2 + length])
            at += 2 + length
        self._used = [int(sum(entries[1::2])) for entries in self._entries]

    def pack(self) -> bytes:
        parts = (entries.tobytes() for entries in self._entries)
        return b"".join(len(part).to_bytes(2, "little") + part for part in parts)

    def take(self, rates: Sequence[Rate], now: float) -> bool:
        """Counts one in every window, or, when one of them is full, in none."""
        self._leave(rates, now)
        for used, rate in zip(self._used, rates, strict=True):
            if used >= rate.amount:
                return False
        for n, rate in enumerate(rates):
            entries, mark = self._entries[n], _mark(rate, now)
            if entries and entries[-2] >= mark:
                entries[-1] += 1
            else:
                entries.extend((mark, 1))
            self._used[n] += 1
        return True

    def give_back(self, rates: Sequence[Rate], at: float) -> None:
        """Takes one that was counted `at` that time out again, of each window that it has not left yet. Any other would
        not do: with a newer one there would be room too early."""
        for n, rate in enumerate(rates):
            entries, mark = self._entries[n], _mark(rate, at)
            for i in range(0, len(entries), 2):
                if entries[i] == mark:
                    self._used[n] -= 1
                    entries[i + 1] -= 1
                    if entries[i + 1] <= 0:
                        del entries[i : i + 2]
                    break

    def standing(self, name: str, rates: Sequence[Rate], now: float) -> Standing:
        """Of the tightest: the one with least left, and of those the one that takes longest."""
        self._leave(rates, now)
        tightest, found = rates[0], (math.inf, 0.0)
        for n, rate in enumerate(rates):
            entries = self._entries[n]
            reset_s = entries[0] + rate.window_s - now if entries else 0.0
            if (stands := (rate.amount - self._used[n], -reset_s)) < found:
                tightest, found = rate, stands
        return Standing(name, tightest.amount, tightest.window_s, max(0, int(found[0])), -found[1], now)

    def until(self, rates: Sequence[Rate]) -> float:
        """When the last count leaves; 0 when there is none."""
        pairs = zip(self._entries, rates, strict=True)
        return max((entries[-2] + rate.window_s for entries, rate in pairs if entries), default=0.0)

    def _leave(self, rates: Sequence[Rate], now: float) -> None:
        for n, entries in enumerate(self._entries):
            window_s, gone = rates[n].window_s, 0
            while gone < len(entries) and entries[gone] + window_s <= now:
                self._used[n] -= int(entries[gone + 1])
                gone += 2
            if gone:
                del entries[:gone]


def _mark(rate: Rate, now: float) -> float:
    if rate.amount <= GRAINS:
        return now
    grain = rate.window_s / GRAINS
    return math.ceil(now / grain) * grain
