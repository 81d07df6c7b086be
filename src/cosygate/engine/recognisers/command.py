"""Any program as a recogniser: it gets the path of a WAV file, and what it prints is the text.

The article's `/opt/cosyvoice/bin/asr WAV`. The program runs without a shell, in a process group of its own that is
killed when it takes too long, when the caller leaves and when the engine dies.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import wave
from pathlib import Path
from typing import IO, cast

import numpy as np

from cosygate.engine.recognisers.base import (
    RATE,
    CannotStart,
    Hints,
    Model,
    Recognised,
    RecogniserError,
    Samples,
    Stopped,
    Transient,
)

WAV = "{wav}"
OUTPUT_MAX = 1 << 20  # bytes of text that one piece of speech may give
_LOOK_EVERY_S = 0.05  # for a caller that left
_LEASH = str(Path(__file__).with_name("leash.py"))


class Command:
    name = "command"
    version = "1"
    models: tuple[Model, ...] = (Model("command", ("*",)),)
    cut_s: float | None = None
    instant = False

    def __init__(self, template: str, timeout_s: float) -> None:
        """`template`: the program and its arguments, in which `{wav}` is the file (appended when it is not there).
        `timeout_s`: what one piece may take. Raises CannotStart when there is no such program."""
        try:
            argv = shlex.split(template)
        except ValueError as error:
            raise CannotStart(f"the command cannot be split into words ({error})") from None
        if not argv:
            raise CannotStart(
                "the command recogniser needs a command, for example --command '/usr/local/bin/asr {wav}'"
            )
        program = shutil.which(argv[0])
        if program is None:
            raise CannotStart(f"the command's program {argv[0]} is not there, or cannot be run")
        self._argv = [program, *argv[1:]]
        if not any(WAV in word for word in self._argv):
            self._argv.append(WAV)
        self.limit_s: float | None = timeout_s
        self._timeout_s = timeout_s

    def recognise(self, samples: Samples, hints: Hints, stop: threading.Event) -> Recognised:
        with tempfile.TemporaryDirectory(prefix="cosygate-command-") as folder:
            path = Path(folder) / "audio.wav"
            _write_wav(path, samples)
            output = self._run([word.replace(WAV, str(path)) for word in self._argv], folder, stop)
        return Recognised(" ".join(output.decode("utf-8", "replace").split()))

    def close(self) -> None:
        pass

    def _run(self, argv: list[str], folder: str, stop: threading.Event) -> bytes:
        """The program's standard output. Raises RecogniserError, Stopped."""
        try:
            process = subprocess.Popen(  # noqa: S603 - the program is the operator's, from the settings
                [sys.executable, "-I", "-S", _LEASH, str(os.getpid()), *argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                process_group=0,
            )
        except BlockingIOError:
            raise Transient("no process can be started now") from None
        with process:
            try:
                output = _read(process, time.monotonic() + self._timeout_s, stop)
            finally:
                _kill_group(process)
        if process.returncode != 0:
            raise RecogniserError(f"the command ended with status {process.returncode}")
        return output


def _write_wav(path: Path, samples: Samples) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 32767 / 32768) * 32768).astype("<i2").tobytes())


def _read(process: subprocess.Popen[bytes], deadline: float, stop: threading.Event) -> bytes:
    """What the program prints until it ends (what it left running may keep the pipe open: nobody waits for that)."""
    pipe = cast("IO[bytes]", process.stdout).fileno()
    os.set_blocking(pipe, False)
    ended = os.pidfd_open(process.pid)
    output = bytearray()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            selector.register(ended, selectors.EVENT_READ)
            while True:
                if stop.is_set():
                    raise Stopped
                if time.monotonic() >= deadline:
                    raise RecogniserError("the command took too long")
                ready = {key.fd for key, _ in selector.select(_LOOK_EVERY_S)}
                if pipe in selector.get_map() and not _drain(pipe, output):
                    selector.unregister(pipe)
                if ended in ready:
                    return bytes(output)
    finally:
        os.close(ended)


def _drain(pipe: int, output: bytearray) -> bool:
    """Appends what is there to read; False at the end of the pipe."""
    while True:
        try:
            part = os.read(pipe, 65536)
        except BlockingIOError:
            return True
        if not part:
            return False
        output += part
        if len(output) > OUTPUT_MAX:
            raise RecogniserError("the command printed too much")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills the program and what it started, also when it has ended: it may have left something behind. It is not
    reaped yet, so the number of its group cannot have become another's."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
