"""The client that all of a gateway's adapters share (wiring/redis.py), when another Redis becomes the master."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import exceptions
from redis.asyncio import Redis as Client

from cosygate.adapters.journal_redis import RedisJournal
from cosygate.adapters.limits_redis import RedisCounters
from cosygate.kit.clock import SystemClock
from cosygate.model.rates import Rate
from cosygate.ports.limits import CountersDown
from cosygate.wiring.redis import client
from deploy.local_cluster.services import HOST, Redis, free_port
from tests.support.certificates import Authority, Pair
from tests.support.journals import event
from tests.support.proxy import FaultProxy

pytestmark = pytest.mark.needs("redis-server")
S1, S2 = "1" * 32, "2" * 32
MINUTE = (Rate(10, 60),)


class Ciphered(Redis):
    """Speaks TLS, too."""

    def __init__(self, folder: Path, pair: Pair) -> None:
        super().__init__(folder)
        self.pair = pair
        self.tls_port = free_port()

    def command(self) -> Sequence[str]:
        return [
            *super().command(), "--tls-port", str(self.tls_port), "--tls-cert-file", str(self.pair.cert),
            "--tls-key-file", str(self.pair.key), "--tls-auth-clients", "no",
        ]  # fmt: skip


@dataclass
class Two:
    """One name, which leads to the first: `change` makes the second the master of both."""

    first: Ciphered
    second: Ciphered
    authority: Path

    @asynccontextmanager
    async def named(self, scheme: str) -> AsyncIterator[tuple[FaultProxy, Client]]:
        secret = scheme == "rediss"
        self.ports = [one.tls_port if secret else one.port for one in (self.first, self.second)]
        with FaultProxy(self.ports[0]) as name:
            more = f"?ssl_ca_certs={self.authority}" if secret else ""
            made = client(f"{scheme}://{HOST}:{name.port}/0{more}", 20)
            try:
                yield name, made
            finally:
                await made.aclose()

    async def change(self) -> None:
        new, old = Client.from_url(self.second.url), Client.from_url(self.first.url)
        async with new, old:
            await old.replicaof(HOST, str(self.second.port))
            async with asyncio.timeout(10):
                while (await old.info("replication"))["master_link_status"] != "up":
                    await asyncio.sleep(0.02)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    authority = Authority(tmp_path)
    pair = authority.issue("redis", HOST)
    with Ciphered(tmp_path / "first", pair) as first, Ciphered(tmp_path / "second", pair) as second:
        yield Two(first, second, authority.cert)


async def at_once(client: Client, calls: int) -> set[str]:
    """Which servers answer to so many calls at the same time, each on a connection of its own."""
    connections = [await client.connection_pool.get_connection() for _ in range(calls)]  # type: ignore[no-untyped-call]
    ports = set()
    for one in connections:
        await one.send_command("CONFIG", "GET", "port")
        ports.add((await one.read_response())[1].decode())
        await client.connection_pool.release(one)
    return ports


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_no_connection_stays_with_a_master_that_is_none_any_more(two: Two, scheme: str) -> None:
    async with two.named(scheme) as (name, redis):
        assert await at_once(redis, 5) == {str(two.first.port)}
        await two.change()
        with pytest.raises(exceptions.ConnectionError, match="READONLY"):  # the name does not lead there yet
            await redis.set("a", 1)
        with pytest.raises(exceptions.ConnectionError, match="READONLY"):
            await redis.set("a", 1)
        async with redis.pipeline(transaction=False) as pipeline:
            for n in range(3):
                pipeline.set(f"a{n}", n)
            with pytest.raises(exceptions.ConnectionError, match="READONLY"):
                await pipeline.execute()
        name.lead_to(two.ports[1])
        assert await redis.set("a", 2)
        assert await at_once(redis, 5) == {str(two.second.port)}


async def test_one_in_use_leaves_when_it_is_used_again(two: Two) -> None:
    """It may be in the middle of an answer: nobody else ends it."""
    async with two.named("redis") as (name, redis):
        await at_once(redis, 2)
        busy = await redis.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        await busy.send_command("GET", "a")
        await two.change()
        name.lead_to(two.ports[1])
        with pytest.raises(exceptions.ConnectionError):
            await redis.eval("return redis.call('SET', 'a', 1)", 0)  # type: ignore[misc]
        assert await busy.read_response() is None
        await redis.connection_pool.release(busy)
        assert await at_once(redis, 2) == {str(two.second.port)}


async def test_sessions_and_counters_go_on_at_the_new_master(two: Two) -> None:
    async with two.named("redis") as (name, redis):
        counters = RedisCounters(redis, SystemClock())
        async with RedisJournal(redis) as journal:
            await (await journal.claim(S1, 1)).writer.append(event(0))
            assert (await counters.take("recordings", "t/a", MINUTE))[0]
            await two.change()
            claiming = asyncio.create_task(journal.claim(S2, 1))
            with pytest.raises(CountersDown):
                await counters.take("recordings", "t/a", MINUTE)
            await asyncio.sleep(0.2)
            assert not claiming.done()  # it is tried again for as long as it may wait
            name.lead_to(two.ports[1])
            await (await claiming).writer.append(event(0))
            async with asyncio.timeout(5):
                while True:
                    try:
                        assert (await counters.take("recordings", "t/a", MINUTE))[0]
                        break
                    except CountersDown:
                        await asyncio.sleep(0.1)
        await counters.close()
