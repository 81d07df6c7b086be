"""What the journal in Redis promises beyond the contract: keys that vanish or know less than they did, answers that get
lost, scripts that are forgotten, and what is left of a session that nobody holds."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import exceptions
from redis.asyncio import Redis
from redis.crc import key_slot

from cosygate import errors
from cosygate.adapters.journal_redis import RedisJournal
from cosygate.adapters.journal_redis.faults import ERRORS, code_of, translated
from cosygate.ports.journal import Past
from cosygate.wiring.redis import client
from tests.support.journals import audio, event, in_redis, sound, story
from tests.support.services import shared_redis

pytestmark = pytest.mark.needs("redis-server")
S1, S2 = "1" * 32, "2" * 32
NOTHING = (Past(None, [], 0, 0), b"")


@asynccontextmanager
async def opened(place: Path, **more: Any) -> AsyncIterator[tuple[RedisJournal, Redis, str]]:
    """With a connection to look at the keys, and how those begin."""
    async with in_redis(place, 64 * 1024**2, **more) as journal:
        redis = client(shared_redis().url, 2)
        try:
            yield journal, redis, journal._prefix
        finally:
            await redis.aclose()


def keys(prefix: str, session: str = S1) -> list[str]:
    return [f"{prefix}:{{{session}}}:{name}" for name in ("held", "audio", "events")]


# --- a Redis that lost something -----------------------------------------------------------------------------------

SOME = [gone for count in (1, 2, 3) for gone in itertools.combinations(range(3), count)]


@pytest.mark.parametrize("gone", SOME)
async def test_no_stream_is_begun_in_the_middle(tmp_path: Path, gone: tuple[int, ...]) -> None:
    """Whichever of the keys were evicted."""
    async with opened(tmp_path) as (journal, redis, prefix):
        old = (await journal.claim(S1, 3)).writer
        await old.append(sound(0, 1000), event(0))
        _, position = await journal.events(S1, "")
        await redis.delete(*(keys(prefix)[number] for number in gone))
        with pytest.raises(errors.Unavailable):
            await old.append(sound(1000, 10), event(1))
        for _ in range(2):
            with pytest.raises(errors.Unavailable):
                await old.append(event(2))
        with pytest.raises(errors.Unavailable):
            await old.read(0, 10)
        with pytest.raises(errors.Unavailable):
            await old.compact({}, 0)
        assert await story(journal, S1, 4) == NOTHING
        new = (await journal.claim(S1, 5)).writer
        await new.append(sound(2000, 10), event(3))  # goes on from where SQL knows
        assert (await journal.events(S1, position))[0] == [event(3)]
        with pytest.raises(errors.TakenOver):
            await old.read(0, 10)
        assert await story(journal, S1, 6) == (Past(None, [event(3)], 0, 2010), bytes(2000) + audio(2000, 10))


async def test_a_silent_writer_notices_it_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as (journal, redis, prefix):
        writer = (await journal.claim(S1, 1)).writer
        await redis.delete(*keys(prefix))
        async with asyncio.timeout(5):
            while writer._broken is None:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
        assert writer.held()  # nobody has claimed it: its client is to come back, and not to leave it to somebody else
        with pytest.raises(errors.Unavailable):
            await writer.append(event(0))
        assert await redis.exists(*keys(prefix)) == 0


async def test_a_redis_that_knows_less_than_it_acknowledged_is_not_written_on(tmp_path: Path) -> None:
    """A replica that took over, or a restored file: what is there is a beginning of the story, and claims find that."""
    async with opened(tmp_path) as (journal, redis, prefix):
        writer = (await journal.claim(S1, 1)).writer
        await writer.append(sound(0, 1000), event(0))
        dumps = [await redis.dump(key) for key in keys(prefix)]
        await writer.append(sound(1000, 1000), event(1))
        for key, dump in zip(keys(prefix), dumps, strict=True):
            await redis.restore(key, 0, dump, replace=True)
        with pytest.raises(errors.Unavailable):
            await writer.append(sound(2000, 1000), event(2))
        assert await story(journal, S1, 2) == (Past(None, [event(0)], 0, 1000), audio(0, 1000))


async def test_an_old_claim_on_an_emptied_redis_does_not_tell_the_newer_holder_to_go(tmp_path: Path) -> None:
    async with opened(tmp_path) as (journal, redis, prefix):
        newer = (await journal.claim(S1, 6)).writer
        await redis.delete(*keys(prefix))
        await journal.claim(S1, 5)
        with pytest.raises(errors.Unavailable):
            await newer.append(event(0))
        assert newer.held()


# --- answers that get lost -----------------------------------------------------------------------------------------


class Forgetful:
    """A client, its pool and its connection in one, whose flights are flown and whose answers get lost, of all but each
    nth flight."""

    def __init__(self, real: Redis, lost: int) -> None:
        self._real, self._lost = real, lost
        self._connection: Any = None
        self.connection_pool = self
        self.flights = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def get_connection(self) -> Any:
        self.flights += 1
        self._connection = await self._real.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        return self

    async def release(self, _: object) -> None:
        await self._real.connection_pool.release(self._connection)

    async def send_packed_command(self, words: Any) -> None:
        await self._connection.send_packed_command(words)

    async def read_response(self) -> Any:
        answer = await self._connection.read_response()
        if self.flights % (self._lost + 1):
            await asyncio.sleep(0.02)  # all of it is written meanwhile
            raise exceptions.ConnectionError("cut")
        return answer

    async def disconnect(self, **more: Any) -> None:
        await self._connection.disconnect(**more)


@pytest.mark.parametrize("lost", [1, 2])
async def test_what_got_no_answer_is_sent_again_and_written_once(tmp_path: Path, lost: int) -> None:
    async with opened(tmp_path) as (strict, redis, prefix):
        forgetful = Forgetful(redis, lost)
        async with RedisJournal(forgetful, prefix=prefix) as journal:  # type: ignore[arg-type]
            writer = (await journal.claim(S1, 1)).writer
            appends = [writer.append(sound(n * 10, 10), event(n)) for n in range(20)]
            await writer.compact({"n": 20}, 100)
            appends += [writer.append(sound(n * 10, 10), event(n)) for n in range(20, 40)]
            await asyncio.gather(*appends)
            await writer.append(event(40))
            assert await writer.read(350, 100) == audio(350, 50)
            assert list(await strict.sessions()) == [S1]
        assert forgetful.flights >= 4 * (lost + 1)
        expected = Past({"n": 20}, [event(n) for n in range(20, 41)], 100, 400)
        assert await story(strict, S1, 2) == (expected, audio(100, 300))


async def test_forgotten_scripts_are_taught_again_in_the_middle(tmp_path: Path) -> None:
    async with opened(tmp_path) as (journal, redis, _):
        writer = (await journal.claim(S1, 1)).writer
        for turn in range(5):
            appends = [writer.append(sound(n * 10, 10), event(n)) for n in range(turn * 50, turn * 50 + 50)]
            await asyncio.sleep(0)
            await redis.script_flush()
            await asyncio.gather(*appends)
        past = Past(None, [event(n) for n in range(250)], 0, 2500)
        assert await story(journal, S1, 2) == (past, audio(0, 2500))


# --- who holds -----------------------------------------------------------------------------------------------------


async def test_how_late_a_silent_holder_hears_of_a_takeover(tmp_path: Path) -> None:
    look_s = 0.3
    async with opened(tmp_path, look_s=look_s) as (journal, _, _), opened(tmp_path) as (stranger, _, _):
        for epoch in range(1, 9, 2):
            writer = (await journal.claim(S1, epoch)).writer
            await asyncio.sleep(0.1 * epoch)
            await stranger.claim(S1, epoch + 1)
            began = time.monotonic()
            while writer.held():
                await asyncio.sleep(0.005)
            assert time.monotonic() - began < 1.5 * look_s + 0.3  # a machine that is busy


async def test_who_appends_is_not_asked_about(tmp_path: Path) -> None:
    async with opened(tmp_path, look_s=30.0) as (journal, _, _):
        writer = (await journal.claim(S1, 1)).writer
        silent = 0
        for _ in range(40):
            await writer.append(event(0))
            silent += writer.silent_for(0.05)  # type: ignore[attr-defined]
            await asyncio.sleep(0.01)
        assert not silent
        await asyncio.sleep(0.06)
        assert writer.silent_for(0.05)  # type: ignore[attr-defined]


# --- audio in grains -----------------------------------------------------------------------------------------------


async def test_grains_that_go_together_become_one_entry(tmp_path: Path) -> None:
    async with opened(tmp_path) as (journal, redis, prefix):
        writer = (await journal.claim(S1, 1)).writer
        await asyncio.gather(*(writer.append(sound(n * 2, 2)) for n in range(200)))
        await writer.append(*(sound(400 + n * 100, 100) for n in range(100)))  # 10,000 bytes
        writer.append(sound(10_400, 5), event(0))
        await writer.append(sound(10_405, 5), sound(10_411, 5))  # an event, then a gap
        ends = [int(key.partition(b"-")[0]) for key, _ in await redis.xrange(keys(prefix)[1])]
        assert ends == [400, 400 + 8100, 10_400, 10_405, 10_410, 10_416]
        assert await writer.read(10_000, 1000) == audio(10_000, 410) + bytes(1) + audio(10_411, 5)


async def test_a_read_of_grains_is_short_and_holds_nobody_up(tmp_path: Path) -> None:
    """Appended one after the other, they are an entry each: what one answer has is bounded by their number."""
    async with opened(tmp_path) as (journal, redis, prefix):
        writer = (await journal.claim(S1, 1)).writer
        await writer.append(sound(0, 2))
        stream = keys(prefix)[1]
        async with redis.pipeline(transaction=False) as pipeline:
            for end in range(4, 6002, 2):
                pipeline.xadd(stream, {"s": audio(end - 2, 2)}, id=f"{end}-0")
            pipeline.hset(keys(prefix)[0], "end", "6000")
            await pipeline.execute()
        sizes: list[int] = []
        while piece := await writer.read(sum(sizes), 512 * 1024):
            assert piece == audio(sum(sizes), len(piece))
            sizes.append(len(piece))
        assert sizes == [1024] * 5 + [880]
        assert await writer.read(100, 50) == audio(100, 50)


# --- what is left --------------------------------------------------------------------------------------------------


async def test_a_session_that_nobody_holds_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, redis, prefix):
        async with in_redis(tmp_path, 1024**2, ttl_s=1) as journal:
            silent = (await journal.claim(S1, 1)).writer
            writer = (await journal.claim(S2, 1)).writer
            for number in range(25):
                await writer.append(event(number), sound(number * 10, 10))
                await asyncio.sleep(0.1)
            await silent.append(event(0))  # its keys lived on, too
            held = [key for session in (S1, S2) for key in keys(prefix, session)]
            assert all([0 < await redis.ttl(key) <= 1 for key in held])
        await asyncio.sleep(1.5)
        assert await redis.exists(*held) == 0


async def test_dropped_sessions_leave_a_word_that_expires(tmp_path: Path) -> None:
    async with opened(tmp_path) as (journal, redis, prefix):
        writer = (await journal.claim(S1, 1)).writer
        await writer.append(sound(0, 10), event(0))
        await journal.drop(S1)
        held, *others = keys(prefix)
        assert await redis.exists(*others) == 0
        assert 0 < await redis.ttl(held) <= 600
        await journal.drop(S2)
        assert await redis.exists(*keys(prefix, S2)) == 0


async def test_compaction_bounds_what_a_session_takes(tmp_path: Path) -> None:
    async with opened(tmp_path) as (journal, redis, prefix):
        writer = (await journal.claim(S1, 1)).writer
        end = 0
        for turn in range(20):
            for _ in range(50):
                writer.append(sound(end, 3200))
                writer.append({"type": "partial", "n": turn}, passing=True)
                end += 3200
            await writer.compact({"n": turn}, end - 32_000)
            assert await redis.xlen(keys(prefix)[1]) == 10
            assert await redis.xlen(keys(prefix)[2]) == 0
        taken = [await redis.memory_usage(key) for key in keys(prefix)]
        assert sum(filter(None, taken)) < 200_000


async def test_every_key_of_a_session_has_its_tag(tmp_path: Path) -> None:
    async with opened(tmp_path) as (journal, redis, prefix):
        await (await journal.claim(S1, 1)).writer.append(sound(0, 1), event(0))
        found = [key.decode() async for key in redis.scan_iter(match=f"{prefix}*")]
        assert sorted(found) == sorted(keys(prefix))
        tags = {key.partition("{")[2].partition("}")[0] for key in found}
        assert len({key_slot(key.encode()) for key in found}) == len(tags) == 1


# --- foreign errors ------------------------------------------------------------------------------------------------


def test_foreign_errors_become_ours() -> None:
    for word, kind in ERRORS.items():
        for told in (exceptions.ResponseError(f"{word} and more"), exceptions.ResponseError("x", status_code=word)):
            assert type(translated(told)) is kind
    assert type(translated(exceptions.OutOfMemoryError("command not allowed", status_code="OOM"))) is errors.StorageFull
    for word in ("LOADING", "READONLY", "MISCONF", "CLUSTERDOWN", "NOAUTH"):
        ours = translated(exceptions.ResponseError(f"{word} secret of redis://user:password@host"))
        assert type(ours) is errors.Unavailable
        assert word in str(ours) and "secret" not in str(ours)
    for error in (exceptions.ConnectionError("host:1 secret"), exceptions.ResponseError("secret"), OSError("secret")):
        ours = translated(error)
        assert type(ours) is errors.Unavailable
        assert code_of(error) == type(error).__name__ and "secret" not in str(ours)


def test_the_embedded_mode_does_without_redis_py() -> None:
    code = "import sys, cosygate.wiring, cosygate.wiring.stores; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
