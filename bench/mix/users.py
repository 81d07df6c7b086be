"""The Locust file: the article's two users, and a live one.

`locust -f bench/mix/users.py`, with MIX_TOKEN in the environment; MIX_LIVE is how many live users run beside the others
(`--users` counts them, too). Every recording is a real WAV with an id of its own. It is an event of its own beside its
requests, `recording`: from its first byte to its result, and a failure when that takes longer than MIX_BOUND_S. With
MIX_SECONDS it counts for so long, MIX_WARM_S after all users are there, writes what it heard to MIX_OUT, and ends.
"""

import json
import os
import struct
import time
import uuid
import wave
from pathlib import Path

import gevent
import websocket
from locust import FastHttpUser, User, between, events, task
from locust.env import Environment
from locust.exception import StopUser

SAMPLES = Path(__file__).resolve().parent.parent.parent / "samples"
AUTH = {"Authorization": f"Bearer {os.environ.get('MIX_TOKEN', '')}"}
SHORT = (SAMPLES / "note.wav").read_bytes()
LONG = (SAMPLES / "dialogue.wav").read_bytes()
CHUNKS = 20
POLL_S = 0.5
SECONDS = float(os.environ.get("MIX_SECONDS", "0"))
BOUND_S = float(os.environ.get("MIX_BOUND_S", "10"))
RECORDING, LIVE = "RECORDING", "WS"  # types of events that are no HTTP requests
_BOUNDARY = "mix-boundary-5d1f"
_GOOD, _BAD = {"succeeded", "SUCCESS"}, {"failed", "cancelled", "FAILURE", "REVOKED"}
_FRAME_S = 0.1


def form(session: str, seq: int, chunk: bytes, last: bool) -> bytes:
    """A chunk as multipart form, as the article's clients send it."""
    fields = {"session_id": session, "seq": seq, "is_last": int(last)}
    head = "".join(
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()
    )
    head += f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="chunk"; filename="chunk.wav"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    return b"".join((head.encode(), chunk, f"\r\n--{_BOUNDARY}--\r\n".encode()))


class Unfinished(Exception):
    """A recording did not come to its result within BOUND_S; the message says why."""


class Heard:
    """What happened, and when, on the monotonic clock: raw, for whoever counts (counting.py)."""

    def __init__(self) -> None:
        self.requests: list[tuple[float, float, bool]] = []  # when it ended, its ms, whether it was good
        self.recordings: list[list[float | bool | None]] = []  # first byte, result (None: under way), whether good
        self.live: list[bool] = []  # of what was told of live speech, whether it was good

    def text(self, began: float, ended: float) -> str:
        told = {"began": began, "ended": ended, "requests": self.requests}
        return json.dumps(told | {"recordings": self.recordings, "live": self.live})


HEARD = Heard()


@events.request.add_listener
def heard(request_type: str, response_time: float, exception: Exception | None, **_: object) -> None:
    if request_type == LIVE:
        HEARD.live.append(exception is None)
    elif request_type != RECORDING:
        HEARD.requests.append((time.monotonic(), response_time, exception is None))


@events.init.add_listener
def count(environment: Environment, **_: object) -> None:
    """MIX_WARM_S after all users are there, for SECONDS; then it ends. The lines tell whoever watches the servers."""
    if not SECONDS:
        return

    def counted() -> None:
        time.sleep(float(os.environ["MIX_WARM_S"]))
        began = time.monotonic()
        print('{"at": "counting"}', flush=True)
        time.sleep(SECONDS)
        ended = time.monotonic()
        print('{"at": "counted"}', flush=True)
        Path(os.environ["MIX_OUT"]).write_text(HEARD.text(began, ended))
        environment.runner.quit()

    environment.events.spawning_complete.add_listener(lambda **_: gevent.spawn(counted))


