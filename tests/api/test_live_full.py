"""The live door when there is no more to be had: sessions, engines, room on the disk; and audio that ends engines.
What is refused leaves nothing behind, and what runs beside it is as it would have been."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.api.test_live import FRAME, RATE, START, Line, events_of, refused, resume, send, speech
from tests.support.faults import Victim, wait_for
from tests.support.live_recordings import LiveRecording, read_wav

MIB = 1024**2
SCRIPT = {"hear": "digest", "segment_s": 1.0}


def left_behind(server: Victim) -> tuple[list[str], list[str]]:
    """Rows of sessions that are open, and folders of journals."""
    rows = [row["id"] for row in server.rows("SELECT id FROM live_sessions WHERE state = 'open'")]
    return rows, sorted(p.name for p in (server.data_dir / "live").glob("**/*") if len(p.name.split(".")[0]) == 32)


def end_now(line: Line, samples: int = 0) -> None:
    line.say({"type": "end", "samples": samples}).hear("done")


# --- sessions and engines --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """Room for two sessions, and an engine for one; alice may have two."""
    settings = {"live_sessions": 2, "live_sessions_each": 2, "engine_live": 1}
    with Victim(tmp_path_factory.mktemp("small"), script=SCRIPT, **settings) as running:
        yield running
    assert "Traceback" not in running.log()


def test_a_busy_engine_takes_no_second_session(small: Victim) -> None:
    with Line(small) as line:
        ready = line.say(START).hear("ready")
        for _ in range(2):  # the refused one takes nothing of the quota: a second attempt is answered the same
            began = time.monotonic()
            code, name = refused(small, START)
            assert code == 4503 and name in ("engine_unavailable", "engine_busy")
            assert time.monotonic() - began < 4.5
            rows, folders = left_behind(small)
            assert rows == [ready["session"]]
            assert {name.split(".")[0] for name in folders} == {ready["session"]}
        line.frame(0, bytes(2 * FRAME))
        end_now(line, FRAME)
    with Line(small) as line:  # the engine's place is free again
        wait_for(lambda: not left_behind(small)[1], "the journals to go")
        line.say(START).hear("ready")
        end_now(line)


def test_no_more_sessions_than_there_may_be(small: Victim) -> None:
    """A session without a client, whose engine was given to another's, counts as well."""
    with Line(small, sub="one") as first:
        first.say(START).hear("ready")
        with Line(small, sub="two") as second:
            second.say(START)
            wait_for(lambda: len(left_behind(small)[0]) == 2, "the second session")
            assert refused(small, START, sub="three") == (4503, "sessions_full")
            assert second.end()[0] == 4503
        end_now(first)
    wait_for(lambda: not left_behind(small)[0], "the sessions to end")


def test_an_engine_that_is_gone_is_told_in_time(small: Victim) -> None:
    engine = small.engine(0)
    engine.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        code, name = refused(small, START)
        assert (code, name) == (4503, "engine_unavailable") and time.monotonic() - began < 4.5
        assert left_behind(small) == ([], [])
    finally:
        engine.send_signal(signal.SIGCONT)

    def served() -> bool:
        with Line(small) as line:
            message = line.say(START).hear("ready", "error")
            if message["type"] == "ready":
                end_now(line)
            return bool(message["type"] == "ready")

    wait_for(served, "an engine", 30, every_s=0.3)


# --- the disk --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"mounting a tmpfs is not allowed here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def stuffed(disk: Path, left: int = 0) -> Iterator[None]:
    """Others have written to the same disk, all but so many bytes."""
    stuffing = disk / "stuffing"
    with stuffing.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
        file.truncate(max(0, file.tell() - left))
    try:
        yield
    finally:
        stuffing.unlink()


def test_a_full_disk_in_the_middle_costs_nothing(small_disk: Path) -> None:
    recording = speech(3.0, seed=61)
    with Victim(small_disk / "data", script=SCRIPT, store_min_free_bytes=2 * MIB) as server:
        with Line(server) as line:
            ready = line.say(START).hear("ready")
            send(line, recording, 0, RATE)
            while line.hear("ack")["samples"] < RATE:
                pass
            with stuffed(small_disk, left=MIB):
                time.sleep(1.2)  # how long a look at the free space is believed
                send(line, recording, RATE, 2 * RATE)
                code, error = line.end()
                assert code == 4503 and error is not None and error["code"] == "storage_full"
        time.sleep(1.2)  # until then a final that is decided late may still be refused its room
        with Line(server) as line:
            offset = line.say(resume(ready)).hear("ready")["offset"]
            assert RATE <= offset <= 2 * RATE
            send(line, recording, offset)
            end_now(line, recording.samples)
            assert [(f["id"], f["end_sample"]) for f in line.finals] == [(0, RATE), (1, 2 * RATE), (2, 3 * RATE)]
        with server.http() as http:
            sound = http.get(f"/v1/task/{ready['session']}/audio").content
            assert sound[44:] == recording.bytes_of(0, recording.samples)


