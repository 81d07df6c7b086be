"""Engines elsewhere that come, go, grow old and are told to end while they are spoken to: a real room over real engine
processes, on TCP. Nothing is lost, nothing fails, and what is heard is what would have been heard without all that."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from cosygate import errors
from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.adapters.engine_grpc.channels import STREAMS_PER_CHANNEL
from cosygate.ports.engine import Done, FinalFound, ListenConfig, PartialFound
from tests.support.engine_process import EngineProcess, engine_process, recognise, silence
from tests.support.faults import Victim
from tests.support.fleet import NAME, Final, ToldNames, free_port, noise, room_of, stage, transcribe, until_up
from tests.support.listening import RATE, frames, held, sent
from tests.support.live import LiveCaller, compare
from tests.support.live_runs import SETTINGS, check_kept, recordings, rehearse
from tests.support.proxy import Fault, FaultProxy, Kind, Way

SCRIPT: dict[str, Any] = {"hear": "digest", "segment_s": 0.7, "delay_s": 0.002}
SLOTS = ("--slots", "4", "--line", "64", "--live", "100")


def engines(stack: ExitStack, count: int, *more: str, script: dict[str, Any] = SCRIPT) -> list[EngineProcess]:
    """One at each of 127.0.0.1, 127.0.0.2, … on the same port, as the addresses of a name are."""
    port = free_port()
    return [
        stack.enter_context(engine_process(*SLOTS, *more, script=script, listen=f"127.0.0.{n + 1}:{port}"))
        for n in range(count)
    ]


def host(process: EngineProcess) -> str:
    return process.address.rpartition(":")[0]


def port(process: EngineProcess) -> str:
    return process.address.rpartition(":")[2]


def calls(process: EngineProcess) -> Counter[str]:
    """How the engine's own calls ended."""
    return Counter(line["status"] for line in process.log_lines() if line["action"] == "engine.call")


def connections(process: EngineProcess) -> int:
    """Of ours, to it."""
    open_ones = [c.raddr for c in psutil.Process().net_connections("tcp") if c.status == "ESTABLISHED" and c.raddr]
    return sum(f"{at.ip.removeprefix('::ffff:')}:{at.port}" == process.address for at in open_ones)


async def undisturbed(folder: Path, said: list[bytes], files: list[bytes]) -> tuple[list[list[Final]], list[list[str]]]:
    with engine_process(*SLOTS, script=SCRIPT, listen="127.0.0.1:0") as alone:
        async with room_of(None, engine_addresses=alone.address) as room, stage(folder, room) as where:
            heard = [told.finals for told in await asyncio.gather(*(where.talk(audio, speed=20) for audio in said))]
            return heard, [(await transcribe(room, pcm))[1] for pcm in files]


async def test_engines_join_and_leave_under_load(tmp_path: Path) -> None:
    said = [noise(n, 5.0 + n % 3) for n in range(16)]
    files = [noise(f"file {n}", 3.0) for n in range(3)]
    finals, texts = await undisturbed(tmp_path / "alone", said, files)
    assert all(len(told) > 6 for told in finals)
    with ExitStack() as running, capture_logs() as logged:
        one, two, three = engines(running, 3)
        names = ToldNames(host(one))
        settings = {"engine_addresses": f"dns:{NAME}:{port(one)}", "engine_lookup_s": 0.1}
        async with room_of(names, **settings) as room, stage(tmp_path / "fleet", room) as where:
            await until_up(room, one.address)
            talking = [asyncio.create_task(where.talk(audio)) for audio in said[:8]]
            served: Counter[str] = Counter()
            over = asyncio.Event()

            async def work(lane: int) -> None:
                while not over.is_set():
                    key, told = await transcribe(room, files[lane])
                    assert told == texts[lane]
                    served[key] += 1

            working = [asyncio.create_task(work(lane)) for lane in range(len(files))]
            await asyncio.sleep(1.0)
            names.found = (host(two), host(one))
            await until_up(room, one.address, two.address)
            talking += [asyncio.create_task(where.talk(audio)) for audio in said[8:]]
            await asyncio.sleep(1.0)
            names.found = (host(two), host(three))  # the first leaves, with live calls that have seconds to go
            await until_up(room, two.address, three.address)
            left = served[one.address]
            assert connections(one), "its live calls go on"
            names.found = None  # the resolver fails; nothing changes
            await asyncio.sleep(0.5)
            names.found = ()
            await asyncio.sleep(0.5)
            await until_up(room, two.address, three.address)
            heard = await asyncio.gather(*talking)
            assert served[one.address] <= left + len(files), "those that it had"
            over.set()
            await asyncio.gather(*working)
            async with asyncio.timeout(5):
                while connections(one):
                    await asyncio.sleep(0.02)
        assert [told.finals for told in heard] == finals
        assert min(served[process.address] for process in (one, two, three)) > 0
        assert [set(calls(process)) for process in (one, two, three)] == [{"OK"}] * 3
        assert calls(two)["OK"] > served[two.address], "live calls, too"
    assert {line["event"] for line in logged if line["log_level"] in ("warning", "error")} == {"engine.lookup_failed"}
    assert [line["event"] for line in logged].count("engine.lookup_failed") == 1


