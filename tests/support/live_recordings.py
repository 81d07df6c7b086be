"""What live tests play: recordings in every format that the door takes, and what the server must have kept of them."""

from __future__ import annotations

import io
import random
import wave
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

FORMATS = (
    ("s16le", 16_000),
    ("mulaw", 8_000),
    ("s16le", 48_000),
    ("alaw", 8_000),
    ("s16le", 44_100),
    ("s16le", 24_000),
)


@dataclass(frozen=True, slots=True)
class LiveRecording:
    """Audio as a client sends it. Positions count samples."""

    audio: bytes
    format: str = "s16le"
    rate: int = 16_000
    frame: int = 1600  # samples in one message
    finalizes: tuple[int, ...] = ()  # rising
    options: dict[str, str] = field(default_factory=dict)
    interim: bool = True

    @property
    def unit(self) -> int:
        """Bytes of one sample."""
        return 2 if self.format == "s16le" else 1

    @property
    def samples(self) -> int:
        return len(self.audio) // self.unit

    def start(self) -> dict[str, Any]:
        more = {"options": self.options} if self.options else {}
        return {"type": "start", "sample_rate": self.rate, "format": self.format, "interim": self.interim, **more}

    def frames(self, offset: int) -> Iterator[tuple[int, int]]:
        """(first sample, sample behind the last) of each message from `offset` on; a finalize ends a message, too."""
        stops = [*self.finalizes, self.samples]
        while offset < self.samples:
            end = min(offset + self.frame, next(stop for stop in stops if stop > offset))
            yield offset, end
            offset = end

    def bytes_of(self, start: int, end: int) -> bytes:
        return self.audio[start * self.unit : end * self.unit]

    def kept(self) -> bytes:
        """What the server keeps as s16le: G.711 is decoded at its door."""
        if self.format == "s16le":
            return self.audio
        table = _MULAW if self.format == "mulaw" else _ALAW
        return table[np.frombuffer(self.audio, np.uint8)].tobytes()


def noise(seed: object, seconds: float, kind: str = "s16le", rate: int = 16_000, finalizes: int = 0) -> LiveRecording:
    """No two seeds sound alike. Frames of 100 ms; `finalizes` utterance ends at random samples."""
    rng = random.Random(f"noise {seed}")
    samples = round(seconds * rate)
    marks = tuple(sorted(rng.sample(range(rate // 4, samples - rate // 4), finalizes)))
    return LiveRecording(rng.randbytes(samples * (2 if kind == "s16le" else 1)), kind, rate, rate // 10, marks)


def read_wav(path: Path, finalizes: tuple[int, ...] = ()) -> LiveRecording:
    """A mono WAV of 16 bit, in frames of 100 ms."""
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        rate = file.getframerate()
        return LiveRecording(file.readframes(file.getnframes()), rate=rate, frame=rate // 10, finalizes=finalizes)


def check_task(http: httpx2.Client, task_id: str, recording: LiveRecording, finals: int) -> None:
    """The finished session is a task, its sound is what was sent, byte for byte, and its transcript has all finals."""
    task = http.get(f"/v1/task/{task_id}").json()
    assert task["state"] == "succeeded", task
    answer = http.get(f"/v1/task/{task_id}/audio")
    assert answer.status_code == 200, answer.text
    with wave.open(io.BytesIO(answer.content)) as sound:
        described = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate(), sound.getnframes())
        assert described == (1, 2, recording.rate, recording.samples)
        assert sound.readframes(sound.getnframes()) == recording.kept(), "the stored sound is not what was sent"
    segments = http.get(f"/v1/task/{task_id}/transcript", params={"format": "json"}).json()["segments"]
    assert [segment["id"] for segment in segments] == list(range(finals))


def _mulaw_table() -> np.ndarray[Any, np.dtype[np.int16]]:
    """ITU-T G.711, table 2b: sign, three bits of exponent, four of mantissa, all inverted; bias 33 of 14 bits."""
    codes = ~np.arange(256, dtype=np.int32) & 0xFF
    size = ((((codes & 0x0F) << 3) + 0x84) << ((codes >> 4) & 7)) - 0x84
    return np.where(codes & 0x80, -size, size).astype("<i2")


def _alaw_table() -> np.ndarray[Any, np.dtype[np.int16]]:
    """ITU-T G.711, table 1b: even bits inverted; the two lowest segments are linear."""
    codes = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = (codes >> 4) & 7, (codes & 0x0F) << 4
    size = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(codes & 0x80, size, -size).astype("<i2")


_MULAW, _ALAW = _mulaw_table(), _alaw_table()
