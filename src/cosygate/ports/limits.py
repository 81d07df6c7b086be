"""Counters of what callers begin, shared by all gateways that stand for one service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cosygate.model.rates import Rate
from cosygate.model.standing import Standing


class CountersDown(Exception):
    """The counters cannot be had just now; nothing was counted."""


class Counters(Protocol):
    """Counts under a `name` (what is counted; always with the same, non-empty `rates`) and a `key` (whose it is). Every
    method raises CountersDown after a wait of at most half a second. Under one name at least 10,000 keys are kept
    apart; beyond that those counted longest ago may be forgotten."""

    async def take(self, name: str, key: str, rates: Sequence[Rate]) -> tuple[bool, Standing]:
        """Counts one, if that is within all of `rates`; else nothing. Whether it was, and the standing after it.

        However many take at the same time, in whichever process: no window of any rate ever holds more than its
        amount. What was counted leaves within a 128th of the window after its time. `reset_s` is never too early."""

    async def look(self, name: str, key: str, rates: Sequence[Rate]) -> Standing:
        """The standing now; `remaining` is 0 when `take` would refuse. Counts nothing. May be up to a second old when
        the last `take` was refused."""

    async def give_back(self, name: str, key: str, rates: Sequence[Rate], at: float) -> None:
        """One that was taken did not happen after all: that which `take` counted at `at` (Standing.at). What has left
        by now, and what was never counted, changes nothing."""

    async def close(self) -> None:
        """Later calls raise CountersDown."""
