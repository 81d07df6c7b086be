"""A browser's webm/opus stream through the live door: bytes are counted, kept and decoded again wherever it is cut."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage

from tests.api.test_live import Line, refused, resume
from tests.support.faults import wait_for
from tests.support.server import Server
from tests.support.streams import live

START = {"type": "start", "sample_rate": 48_000, "format": "webm-opus"}
CHUNK = 700  # bytes: no place where a browser would cut


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("webm")
    script = folder / "script.json"
    script.write_text(json.dumps({"hear": "digest", "segment_s": 1.0}))
    settings = {"live_sessions_each": 20, "live_window_s": 60, "workers": 2}
    with Server(folder, recogniser="scripted", script=script, durability="process", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def webm() -> bytes:
    return b"".join(live("webm", 6.0))


def send(line: Line, data: bytes, start: int = 0, end: int | None = None) -> None:
    for at in range(start, len(data) if end is None else end, CHUNK):
        line.frame(at, data[at : min(at + CHUNK, len(data) if end is None else end)])


@pytest.fixture(scope="module")
def undisturbed(server: Server, webm: bytes) -> list[tuple[int, int, str]]:
    with Line(server) as line:
        line.say(START).hear("ready")
        send(line, webm)
        line.say({"type": "end", "samples": len(webm)})
        done = line.hear("done")
    assert done["samples"] == len(webm)
    finals = keys(line)
    assert len(finals) >= 6 and finals[0][:2] == (0, 16_000)
    with server.http("alice") as http:
        task = http.get(f"/v1/task/{done['task_id']}").json()
        assert 5.9 < task["result"]["duration"] < 6.2
        answer = http.get(f"/v1/task/{done['task_id']}/audio")
        assert answer.content == webm and answer.headers["content-type"].startswith(("audio/webm", "video/"))
    return finals


def called(server: Server) -> Line | None:
    with suppress(OSError, EOFError, TimeoutError, InvalidMessage):
        return Line(server)
    return None


def keys(line: Line) -> list[tuple[int, int, str]]:
    return [(f["start_sample"], f["end_sample"], f["text"]) for f in line.finals]


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.93])
def test_a_cut_at_any_byte_changes_nothing(
    server: Server, webm: bytes, undisturbed: list[tuple[int, int, str]], part: float
) -> None:
    cut = int(len(webm) * part) + 1
    with Line(server) as line:
        ready = line.say(START).hear("ready")
        send(line, webm, 0, cut)
        while line.hear("ack")["samples"] < cut:
            pass
        line.ws.socket.close()
    finals = list(line.finals)
    with Line(server) as line:
        again = line.say(resume(ready, finals[-1]["id"] if finals else None)).hear("ready")
        assert again["offset"] == cut
        send(line, webm, cut)
        line.say({"type": "end", "samples": len(webm)}).hear("done")
        line.finals[:0] = finals
        assert keys(line) == undisturbed


def test_a_gateway_that_dies(server: Server, webm: bytes, undisturbed: list[tuple[int, int, str]]) -> None:
    with Line(server) as line:
        ready = line.say(START).hear("ready")
        send(line, webm, 0, len(webm) // 2)
        line.hear("final")
        finals = [line.finals[0]]
        for gateway in server.find("cosygate.gateway"):
            gateway.kill()
    with wait_for(lambda: called(server), "a gateway", 60) as line:
        again = line.say(resume(ready, finals[-1]["id"])).hear("ready")
        send(line, webm, again["offset"])
        line.say({"type": "end", "samples": len(webm)}).hear("done")
        line.finals[:0] = finals
        assert keys(line) == undisturbed


@pytest.mark.parametrize("junk", [b"#EXTM3U\n" * 50_000, bytes(400_000), b"\x1aE\xdf\xa3" + b"\xff" * 300_000])
def test_what_is_no_webm_is_said_and_kept(server: Server, junk: bytes) -> None:
    with Line(server) as line:
        ready = line.say(START).hear("ready")
        with suppress(ConnectionClosed):  # it may be told in the middle
            send(line, junk)
        code, error = line.end()
        assert (code, error and error["code"]) == (4400, "media_undecodable")
    with Line(server) as line:  # what was sent is a task, without words
        line.say(resume(ready)).hear("ready")
        assert line.hear("done")["finals"] == 0


def test_finalize_and_gap_are_not_for_bytes(server: Server) -> None:
    assert refused(server, START, {"type": "finalize"}) == (4400, "live_protocol")
    assert refused(server, START, {"type": "gap", "from": 0, "to": 9}) == (4400, "live_protocol")
