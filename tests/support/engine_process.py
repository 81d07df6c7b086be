"""Real engine processes and speech for tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import wave
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosygate.engine.recognisers.base import Samples
from cosygate.ports.engine import Engine, EngineEvent, RecogniseConfig

SAMPLES = Path(__file__).parents[2] / "samples"


TRANSPORTS = {"unix": "", "tcp": "127.0.0.1:0"}  # where an engine listens: `listen` of engine_process


@dataclass(frozen=True)
class EngineProcess:
    process: subprocess.Popen[str]
    address: str
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def engine_argv(listen: str, *more: str) -> list[str]:
    return [sys.executable, "-m", "cosygate.engine", "--listen", listen, *more]


@contextlib.contextmanager
def engine_process(*more: str, script: Mapping[str, Any] | None = None, listen: str = "") -> Iterator[EngineProcess]:
    """Runs `python -m cosygate.engine` (scripted unless `more` says otherwise) until the block ends."""
    with tempfile.TemporaryDirectory(prefix="csg-") as folder:
        log = Path(folder) / "log"
        argv = engine_argv(listen or f"unix:{folder}/s", *more)
        if "--recogniser" not in more:
            argv += ["--recogniser", "scripted"]
        if script is not None:
            file = Path(folder) / "script.json"
            file.write_text(json.dumps(script))
            argv += ["--script", str(file)]
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [*argv, "--parent-pid", str(os.getpid())], stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline().split()
            assert line[:1] == ["ready"], log.read_text()
            yield EngineProcess(process, line[1], log)
        finally:
            process.kill()
            process.communicate()


async def pieces(pcm: bytes, size: int = 65536) -> AsyncIterator[bytes]:
    for at in range(0, len(pcm), size):
        yield pcm[at : at + size]


async def recognise(engine: Engine, pcm: bytes, *, idle_timeout_s: float = 20.0, **config: Any) -> list[EngineEvent]:
    events = engine.recognise(RecogniseConfig(**config), pieces(pcm), idle_timeout_s=idle_timeout_s)
    return [event async for event in events]


def silence(seconds: float) -> bytes:
    return bytes(round(seconds * 16_000) * 2)


def speech_pcm(name: str = "note.wav") -> tuple[bytes, int]:
    """A committed sample as s16le mono, and its rate."""
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"samples/{name} is not there")
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.readframes(file.getnframes()), file.getframerate()


def speech_samples(name: str = "note.wav") -> Samples:
    """The same, at 16 kHz."""
    pcm, rate = speech_pcm(name)
    assert rate == 16_000
    return np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
