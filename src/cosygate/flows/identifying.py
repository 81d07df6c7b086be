"""Who is calling, and whether what they showed still holds: the one answer that every door gets.

    credential ─► known to this process? ─ no ─► an adapter finds out: JWT or API key ─► remembered
                                         └ yes ─┐
    expired? revoked (as read at most `revocation_every_s` ago)? ─► 401           else ─► the principal

SQL is the truth about revocations, for every gateway process. While it cannot be read, what was read last holds. What
is under way is watched: a live connection is told to end when its holder's credential does.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from cosygate import errors
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.principal import LEEWAY_S, Principal, key_credential
from cosygate.ports.callers import Callers
from cosygate.ports.keys import Keys, Revocations, Revoked

_log = logger()
_READ_S = 5.0  # the longest look at the database
_KEY = key_credential("")
End = Callable[[errors.CosyGateError], None]


class Identifying:
    """Implements ports.callers.Callers.

    Verified credentials are remembered (a bounded number, until they end): a client sends the same one with each chunk,
    and checking it costs as much as the rest of a small request."""

    def __init__(
        self, callers: Callers, keys: Keys, revocations: Revocations, clock: Clock, *, remembered: int = 4096
    ) -> None:
        self._callers = callers
        self._keys = keys
        self._revocations = revocations
        self._clock = clock
        self._remembered = remembered
        self._known: OrderedDict[str, tuple[Principal, str]] = OrderedDict()  # credential → who, and which key it is
        self._revoked = Revoked()
        self._looked = False  # whether it has been read at all
        self._blind = False  # whether it could not be read last time
        self._watched: dict[int, tuple[Principal, End]] = {}
        self._number = 0
        self._used: dict[str, float] = {}  # API key → when, since `note_uses`

    async def identify(self, credential: str) -> Principal:
        known = self._known.get(credential)
        if known is None:
            known = await self._learn(credential)
        caller, key_id = known
        now = self._clock.now()
        refusal = self._refusal(caller, now)
        if refusal is not None:
            self._known.pop(credential, None)
            raise refusal
        if key_id:
            self._used[key_id] = now
        return caller

    async def _learn(self, credential: str) -> tuple[Principal, str]:
        if not self._looked:
            await self._read()
        caller = await self._callers.identify(credential)
        key_id = caller.credential.removeprefix(_KEY) if caller.credential.startswith(_KEY) else ""
        known = self._known[credential] = caller, key_id
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)
        return known

    def check(self, holder: Principal) -> None:
        """Whether the credential that `holder` showed once, to get a ticket or a stream, still holds. Raises
        TokenRevoked, TokenExpired."""
        refusal = self._refusal(holder, self._clock.now())
        if refusal is not None:
            raise refusal

    def holds(self, holder: Principal) -> bool:
        """As `check`, for what ends without a word."""
        return self._refusal(holder, self._clock.now()) is None

    def _refusal(self, caller: Principal, now: float) -> errors.CosyGateError | None:
        """Two look-ups at most: it is asked with every request."""
        if now > caller.expires_at + LEEWAY_S:
            return errors.TokenExpired()
        revoked = self._revoked
        if caller.credential in revoked.credentials:
            return errors.TokenRevoked()
        if revoked.owners and caller.issued_at < revoked.owners.get(caller.owner, 0.0):
            return errors.TokenRevoked()
        return None

    def watch(self, holder: Principal, end: End) -> Callable[[], None]:
        """Calls `end` once, with the reason, when the holder's credential has ended. Returns what stops watching."""
        self._number += 1
        number = self._number
        self._watched[number] = holder, end

        def stop() -> None:
            self._watched.pop(number, None)

        return stop

    def forget(self) -> None:
        """A key that signed some of what is remembered holds no more: everything is looked at again."""
        self._known.clear()

    async def look(self) -> None:
        """Every `revocation_every_s` seconds: what has been revoked, and ends what is under way."""
        try:
            async with asyncio.timeout(_READ_S):
                await self._read()
        except (errors.Unavailable, TimeoutError) as error:
            if not self._blind:
                _log.error("revocations.unread", code=getattr(error, "code", "timeout"))
            self._blind = True
        else:
            if self._blind:
                _log.info("revocations.read")
            self._blind = False
        self._end_watched()

    async def _read(self) -> None:
        fresh = await self._revocations.read(self._revoked.mark, self._clock.now())
        self._looked = True
        if fresh is not None:
            self._revoked = fresh
            # Nothing remembered may outlive its revocation's row, which is forgotten once no token can be so old.
            self._known.clear()
            _log.info("revocations.changed", credentials=len(fresh.credentials), owners=len(fresh.owners))

    def _end_watched(self) -> None:
        now = self._clock.now()
        for number, (holder, end) in list(self._watched.items()):
            refusal = self._refusal(holder, now)
            if refusal is not None and self._watched.pop(number, None) is not None:
                end(refusal)

    async def note_uses(self) -> None:
        """Every minute, off the path of requests: when keys were used last. Raises DatabaseBusy, StorageFull: those
        times are lost, and the next use tells."""
        used, self._used = self._used, {}
        if used:
            await self._keys.used(used)
