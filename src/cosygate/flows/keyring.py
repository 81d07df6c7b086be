"""What an operator does with credentials: API keys are made, listed and revoked; tokens are revoked, one or all of an
owner's. Every gateway that uses the same database knows within `revocation_every_s`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from cosygate.kit.clock import Clock, Randomness
from cosygate.model.api_key import ApiKey, hash_of, id_of, new_key
from cosygate.model.principal import DEFAULT_SCOPES, NAME, Principal, Scope, token_credential
from cosygate.ports.keys import Keys, Revocations

LONGEST_S = 10 * 366 * 86_400.0  # no token of ours lives longer (cli/tokens.py)
_PAGE = 200
_NAME_CHARS = 100


class Keyring:
    def __init__(self, keys: Keys, revocations: Revocations, clock: Clock, randomness: Randomness) -> None:
        self._keys = keys
        self._revocations = revocations
        self._clock = clock
        self._randomness = randomness

    async def create(
        self, subject: str, *, tenant: str, scopes: Iterable[Scope] | None, name: str, ttl_s: float | None
    ) -> str:
        """The key: told now and never again. Raises ValueError for a name that must not be used, DatabaseBusy."""
        if len(name) > _NAME_CHARS or not name.isprintable():
            raise ValueError(f"a key's name is at most {_NAME_CHARS} printable characters")
        _check_names(subject, tenant)
        text, now = new_key(self._randomness), self._clock.now()
        key_id = id_of(text)
        assert key_id is not None  # noqa: S101 - it was made a line before
        await self._keys.add(
            ApiKey(
                id=key_id,
                hash=hash_of(text),
                name=name,
                tenant=tenant,
                subject=subject,
                scopes=DEFAULT_SCOPES if scopes is None else frozenset(scopes),
                created_at=now,
                expires_at=None if ttl_s is None else now + ttl_s,
            )
        )
        return text

    async def all(self, tenant: str | None) -> AsyncIterator[ApiKey]:
        """By id; of one tenant, or of all."""
        after = ""
        while page := await self._keys.page(tenant, after, _PAGE):
            for key in page:
                yield key
            after = page[-1].id

    async def revoke_key(self, key_id: str) -> bool:
        """False: there is none with this id."""
        return await self._revocations.key(key_id, self._clock.now())

    async def revoke_token(self, jti: str, expires_at: float | None) -> None:
        """`expires_at`: of the token, if it is known. Raises StorageFull when too many are revoked."""
        now = self._clock.now()
        longest = now + LONGEST_S
        expires_at = longest if expires_at is None else min(longest, expires_at)
        await self._revocations.token(token_credential(jti), expires_at, now)

    async def revoke_owner(self, subject: str, tenant: str) -> int:
        """Everything that they hold now; what is issued from now on is good. Returns how many API keys were among it.
        Raises ValueError, and StorageFull as above."""
        _check_names(subject, tenant)
        now = self._clock.now()
        return await self._revocations.owner(Principal(subject, tenant).owner, now + LONGEST_S, now)


def _check_names(*names: str) -> None:
    if not all(NAME.fullmatch(name) for name in names):
        raise ValueError("sub and tenant are 1-128 characters without / or control characters")