def test_a_full_disk_takes_no_new_session_and_keeps_nothing_of_it(small_disk: Path) -> None:
    with Victim(small_disk / "data", script=SCRIPT, store_min_free_bytes=0, live_sessions_each=2) as server:
        with Line(server) as line:  # the database has some room in its files from now on
            line.say(START).hear("ready")
            end_now(line)
        wait_for(lambda: left_behind(server) == ([], []), "the journal to go")
        with stuffed(small_disk):
            for _ in range(4):  # more often than one principal may have sessions
                assert refused(server, START) == (4503, "storage_full")
        assert left_behind(server) == ([], [])
        with Line(server) as line:
            line.say(START).hear("ready")
            line.frame(0, bytes(2 * FRAME))
            end_now(line, FRAME)


def test_too_little_free_space_stops_the_first_frame(tmp_path: Path) -> None:
    """The same without a file system of one's own: more has to stay free than there is."""
    with Victim(tmp_path / "data", script=SCRIPT, store_min_free_bytes=2**60) as server:
        code, name = refused(server, START, bytes(8 + 2 * FRAME))
        assert (code, name) == (4503, "storage_full")


# --- audio that ends engines -----------------------------------------------------------------------------------------

SOON = {"engines": 1, "live_unheard_tries": 6, "live_unheard_s": 1}  # more than open an engine's breaker


def play(server: Victim, recording: LiveRecording, speed: float, sub: str) -> tuple[list[Any], list[Any]]:
    """The finals and the gaps that the client was told."""
    gaps: list[Any] = []
    with Line(server, sub=sub, max_queue=None) as line:
        line.say(recording.start() | {"interim": False}).hear("ready")
        for a, b in recording.frames(0):
            line.frame(a, recording.bytes_of(a, b))
            time.sleep(recording.frame / recording.rate / speed)
        line.say({"type": "end", "samples": recording.samples})
        ended = time.monotonic()
        while time.monotonic() - ended < 150:
            try:
                message = json.loads(line.ws.recv(timeout=5))
            except TimeoutError:
                line.say({"type": "ping"})
                continue
            if message["type"] == "final":
                line.finals.append(message)
            elif message["type"] == "gap":
                gaps.append(message)
            elif message["type"] == "done":
                return line.finals, gaps
    raise AssertionError("it did not end")


def beside(server: Victim, **recordings: LiveRecording) -> dict[str, tuple[list[Any], list[Any]]]:
    """What `play` gives for each, all at once."""
    with ThreadPoolExecutor(len(recordings)) as pool:
        playing = {name: pool.submit(play, server, recording, 2.0, name) for name, recording in recordings.items()}
        return {name: played.result() for name, played in playing.items()}


def digest(recording: LiveRecording, start: int, end: int) -> str:
    return hashlib.sha256(recording.bytes_of(start, end)).hexdigest()


def test_audio_that_no_engine_survives_is_left_out_and_told(tmp_path: Path) -> None:
    """Its calls fail, time after time; the engine itself lives (else: the next test)."""
    poisoned, other = speech(5.0, seed=66), speech(5.0, seed=67)
    rules = [{"when": {"sha256": digest(poisoned, 2 * RATE, 3 * RATE), "bytes": 2 * RATE}, "do": "fail"}]
    with Victim(tmp_path / "data", script=SCRIPT | {"rules": rules}, **SOON) as server:
        results = beside(server, poisoned=poisoned, other=other)
        assert "breaker.opened" not in server.log(), "one session's sound has shut everybody out"
    finals, gaps = results["poisoned"]
    [gap] = gaps
    assert gap["from"] == 2 * RATE and gap["code"] == "engine_failed"
    assert 3 * RATE <= gap["to"] <= poisoned.samples, "the rest of what ends engines is still to be heard"
    starts = [0, RATE, *range(gap["to"], poisoned.samples, RATE)]
    ends = [RATE, 2 * RATE, *(min(start + RATE, poisoned.samples) for start in starts[2:])]
    spans = list(zip(starts, ends, strict=True))
    assert [(f["start_sample"], f["end_sample"]) for f in finals] == spans
    assert [f["text"] for f in finals] == [digest(poisoned, a, b)[:12] for a, b in spans]
    finals, gaps = results["other"]
    assert not gaps, "somebody else's audio was taken for what ends engines"
    assert [f["text"] for f in finals] == [digest(other, n * RATE, (n + 1) * RATE)[:12] for n in range(5)]


