"""What tenants have used, and how much they may. Days and months are UTC's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class Use:
    """Of one tenant, on one day, through one door (file or live)."""

    day: str  # YYYY-MM-DD
    door: str
    seconds: float  # of audio, of recordings that were transcribed
    recordings: int


@dataclass(frozen=True, slots=True)
class TenantTotal:
    tenant: str
    day_s: float
    month_s: float


@dataclass(frozen=True, slots=True)
class Quota:
    """In a tenant's own row None means: as the settings say. 0 means: no quota."""

    day_s: float | None = None
    month_s: float | None = None
    live: int | None = None  # live sessions open at once

    def over(self, usual: Quota) -> Quota:
        """This, with what it leaves open as `usual` has it."""
        return Quota(
            usual.day_s if self.day_s is None else self.day_s,
            usual.month_s if self.month_s is None else self.month_s,
            usual.live if self.live is None else self.live,
        )


@dataclass(frozen=True, slots=True)
class Period:
    """The day or month that a moment belongs to."""

    name: str  # day or month
    begins: str  # its first day, YYYY-MM-DD
    ends_at: float  # when the next one begins, seconds since the epoch


def day_of(now: float) -> Period:
    start = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return Period("day", start.date().isoformat(), (start + timedelta(days=1)).timestamp())


def month_of(now: float) -> Period:
    start = datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (start + timedelta(days=32)).replace(day=1)
    return Period("month", start.date().isoformat(), following.timestamp())
