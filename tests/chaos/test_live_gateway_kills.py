"""Gateways killed under live streams, and whole servers: everybody resumes within two seconds of its being back, and
what was acknowledged was in the journal."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.faults import Victim
from tests.support.live import LiveCaller, compare
from tests.support.live_runs import SCRIPT, SETTINGS, check_kept, recordings, rehearse, restart_run

RESUMED_S = 2.0


@pytest.mark.slow
async def test_fifty_streams_resume_within_two_seconds(data_dir: Path) -> None:
    with Victim(data_dir, script=SCRIPT, **SETTINGS) as server:
        library = await rehearse(server, recordings(7, 6))
        restart = await restart_run(server, library, 50)
    assert len(restart.resumed_s) == 50
    assert max(restart.resumed_s) <= RESUMED_S, sorted(restart.resumed_s)


@pytest.mark.parametrize("durability", ["process", "disk"])
async def test_a_whole_server_is_killed_and_started_again(data_dir: Path, durability: str) -> None:
    with Victim(data_dir, script=SCRIPT, durability=durability, **SETTINGS) as server:
        library = await rehearse(server, recordings(8, 4))
        port = server.port
        callers = [LiveCaller(port, server.token(), p.recording, speed=1.5, seed=n) for n, p in enumerate(library)]
        running = [asyncio.create_task(caller.run()) for caller in callers]
        for finals in (1, 4):
            while any(len(caller.story.finals) < finals for caller in callers):
                await asyncio.sleep(0.02)
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start, port)
        for story, played in zip(await asyncio.gather(*running), library, strict=True):
            compare(story, played.finals)
            assert len(story.contacts) > 2
            assert story.done is not None
            await check_kept(server, story.done["task_id"], played)
