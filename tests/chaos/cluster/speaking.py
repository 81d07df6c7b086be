"""One live session's client: the project's own, with every message that the server sends journalled as it came."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from typing import Any

from cosygate.client import ClientError
from cosygate.client.live import Live
from cosygate.client.live_core import LiveCore, Stream
from cosygate.client.live_records import LiveEvent
from cosygate.client.live_session import Session
from cosygate.client.live_wire import Door as LiveDoor
from cosygate.client.live_wire import Patience
from tests.chaos.cluster.asking import Door
from tests.chaos.cluster.plan import Speech
from tests.chaos.cluster.sending import PATIENT, give_up

_TOLD = {
    "ready": ("session", "offset"),
    "ack": ("samples", "safe"),
    "final": ("id", "start_sample", "end_sample", "text"),
    "gap": ("from", "to", "code"),
    "moved": ("reconnect_in_ms",),
    "done": ("task_id", "finals", "samples"),
    "error": ("code",),
}
_END_S = 240.0
_TURN_S = 0.1


class _Journalled(LiveCore):
    """Beside what the library makes of a message: the message itself."""

    def __init__(self, door: Door, who: str, stream: Stream) -> None:
        super().__init__(stream, keep_all=True)
        self._door = door
        self._who = who

    def received(self, text: str | bytes) -> list[LiveEvent]:
        message: dict[str, Any] = json.loads(text)
        kind = str(message.get("type"))
        if kind in _TOLD:
            self._door.journal.tell(self._who, f"live_{kind}", **{name: message.get(name) for name in _TOLD[kind]})
        return super().received(text)


def speak(door: Door, speech: Speech, webhook_url: str | None) -> None:
    """The whole session, at its pace. Returns when the client has given up, too."""
    sound, tell = speech.recording, door.journal.tell
    options = {"callback_url": f"{webhook_url}/{speech.who}"} if webhook_url is not None else {}
    tell(
        speech.who,
        "live_asked",
        principal=speech.principal,
        finals=speech.finals(),
        samples=sound.samples,
        rate=sound.rate,
        sha256=hashlib.sha256(sound.kept()).hexdigest(),  # of the samples that are kept, without the WAV's header
        webhook=webhook_url is not None,
    )
    core = _Journalled(door, speech.who, Stream(sound.rate, sound.format, options=options, interim=False))
    session = Session(
        LiveDoor.of(door.url, door.tokens[speech.principal], True),
        core,
        PATIENT,
        lambda event: _cut(door, speech.who, event),
        Patience(open_s=5.0, answer_s=5.0, close_s=1.0),
    )
    try:
        with Live(core, session, time.monotonic) as live:
            _play(live, speech, door.enough)
            live.end(_END_S)
    except ClientError as error:
        give_up(door, speech.who, "live", error)
    except RuntimeError as error:  # ended already by the library: its error was told
        tell(speech.who, "gave_up", what="live", code=str(error)[:80], tries=0)


def _cut(door: Door, who: str, event: LiveEvent) -> None:
    if type(event).__name__ in ("Disconnected", "Reconnected"):
        door.journal.tell(who, "cut", what=f"live {type(event).__name__}", tries=1)


def _play(live: Live, speech: Speech, enough: threading.Event) -> None:
    sound, began = speech.recording, time.monotonic()
    for start, end in sound.frames(0):
        # A frame can be sent once its last sample has been spoken.
        late_s = began + end / sound.rate / speech.speed - time.monotonic()
        if late_s > 0:
            enough.wait(min(late_s, _TURN_S * 10))
        live.send(sound.bytes_of(start, end))
        if end in sound.finalizes:
            live.finalize()