async def test_an_engine_that_is_told_to_end_gives_its_live_streams_to_another(tmp_path: Path) -> None:
    said = [noise(n, 6.0) for n in range(10)]
    finals, _ = await undisturbed(tmp_path / "alone", said, [])
    with ExitStack() as running, capture_logs() as logged:
        going, staying = engines(running, 2, "--grace", "20", script=SCRIPT | {"delay_s": 0.05})
        settings = {"engine_addresses": f"{going.address}, {staying.address}"}
        async with room_of(None, **settings) as room, stage(tmp_path / "fleet", room) as where:
            await until_up(room, going.address, staying.address)
            talking = [asyncio.create_task(where.talk(audio)) for audio in said]
            recording = noise("long", 30)
            files = [asyncio.create_task(transcribe(room, recording)) for _ in range(2)]
            await asyncio.sleep(1.5)
            began = time.monotonic()
            os.kill(going.pid, signal.SIGTERM)
            await asyncio.sleep(0.3)
            [down] = [e for e in room.status() if e.key == going.address]
            for _ in range(20):
                assert (await transcribe(room, noise("short", 0.5)))[0] == staying.address
            assert await asyncio.to_thread(going.process.wait, 10) == 0
            took_s = time.monotonic() - began
            heard = await asyncio.gather(*talking)
            taken = await asyncio.gather(*files)
        assert [told.finals for told in heard] == finals
        assert sorted(key for key, _ in taken) == sorted([going.address, staying.address]), "they had one each"
        assert taken[0][1] == taken[1][1]
        ended = calls(going)
        assert set(ended) == {"OK", "ABORTED"}, "the recording was finished, the streams went on elsewhere"
        assert ended["ABORTED"] == 5
        assert took_s < 8, "no stream made it wait"
        assert not down.up
    away = [line["code"] for line in logged if line["event"] == "live.engine_away"]
    assert set(away) == {"engine_leaving"}
    assert [line["event"] for line in logged].count("engine.leaving") == 1


async def test_connections_that_grow_old_end_without_a_lost_stream(tmp_path: Path) -> None:
    said = [noise(n, 10.0) for n in range(6)]
    finals, _ = await undisturbed(tmp_path / "alone", said, [])
    with ExitStack() as running, capture_logs() as logged:
        old = ("--max-connection-age", "2", "--max-connection-age-grace", "3")
        two = engines(running, 2, *old, script=SCRIPT | {"delay_s": 0.05})
        settings = {"engine_addresses": ",".join(process.address for process in two)}
        async with room_of(None, **settings) as room, stage(tmp_path / "fleet", room) as where:
            await until_up(room, *(process.address for process in two))
            talking = [asyncio.create_task(where.talk(audio)) for audio in said]
            long = asyncio.create_task(transcribe(room, noise("long", 80)))  # some six seconds of work
            while not all(task.done() for task in talking):
                await transcribe(room, noise("short", 0.5))
            heard = await asyncio.gather(*talking)
            began = time.monotonic()
            assert len((await long)[1]) > 100
            assert time.monotonic() - began < 20
        assert [told.finals for told in heard] == finals
        ended = sum((calls(process) for process in two), Counter())
        assert set(ended) == {"OK", "ABORTED"}
        assert ended["ABORTED"] >= 3 * len(said), "each was moved again and again"
    assert {line["code"] for line in logged if line["event"] == "live.engine_away"} == {"engine_leaving"}
    assert not [line for line in logged if line["log_level"] == "error"]


