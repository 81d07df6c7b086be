"""Rate limits and quotas of callers."""

from __future__ import annotations

from cosygate import errors
from cosygate.model.principal import Principal
from cosygate.model.standing import Standing

RECORDINGS, LIVE = "recordings", "live"  # what is counted


class Limiting:
    async def refusal(self, caller: Principal, what: str) -> errors.CosyGateError | None:
        """What a new recording or session of `caller` would be refused with now; nothing is counted."""
        return None

    async def count(self, caller: Principal, what: str) -> Standing | None:
        """One recording or session of `caller` begins. Raises Refused, QuotaExceeded, LimitsUnavailable."""
        return None
