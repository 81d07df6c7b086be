"""Redis, for what the gateways of several machines share. Imported where it is configured, and nowhere else."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

POOL_WAIT_S = 2.0  # for a connection, when all are in use
ANSWER_S = 2.0  # for each answer: a Redis that hangs is as good as away
CONNECT_S = 1.0


def client(url: str, connections: int) -> Redis:
    """Answers are bytes. Every call ends within ANSWER_S and the waits before it; what to do then is its caller's to
    decide, so nothing is tried again here (a script that has run may have changed something). The pool that raises when
    it is full is redis-py's default: 180 of 200 calls at once failed with it."""
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
    )
    return Redis.from_pool(pool)
