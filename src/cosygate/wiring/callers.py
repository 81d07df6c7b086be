"""Who is calling: which credentials this gateway believes, and the rounds that keep that up to date."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from cosygate import errors
from cosygate.adapters.callers_jwt import JwtCallers
from cosygate.adapters.callers_keys import KeyCallers
from cosygate.adapters.records_sql import SqlRecords
from cosygate.flows.identifying import Identifying
from cosygate.flows.keyring import Keyring
from cosygate.kit.clock import Clock, SystemClock, SystemRandomness
from cosygate.kit.logs import logger
from cosygate.ports.callers import Callers
from cosygate.settings import Settings
from cosygate.wiring import stores

_log = logger()
_NOTE_EVERY_S = 60.0


@asynccontextmanager
async def callers(settings: Settings, secret: str, records: SqlRecords, clock: Clock) -> AsyncIterator[Identifying]:
    """Raises ValueError for a secret that must not be used."""
    async with AsyncExitStack() as stack:
        names = {"audience": settings.jwt_audience, "issuer": settings.jwt_issuer}
        issued: Callers | None = None
        if settings.jwt_jwks_url:
            from cosygate.adapters.callers_jwt.issued import IssuedCallers
            from cosygate.adapters.callers_jwt.issuer import Issuer

            if not settings.jwt_audience:
                _log.warning("issuer.any_audience")
            issuer = Issuer(
                settings.jwt_jwks_url,
                clock,
                refresh_s=settings.jwt_jwks_refresh_s,
                dropped=lambda: identifying.forget(),
            )
            stack.push_async_callback(issuer.close)
            stack.push_async_callback(_end, asyncio.create_task(issuer.run()))
            issued = IssuedCallers(issuer, clock, **names)
        tokens = JwtCallers(secret, clock, **names, otherwise=issued)
        identifying = Identifying(KeyCallers(records.keys, otherwise=tokens), records.keys, records.revocations, clock)
        await identifying.look()
        stack.push_async_callback(_quietly, identifying.note_uses)  # of the last minute
        for seconds, work in ((settings.revocation_every_s, identifying.look), (_NOTE_EVERY_S, identifying.note_uses)):
            stack.push_async_callback(_end, asyncio.create_task(_every(seconds, work, clock)))
        yield identifying


async def _every(seconds: float, work: Callable[[], Awaitable[None]], clock: Clock) -> None:
    while True:
        await clock.sleep(seconds)
        await _quietly(work)


async def _quietly(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except errors.Unavailable as error:
        _log.warning("callers.put_off", code=error.code)
    except Exception:  # the rounds go on, whatever it was
        _log.exception("callers.crashed")


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def open_keyring(settings: Settings) -> AsyncIterator[Keyring]:
    """On the data folder, whether a server runs there or not. Raises ValueError, DatabaseBusy, StorageFull, OSError."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    records = await stores.records(settings)
    try:
        yield Keyring(records.keys, records.revocations, SystemClock(), SystemRandomness())
    finally:
        await records.close()
