"""API keys, and what has been revoked. SQL is the truth, for every gateway process.

Every method is one transaction, as in ports/records.py, and raises DatabaseBusy when it cannot be had.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cosygate.model.api_key import ApiKey


class Keys(Protocol):
    async def add(self, key: ApiKey) -> None:
        """Writes a new key. Its id is nobody else's."""

    async def find(self, key_id: str) -> ApiKey | None:
        """Also one that is revoked or has expired."""

    async def page(self, tenant: str | None, after: str, limit: int) -> list[ApiKey]:
        """Keys by id, those after the id `after`; of one tenant, or (None) of all."""

    async def used(self, times: Mapping[str, float]) -> None:
        """When each of these keys was used last. Times never go back; ids that are unknown are left alone."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """What is void now."""

    mark: tuple[int, float] = (0, 0.0)  # another one whenever anything in it is another
    credentials: frozenset[str] = frozenset()  # as Principal.credential has them
    owners: Mapping[str, float] = field(default_factory=dict)  # owner → what was issued before that is void


class Revocations(Protocol):
    """What is revoked stays so, until nothing that it voids can be alive any more."""

    async def key(self, key_id: str, now: float) -> bool:
        """Revokes an API key; repeating it changes nothing. False: there is none."""

    async def token(self, credential: str, expires_at: float, now: float) -> None:
        """Revokes what Principal.credential names so; it cannot live beyond `expires_at`, but a ticket that was got
        with it can. Raises StorageFull when there are too many: they are read into memory."""

    async def owner(self, owner: str, expires_at: float, now: float) -> int:
        """Revokes everything that was issued to `owner` before now, API keys too: how many of these. Raises
        StorageFull as `token` does."""

    async def read(self, mark: tuple[int, float], now: float) -> Revoked | None:
        """What is void; None when nothing has changed since `mark`."""
