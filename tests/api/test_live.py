"""The live door: sessions, resumes, and every bad input: a close code, a stable error code, nothing lost, nothing told
of others. Real sockets to a real server; the scripted engine hears the digest of each second of sound."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support.faults import wait_for
from tests.support.live_recordings import LiveRecording, noise
from tests.support.server import Server

RATE = 16_000
START = {"type": "start", "sample_rate": RATE}
FRAME = 1600


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("live")
    script = folder / "script.json"
    script.write_text(json.dumps({"hear": "digest", "segment_s": 1.0}))
    settings = {"live_sessions_each": 6, "live_idle_s": 2.0, "live_window_s": 60, "live_origins": "https://a.example"}
    with Server(folder, recogniser="scripted", script=script, durability="process", **settings) as running:
        yield running
    assert [line for line in running.log().splitlines() if "Traceback" in line or "crashed" in line] == []


class Line:
    """One connection, used step by step."""

    def __init__(self, server: Server, sub: str = "alice", *, headers: dict[str, str] | None = None, **options: Any):
        own = {"Authorization": f"Bearer {server.token(sub)}"} if headers is None else headers
        url = server.url.replace("http", "ws") + "/v1/live"
        self._stack = ExitStack()
        self.ws: ClientConnection = self._stack.enter_context(
            connect(
                url,
                additional_headers=own,
                compression=None,
                proxy=None,
                ping_interval=None,
                close_timeout=2,
                **options,
            )
        )
        self.finals: list[dict[str, Any]] = []

    def say(self, *messages: dict[str, Any]) -> Line:
        for message in messages:
            self.ws.send(json.dumps(message))
        return self

    def frame(self, index: int, audio: bytes) -> None:
        self.ws.send(struct.pack(">Q", index) + audio)

    def hear(self, *kinds: str) -> dict[str, Any]:
        """The next message of one of these kinds; finals on the way are collected."""
        while True:
            message: dict[str, Any] = json.loads(self.ws.recv(timeout=15))
            if message["type"] == "final":
                self.finals.append(message)
            if message["type"] in kinds:
                return message

    def end(self) -> tuple[int, dict[str, Any] | None]:
        """The close code, and the error before it."""
        error = None
        try:
            while True:
                message = json.loads(self.ws.recv(timeout=15))
                if message["type"] == "error":
                    error = message
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return closed.rcvd.code, error

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def speech(seconds: float, seed: int = 1) -> LiveRecording:
    return noise(seed, seconds)


def send(line: Line, recording: LiveRecording, start: int = 0, end: int | None = None) -> None:
    for a, b in recording.frames(start):
        if end is not None and a >= end:
            return
        line.frame(a, recording.bytes_of(a, b))


def rejection(server: Server, *messages: dict[str, Any] | bytes | str, **options: Any) -> tuple[int, dict[str, Any]]:
    """The close code, and the whole error."""
    with Line(server, **options) as line:
        for message in messages:
            line.ws.send(message if isinstance(message, bytes | str) else json.dumps(message))
        code, error = line.end()
    assert error is not None and set(error) >= {"type", "code", "detail"}
    assert "Traceback" not in json.dumps(error)
    return code, error


def refused(server: Server, *messages: dict[str, Any] | bytes | str, **options: Any) -> tuple[int, str]:
    code, error = rejection(server, *messages, **options)
    return code, error["code"]


def finished(server: Server, recording: LiveRecording, **start: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The finals of a session in one go, and its done."""
    with Line(server) as line:
        line.say(START | start).hear("ready")
        send(line, recording)
        line.say({"type": "end", "samples": recording.samples})
        done = line.hear("done")
        assert line.end() == (1000, None)
        return line.finals, done


# --- sessions --------------------------------------------------------------------------------------------------------


