"""SIGTERM under live streams: everybody is told to come back, nobody is let in any more, and after the next start every
stream goes on as if nothing had happened."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.support.faults import Victim
from tests.support.live import LiveCaller, Message, compare
from tests.support.live_line import SCRIPT, call
from tests.support.live_recordings import noise
from tests.support.live_runs import check_kept, recordings, rehearse

DRAIN_S = 3.0


def victim(data_dir: Path) -> Victim:
    return Victim(data_dir, workers=1, drain_s=DRAIN_S, script=SCRIPT)


def terminate(server: Victim) -> tuple[int, float]:
    """The exit status, and how long that took."""
    assert server.process is not None
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    status = server.process.wait(DRAIN_S + 15)
    took = time.monotonic() - began
    server.kill()  # what it left in our hands
    return status, took


async def test_streams_move_to_the_next_life(data_dir: Path) -> None:
    with victim(data_dir) as server:
        library = await rehearse(server, recordings("sigterm", 5, seconds=6.0))
        port = server.port
        callers = [LiveCaller(port, server.token(), p.recording, speed=1.0, seed=n) for n, p in enumerate(library)]
        running = [asyncio.create_task(caller.run()) for caller in callers]
        while any(len(caller.story.finals) < 2 for caller in callers):
            await asyncio.sleep(0.02)
        status, took = await asyncio.to_thread(terminate, server)
        assert status == 0
        assert took < DRAIN_S + 5
        await asyncio.to_thread(server.start, port)
        for n, (story, played) in enumerate(zip(await asyncio.gather(*running), library, strict=True)):
            [(_, moved)] = story.of("moved")
            assert 0 < moved["reconnect_in_ms"] <= 5000
            assert story.contacts[0].closed == 1012
            assert story.contacts[-1].closed == 1000
            assert story.of("error") == []  # moved says it
            compare(story, played.finals, f"stream {n}")
            assert story.done is not None
            await check_kept(server, story.done["task_id"], played)


async def test_nobody_is_let_in_while_it_drains(data_dir: Path) -> None:
    """Not with a connection from before, and not with a new one; a resume is no better than a start."""
    recording = noise("refused", 3.0)
    with victim(data_dir) as server:
        url = f"ws://127.0.0.1:{server.port}/v1/live"
        options = {"additional_headers": {"Authorization": f"Bearer {server.token()}"}, "proxy": None}
        async with (
            call(server, recording) as line,
            connect(url, **options) as before,
            connect(url, **options) as other,
        ):
            stopping = asyncio.create_task(asyncio.to_thread(terminate, server))
            while '"action":"gateway.draining"' not in server.log():
                await asyncio.sleep(0.005)
            assert await refused(before, recording.start()) == 1012
            assert await refused(other, line.resume(None)) == 1012
            try:
                async with connect(url, **options) as late:
                    assert await refused(late, recording.start()) == 1012
            except (OSError, InvalidHandshake):
                pass  # the door is closed
            assert await line.closed() == 1012
            status, took = await stopping
        assert status == 0
        assert took < DRAIN_S + 5
        assert [row["state"] for row in server.rows("SELECT state FROM live_sessions")] == ["open"]  # ours alone


async def refused(ws: ClientConnection, first: Message) -> int:
    """With which close code."""
    await ws.send(json.dumps(first))
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            assert json.loads(await ws.recv())["type"] not in ("ready", "final")
    return closed.value.rcvd.code if closed.value.rcvd else 1006


def watch(http: httpx2.Client, session: str, last: int | None) -> list[tuple[str, Message]]:
    """Finals and done, until the server ends the stream."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    events: list[tuple[str, Message]] = []
    with http.stream("GET", f"/v1/live/{session}/events", headers=headers) as response:
        assert response.status_code == 200
        kind = ""
        for text in response.iter_lines():
            if text.startswith("event: "):
                kind = text.removeprefix("event: ")
            elif text.startswith("data: ") and kind in ("final", "done"):
                events.append((kind, json.loads(text.removeprefix("data: "))))
    return events


async def test_a_watcher_goes_on_after_its_last_final(data_dir: Path) -> None:
    with victim(data_dir) as server:
        [played] = await rehearse(server, [noise("watched", 5.0)])
        port = server.port
        caller = LiveCaller(port, server.token(), played.recording, speed=1.0)
        running = asyncio.create_task(caller.run())
        while not caller.story.session:
            await asyncio.sleep(0.02)
        with server.http() as http:
            watching = asyncio.create_task(asyncio.to_thread(watch, http, caller.story.session, None))
            while len(caller.story.finals) < 2:
                await asyncio.sleep(0.02)
            status, _ = await asyncio.to_thread(terminate, server)
            assert status == 0
            seen = await watching  # it was ended in order, not broken off
        assert seen
        assert {kind for kind, _ in seen} == {"final"}
        await asyncio.to_thread(server.start, port)
        with server.http() as http:
            seen += await asyncio.to_thread(watch, http, caller.story.session, seen[-1][1]["id"])
        story = await running
    compare(story, played.finals)
    assert [{"type": "final", **data} for kind, data in seen if kind == "final"] == played.finals
    assert [kind for kind, _ in seen].count("done") == 1
    assert seen[-1][0] == "done"
