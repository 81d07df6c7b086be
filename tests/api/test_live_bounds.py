"""The live door's bounds: readers that do not read, senders that are too fast, messages and sessions that are too
long, clients that say nothing or never answer. Raw sockets where a client library would be too polite."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, Frame, Opcode
from websockets.uri import parse_uri

from cosygate.api.live_socket import LiveSocket
from tests.api.test_live import RATE, START, Line, resume, send, speech
from tests.support.faults import Victim, wait_for
from tests.support.live_recordings import noise, read_wav

MIB = 1024**2
DIALOGUE = Path(__file__).parents[2] / "samples" / "dialogue.wav"
SCRIPT = {"hear": "digest", "segment_s": 1.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    settings = {"live_slow_s": 1.0, "live_idle_s": 5.0, "recording_max_s": 3, "live_sessions_each": 6}
    with Victim(tmp_path_factory.mktemp("bounds"), script=SCRIPT, **settings) as running:
        yield running
    assert not [line for line in running.log().splitlines() if "Traceback" in line or "crashed" in line]


class RawLine:
    """A WebSocket whose socket is read when the test says so, and not before."""

    def __init__(self, url: str, token: str = "", *, receive_buffer: int | None = None, offer: str = "") -> None:
        where = urlsplit(url)
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(15)
        self.socket.connect((where.hostname, where.port))
        self.protocol = ClientProtocol(parse_uri(url.replace("http", "ws") + "/v1/live"))
        request = self.protocol.connect()
        request.headers["Authorization"] = f"Bearer {token}"
        if offer:
            request.headers["Sec-WebSocket-Extensions"] = offer
        self.head = b""
        self.socket.sendall(request.serialize())
        while b"\r\n\r\n" not in self.head:
            piece = self.socket.recv(1)
            assert piece, self.head
            self.head += piece
        self.frames: list[Frame] = []
        self._rest = b""

    def say(self, *messages: dict[str, Any] | bytes) -> None:
        frames = (
            Frame(Opcode.BINARY, m) if isinstance(m, bytes) else Frame(Opcode.TEXT, json.dumps(m).encode())
            for m in messages
        )
        self.socket.sendall(b"".join(frame.serialize(mask=True) for frame in frames))

    def frame(self) -> Frame | None:
        """The next frame; None at the end, however it came."""
        while True:
            if (found := self._parsed()) is not None:
                return found
            try:
                piece = self.socket.recv(65536)
            except ConnectionError:
                return None
            if not piece:
                return None
            self._rest += piece

    def _parsed(self) -> Frame | None:
        """The server's frames are not masked."""
        if len(self._rest) < 2:
            return None
        size, at = self._rest[1] & 127, 2
        if size == 126:
            size, at = int.from_bytes(self._rest[2:4], "big"), 4
        if len(self._rest) < at + size:
            return None
        assert size < 126 or at == 4
        data, opcode = self._rest[at : at + size], Opcode(self._rest[0] & 15)
        self._rest = self._rest[at + size :]
        return Frame(opcode, data)

    def hear(self, kind: str) -> dict[str, Any]:
        while True:
            frame = self.frame()
            assert frame is not None and frame.opcode is Opcode.TEXT
            message: dict[str, Any] = json.loads(frame.data)
            if message["type"] == kind:
                return message

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> RawLine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def gateway_memory(server: Victim) -> int:
    """Bytes."""
    return int(server.gateway(0).memory_info().rss)


# --- readers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """50 KB of text for every half second: more than the kernel takes for a reader (tcp_wmem: 4 MiB) is soon there."""
    script = {"texts": ["much " * 10_000], "segment_s": 0.5}
    with Victim(tmp_path_factory.mktemp("talkative"), script=script, live_slow_s=1.0) as running:
        yield running
    assert "Traceback" not in running.log()


def begin_deaf(server: Victim, sub: str) -> tuple[RawLine, dict[str, Any]]:
    """Says a minute, which is answered by 6 MB, and reads nothing of it."""
    line = RawLine(server.url, server.token(sub), receive_buffer=4096)
    line.say(START)
    ready = line.hear("ready")
    recording = speech(60.0, seed=30)
    line.say(*(struct.pack(">Q", a) + recording.bytes_of(a, b) for a, b in recording.frames(0)))
    return line, ready