def test_a_session_becomes_a_task_like_any_other(server: Server) -> None:
    recording = speech(3.5)
    finals, done = finished(server, recording, options={"filename": "standup"})
    assert [f["id"] for f in finals] == [0, 1, 2, 3] and done["finals"] == 4
    assert done["samples"] == recording.samples
    assert [(f["start_sample"], f["end_sample"]) for f in finals] == [
        (0, 16_000), (16_000, 32_000), (32_000, 48_000), (48_000, 56_000)
    ]  # fmt: skip
    with server.http("alice") as http:
        task = http.get(f"/v1/task/{done['task_id']}").json()
        assert (task["state"], task["percent"], task["file"]) == ("succeeded", 100, "standup")
        assert task["result"]["duration"] == 3.5
        transcript = http.get(f"/v1/task/{done['task_id']}/transcript").json()
        assert [s["text"] for s in transcript["segments"]] == [f["text"] for f in finals]
        assert transcript["text"] == " ".join(f["text"] for f in finals) == task["result"]["text"]
        assert transcript["engine"]["name"] == "scripted"
        for form in ("txt", "srt", "vtt", "tsv"):
            assert finals[0]["text"] in http.get(f"/v1/task/{done['task_id']}/transcript?format={form}").text
        sound = http.get(f"/v1/task/{done['task_id']}/audio").content
        assert sound[:4] == b"RIFF" and sound[44:] == recording.bytes_of(0, recording.samples)
        assert int.from_bytes(sound[40:44], "little") == len(sound) - 44
        events = http.get(f"/v1/task/{done['task_id']}/events").text
        assert events.count("event: segment") == 4 and events.rstrip().endswith('{"state":"succeeded","percent":100}')
        assert any(t["task_id"] == done["task_id"] for t in http.get("/v1/tasks").json()["tasks"])
        assert http.delete(f"/v1/task/{done['task_id']}").status_code == 204
        assert http.get(f"/v1/live/{done['task_id']}/events").status_code == 404
    wait_for(lambda: not list(server.data_dir.glob(f"live/**/{done['task_id']}*")), "the end of the journal")


@pytest.mark.parametrize("rate", [8000, 11_025, 24_000, 44_100, 48_000])
def test_rates(server: Server, rate: int) -> None:
    recording = noise(rate, 2.5, rate=rate)
    finals, done = finished(server, recording, sample_rate=rate)
    assert [f["end_sample"] for f in finals] == [rate, 2 * rate, recording.samples]
    assert [f["end"] for f in finals] == [1.0, 2.0, round(recording.samples / rate, 3)]
    with server.http("alice") as http:
        sound = http.get(f"/v1/task/{done['task_id']}/audio").content
    assert int.from_bytes(sound[24:28], "little") == rate
    assert sound[44:] == recording.bytes_of(0, recording.samples)


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_telephone_audio(server: Server, law: str) -> None:
    codes = bytes(range(256)) * 50
    with Line(server) as line:
        line.say({"type": "start", "sample_rate": 8000, "format": law}).hear("ready")
        for at in range(0, len(codes), 800):
            line.frame(at, codes[at : at + 800])
        line.say({"type": "end", "samples": len(codes)})
        done = line.hear("done")
    assert [f["end_sample"] for f in line.finals] == [8000, len(codes)]
    with server.http("alice") as http:
        sound = http.get(f"/v1/task/{done['task_id']}/audio").content
    assert len(sound) == 44 + 2 * len(codes)
    samples = struct.unpack("<256h", sound[44 : 44 + 512])
    assert max(samples) == {"mulaw": 32124, "alaw": 32256}[law] and min(samples) == -max(samples)


def test_an_empty_session_is_a_task_without_words(server: Server) -> None:
    with Line(server) as line:
        line.say(START).hear("ready")
        line.say({"type": "end", "samples": 0})
        done = line.hear("done")
    assert (done["finals"], done["samples"]) == (0, 0)
    with server.http("alice") as http:
        assert http.get(f"/v1/task/{done['task_id']}").json()["result"]["text"] == ""


