"""What tests of speaking share: beginning and ending on the page, what the page said against what the server has."""

from __future__ import annotations

import asyncio
import io
import wave
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from playwright.sync_api import Page, WebSocket, expect

from tests.page.conftest import SAMPLES, ask, task_id
from tests.support.live import undisturbed
from tests.support.live_recordings import LiveRecording
from tests.support.server import Server

RATE = 16_000
SLACK = RATE // 20
DIGEST = {"hear": "digest", "segment_s": 1.0}  # every second of sound becomes a text that no other sound has


class Sent:
    """Every sample that the page sends, by its index: what is sent again must be what it was."""

    def __init__(self, page: Page) -> None:
        self.frames: dict[int, bytes] = {}
        self.sockets: list[WebSocket] = []
        page.on("websocket", self._opened)

    def _opened(self, socket: WebSocket) -> None:
        self.sockets.append(socket)
        socket.on("framesent", self._sent)

    def _sent(self, message: str | bytes) -> None:
        if isinstance(message, str):
            return
        index, audio = int.from_bytes(message[:8], "big"), message[8:]
        assert self.frames.setdefault(index, audio) == audio, f"other samples at {index}"

    def audio(self) -> bytes:
        """In one piece, or it fails."""
        whole = b""
        for index, audio in sorted(self.frames.items()):
            assert index * 2 == len(whole), f"a frame at {index}, after {len(whole) // 2} samples"
            whole += audio
        return whole


def speak(page: Page) -> None:
    """Presses the button, and waits for the connection."""
    page.get_by_role("button", name="Speak").first.click()
    expect(page.locator("#live")).to_have_attribute("data-state", "live")


def stop(page: Page) -> None:
    """Until the session is a task, and that is shown."""
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".downloads")).to_be_visible()
    assert "/task/" in page.url


def stored(server: Server, sub: str, page: Page) -> bytes:
    """The samples of the task that is shown, as the server keeps them."""
    with wave.open(io.BytesIO(ask(server, sub, f"/v1/task/{task_id(page)}/audio").content)) as sound:
        assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 16_000)
        return sound.readframes(sound.getnframes())


def transcript(server: Server, sub: str, page: Page) -> list[dict[str, Any]]:
    segments: list[dict[str, Any]] = ask(server, sub, f"/v1/task/{task_id(page)}/transcript?format=json").json()[
        "segments"
    ]
    return segments


def heard_without_cuts(server: Server, audio: bytes) -> list[str]:
    """What the server makes of the same samples in one session that nothing disturbs."""
    session = undisturbed(server.port, server.token("undisturbed"), LiveRecording(audio))
    with ThreadPoolExecutor(1) as thread:  # this one has Playwright's event loop
        return [final["text"] for final in thread.submit(asyncio.run, session).result()]


def check_sound(audio: bytes) -> None:
    """It is the recording that the microphone plays, second for second at its place. A browser that starves on a loaded
    machine stumbles over a few milliseconds; 50 of them are let pass, in all: a frame that is missing, or there twice,
    is 100 ms and moves everything behind it."""
    with wave.open(str(SAMPLES / "dialogue.wav")) as sound:
        played = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float64)
    got = np.frombuffer(audio, "<i2").astype(np.float64)
    size = 1 << (len(got) + len(played)).bit_length()
    product = np.fft.rfft(got, size) * np.conj(np.fft.rfft(played, size))
    lag = int(np.argmax(np.fft.irfft(product)))
    lag = lag if lag < size // 2 else lag - size
    alike = []
    for start in range(max(0, -lag) + SLACK, min(len(played), len(got) - lag - SLACK) - RATE, RATE):
        a, b = played[start : start + RATE], got[start + lag - SLACK : start + lag + RATE + SLACK]
        power = np.convolve(b * b, np.ones(RATE), "valid")
        alike.append(float(np.max(np.correlate(b, a, "valid") / np.sqrt(power * (a @ a) + 1))))
    assert alike, "too short to say"
    told = str([round(second, 3) for second in alike])
    # Of a few seconds one may be the one with the stumble.
    clean = sum(second > 0.9 for second in alike)
    assert min(alike) > 0.5 and clean >= min(0.8 * len(alike), len(alike) - 1), told
