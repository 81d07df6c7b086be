"""Sessions whose client does not come back, or whose journal is lost: what was said becomes the same task all the same.
docs/live.md, "When nobody comes back"; reliability.md, "Live resume" 3."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.faults import Victim, wait_for
from tests.support.live import undisturbed
from tests.support.live_line import (
    SCRIPT,
    Line,
    call,
    call_until_answered,
    check_transcript,
    holder,
    wait_finished,
)
from tests.support.live_recordings import LiveRecording, check_task, noise
from tests.support.live_runs import Played, rehearse

WINDOW_S = 2.0
SHORT = noise("alone", 3.4, finalizes=1)


def victim(data_dir: Path, **settings: object) -> Victim:
    return Victim(data_dir, **({"script": SCRIPT, "live_window_s": WINDOW_S, "workers": 1} | settings))


async def check(server: Victim, task_id: str, played: Played) -> None:
    def look() -> None:
        with server.http() as http:
            check_task(http, task_id, played.recording, len(played.finals))
            check_transcript(http, task_id, played.finals)

    await asyncio.to_thread(look)


async def speak_and_vanish(server: Victim, recording: LiveRecording) -> Line:
    """All of it is acknowledged, but nobody says that it was all."""
    async with call(server, recording) as line:
        await line.play()
        await line.until("ack", samples=recording.samples)
    return line


async def check_told_again(server: Victim, line: Line, played: Played, last_final: int | None) -> None:
    """A resume of what is finished: ready, the finals that are missing, done, 1000."""
    async with call(server, played.recording, line.resume(last_final)) as again:
        assert await again.closed() == 1000
    assert again.ready["session"] == line.session
    missing = played.finals[0 if last_final is None else last_final + 1 :]
    done = {"type": "done", "task_id": line.session, "finals": len(played.finals), "samples": played.recording.samples}
    assert again.heard == [again.ready, *missing, done]


async def test_a_client_that_never_returns_has_its_task_all_the_same(data_dir: Path) -> None:
    with victim(data_dir) as server:
        [played] = await rehearse(server, [SHORT])
        line = await speak_and_vanish(server, SHORT)
        await wait_finished(server, line.session, WINDOW_S + 6)
        await check(server, line.session, played)
        for last_final in (None, 0, len(played.finals) - 1):
            await check_told_again(server, line, played, last_final)
        assert '"live.adopted"' not in server.log()  # its holder saw to it


async def test_a_session_whose_gateway_died_is_adopted(data_dir: Path) -> None:
    """By the other one, or by the next life of the one that held it: whose window passes first."""
    with victim(data_dir, workers=2) as server:
        [played] = await rehearse(server, [SHORT])
        line = await speak_and_vanish(server, SHORT)
        await asyncio.to_thread(holder(server, line.session).kill)
        await wait_finished(server, line.session, WINDOW_S + 10)
        assert server.log().count('"action":"live.adopted"') == 1
        await check(server, line.session, played)
        [row] = server.rows("SELECT epoch FROM live_sessions WHERE id = ?", line.session)
        assert row["epoch"] == 2
        await check_told_again(server, line, played, 0)


@pytest.mark.parametrize("adopted", [False, True], ids=["held", "adopted"])
async def test_a_session_in_which_nothing_was_said(data_dir: Path, adopted: bool) -> None:
    """Whoever ends it, nothing is left of it."""
    with victim(data_dir) as server:
        async with call(server, SHORT) as line:
            pass
        if adopted:
            await asyncio.to_thread(holder(server, line.session).kill)
        await wait_finished(server, line.session, WINDOW_S + 10)
        assert server.rows("SELECT 1 FROM live_sessions WHERE id = ?", line.session) == []
        with server.http() as http:
            assert http.get(f"/v1/task/{line.session}").status_code == 404
        with pytest.raises(ConnectionClosed) as closed:
            async with call(server, SHORT, line.resume(None)):
                pass
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4404
        journal = data_dir / "live" / "sessions" / line.session
        await asyncio.to_thread(wait_for, lambda: not journal.exists(), "the end of its journal")


async def lose_journal(server: Victim) -> None:
    port = server.port

    def work() -> None:
        server.kill()
        assert any((server.data_dir / "live").iterdir())
        shutil.rmtree(server.data_dir / "live")
        server.start(port)

    await asyncio.to_thread(work)


async def resume_to_the_end(server: Victim, line: Line, played: Played, safe: int) -> None:
    """From the offset on, as a client would that forgot what is safe."""
    last = len(line.finals) - 1
    async with call_until_answered(server, played.recording, line.resume(last if last >= 0 else None)) as again:
        offset = again.ready["offset"]
        assert safe <= offset <= played.recording.samples
        await again.play(offset)
        await again.end()
        assert await again.closed() == 1000
    assert [*line.finals, *again.finals] == played.finals
    await check(server, line.session, played)


async def test_a_lost_journal_loses_nothing(data_dir: Path) -> None:
    """Its sound is in parts as far as the client was told that it is safe."""
    recording = noise("lost", 24.0)
    with victim(data_dir, live_window_s=60, script=SCRIPT) as server:
        [played] = await rehearse(server, [recording])
        async with call(server, recording) as line:
            await line.play(0, 18 * recording.rate)
            ack = await line.until("ack", safe=1)
        assert ack["safe"] <= 512 * 1024 // 2
        await lose_journal(server)
        await resume_to_the_end(server, line, played, ack["safe"])


async def test_a_lost_journal_and_another_death(data_dir: Path) -> None:
    """With long utterances the parts reach beyond what is decided: the next engine hears out of them, and so does the
    one after it. The next journal begins where the parts end, and what lies before is not silence, whoever reads it."""
    recording = noise("lost twice", 24.0)
    with victim(data_dir, live_window_s=60, script=SCRIPT | {"segment_s": 10.0}) as server:
        [played] = await rehearse(server, [recording])
        async with call(server, recording) as line:
            await line.play(0, 18 * recording.rate)
            ack = await line.until("ack", safe=1)
        await lose_journal(server)
        async with call(server, recording, line.resume(len(line.finals) - 1)) as second:
            offset = second.ready["offset"]
            await second.play(offset, offset + recording.rate)
            await second.until("ack", samples=offset + recording.rate)
        line.heard += second.finals
        port = server.port
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start, port)
        await resume_to_the_end(server, line, played, ack["safe"])


async def test_a_lost_journal_of_a_session_too_short_for_parts(data_dir: Path) -> None:
    with victim(data_dir, live_window_s=60) as server:
        [played] = await rehearse(server, [SHORT])
        async with call(server, SHORT) as line:
            await line.play()
            await line.until("final", id=1)
            while not server.rows("SELECT 1 FROM live_finals WHERE session_id = ?", line.session):  # in SQL, at least
                await asyncio.sleep(0.05)
        assert max(m["safe"] for m in line.heard if m["type"] == "ack") == 0
        await lose_journal(server)
        await resume_to_the_end(server, line, played, 0)


async def test_a_lost_journal_and_a_client_that_never_returns(data_dir: Path) -> None:
    """The finals that are stored are not thrown away with the sound that is lost."""
    with victim(data_dir) as server:
        finals = await undisturbed(server.port, server.token(), SHORT)
        async with call(server, SHORT) as line:
            await line.play()
            await line.until("final", id=1)
            while not server.rows("SELECT 1 FROM live_finals WHERE session_id = ? AND id = 1", line.session):
                await asyncio.sleep(0.05)
        await lose_journal(server)
        [row] = server.rows("SELECT finals FROM live_sessions WHERE id = ?", line.session)
        assert row["finals"] >= 2
        await wait_finished(server, line.session, WINDOW_S + 10)
        with server.http() as http:
            check_transcript(http, line.session, finals[: row["finals"]])