def test_finalize_ends_the_open_utterance_where_it_says(server: Server) -> None:
    recording = speech(2.2)
    with Line(server) as line:
        line.say(START).hear("ready")
        send(line, recording, 0, 4 * FRAME)
        line.say({"type": "finalize"})
        final = line.hear("final")
        assert final["end_sample"] == 4 * FRAME
        line.say({"type": "finalize", "samples": 4 * FRAME})  # a repeat
        send(line, recording, 4 * FRAME)
        line.say({"type": "end", "samples": recording.samples}).hear("done")
    assert [f["end_sample"] for f in line.finals] == [6400, 22_400, 35_200]


def test_a_gap_is_told_and_the_sound_is_silent_there(server: Server) -> None:
    recording = speech(1.5)
    with Line(server) as line:
        ready = line.say(START).hear("ready")
        send(line, recording, 0, 8000)
        line.say({"type": "finalize"})
        with server.http("alice") as http, http.stream("GET", f"/v1/live/{ready['session']}/events") as watched:
            assert watched.status_code == 200
            told = []
            for event in events_of(watched):
                told.append(event)
                if event[0] == "final" and event[1]["id"] == 0:  # the watcher is there: gaps are of the moment
                    line.say({"type": "gap", "from": 8000, "to": 20_000})
                if event[0] == "gap":
                    line.frame(20_000, recording.bytes_of(20_000, 24_000))
                    line.say({"type": "end", "samples": 24_000})
            done = line.hear("done")
    assert [data for kind, data, _ in told if kind == "gap"] == [{"from": 8000, "to": 20_000}]
    assert [kind for kind, _, _ in told if kind in ("final", "done")] == ["final", "final", "done"]
    assert [(f["start_sample"], f["end_sample"]) for f in line.finals] == [(0, 8000), (20_000, 24_000)]
    with server.http("alice") as http:
        sound = http.get(f"/v1/task/{done['task_id']}/audio").content[44:]
    assert sound[: 2 * 8000] == recording.bytes_of(0, 8000)
    assert sound[2 * 8000 : 2 * 20_000] == bytes(2 * 12_000)
    assert sound[2 * 20_000 :] == recording.bytes_of(20_000, 24_000)


def test_a_gap_at_the_end(server: Server) -> None:
    with Line(server) as line:
        line.say(START).hear("ready")
        line.frame(0, bytes(3200))
        line.say({"type": "gap", "from": 1600, "to": 3200}, {"type": "end", "samples": 3200})
        assert line.hear("done")["samples"] == 3200


# --- resumes ---------------------------------------------------------------------------------------------------------


def test_a_dropped_line_costs_nothing(server: Server) -> None:
    recording = speech(4.3)
    with Line(server) as line:
        ready = line.say(START).hear("ready")
        send(line, recording, 0, 40_000)
        line.hear("final")
        line.ws.socket.close()
    finals = [line.finals[0]]
    with Line(server) as line:
        again = line.say(resume(ready, finals[-1]["id"])).hear("ready")
        assert again["session"] == ready["session"] and finals[-1]["end_sample"] <= again["offset"] <= 40_000
        send(line, recording, again["offset"])
        line.say({"type": "end", "samples": recording.samples}).hear("done")
        finals += line.finals
    undisturbed, _ = finished(server, recording)
    keys = ("id", "start_sample", "end_sample", "text")
    assert [[f[k] for k in keys] for f in finals] == [[f[k] for k in keys] for f in undisturbed]


def resume(ready: dict[str, Any], last_final: int | None = None) -> dict[str, Any]:
    known = {k: ready[k] for k in ("session", "resume_token")}
    return {"type": "resume", "last_final": last_final, **known}


def test_the_older_connection_is_told_to_go(server: Server) -> None:
    with Line(server) as old:
        ready = old.say(START).hear("ready")
        with Line(server) as new:
            new.say(resume(ready)).hear("ready")
            assert old.end()[0] == 4409
            new.frame(0, bytes(3200))
            assert new.hear("ack")["samples"] in (0, 1600)
            new.say({"type": "end", "samples": 1600}).hear("done")


