"""The live journal's Redis emptied, killed, hung, or full in the middle of streams: every transcript, and every stored
sound, is what it would have been. reliability.md, "Live resume" 3, and the faults of Redis."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from deploy.local_cluster.services import Redis
from tests.support.faults import Victim
from tests.support.live import LiveCaller, Story, compare
from tests.support.live_line import Line, call, call_until_answered, check_transcript
from tests.support.live_recordings import LiveRecording, check_task, noise
from tests.support.live_runs import SCRIPT, SETTINGS, Played, check_kept, recordings, rehearse, wait_engines
from tests.support.services import redis as started

pytestmark = pytest.mark.needs("redis-server")
PART = 512 * 1024 // 2  # samples of a part


@pytest.fixture
def redis() -> Iterator[Redis]:
    with started() as running:
        yield running


def victim(data_dir: Path, redis: Redis, **settings: object) -> Victim:
    given = SETTINGS | {"workers": 1, "redis_url": redis.url, "script": SCRIPT} | settings
    return Victim(data_dir, **given)


def tell(redis: Redis, *words: str) -> str:
    told = subprocess.run(["redis-cli", "-p", str(redis.port), *words], capture_output=True, text=True, timeout=20)
    assert told.returncode == 0 and "ERR" not in told.stdout, told
    return told.stdout.strip()


def restart(redis: Redis, down_s: float) -> None:
    redis.kill()
    time.sleep(down_s)
    redis.start()


def hang(redis: Redis, seconds: float) -> None:
    redis.pause()
    time.sleep(seconds)
    redis.resume()


async def spoken(callers: list[LiveCaller], finals: int) -> None:
    """Until each has got so many finals."""
    async with asyncio.timeout(60):
        while any(len(caller.story.finals) < finals and caller.story.done is None for caller in callers):
            await asyncio.sleep(0.01)


async def check(server: Victim, stories: list[Story], library: list[Played]) -> None:
    for story, played in zip(stories, library, strict=True):
        compare(story, played.finals)
        assert story.done is not None
        await check_kept(server, story.done["task_id"], played)


@pytest.mark.parametrize("fault", ["emptied", "killed", "killed for 4 s", "hung for 5 s"])
async def test_streams_go_on_as_if_nothing_had_happened(data_dir: Path, redis: Redis, fault: str) -> None:
    with victim(data_dir, redis) as server:
        library = await rehearse(server, recordings(f"redis {fault}", 4, seconds=24.0))
        calling = (server.port, server.token())
        callers = [LiveCaller(*calling, p.recording, speed=6.0, seed=n) for n, p in enumerate(library)]
        running = [asyncio.create_task(caller.run()) for caller in callers]
        for finals in (5, 26):  # within the first part, and behind it
            await spoken(callers, finals)
            assert tell(redis, "DBSIZE") != "0"
            match fault:
                case "emptied":
                    tell(redis, "FLUSHALL")
                case "killed":
                    await asyncio.to_thread(restart, redis, 0.0)
                case "killed for 4 s":
                    await asyncio.to_thread(restart, redis, 4.0)
                case _:
                    await asyncio.to_thread(hang, redis, 5.0)
        await check(server, await asyncio.gather(*running), library)
        log = server.log()
    assert all(len(caller.story.contacts) >= 3 for caller in callers), [c.story.contacts for c in callers]
    assert {c.closed for caller in callers for c in caller.story.contacts} <= {1000, 1006, 4503}
    if "killed" not in fault:  # then it is a matter of how fast Redis is back
        assert ('"live.journal_emptied"' in log) == (fault == "emptied")
    assert "crashed" not in log


async def stored(server: Victim, line: Line, kept: int, restart: int) -> None:
    """Until SQL says so of the session: bytes in parts, and what is decided."""
    asked = "SELECT 1 FROM live_sessions WHERE id = ? AND kept >= ? AND restart >= ?"
    async with asyncio.timeout(30):
        while not server.rows(asked, line.session, kept, restart):
            await asyncio.sleep(0.05)


def wake(server: Victim, engines: list[Any]) -> None:
    for engine in engines:
        if engine.is_running():  # else it was replaced
            engine.resume()
    wait_engines(server)


async def lose_and_resume(
    server: Victim,
    redis: Redis,
    line: Line,
    played: Played,
    sent: int,
    then: Callable[[], object] = lambda: None,
    slow_s: float = 0.0,
) -> tuple[int, list[dict[str, object]]]:
    """Redis is emptied, which the next frame meets; the session goes on from what is in parts, to its end, with a
    client that needs `slow_s` to speak. The offset, and all finals."""
    tell(redis, "FLUSHALL")
    await line.play(sent, sent + 1600)
    assert await line.closed() == 4503
    then()
    last = len(line.finals) - 1
    async with call_until_answered(server, played.recording, line.resume(last)) as again:
        offset = int(again.ready["offset"])
        await asyncio.sleep(slow_s)
        for at in played.recording.finalizes:  # as docs/live.md has it
            if at <= offset:
                await again.say({"type": "finalize", "samples": at})
        await again.play(offset)
        await again.end()
        assert await again.closed() == 1000
    return offset, [*map(dict, line.finals), *map(dict, again.finals)]


def check_told(server: Victim, line: Line, played: Played) -> None:
    with server.http() as http:
        check_task(http, line.session, played.recording, len(played.finals))
        check_transcript(http, line.session, played.finals)


async def test_a_long_session_with_finals_beyond_its_parts(data_dir: Path, redis: Redis) -> None:
    """More than the engine may be behind (60 s): what it need not hear again does not count as that. Finals that were
    told, and were in the lost journal alone, are not told twice."""
    recording = noise("redis long", 80.0, "mulaw", 8_000)
    with victim(data_dir, redis) as server:
        [played] = await rehearse(server, [recording])
        async with call(server, recording) as line:
            await line.play(0, 600_000)
            await line.until("final", timeout_s=60, end_sample=580_000)
            await stored(server, line, kept=4 * PART, restart=580_000)
            offset, finals = await lose_and_resume(server, redis, line, played, 600_000)
        assert offset == 2 * PART
        assert finals == played.finals
        await asyncio.to_thread(check_told, server, line, played)


async def test_ends_of_utterances_that_were_lost_are_said_again_in_time(data_dir: Path, redis: Redis) -> None:
    """The parts reach beyond the last restart point (here because the engines are stopped): what is in them is not
    heard before the client has said again where it wanted ends of utterances."""
    marks = (10_000, 20_000, 230_000)
    recording = LiveRecording(noise("redis marks", 24.0).audio, finalizes=marks)
    with victim(data_dir, redis, script=SCRIPT | {"segment_s": 30.0}) as server:
        [played] = await rehearse(server, [recording])
        assert [final["end_sample"] for final in played.finals][:3] == list(marks)
        async with call(server, recording) as line:
            engines = server.find("cosygate.engine")
            for engine in engines:
                engine.suspend()
            await line.play(0, 18 * 16_000)
            await stored(server, line, kept=2 * PART, restart=0)
            assert not line.finals
            offset, finals = await lose_and_resume(
                server, redis, line, played, 18 * 16_000, lambda: wake(server, engines), slow_s=2.0
            )
        assert offset == PART
        assert finals == played.finals
        await asyncio.to_thread(check_told, server, line, played)


async def test_a_silent_session_lives_through_an_outage(data_dir: Path, redis: Redis) -> None:
    """Who says nothing while Redis is away notices nothing; and a new session is refused at once, not left hanging."""
    recording = noise("redis silent", 4.0)
    with victim(data_dir, redis) as server:
        [played] = await rehearse(server, [recording])
        async with call(server, recording) as line:
            await line.play(0, 32_000)
            await line.until("ack", samples=32_000)
            await line.until("final", id=1)
            await asyncio.sleep(0.3)
            redis.pause()
            try:
                began = time.monotonic()
                with pytest.raises(ConnectionClosed) as refused:
                    await call(server, recording).__aenter__()
                assert time.monotonic() - began < 4.0  # 2.5 s, and a machine that is busy
            finally:
                redis.resume()
            assert refused.value.rcvd is not None and refused.value.rcvd.code == 4503
            await line.play(32_000)
            await line.end()
            assert await line.closed() == 1000
        assert line.finals == played.finals
        await asyncio.to_thread(check_told, server, line, played)


async def test_a_full_redis_puts_a_session_off(data_dir: Path, redis: Redis) -> None:
    recording = noise("redis full", 6.0)
    with victim(data_dir, redis) as server:
        [played] = await rehearse(server, [recording])
        caller = LiveCaller(server.port, server.token(), recording, speed=2.0)
        running = asyncio.create_task(caller.run())
        await spoken([caller], 2)
        tell(redis, "CONFIG", "SET", "maxmemory", "1")
        await asyncio.sleep(1.5)
        tell(redis, "CONFIG", "SET", "maxmemory", "0")
        await check(server, [await running], [played])
        assert {contact.closed for contact in caller.story.contacts} == {1000, 4503}