class Sender(FastHttpUser):
    abstract = True
    wait_time = between(1, 2)
    network_timeout = connection_timeout = BOUND_S

    def send(self, recording: bytes, chunks: int) -> None:
        """The recording in so many chunks, and then its task until it has ended; told as one more event, which is no
        request."""
        began = time.monotonic()
        entry: list[float | bool | None] = [began, None, False]
        HEARD.recordings.append(entry)
        try:
            self._sent(recording, chunks, began + BOUND_S)
            fault = None
        except (Unfinished, ValueError, KeyError, TypeError) as error:  # the latter: an answer that makes no sense
            fault = error
        ended = time.monotonic()
        entry[1:] = [ended, fault is None]
        self.environment.events.request.fire(
            request_type=RECORDING,
            name="recording",
            response_time=1000 * (ended - began),
            response_length=len(recording),
            exception=fault,
            context={},
        )

    def _sent(self, recording: bytes, chunks: int, deadline: float) -> None:
        session, size = uuid.uuid4().hex, -(-len(recording) // chunks)
        headers = AUTH | {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        answer = None
        for seq in range(chunks):
            body = form(session, seq, recording[seq * size : (seq + 1) * size], seq == chunks - 1)
            answer = self.client.post("/v1/audio", data=body, headers=headers, name="/v1/audio")
            if answer.status_code not in (200, 202):
                raise Unfinished(f"chunk {seq}: {answer.status_code}")  # Locust has counted the request as a failure
            if time.monotonic() > deadline:
                raise Unfinished(f"chunk {seq}: {BOUND_S:g} s are over")
        self._poll(answer.json()["task_id"], deadline)

    def _poll(self, task_id: str, deadline: float) -> None:
        while True:
            time.sleep(POLL_S)  # gevent's: the article's clients ask twice a second
            with self.client.get(
                f"/v1/task/{task_id}", headers=AUTH, name="/v1/task/[id]", catch_response=True
            ) as answer:
                state = answer.json()["state"] if answer.status_code == 200 else None
                if state is None or state in _BAD:
                    answer.failure(f"{answer.status_code}, {state}")
            if state is None or state in _BAD:
                raise Unfinished(f"its task: {answer.status_code}, {state}")
            if time.monotonic() > deadline:
                raise Unfinished(f"its task: {state}, and {BOUND_S:g} s are over")
            if state in _GOOD:
                return


class ShortRecording(Sender):
    weight = 3

    @task
    def whole(self) -> None:
        self.send(SHORT, 1)


class ChunkedUpload(Sender):
    weight = 1

    @task
    def chunked(self) -> None:
        self.send(LONG, CHUNKS)


class LiveSpeech(User):
    """Speaks the dialogue in real time, frame by frame; the response time of `ack` is from a frame to its
    acknowledgement, that of `done` from the end until the session is a finished task."""

    fixed_count = int(os.environ.get("MIX_LIVE", "0"))
    wait_time = between(1, 2)
    abstract = fixed_count == 0

    @task
    def speak(self) -> None:
        with wave.open(str(SAMPLES / "dialogue.wav")) as sound:
            rate, audio = sound.getframerate(), sound.readframes(sound.getnframes())
        url = self.host.replace("http", "ws", 1) + "/v1/live"
        socket = websocket.create_connection(url, header=AUTH, timeout=30)
        try:
            self._session(socket, rate, audio)
        except (OSError, websocket.WebSocketException, KeyError) as error:
            self._told("session", 0.0, error)
            if self.environment.runner is None:
                raise StopUser from None
        finally:
            socket.close()

    def _session(self, socket: websocket.WebSocket, rate: int, audio: bytes) -> None:
        socket.send(json.dumps({"type": "start", "sample_rate": rate}))
        self._until(socket, "ready")
        step, began = round(rate * _FRAME_S), time.monotonic()
        for index in range(0, len(audio) // 2, step):
            time.sleep(max(0.0, began + index / rate - time.monotonic()))
            sent = time.monotonic()
            frame = audio[2 * index : 2 * (index + step)]
            socket.send_binary(struct.pack(">Q", index) + frame)
            while self._until(socket, "ack")["samples"] < index + len(frame) // 2:
                pass
            self._told("ack", 1000 * (time.monotonic() - sent))
        socket.send(json.dumps({"type": "end", "samples": len(audio) // 2}))
        ended = time.monotonic()
        self._until(socket, "done")
        self._told("done", 1000 * (time.monotonic() - ended))

    @staticmethod
    def _until(socket: websocket.WebSocket, kind: str) -> dict:
        while True:
            message = json.loads(socket.recv())
            if message["type"] == kind:
                return message
            if message["type"] == "error":
                raise OSError(message["code"])

    def _told(self, name: str, ms: float, error: Exception | None = None) -> None:
        self.environment.events.request.fire(
            request_type=LIVE, name=name, response_time=ms, response_length=0, exception=error, context={}
        )
