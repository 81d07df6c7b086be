"""Where the sound of `cosygate live` comes from: a file, a pipe, a microphone. Each gives pieces of mono PCM."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from cosygate.client.live_core import RATES
from cosygate.kit.pcm import Samples, ToMono

RATE = 16_000  # of the microphone, and of files whose own rate a live session does not take
PIECE_S = 0.1
LONGEST_WAIT_S = 0.2  # so soon a reader of a silent pipe sees that it is to stop
STOP_S = 2.0  # for a recorder to write what it has, and leave
MAX_BAD = 100  # times in a row that a recording cannot be read further, before what follows is given up

# Each writes mono s16le at RATE on its stdout.
RECORDERS = {
    "arecord": ["arecord", "-q", "-t", "raw", "-f", "S16_LE", "-r", str(RATE), "-c", "1", "-"],
    "parec": ["parec", "--raw", "--format=s16le", f"--rate={RATE}", "--channels=1", "--latency-msec=50"],
    "ffmpeg": ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "alsa", "-i", "default", "-ac", "1", "-ar", str(RATE),
               "-f", "s16le", "-"],
}  # fmt: skip


class SoundFailed(Exception):
    """The sound cannot be had, or not to its end; the message says why."""


@dataclass(frozen=True, slots=True)
class Sound:
    """`pieces` ends by itself, or soon after `stop` was set. It may raise SoundFailed, OSError."""

    rate: int
    format: str  # s16le, mulaw, alaw
    pieces: Iterator[bytes]
    can_wait: bool  # nothing is lost when nobody takes a piece for a while
    name: str | None = None  # of the file


# --- a file ----------------------------------------------------------------------------------------------------------


def recording(path: Path, speed: float, stop: threading.Event) -> Sound:
    """Decoded here: it is the user's own. At its own rate if a session takes that. `speed` 1 is real time, infinity as
    fast as the server takes it. Raises SoundFailed, OSError."""
    frames = _frames(path)
    first = next(frames, None)
    if first is None:
        raise SoundFailed("there is no sound in it")
    own = int(first.sample_rate)
    rate = own if own in RATES else RATE
    decoded = _mono(first, frames, rate)
    return Sound(rate, "s16le", paced(_pieces(decoded, rate), rate, speed, stop), can_wait=True, name=path.name)


def _frames(path: Path) -> Iterator[Any]:
    import av

    with path.open("rb") as file:
        try:
            # Nothing but this file is opened, whatever a playlist in it says.
            media = av.open(file, "r", container_options={"protocol_whitelist": ""}, metadata_errors="replace")
        except av.FFmpegError as error:
            raise SoundFailed("this is not a recording that can be decoded") from error
        with media:
            if not media.streams.audio:
                raise SoundFailed("there is no sound in it")
            packets, bad = media.demux(media.streams.audio[0]), 0
            while bad < MAX_BAD:
                try:
                    for packet in packets:
                        yield from packet.decode()
                        bad = 0
                    return
                except av.FFmpegError:
                    bad += 1
                    packets = media.demux(media.streams.audio[0])
            raise SoundFailed("it cannot be decoded to its end")


def _mono(first: Any, frames: Iterator[Any], rate: int) -> Iterator[bytes]:
    """s16le at `rate`; a stream may change its own rate on the way."""
    own, to_mono, frame = 0, ToMono(rate, None, rate), first
    while frame is not None:
        if frame.sample_rate != own:
            if own:
                yield to_mono.flush()
            own, to_mono = frame.sample_rate, ToMono(frame.sample_rate, None, rate)
        yield to_mono.feed(_samples(frame))
        frame = next(frames, None)
    yield to_mono.flush()


def _samples(frame: Any) -> Samples:
    """(frames, channels): int16 as it is, everything else float."""
    array: Samples = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    if array.dtype == np.uint8:
        return (array.astype(np.float32) - 128) * np.float32(1 / 128)
    if array.dtype == np.int32:
        return array * np.float32(2.0**-31)
    return np.ascontiguousarray(array)


def _pieces(decoded: Iterator[bytes], rate: int) -> Iterator[bytes]:
    """The same bytes, PIECE_S at a time."""
    size = 2 * round(rate * PIECE_S)
    held = bytearray()
    for pcm in decoded:
        held += pcm
        while len(held) >= size:
            yield bytes(held[:size])
            del held[:size]
    if held:
        yield bytes(held)


def paced(
    pieces: Iterator[bytes],
    rate: int,
    speed: float,
    stop: threading.Event,
    monotonic: Callable[[], float] = time.monotonic,
    wait: Callable[[threading.Event, float], object] = threading.Event.wait,
) -> Iterator[bytes]:
    """Each piece of s16le when it has been spoken to its end, `speed` times as fast as it was."""
    began, spoken = monotonic(), 0.0
    for piece in pieces:
        spoken += len(piece) / 2 / rate
        late = began + spoken / speed - monotonic()
        if late > 0:
            wait(stop, late)
        if stop.is_set():
            return
        yield piece


# --- a pipe ----------------------------------------------------------------------------------------------------------


def pipe(fd: int, rate: int, fmt: str, stop: threading.Event) -> Sound:
    """Raw samples as they come; a sample that is cut off at the end is dropped."""
    return Sound(rate, fmt, _read(fd, 2 if fmt == "s16le" else 1, rate, stop), can_wait=True)


def _read(fd: int, unit: int, rate: int, stop: threading.Event) -> Iterator[bytes]:
    size, rest = unit * round(rate * PIECE_S), b""
    while not stop.is_set():
        # Not sys.stdin: a thread that waits in there would hold its lock when the program ends.
        if not select.select([fd], [], [], LONGEST_WAIT_S)[0]:
            continue
        data = os.read(fd, size)
        if not data:
            return
        data = rest + data
        whole = len(data) - len(data) % unit
        rest = data[whole:]
        if whole:
            yield data[:whole]


# --- a microphone ----------------------------------------------------------------------------------------------------


def microphone(stop: threading.Event) -> Sound:
    """Raises SoundFailed when nothing here can record."""
    found = next((command for name, command in RECORDERS.items() if shutil.which(name)), None)
    if found is None:
        raise SoundFailed(f"it takes one of {', '.join(RECORDERS)} to record, and none is installed")
    return Sound(RATE, "s16le", _recorded(found, stop), can_wait=False)


def _recorded(command: list[str], stop: threading.Event) -> Iterator[bytes]:
    fd, writing = os.pipe()
    with os.fdopen(fd, "rb"), tempfile.TemporaryFile() as complaints:
        try:
            child = subprocess.Popen(  # noqa: S603 - one of RECORDERS
                command,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=complaints,
                start_new_session=True,  # a Ctrl-C here is not its Ctrl-C: it is told to stop, and what it has is read
            )
        finally:
            os.close(writing)
        try:
            yield from _read(fd, 2, RATE, stop)
            stopped = stop.is_set()
            if stopped:
                child.terminate()
                yield from _rest(fd)
            status = _left(child)
            if not stopped:
                raise SoundFailed(f"{command[0]} ended with status {status}: {_last_line(complaints)}")
        finally:
            child.kill()
            child.wait()


def _rest(fd: int) -> Iterator[bytes]:
    """What a recorder that was told to stop still writes."""
    over = threading.Event()
    timer = threading.Timer(STOP_S, over.set)
    timer.start()
    try:
        yield from _read(fd, 2, RATE, over)
    finally:
        timer.cancel()


def _left(child: subprocess.Popen[bytes]) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return child.wait(STOP_S)
    return None


def _last_line(complaints: IO[bytes]) -> str:
    complaints.seek(0)
    lines = complaints.read(64 * 1024).decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
