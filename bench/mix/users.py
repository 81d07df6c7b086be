"""The Locust file: the article's two users, and a live one.

`locust -f bench/mix/users.py`, with MIX_TOKEN in the environment; MIX_LIVE is how many live users run beside the others
(`--users` counts them, too). Every recording is a real WAV with an id of its own.
"""

import json
import os
import struct
import time
import uuid
import wave
from pathlib import Path

import websocket
from locust import FastHttpUser, User, between, task
from locust.exception import StopUser

SAMPLES = Path(__file__).resolve().parent.parent.parent / "samples"
AUTH = {"Authorization": f"Bearer {os.environ.get('MIX_TOKEN', '')}"}
SHORT = (SAMPLES / "note.wav").read_bytes()
LONG = (SAMPLES / "dialogue.wav").read_bytes()
CHUNKS = 20
POLL_S = 0.5
WAIT_S = 120.0
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


class Sender(FastHttpUser):
    abstract = True
    wait_time = between(1, 2)

    def send(self, recording: bytes, chunks: int) -> None:
        """The recording in so many chunks, and then its task until it has ended."""
        session, size = uuid.uuid4().hex, -(-len(recording) // chunks)
        headers = AUTH | {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
        answer = None
        for seq in range(chunks):
            body = form(session, seq, recording[seq * size : (seq + 1) * size], seq == chunks - 1)
            answer = self.client.post("/v1/audio", data=body, headers=headers, name="/v1/audio")
            if answer.status_code not in (200, 202):
                return  # Locust has counted it as a failure
        self.poll(answer.json()["task_id"])

    def poll(self, task_id: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            time.sleep(POLL_S)  # gevent's: the article's clients ask twice a second
            with self.client.get(
                f"/v1/task/{task_id}", headers=AUTH, name="/v1/task/[id]", catch_response=True
            ) as answer:
                state = answer.json()["state"] if answer.status_code == 200 else None
                if state is None or state in _BAD:
                    answer.failure(f"{answer.status_code}, {state}")
                    return
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
    acknowledgement, that of `final` counts from the last sample of an utterance that was sent."""

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
            request_type="WS", name=name, response_time=ms, response_length=0, exception=error, context={}
        )
