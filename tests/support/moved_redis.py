"""A real Redis whose `TIME`, as scripts see it, follows a test's clock: the text of each script is changed on its way
there, and nothing else. What Redis does by its own clock all the same (expiry) is not moved."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from tests.support.clock import MovedClock
from tests.support.services import shared_redis

_TIME = "redis.call('TIME')"


class MovedRedis:
    """`ahead_s`: of the clock's monotonic time; tests set Redis's clock by it."""

    def __init__(self, client: Redis, clock: MovedClock, ahead_s: float = 1_800_000_000.0) -> None:
        self.client = client
        self.clock = clock
        self.ahead_s = ahead_s
        self.key = f"time:{uuid.uuid4().hex}"
        self.known: dict[str, str] = {}  # sha of a script as it is asked for → as it is run

    def pipeline(self, transaction: bool) -> MovedPipeline:
        return MovedPipeline(self)

    async def execute_command(self, *command: Any) -> Any:
        pipe = self.pipeline(transaction=True)
        pipe.execute_command(*command)
        [answer] = await pipe.execute(raise_on_error=True)
        return answer

    async def aclose(self) -> None:
        await self.client.aclose()


class MovedPipeline:
    """Of scripts alone."""

    def __init__(self, redis: MovedRedis) -> None:
        self._redis = redis
        self._pipe = redis.client.pipeline(transaction=True)  # so that it is the time of these scripts
        seconds, micros = divmod(round((redis.clock.mono + redis.ahead_s) * 1e6), 1_000_000)
        self._pipe.set(redis.key, f'["{seconds}","{micros}"]', px=60_000)
        self._unknown: list[int] = []
        self._count = 0

    def execute_command(self, name: str, script: str, *rest: Any) -> None:
        if name == "EVAL":
            assert _TIME in script
            text = script.replace(_TIME, f"cjson.decode(redis.call('GET', '{self._redis.key}'))")
            self._redis.known[hashlib.sha1(script.encode()).hexdigest()] = text
        elif script in self._redis.known:
            text = self._redis.known[script]
        else:
            self._unknown.append(self._count)
            text = "return {err = 'NOSCRIPT'}"
        self._count += 1
        self._pipe.execute_command("EVAL", text, *rest)

    async def execute(self, raise_on_error: bool) -> list[Any]:
        answers = (await self._pipe.execute(raise_on_error=False))[1:]
        for n in self._unknown:
            answers[n] = NoScriptError()
        for answer in answers:
            if raise_on_error and isinstance(answer, Exception):
                raise answer
        return answers


def connect(url: str = "") -> Redis:
    """As wiring/redis.py makes it. Without `url`: the test process's own server."""
    from cosygate.wiring.redis import client

    return client(url or shared_redis().url, 50)


def own_prefix() -> str:
    """The server is shared by the tests of a process."""
    return f"{uuid.uuid4().hex}:"