async def test_a_live_call_that_finds_no_good_place_to_end_is_ended_after_the_grace() -> None:
    old = ("--max-connection-age", "0.5", "--max-connection-age-grace", "0.5")
    with engine_process(*old, script={"segment_s": 30.0}) as process:
        engine = GrpcEngine(process.address)
        began = time.monotonic()
        with pytest.raises(errors.EngineLeaving):
            async with held(engine) as call:
                async for _ in call:
                    pass
        assert 0.9 < time.monotonic() - began < 4
        await engine.close()


async def test_a_live_call_that_grew_old_ends_at_a_restart_point() -> None:
    """So that the next one hears nothing twice."""
    with engine_process("--max-connection-age", "0.5", script={"segment_s": 1.0}) as process:
        engine = GrpcEngine(process.address)
        told: list[object] = []
        with pytest.raises(errors.EngineLeaving):
            said = sent(*frames(silence(30.0)), every_s=0.05)
            async for event in engine.listen(ListenConfig(RATE), said, idle_timeout_s=5):
                told.append(event)  # noqa: PERF401 - the loop ends in an error
        assert isinstance(told[-1], FinalFound)
        assert any(isinstance(event, PartialFound) for event in told), "there was something else to end at"
        await engine.close()


async def test_hundreds_of_streams_to_one_engine_wait_for_nobody() -> None:
    """A connection takes a hundred, and lets what comes beyond wait without a word."""
    with engine_process("--live", "300", script=SCRIPT, listen="127.0.0.1:0") as process:
        engine = GrpcEngine(process.address, idle_s=0.5)
        async with asyncio.timeout(30):
            async with AsyncExitStack() as streams:
                await asyncio.gather(*(streams.enter_async_context(held(engine)) for _ in range(250)))
                assert (await engine.describe()).live_busy == 250
                assert len(engine._channels) == 250 // STREAMS_PER_CHANNEL + 1
                assert connections(process) == 3
                assert isinstance((await recognise(engine, silence(1.0)))[-1], Done)
            while len(engine._channels) > 1 or connections(process) > 1:
                await asyncio.sleep(0.05)
        assert isinstance((await recognise(engine, silence(1.0)))[-1], Done)
        await engine.close()


@pytest.mark.parametrize("kind", ["call", "listens for its end"])
async def test_a_host_that_vanished_is_noticed_though_it_said_nothing(kind: str) -> None:
    hangs = engine_process(script={"rules": [{"do": "hang"}]}, listen="127.0.0.1:0")
    with hangs as process, FaultProxy(int(port(process))) as proxy:
        engine = GrpcEngine(f"127.0.0.1:{proxy.port}", keepalive_s=1.0)
        await engine.describe()
        call = kind == "call"
        waiting: asyncio.Task[object] = asyncio.create_task(
            recognise(engine, silence(1.0), idle_timeout_s=60) if call else engine.leaving()
        )
        await asyncio.sleep(0.5)
        assert not waiting.done()
        for way in Way:
            proxy.strike(Fault(Kind.SWALLOW, way))
        began = time.monotonic()
        with pytest.raises(errors.EngineFailed if call else errors.EngineUnavailable):
            await asyncio.wait_for(waiting, 20)
        assert time.monotonic() - began < 5
        await engine.close()


@pytest.mark.slow
async def test_a_server_without_engines_of_its_own(data_dir: Path) -> None:
    """`cosygate serve` with engine_addresses: one of two engines is told to end while people speak."""
    script = {"hear": "digest", "segment_s": 0.7, "delay_s": 0.02}
    with ExitStack() as running:
        two = engines(running, 2, "--grace", "20", script=script)
        addresses = ",".join(process.address for process in two)
        server = running.enter_context(Victim(data_dir, script=script, engine_addresses=addresses, **SETTINGS))
        assert not server.find("cosygate.engine")
        library = await rehearse(server, recordings(19, 6))
        callers = [LiveCaller(server.port, server.token(), one.recording, speed=2.0) for one in library]
        speaking = [asyncio.create_task(caller.run()) for caller in callers]
        await asyncio.sleep(1.0)
        os.kill(two[0].pid, signal.SIGTERM)
        for story, played in zip(await asyncio.gather(*speaking), library, strict=True):
            compare(story, played.finals)
            assert len(story.contacts) == 1
            assert story.done is not None
            await check_kept(server, story.done["task_id"], played)
        with server.http(scopes=["admin"]) as http:
            seen = {one["engine"]: one["up"] for one in http.get("/v1/admin/overview").json()["engines"]}
            places = [one["engine"] for one in http.get("/health").json()["engines"]]
        assert seen == {two[0].address: False, two[1].address: True}
        assert places == [0, 1], "who may ask without a token is told no addresses"
