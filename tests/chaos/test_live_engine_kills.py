"""Engines that are killed, or stop, in the middle of an utterance: another one hears it from the last final on, the
client notices nothing, and the transcript is the undisturbed one. `make bench-live` does it twenty times."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.faults import Victim
from tests.support.live import LiveCaller, compare
from tests.support.live_runs import SETTINGS, check_kept, engine_kill_run, recordings, rehearse, wait_engines

SCRIPT = {"hear": "digest", "segment_s": 1.0, "delay_s": 0.05}
QUICK = {"engines": 2, "engine_idle_s": 2.0, "live_engine_idle_s": 2.0, "restart_longest_s": 1}


@pytest.mark.slow
async def test_five_engines_die_or_hang_under_speech(data_dir: Path) -> None:
    with Victim(data_dir, script=SCRIPT, **(SETTINGS | QUICK)) as server:
        library = await rehearse(server, recordings(5, 6))
        report = await engine_kill_run(server, library, 5, seed=5)
        assert report.kills == {"SIGKILL": 3, "SIGSTOP": 2}
        assert '"action":"live.engine_away"' in server.log()  # it was in the way of somebody


async def test_without_any_engine_for_a_while_nothing_is_lost(data_dir: Path) -> None:
    """The only engine dies: audio is acknowledged all the same, and heard when there is an engine again."""
    with Victim(data_dir, script=SCRIPT, **SETTINGS) as server:
        [played] = await rehearse(server, recordings(6, 1))
        caller = LiveCaller(server.port, server.token(), played.recording, speed=2.0, silence_s=20)
        running = asyncio.create_task(caller.run())
        while len(caller.story.finals) < 2:
            await asyncio.sleep(0.02)
        (await asyncio.to_thread(server.engine, 0)).kill()
        story = await running
        compare(story, played.finals)
        assert len(story.contacts) == 1
        assert story.done is not None
        await check_kept(server, story.done["task_id"], played)
        await asyncio.to_thread(wait_engines, server)