def test_a_finished_session_is_told_again(server: Server) -> None:
    recording = speech(2.5)
    with Line(server) as line:
        ready = line.say(START).hear("ready")
        send(line, recording)
        line.say({"type": "end", "samples": recording.samples}).hear("done")
    for last, count in ((None, 3), (0, 2), (2, 0)):
        with Line(server) as again:
            told = again.say(resume(ready, last)).hear("ready")
            assert told["offset"] == recording.samples
            done = again.hear("done")
            assert again.finals == line.finals[3 - count :] if count else again.finals == []
            assert (done["task_id"], done["samples"], done["finals"]) == (ready["session"], recording.samples, 3)
            assert again.end()[0] == 1000


# --- who -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "token_missing"),
        ({"Authorization": ""}, "token_missing"),
        ({"Authorization": "Bearer"}, "token_missing"),
        ({"Authorization": "Bearer x.y.z"}, "token_invalid"),
        ({"Authorization": "Basic eDp5"}, "token_missing"),
        ({"Authorization": "Bearer " + "x" * 7_000}, "token_invalid"),
    ],
)
def test_nobody_without_a_token(server: Server, headers: dict[str, str], code: str) -> None:
    assert refused(server, headers=headers) == (4401, code)


def test_a_token_of_a_megabyte_ends_the_handshake(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        Line(server, headers={"Authorization": "Bearer " + "x" * 30_000})
    assert refusal.value.response.status_code == 431
    with pytest.raises((InvalidStatus, OSError, EOFError, InvalidMessage)) as ended:
        Line(server, headers={"Authorization": "Bearer " + "x" * 1_000_000})
    assert not isinstance(ended.value, TimeoutError)


def test_a_token_without_the_scope_or_out_of_date(server: Server) -> None:
    def bearer(**claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {server.token('alice', **claims)}"}

    assert refused(server, headers=bearer(scopes=["task:read"])) == (4401, "scope_missing")
    assert refused(server, headers=bearer(ttl_s=-60)) == (4401, "token_expired")


def ticket_of(server: Server, sub: str = "alice") -> str:
    with server.http(sub) as http:
        answer = http.post("/v1/live/tickets")
        assert answer.status_code == 201 and answer.json()["expires_in"] == 30
        return str(answer.json()["ticket"])


def test_a_browser_comes_with_a_ticket_once(server: Server) -> None:
    protocols = ["cosygate.v1", f"ticket.{ticket_of(server)}"]
    origin = {"Origin": server.url}
    with Line(server, headers=origin, subprotocols=protocols) as line:
        assert line.ws.subprotocol == "cosygate.v1"
        line.say(START).hear("ready")
        line.say({"type": "end", "samples": 0}).hear("done")
    assert refused(server, headers=origin, subprotocols=protocols) == (4401, "token_invalid")


@pytest.mark.parametrize("spoil", ["nothing", "audio", "share", "middle", "long"])
def test_a_ticket_that_is_none(server: Server, spoil: str) -> None:
    ticket = ticket_of(server)
    other = {
        "nothing": "x", "audio": "audio." + ticket.partition(".")[2], "share": "share." + ticket.partition(".")[2],
        "middle": ticket[:40] + ("A" if ticket[40] != "A" else "B") + ticket[41:], "long": ticket + "A" * 4000,
    }[spoil]  # fmt: skip
    assert refused(server, headers={}, subprotocols=["cosygate.v1", f"ticket.{other}"]) == (4401, "token_invalid")


def test_a_ticket_for_something_else_is_none(server: Server) -> None:
    """Really issued, still good for what they are for, and no way in."""
    finals, done = finished(server, speech(1.0, seed=12))
    assert finals
    with server.http("alice") as http:
        share = http.post(f"/v1/live/{done['task_id']}/shares").json()["ticket"]
        answer = http.post(f"/v1/task/{done['task_id']}/audio-cookie")
        audio = next(iter(answer.cookies.values()))
    for ticket in (share, audio):
        assert refused(server, headers={}, subprotocols=["cosygate.v1", f"ticket.{ticket}"]) == (4401, "token_invalid")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "https://a.example.evil.example", "", "file://"]
)
def test_a_foreign_page_stays_outside_whatever_it_has(server: Server, origin: str) -> None:
    own = {"Authorization": f"Bearer {server.token('alice')}", "Origin": origin}
    assert refused(server, headers=own) == (4401, "origin_forbidden")


