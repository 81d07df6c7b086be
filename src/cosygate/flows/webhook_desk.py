"""Webhooks as owners and the operator see them: what was sent, what is dead, replays, secrets, receivers that went."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from cosygate import errors
from cosygate.flows.limiting import RECORDINGS, Limiting
from cosygate.kit.clock import Clock, Randomness
from cosygate.model.overview import DeadLetter
from cosygate.model.principal import Principal
from cosygate.model.standing import Standing
from cosygate.model.webhook import OVERLAP_S, Delivery, DeliveryState, Gone, host_of
from cosygate.ports.webhooks import Deliveries, Receivers

_LISTED = 1_000
_SECRET_BYTES = 32


class Webhooks:
    """Deliveries and receivers, for owners and for the operator."""

    def __init__(
        self,
        deliveries: Deliveries,
        receivers: Receivers,
        clock: Clock,
        randomness: Randomness,
        limiting: Limiting | None,
    ) -> None:
        """`limiting`: of replays that callers ask for; None: nobody but the operator asks here."""
        self._limiting = limiting
        self._deliveries = deliveries
        self._receivers = receivers
        self._clock = clock
        self._randomness = randomness

    async def page(
        self, caller: Principal, state: DeliveryState | None, before: str | None, limit: int
    ) -> list[Delivery]:
        return await self._deliveries.page(caller.owner, state, before, limit)

    async def replay(self, caller: Principal | None, delivery_id: str) -> tuple[Delivery, Standing | None]:
        """Tried again soon, with the same id, by the whole schedule. A caller's counts as a recording does, or they
        could have us send for ever: where they stand then. None: the operator asks. Raises DeliveryNotFound, also for
        somebody else's; DeliveryPending, Refused, LimitsUnavailable."""
        owner, now = None if caller is None else caller.owner, self._clock.now()
        if caller is None or self._limiting is None:
            return await self._deliveries.replay(owner, delivery_id, now), None
        standing = await self._limiting.count(caller, RECORDINGS)
        try:
            return await self._deliveries.replay(owner, delivery_id, now), standing
        except errors.CosyGateError:
            await self._limiting.uncount(caller, standing)
            raise

    async def dead(self, tenant: str | None = None, limit: int = _LISTED) -> list[DeadLetter]:
        """The newest first; None: of all tenants."""
        return [_letter(one) for one in await self._deliveries.dead(tenant, limit)]

    async def dead_letters(self, limit: int) -> tuple[int, list[DeadLetter]]:
        """How many there are, and the newest: what /admin shows."""
        return await self._deliveries.count_dead(), await self.dead(None, limit)

    async def create_secret(self, tenant: str) -> str | None:
        """None: it has one, which was shown when it was made and is not again."""
        secret, now = self._new_secret(), self._clock.now()
        return secret if await self._surely(partial(self._receivers.add_secret, tenant, secret, now)) else None

    async def rotate_secret(self, tenant: str) -> str | None:
        """The one before goes on signing beside it for OVERLAP_S. None: there is none to be rotated."""
        secret, now = self._new_secret(), self._clock.now()
        rotated = partial(self._receivers.rotate_secret, tenant, secret, now, now + OVERLAP_S)
        return secret if await self._surely(rotated) else None

    async def _surely(self, write: Callable[[], Awaitable[bool]]) -> bool:
        """Repeats what may have happened though its answer was lost: only we know the secret, and would not show it."""
        for pause_s in (1.0, 3.0):
            with suppress(errors.DatabaseBusy):
                return await write()
            await self._clock.sleep(pause_s)
        return await write()

    async def gone(self, tenant: str | None = None) -> list[Gone]:
        return list(await self._receivers.gone(tenant, _LISTED))

    async def enable(self, tenant: str, url: str) -> bool:
        return await self._receivers.enable(tenant, url)

    def _new_secret(self) -> str:
        return "whsec_" + base64.b64encode(self._randomness.token(_SECRET_BYTES)).decode()


def _letter(one: Delivery) -> DeadLetter:
    return DeadLetter(
        id=one.id, tenant=one.tenant, kind=one.kind, host=host_of(one.url), attempt=one.attempt, status=one.status,
        error=one.error, tried_at=one.tried_at,
    )  # fmt: skip