@pytest.mark.slow
def test_who_shares_an_engine_with_what_ends_it_loses_nothing(tmp_path: Path) -> None:
    """It dies at once each time, long before a piece of the other's is complete."""
    poisoned, other = speech(4.0, seed=68), speech(4.0, seed=69)
    rules = [{"when": {"sha256": digest(poisoned, 0, 1600), "bytes": 3200}, "do": "crash"}]
    script = {"hear": "digest", "segment_s": 2.0, "rules": rules}
    with Victim(tmp_path / "data", script=script, restart_longest_s=0.2, **SOON) as server:
        results = beside(server, poisoned=poisoned, other=other)
        assert "breaker.opened" not in server.log(), "one session's sound has shut everybody out"
    assert [gap["from"] for gap in results["poisoned"][1]] == [0]
    finals, gaps = results["other"]
    assert not gaps, "somebody else's audio was taken for what ends engines"
    assert [f["text"] for f in finals] == [digest(other, 2 * n * RATE, 2 * (n + 1) * RATE)[:12] for n in range(2)]


# --- watchers of another process -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """Two gateway processes; the detector is the real one."""
    folder = tmp_path_factory.mktemp("pair")
    with Victim(folder, script={"hear": "digest", "cut": "speech"}, workers=2) as running:
        yield running
    assert "Traceback" not in running.log()


def test_any_process_tells_what_one_of_them_hears(pair: Victim) -> None:
    recording = read_wav(Path(__file__).parents[2] / "samples" / "dialogue.wav")
    most = 9 * RATE
    with Line(pair, max_queue=None) as line:
        ready = line.say(recording.start()).hear("ready")
        url = f"{pair.url}/v1/live/{ready['session']}/events"
        headers = {"Authorization": f"Bearer {pair.token()}"}
        told: list[list[tuple[str, dict[str, Any], str | None]]] = [[] for _ in range(8)]
        served: list[int | None] = [None] * 8

        def watch(n: int) -> None:
            with httpx2.stream("GET", url, headers=headers, timeout=30) as response:
                stream = response.extensions["network_stream"]
                served[n] = stream.get_extra_info("client_addr")[1]
                for event in events_of(response):
                    told[n].append(event)

        watchers = [threading.Thread(target=watch, args=(n,)) for n in range(8)]
        for watcher in watchers:
            watcher.start()
        wait_for(lambda: all(served), "the watchers")
        ports = [
            {c.raddr.port for c in pair.gateway(n).net_connections("tcp") if c.raddr} & set(served) for n in range(2)
        ]
        assert ports[0] and ports[1], "one process served all of eight watchers"
        time.sleep(0.5)  # so that the first moments are not missed: they are of the moment
        for a, b in recording.frames(0):
            if a >= most:
                break
            line.frame(a, recording.bytes_of(a, b))
            time.sleep(0.02)
        line.say({"type": "gap", "from": most, "to": most + RATE})
        wait_for(lambda: all("gap" in [kind for kind, _, _ in events] for events in told), "the gap", 5)
        line.say({"type": "end", "samples": most + RATE}).hear("done")
        for watcher in watchers:
            watcher.join(20)
    for events in told:
        kinds = [kind for kind, _, _ in events]
        assert [data["id"] for kind, data, _ in events if kind == "final"] == [f["id"] for f in line.finals]
        assert [number for kind, _, number in events if kind == "final"] == [str(f["id"]) for f in line.finals]
        assert {"speech_started", "speech_ended", "partial"} <= set(kinds)
        assert [data for kind, data, _ in events if kind == "gap"] == [{"from": most, "to": most + RATE}]
        assert kinds[-1] == "done"
    for last in range(-1, len(line.finals)):
        again = headers | ({"Last-Event-ID": str(last)} if last >= 0 else {})
        heard = list(events_of(httpx2.get(url, headers=again, timeout=15)))
        assert [d["id"] for k, d, _ in heard if k == "final"] == list(range(last + 1, len(line.finals)))
        assert heard[-1][0] == "done"