def test_an_allowed_page_comes_in(server: Server) -> None:
    with Line(server, headers={"Authorization": f"Bearer {server.token()}", "Origin": "https://a.example"}) as line:
        line.say(START).hear("ready")
        line.say({"type": "end", "samples": 0}).hear("done")


def test_somebody_elses_session_does_not_exist(server: Server) -> None:
    with Line(server) as line:
        ready = line.say(START).hear("ready")
        wrong_token = resume(ready) | {"resume_token": "A" * 32}
        never_was = resume(ready) | {"session": "0" * 32}
        answers = [
            rejection(server, resume(ready), sub="mallory"),
            rejection(server, wrong_token),
            rejection(server, never_was),
            rejection(server, never_was, sub="mallory"),
            rejection(
                server, resume(ready), headers={"Authorization": f"Bearer {server.token('alice', tenant='other')}"}
            ),
        ]
        assert answers == answers[:1] * 5
        assert (answers[0][0], answers[0][1]["code"]) == (4404, "session_not_found")
        problems = []
        with server.http("mallory") as http, server.http("alice", tenant="other") as foreign:
            for caller in (http, foreign):
                for session in (ready["session"], "0" * 32):
                    for answer in (
                        caller.get(f"/v1/live/{session}/events"),
                        caller.post(f"/v1/live/{session}/shares"),
                    ):
                        assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")
                        problems.append({k: v for k, v in answer.json().items() if k != "trace_id"})
        assert problems == problems[:1] * 8
        line.frame(0, bytes(3200))  # and it goes on
        line.say({"type": "end", "samples": 1600}).hear("done")


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "answer"),
    [
        ([bytes(3208)], (4400, "live_protocol")),
        (["{"], (4400, "live_protocol")),
        ([{"type": "end", "samples": 0}], (4400, "live_protocol")),
        ([{"type": "start"}], (4400, "live_protocol")),
        ([{"type": "start", "sample_rate": 2**31}], (4400, "live_protocol")),
        ([START | {"options": {"diarize": "true"}}], (4400, "option_unsupported")),
        ([START | {"language": "!"}], (4400, "option_invalid")),
        ([START | {"model": "none-such"}], (4400, "option_unsupported")),
        ([START, START], (4400, "live_protocol")),
        ([START, b"1234567"], (4400, "live_frame_invalid")),
        ([START, bytes(8)], (4400, "live_frame_invalid")),
        ([START, bytes(8 + 3201)], (4400, "live_frame_invalid")),
        ([START, b"\xff" * 8 + bytes(3200)], (4400, "live_frame_invalid")),
        ([START, (1600).to_bytes(8, "big") + bytes(3200)], (4400, "gap")),
        ([START, {"type": "end", "samples": 5}], (4400, "gap")),
        ([START, bytes(3208), {"type": "end", "samples": 5}], (4400, "live_protocol")),
        ([START, {"type": "finalize", "samples": 5}], (4400, "gap")),
        ([START, {"type": "gap", "from": 5, "to": 9}], (4400, "gap")),
        ([START, {"type": "gap", "from": 0, "to": 2**50}], (4400, "live_protocol")),
        ([START, bytes(3208), {"type": "end", "samples": 1600}, (1600).to_bytes(8, "big") + bytes(2)],
         (4400, "live_protocol")),
        ([{"type": "start", "sample_rate": 1, "format": "webm-opus"}, {"type": "finalize"}], (4400, "live_protocol")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_closed(server: Server, messages: list[Any], answer: tuple[int, str]) -> None:
    assert refused(server, *messages, sub=f"bad-{time.monotonic_ns()}") == answer


def test_a_gap_says_what_was_expected_and_the_session_goes_on(server: Server) -> None:
    with Line(server) as line:
        ready = line.say(START).hear("ready")
        line.frame(0, bytes(3200))
        line.frame(3200, bytes(3200))
        code, error = line.end()
        assert code == 4400 and error is not None and error["expected"] == 1600
    with Line(server) as line:
        assert line.say(resume(ready)).hear("ready")["offset"] == 1600
        line.frame(1600, bytes(3200))
        line.say({"type": "end", "samples": 3200}).hear("done")


def test_a_17_mb_message_is_cut_off(server: Server) -> None:
    with Line(server, sub="big") as line:
        line.say(START).hear("ready")
        with pytest.raises(ConnectionClosed) as closed:
            line.ws.send(bytes(17 << 20))
            line.hear("never")
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1009


def test_a_silent_line_is_closed_and_a_ping_keeps_it(server: Server) -> None:
    with Line(server, sub="idle") as line:
        ready = line.say(START).hear("ready")
        for _ in range(3):
            time.sleep(1.2)
            line.say({"type": "ping"}).hear("pong")
        began = time.monotonic()
        code, error = line.end()
        assert code == 4408 and error is not None and error["code"] == "live_idle"
        assert 1.0 < time.monotonic() - began < 6
    with Line(server, sub="idle") as line:
        line.say(resume(ready)).hear("ready")
        line.say({"type": "end", "samples": 0}).hear("done")


def test_too_many_sessions_of_one_principal(server: Server) -> None:
    lines = [Line(server, sub="many") for _ in range(6)]
    for line in lines:
        line.say(START).hear("ready")
    assert refused(server, START, sub="many") == (4429, "too_many_sessions")
    lines[0].say({"type": "end", "samples": 0}).hear("done")
    with Line(server, sub="many") as line:
        line.say(START).hear("ready")
        for each in (*lines[1:], line):
            each.say({"type": "end", "samples": 0}).hear("done")
    for each in lines:
        each.__exit__()


def test_ten_times_real_time_arrives_whole(server: Server) -> None:
    recording = speech(30.0, seed=9)
    finals, done = finished(server, recording)
    assert len(finals) == 30 and done["samples"] == recording.samples


def test_another_socket_is_not_there(server: Server) -> None:
    with pytest.raises(InvalidStatus, match="403"), connect(server.url.replace("http", "ws") + "/v1/no", proxy=None):
        pass


# --- watchers --------------------------------------------------------------------------------------------------------


def events_of(response: httpx2.Response) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    kind, number = "", None
    for line in response.iter_lines():
        if line.startswith("event: "):
            kind = line[7:]
        elif line.startswith("id: "):
            number = line[4:]
        elif line.startswith("data: "):
            yield kind, json.loads(line[6:]), number
            number = None


def test_an_audience_reads_along_with_a_share_ticket(server: Server) -> None:
    recording = speech(3.0, seed=4)
    with Line(server) as line, server.http("alice") as alice:
        ready = line.say(START).hear("ready")
        share = alice.post(f"/v1/live/{ready['session']}/shares", json={"ttl_s": 60}).json()
        assert share["captions_url"] == f"/captions#{ready['session']}/{share['ticket']}"
        headers = {"Authorization": f"Bearer {share['ticket']}"}
        send(line, recording, 0, 16_000)
        line.hear("final")
        told = []
        with httpx2.stream("GET", f"{server.url}/v1/live/{ready['session']}/events", headers=headers, timeout=15) as r:
            assert r.headers["content-type"].startswith("text/event-stream")
            for kind, data, number in events_of(r):
                told.append((kind, data, number))
                if kind == "final" and data["id"] == 0:
                    send(line, recording, 16_000)
                    line.say({"type": "end", "samples": recording.samples})
        line.hear("done")
        finals = [(d, n) for k, d, n in told if k == "final"]
        assert [d["text"] for d, _ in finals] == [f["text"] for f in line.finals]
        assert [n for _, n in finals] == ["0", "1", "2"]
        assert told[-1][0] == "done" and told[-1][1]["task_id"] == ready["session"]
        # It only reads, and only this.
        for path in ("/v1/tasks", f"/v1/task/{ready['session']}", f"/v1/live/{'0' * 32}/events", "/v1/models"):
            assert httpx2.get(server.url + path, headers=headers).status_code == 401
        assert httpx2.post(f"{server.url}/v1/live/tickets", headers=headers).status_code == 401
        assert refused(server, headers=headers) == (4401, "token_invalid")
        later = httpx2.get(
            f"{server.url}/v1/live/{ready['session']}/events", headers=headers | {"Last-Event-ID": "1"}, timeout=15
        )
        assert [d["id"] for k, d, _ in events_of(later) if k == "final"] == [2]


@pytest.mark.parametrize("last", ["x", "-1", "9" * 30])
def test_a_last_event_id_that_is_none(server: Server, last: str) -> None:
    with server.http("alice") as http:
        answer = http.get(f"/v1/live/{'0' * 32}/events", headers={"Last-Event-ID": last})
        assert answer.status_code == 422


# --- what stays ------------------------------------------------------------------------------------------------------


def test_nothing_of_a_session_is_in_the_log(server: Server) -> None:
    recording = speech(2.0, seed=77)
    ticket, bearer = ticket_of(server), server.token("alice")
    with Line(server, headers={}, subprotocols=["cosygate.v1", f"ticket.{ticket}"]) as line:
        ready = line.say(START).hear("ready")
        send(line, recording)
        line.say({"type": "end", "samples": recording.samples}).hear("done")
    own = {"Authorization": f"Bearer {bearer}"}
    share = httpx2.post(f"{server.url}/v1/live/{ready['session']}/shares", headers=own).json()["ticket"]
    watched = httpx2.get(
        f"{server.url}/v1/live/{ready['session']}/events", headers={"Authorization": f"Bearer {share}"}, timeout=15
    )
    assert watched.status_code == 200
    with Line(server, headers=own) as again:
        again.say(resume(ready)).hear("done")
    assert refused(server, headers={"Authorization": f"Bearer {share}"}) == (4401, "token_invalid")
    with Line(server, headers=own) as line_of_error:  # an error may be told, but not with what came
        line_of_error.say(resume(ready) | {"session": "0" * 32})
        assert line_of_error.end()[0] == 4404
    log = wait_for(
        lambda: t if ready["session"] in (t := server.log()) and "live.finished" in t else None, "the log line"
    )
    assert len(line.finals) == 2
    tokens = [ticket, share, bearer, ready["resume_token"]]
    parts = [part for token in tokens for part in token.split(".") if len(part) > 40]  # bodies and signatures
    head = bearer.split(".")[0]  # of every JWT, and no secret
    for secret in (*tokens, *(f["text"] for f in line.finals), *(p for p in parts if p != head)):
        assert secret not in log
    assert "Traceback" not in log


def metric(server: Server, name: str) -> float:
    """0 where it has not been counted yet."""
    lines = httpx2.get(f"{server.url}/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == name), 0.0)


def test_metrics_count_it(server: Server) -> None:
    names = (
        "cv_live_latency_seconds_count",
        'cv_audio_seconds_total{door="live"}',
        'cv_rejected_total{reason="gap"}',
        'cv_task_total{state="succeeded"}',
    )
    open_before = metric(server, "cv_live_sessions")  # of tests before that left theirs to the window
    before = [metric(server, name) for name in names]
    with Line(server, sub="counted") as line:
        ready = line.say(START).hear("ready")
        line.frame(1600, bytes(3200))
        assert line.end()[0] == 4400
    assert metric(server, "cv_live_sessions") == open_before + 1
    recording = speech(2.5, seed=5)
    with Line(server, sub="counted") as line:
        line.say(resume(ready)).hear("ready")
        for second in range(3):  # the time of arrival is remembered now and then: five times a second
            send(line, recording, second * RATE, (second + 1) * RATE)
            if second == 2:
                line.say({"type": "end", "samples": recording.samples})
            line.hear("final")
            time.sleep(0.25)
        line.hear("done")
    wait_for(lambda: metric(server, "cv_live_sessions") == open_before, "the session to be let go")
    assert [metric(server, n) - b for n, b in zip(names, before, strict=True)] == [3, pytest.approx(2.5), 1, 1]
