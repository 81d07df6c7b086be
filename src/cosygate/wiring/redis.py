"""Redis, for what the gateways of several machines share. Imported where it is configured, and nowhere else."""

from __future__ import annotations

from typing import Any

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

POOL_WAIT_S = 2.0  # for a connection, when all are in use
ANSWER_S = 2.0  # for each answer: a Redis that hangs is as good as away
CONNECT_S = 1.0


class _Changes:
    """How often the pool's Redis was found to be a replica."""

    count = 0


class _ToMaster(AbstractConnection):
    """Leaves a Redis that says that it is a replica: the name in the address may lead to the new master by now. So do
    the pool's other connections, each when it is taken next: reads would still be answered there, by what was.

    It is no answer, but a connection that ended, as for redis-py's own connections that ask a Sentinel."""

    def __init__(self, *, changes: _Changes, **settings: Any) -> None:
        super().__init__(**settings)
        self._changes = changes
        self._seen = changes.count

    async def connect(self) -> None:
        if self._seen != self._changes.count:
            await self.disconnect(nowait=True)
            self._seen = self._changes.count
        await super().connect()  # type: ignore[no-untyped-call]

    async def read_response(self, *args: Any, **more: Any) -> Any:
        try:
            return await super().read_response(*args, **more)
        except (exceptions.ReadOnlyError, exceptions.MasterDownError) as error:
            if self._seen == self._changes.count:  # else it is an older one that says what is known
                self._changes.count += 1
            await self.disconnect(nowait=True)
            raise exceptions.ConnectionError("READONLY: it is a replica") from error


class _Tcp(_ToMaster, Connection):
    pass


class _Tls(_ToMaster, SSLConnection):
    pass


_KINDS: dict[type[AbstractConnection], type[AbstractConnection]] = {Connection: _Tcp, SSLConnection: _Tls}


def client(url: str, connections: int) -> Redis:
    """Answers are bytes. Every call ends within ANSWER_S and the waits before it; what to do then is its caller's to
    decide, so nothing is tried again here (a script that has run may have changed something). The pool that raises when
    it is full is redis-py's default: 180 of 200 calls at once failed with it.

    Redis's master may change behind the address: see _ToMaster."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=POOL_WAIT_S,
        socket_timeout=ANSWER_S,
        socket_connect_timeout=CONNECT_S,
        socket_keepalive=True,
        health_check_interval=0,
        decode_responses=False,
        retry=Retry(NoBackoff(), 0),
        changes=_Changes(),
    )
    pool.connection_class = _KINDS[pool.connection_class]  # what the address says goes before an argument
    return Redis.from_pool(pool)