def test_who_does_not_read_is_closed_and_nobody_else_notices(talkative: Victim) -> None:
    with Line(talkative, sub="other") as other:
        other.say(START).hear("ready")
        recording = speech(2.5, seed=31)
        before, pings = gateway_memory(talkative), []
        slow, ready = begin_deaf(talkative, "slow")
        with slow:
            began = time.monotonic()
            for a, b in recording.frames(0):
                other.frame(a, recording.bytes_of(a, b))
                asked = time.monotonic()
                other.say({"type": "ping"}).hear("pong")
                pings.append(time.monotonic() - asked)
                time.sleep(0.1)
            # By now it has been told; what it did not read in five seconds more would be thrown away.
            time.sleep(max(0.0, began + 4.0 - time.monotonic()))
            grown = gateway_memory(talkative) - before
            frames = []
            while (frame := slow.frame()) is not None and time.monotonic() - began < 10:
                frames.append(frame)
                if frame.opcode is Opcode.CLOSE:
                    break
        assert time.monotonic() - began < 10
        assert frames and {f.opcode for f in frames[:-1]} <= {Opcode.TEXT}
        assert frames[-1].opcode is Opcode.CLOSE, frames[-1].opcode
        assert Close.parse(frames[-1].data).code == 4008
        assert grown < 24 * MIB, f"{grown / MIB:.1f} MiB"  # 6 MB of text, in a few copies: 120 finals is all there is
        assert sorted(pings)[len(pings) // 2] < 0.25, pings
        other.say({"type": "end", "samples": recording.samples}).hear("done")
        assert [f["end_sample"] for f in other.finals] == [8000 * (n + 1) for n in range(5)]
    with Line(talkative, sub="slow", max_queue=None) as line:
        assert line.say(resume(ready)).hear("ready")["offset"] == 60 * RATE
        line.say({"type": "end", "samples": 60 * RATE}).hear("done")
        assert [f["id"] for f in line.finals] == list(range(120))


def test_who_never_reads_is_cut_off(talkative: Victim) -> None:
    """Not even the close gets through: the socket goes, and does not wait for ever."""
    gateway = talkative.gateway(0)
    line, ready = begin_deaf(talkative, "deaf")
    with line:
        port = line.socket.getsockname()[1]

        def gone() -> bool:
            return not any(c.raddr and c.raddr.port == port for c in gateway.net_connections("tcp"))

        assert not gone()
        wait_for(gone, "the end of the socket", 15, every_s=0.2)
    with Line(talkative, sub="deaf", max_queue=None) as again:
        assert again.say(resume(ready)).hear("ready")["offset"] == 60 * RATE
        again.say({"type": "end", "samples": 60 * RATE}).hear("done")
        assert len(again.finals) == 120


def test_who_reads_may_send_many_pings_at_once(server: Victim) -> None:
    """4008 is for those who do not read: what one read of the server's socket brings is not their fault."""
    with Line(server, sub="pings") as line:
        line.say(START).hear("ready")
        line.ws.socket.sendall(
            b"".join(Frame(Opcode.TEXT, b'{"type":"ping"}').serialize(mask=True) for _ in range(2000))
        )
        line.hear("pong")  # one answers many
        line.say({"type": "end", "samples": 0}).hear("done")


# --- senders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Victim]:
    """Its engine hears at most twenty times as fast as speech is spoken."""
    script = SCRIPT | {"delay_per_audio_s": 0.05}
    with Victim(tmp_path / "busy", script=script, live_idle_s=2.0, live_slow_s=5.0) as running:
        yield running
    assert "Traceback" not in running.log()


def test_a_sender_that_is_too_fast_is_slowed(busy: Victim) -> None:
    recording = noise("fast", 150, rate=48_000)
    with Line(busy, max_queue=None) as line:
        line.say(recording.start() | {"interim": False}).hear("ready")
        memory = [gateway_memory(busy)]

        def play() -> None:
            send(line, recording)
            line.say({"type": "end", "samples": recording.samples})

        sender = threading.Thread(target=play)
        sender.start()
        acks, waits, behind, last = [0], [0.0], [0], time.monotonic()
        while True:
            try:
                message = json.loads(line.ws.recv(timeout=0.5))
            except TimeoutError:
                assert time.monotonic() - last < 15
                if not sender.is_alive():  # before, it could not: its socket is full
                    line.say({"type": "ping"})
                continue
            if message["type"] == "ack":
                now = time.monotonic()
                if acks[-1] < recording.samples:
                    waits.append(now - last)
                last = now
                if acks[-1] == recording.samples:
                    line.say({"type": "ping"})
                acks.append(message["samples"])
                behind.append(acks[-1] - (line.finals[-1]["end_sample"] if line.finals else 0))
                if len(acks) % 20 == 0:
                    memory.append(gateway_memory(busy))
            elif message["type"] == "final":
                line.finals.append(message)
            elif message["type"] == "done":
                break
        sender.join(10)
        assert line.end() == (1000, None)
    assert max(waits) < 3.5, waits
    # The kernel may take all of it at once (tcp_rmem: 32 MiB here); what counts is what the gateway reads of it.
    assert 55 * 48_000 < max(behind) <= 75 * 48_000, "60 s, and what is in the hands of the engine"
    assert acks == sorted(acks) and acks[-1] == recording.samples
    assert [(f["id"], f["end_sample"]) for f in line.finals] == [(n, 48_000 * (n + 1)) for n in range(150)]
    assert max(memory) - memory[0] < 12 * MIB, [m // MIB for m in memory]  # far less than the sound
    with busy.http() as http:
        sound = http.get(f"/v1/task/{message['task_id']}/audio").content
    assert sound[44:] == recording.audio


def test_64_kib_pass_and_a_byte_more_does_not(server: Victim) -> None:
    full = (64 * 1024 - 8) // 2
    with Line(server, sub="large") as line:
        ready = line.say(START).hear("ready")
        line.frame(0, bytes(2 * full))
        while line.hear("ack")["samples"] < full:
            pass
        with pytest.raises(ConnectionClosed) as closed:
            line.ws.send(struct.pack(">Q", full) + bytes(2 * full + 1))
            line.hear("never")
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009
    with Line(server, sub="large") as line:
        assert line.say(resume(ready)).hear("ready")["offset"] == full
        line.say({"type": "end", "samples": full}).hear("done")
    assert [(f["start_sample"], f["end_sample"]) for f in line.finals] == [
        (0, 16_000),
        (16_000, 32_000),
        (32_000, full),
    ]


def test_a_session_that_is_too_long_is_ended_with_what_came(server: Victim) -> None:
    recording = speech(4.0, seed=8)
    with Line(server, sub="long") as line:
        ready = line.say(START).hear("ready")
        send(line, recording)
        code, error = line.end()
        assert code == 4400 and error is not None and error["code"] == "live_too_long"
    most = 3 * RATE
    for _ in range(2):  # while it ends, and after
        with Line(server, sub="long") as line:
            assert line.say(resume(ready)).hear("ready")["offset"] == most
            done = line.hear("done")
            assert (done["task_id"], done["samples"], done["finals"]) == (ready["session"], most, 3)
            assert line.end() == (1000, None)
            assert [f["end_sample"] for f in line.finals] == [16_000, 32_000, 48_000]
    with server.http("long") as http:
        assert http.get(f"/v1/task/{ready['session']}").json()["state"] == "succeeded"
        sound = http.get(f"/v1/task/{ready['session']}/audio").content
    assert sound[44:] == recording.bytes_of(0, most)


# --- the line --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offer", ["permessage-deflate; client_max_window_bits", "permessage-deflate", "x-none"])
def test_nothing_is_compressed(server: Victim, offer: str) -> None:
    with RawLine(server.url, server.token("deflate"), offer=offer) as line:
        assert line.head.startswith(b"HTTP/1.1 101 ")
        assert b"sec-websocket-extensions" not in line.head.lower()
        line.say(START)
        line.hear("ready")
        line.say({"type": "end", "samples": 0})
        line.hear("done")


def test_who_says_nothing_at_first_is_closed_after_ten_seconds(server: Victim) -> None:
    began = time.monotonic()
    with Line(server, sub="mute") as line:
        code, error = line.end()
    assert code == 4408 and error is not None and error["code"] == "live_idle"
    assert 9 < time.monotonic() - began < 14


async def test_who_does_not_answer_the_keepalive_is_closed() -> None:
    """In this process, with a shorter time than uvicorn's twenty seconds: the socket itself is the real one."""
    left = asyncio.Event()

    async def app(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        left.set()

    config = uvicorn.Config(
        app, ws=LiveSocket, ws_ping_interval=0.3, ws_ping_timeout=0.3, lifespan="off", log_config=None, port=0
    )
    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(config)
    serving = asyncio.create_task(running.serve(sockets=[listening]))
    try:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        line = await asyncio.to_thread(RawLine, url)
        began, frames = time.monotonic(), []
        while (frame := await asyncio.to_thread(line.frame)) is not None:
            frames.append(frame)
        assert [f.opcode for f in frames] == [Opcode.PING, Opcode.CLOSE]
        assert Close.parse(frames[1].data).code == 1011
        assert time.monotonic() - began < 9  # the close is not answered either
        async with asyncio.timeout(3):
            await left.wait()
        line.close()
    finally:
        running.should_exit = True
        await serving
        listening.close()


# --- the order of messages -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """Cuts at pauses, by the real detector."""
    with Victim(tmp_path_factory.mktemp("speaking"), script={"hear": "digest", "cut": "speech"}) as running:
        yield running
    assert "Traceback" not in running.log()


def told(server: Victim, speed: float, **start: Any) -> list[dict[str, Any]]:
    recording = read_wav(DIALOGUE)
    messages: list[dict[str, Any]] = []
    with Line(server, max_queue=None) as line:
        line.say(recording.start() | start).hear("ready")
        for a, b in recording.frames(0):
            line.frame(a, recording.bytes_of(a, b))
            time.sleep(recording.frame / recording.rate / speed)
        line.say({"type": "end", "samples": recording.samples})
        while not messages or messages[-1]["type"] != "done":
            messages.append(json.loads(line.ws.recv(timeout=15)))
    return messages


def test_what_is_said_of_an_utterance_and_in_which_order(speaking: Victim) -> None:
    messages = told(speaking, 3.0)
    state, started, final, ends = "silence", None, 0, 0
    partials = 0
    for message in messages:
        match message["type"]:
            case "speech_started":
                assert set(message) == {"type", "at"} and state == "silence"
                state, started = "speech", message["at"]
            case "partial":
                assert set(message) == {"type", "start", "end", "text"} and state == "speech"
                assert 0 <= message["start"] < message["end"]
                partials += 1
            case "speech_ended":
                assert set(message) == {"type", "at"} and state in ("speech", "said") and started is not None
                assert message["at"] > started
                state, ends = "silence", ends + 1
            case "final":
                members = {"type", "id", "start", "end", "start_sample", "end_sample", "text"}
                assert set(message) >= members and message["id"] == final
                assert message["start"] == round(message["start_sample"] / RATE, 3)
                assert message["end"] == round(message["end_sample"] / RATE, 3)
                final += 1
            case "ack":
                assert set(message) == {"type", "samples", "safe"} and message["safe"] <= message["samples"]
            case "done":
                assert message["finals"] == final
            case other:
                raise AssertionError(other)
    assert final >= 4 and ends >= 4 and partials >= final


def test_who_wants_no_partials_gets_none_and_the_same_finals(speaking: Victim) -> None:
    with_them, without = told(speaking, 5.0), told(speaking, 20.0, interim=False)
    assert not [m for m in without if m["type"] == "partial"]
    assert [m for m in without if m["type"] == "speech_started"]
    assert [m for m in with_them if m["type"] == "final"] == [m for m in without if m["type"] == "final"]
