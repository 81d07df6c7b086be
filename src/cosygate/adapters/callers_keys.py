"""Callers by API key. What it needs of the database is one row, read the first time that a process sees a key."""

from __future__ import annotations

import hmac
import math

from cosygate import errors
from cosygate.model.api_key import PREFIX, hash_of, id_of
from cosygate.model.principal import Principal, key_credential
from cosygate.ports.callers import Callers
from cosygate.ports.keys import Keys

_NOBODYS = "0" * 64


class KeyCallers:
    """ports/callers.py, Callers."""

    def __init__(self, keys: Keys, *, otherwise: Callers) -> None:
        """`otherwise` is asked about everything that is not an API key."""
        self._keys = keys
        self._otherwise = otherwise

    async def identify(self, credential: str) -> Principal:
        if not credential.startswith(PREFIX):
            return await self._otherwise.identify(credential)
        key_id = id_of(credential)
        if key_id is None:
            raise errors.TokenInvalid("this is no API key; was it copied whole?")
        key = await self._keys.find(key_id)
        # The hashes take the same time whether there is such a key or not.
        right = hmac.compare_digest(key.hash if key else _NOBODYS, hash_of(credential))
        if key is None or not right:
            raise errors.TokenInvalid("there is no such API key")
        if key.revoked_at is not None:
            raise errors.TokenRevoked("the API key has been revoked")
        return Principal(
            key.subject,
            key.tenant,
            key.scopes,
            credential=key_credential(key.id),
            issued_at=key.created_at,
            expires_at=math.inf if key.expires_at is None else key.expires_at,
        )
