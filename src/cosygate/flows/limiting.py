"""Rate limits and quotas of callers: the rate is each principal's, quotas are their tenant's.

Counters are asked twice about a recording: before its body is read (nothing is counted), and when it begins (one is).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cosygate import errors
from cosygate.flows.quotas import QuotasUnknown, QuotaWatch
from cosygate.kit import metrics
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.principal import Principal
from cosygate.model.rates import LIVE, RECORDINGS, UNAUTHENTICATED, Rate
from cosygate.model.standing import Standing
from cosygate.ports.limits import Counters, CountersDown

__all__ = ["LIVE", "RECORDINGS", "Limiting"]

_log = logger()
_TOLD_EVERY_S = 1.0
_WORDS = {RECORDINGS: "recordings", LIVE: "live sessions", UNAUTHENTICATED: "requests without a valid token"}


class Limiting:
    def __init__(
        self,
        counters: Counters,
        quotas: QuotaWatch,
        clock: Clock,
        *,
        rates: Mapping[str, Sequence[Rate]],
        failing_open: bool,
    ) -> None:
        """`rates`: by what is counted; none: no limit. `failing_open`: what cannot be counted passes."""
        self._counters = counters
        self._quotas = quotas
        self._clock = clock
        self._rates = rates
        self._failing_open = failing_open
        self._told_at = -math.inf

    async def refusal(self, caller: Principal, what: str) -> errors.CosyGateError | None:
        """What a new recording or session of `caller` would be refused with now; nothing is counted."""
        try:
            if (over := await self._quotas.refusal(caller.tenant)) is not None:
                return over
            standing = await self._look(caller, what)
        except (CountersDown, QuotasUnknown) as down:
            return self._down(down)
        return _refused(standing) if standing is not None and standing.remaining == 0 else None

    async def count(self, caller: Principal, what: str) -> Standing | None:
        """One recording or session of `caller` begins: where it stands then; None when nothing is counted. Raises
        Refused, LimitsUnavailable."""
        return await self._count(what, caller.owner)

    async def uncount(self, caller: Principal, counted: Standing | None) -> None:
        """What was counted then did not begin. It is given back from its own place: others of the same caller count at
        the same time (model/window.py). None: nothing was counted."""
        if counted is None or not (rates := self._rates.get(counted.name)):
            return
        try:
            await self._counters.give_back(counted.name, caller.owner, rates, counted.at)
        except CountersDown as down:
            self._tell(down)

    async def stranger(self, address: str) -> errors.Refused | None:
        """A request from `address` had no valid token: what it is refused with, when there were too many. Never raises:
        that it is refused is certain anyway."""
        try:
            await self._count(UNAUTHENTICATED, address)
        except errors.Refused as refused:
            return refused
        except errors.LimitsUnavailable:
            pass
        return None

    async def standings(self, caller: Principal) -> list[Standing]:
        """Of everything that is limited. Raises LimitsUnavailable."""
        try:
            found = [await self._look(caller, what) for what in (RECORDINGS, LIVE)]
        except CountersDown as down:
            self._tell(down)
            raise errors.LimitsUnavailable() from None
        return [standing for standing in found if standing is not None]

    def live_of_tenant(self, tenant: str) -> int:
        """How many live sessions the tenant may have open at once; 0: no quota."""
        return self._quotas.of(tenant).live or 0

    async def _look(self, caller: Principal, what: str) -> Standing | None:
        rates = self._rates.get(what)
        return await self._counters.look(what, caller.owner, rates) if rates else None

    async def _count(self, what: str, key: str) -> Standing | None:
        rates = self._rates.get(what)
        if not rates:
            return None
        try:
            granted, standing = await self._counters.take(what, key, rates)
        except CountersDown as down:
            if (refusal := self._down(down)) is not None:
                raise refusal from None
            return None
        if not granted:
            raise _refused(standing)
        return standing

    def _down(self, why: Exception) -> errors.LimitsUnavailable | None:
        self._tell(why)
        return None if self._failing_open else errors.LimitsUnavailable()

    def _tell(self, why: Exception) -> None:
        """Each counts, but under load there are thousands a second."""
        metrics.limits_failed.inc()
        now = self._clock.monotonic()
        if now - self._told_at >= _TOLD_EVERY_S:
            self._told_at = now
            what = "quotas" if isinstance(why, QuotasUnknown) else "counters"
            _log.error("limits.unavailable", what=what, passes=self._failing_open)


def _refused(standing: Standing) -> errors.Refused:
    return errors.Refused(
        f"at most {standing.limit} {_WORDS[standing.name]} in {standing.window_s} s",
        retry_after=max(1, math.ceil(standing.reset_s)),
        policy=standing.name,
        limit=standing.limit,
        window_s=standing.window_s,
    )
