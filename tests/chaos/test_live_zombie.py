"""A gateway that is stopped, or killed, while it holds a session: another one goes on, and when the first wakes up,
nothing that it does is seen by anybody. reliability.md, "Live resume" 6."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.support.faults import Victim, stopped
from tests.support.live_line import SCRIPT, call, call_until_answered, check_transcript, holder
from tests.support.live_recordings import check_task, noise
from tests.support.live_runs import Played, rehearse

RESUMED_S = 2.0
GONE = (4409, 1006)  # told that somebody else goes on, or the line is simply gone


def victim(data_dir: Path) -> Victim:
    return Victim(data_dir, workers=2, engines=2, live_window_s=60, script=SCRIPT)


async def check(server: Victim, task_id: str, played: Played) -> None:
    def look() -> None:
        with server.http() as http:
            check_task(http, task_id, played.recording, len(played.finals))
            check_transcript(http, task_id, played.finals)

    await asyncio.to_thread(look)


async def test_a_zombie_changes_nothing(data_dir: Path) -> None:
    recording = noise("zombie", 6.0)
    silence = bytes(len(recording.audio))
    with victim(data_dir) as server:
        [played] = await rehearse(server, [recording])
        async with call(server, recording) as old:
            await old.play(0, 2 * recording.rate)
            await old.until("ack", samples=2 * recording.rate)
            zombie = holder(server, old.session)
            with stopped(server, zombie):
                # What it finds in its socket when it wakes up: audio that was never said, an end that nobody meant.
                for at in range(2 * recording.rate, 4 * recording.rate, 1600):
                    await old.ws.send(at.to_bytes(8, "big") + silence[2 * at : 2 * at + 3200])
                await old.say({"type": "finalize"})
                await old.say({"type": "end", "samples": 4 * recording.rate})
                calling = call_until_answered(server, recording, old.resume(len(old.finals) - 1))
                new = await calling.__aenter__()
                offset = new.ready["offset"]
                assert offset == 2 * recording.rate
                assert holder(server, old.session).pid != zombie.pid
                await new.play(offset, offset + recording.rate)
                await new.until("ack", samples=offset + recording.rate)
            # Both are awake now, and the session goes on.
            closed = asyncio.create_task(old.closed())
            for at in range(offset + recording.rate, recording.samples, recording.rate // 2):
                await new.play(at, at + recording.rate // 2)
                await asyncio.sleep(0.3)
            assert await closed in GONE
            done = await new.end()
            assert await new.closed() == 1000
            await calling.__aexit__(None, None, None)
        assert [m for m in old.heard if m["type"] == "done"] == []
        known = {final["id"]: final for final in old.finals}
        assert [known.setdefault(final["id"], final) for final in new.finals] == new.finals  # told twice, told the same
        assert [known[n] for n in sorted(known)] == played.finals
        assert done["task_id"] == old.session
        await check(server, old.session, played)


async def test_a_zombie_wakes_up_when_all_is_over(data_dir: Path) -> None:
    """The session is a task by then, and stays the task that it is."""
    recording = noise("late zombie", 4.0)
    with victim(data_dir) as server:
        [played] = await rehearse(server, [recording])
        async with call(server, recording) as old:
            await old.play(0, 2 * recording.rate)
            await old.until("ack", samples=2 * recording.rate)
            with stopped(server, holder(server, old.session)):
                await old.say({"type": "end", "samples": 2 * recording.rate})
                async with call_until_answered(server, recording, old.resume(None)) as new:
                    await new.play(new.ready["offset"])
                    await new.end()
                    assert await new.closed() == 1000
            assert await old.closed() in GONE
        assert [m for m in old.heard if m["type"] == "done"] == []
        assert new.finals == played.finals
        await check(server, old.session, played)
        assert server.results_of(old.session) == ["2.json"]


async def test_resumed_within_two_seconds_of_a_kill(data_dir: Path) -> None:
    """Of the gateway that held it; the other one is there."""
    recording = noise("killed", 4.0)
    with victim(data_dir) as server:
        [played] = await rehearse(server, [recording])
        async with call(server, recording) as old:
            await old.play(0, 2 * recording.rate)
            await old.until("ack", samples=2 * recording.rate)
            holding = holder(server, old.session)
            killed = time.monotonic()
            holding.kill()
            assert await old.closed() == 1006
        async with call_until_answered(server, recording, old.resume(len(old.finals) - 1)) as new:
            assert time.monotonic() - killed < RESUMED_S
            assert new.ready["offset"] == 2 * recording.rate
            await new.play(new.ready["offset"])
            await new.end()
        assert [*old.finals, *new.finals] == played.finals
        await check(server, old.session, played)
