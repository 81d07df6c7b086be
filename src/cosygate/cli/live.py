"""`cosygate live`: speech from a file, a pipe or a microphone goes in, captions come out as it is spoken."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from cosygate.cli.captions import Captions
from cosygate.cli.live_audio import Sound, SoundFailed, microphone, pipe, recording
from cosygate.cli.transcribe import UsageError, check_token, gateway, write_whole
from cosygate.client import Client, ClientError
from cosygate.client.live_core import RATES

if TYPE_CHECKING:
    from cosygate.client.live import Live
    from cosygate.settings import Settings

REST_S = 3.0  # after Ctrl-C: for what a recorder or a pipe still has
FORMATS = ("txt", "srt", "vtt", "ttml", "json", "tsv")  # that a file's name tells


@dataclass(frozen=True, slots=True)
class Wanted:
    source: str | None  # a file, or - for raw PCM on stdin
    mic: bool
    speed: str  # of a file: a number, or max
    server: str | None  # None: embedded
    token: str | None
    language: str | None
    model: str | None
    rate: int  # of -
    format: str  # of -
    partials: bool
    diarize: bool
    max_speakers: int | None  # with it, who speaks is told
    out: Path | None
    output_format: str | None  # None: as the name of `out` says, or txt


def run(wanted: Wanted, settings: Callable[[], Settings]) -> int:
    """0: all was heard, 1: it was not. Raises UsageError, ServerFailed, KeyboardInterrupt (what was said until then is
    finished by the server)."""
    fmt = _output_format(wanted)
    name = "--mic" if wanted.mic else wanted.source
    stop = threading.Event()
    captions = Captions(partials=wanted.partials)
    try:
        sound = _sound(wanted, stop)
        with gateway(wanted.server, wanted.token, settings) as client:
            task_id, failed = _played(client, sound, captions, wanted, stop)
            if wanted.out:
                write_whole(wanted.out, client.transcript_text(task_id, fmt))
            if not wanted.server:
                client.delete(task_id)  # the captions are the caller's now; nothing stays in the embedded store
        if failed:
            raise failed
    except BrokenPipeError:
        raise
    except (ClientError, SoundFailed, OSError) as error:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        sys.stderr.write(f"cosygate: {name}: {reason}\n")
        return 1
    return 0


def _output_format(wanted: Wanted) -> str:
    if wanted.out is None:
        if wanted.output_format:
            raise UsageError("--output-format needs --out: a terminal gets captions")
        return "txt"
    if not wanted.out.absolute().parent.is_dir():
        raise UsageError(f"--out: there is no folder {wanted.out.parent}")
    named = wanted.out.suffix.lower().lstrip(".")
    return wanted.output_format or (named if named in FORMATS else "txt")


def _sound(wanted: Wanted, stop: threading.Event) -> Sound:
    """Raises UsageError, SoundFailed, OSError."""
    check_token(wanted.server, wanted.token)
    if wanted.mic == (wanted.source is not None):
        raise UsageError("name a recording, or - for raw PCM on stdin, or give --mic: one of them")
    speed = _speed(wanted.speed)
    if wanted.mic or wanted.source == "-":
        if speed != 1:
            raise UsageError("--speed is for recordings: what is being spoken has its own")
        if wanted.mic:
            return microphone(stop)
        if wanted.rate not in RATES:
            raise UsageError(f"--rate is one of {', '.join(map(str, sorted(RATES)))}")
        if sys.stdin.isatty():
            raise UsageError("- reads raw PCM from a pipe, and stdin is a terminal")
        return pipe(sys.stdin.fileno(), wanted.rate, wanted.format, stop)
    return recording(Path(wanted.source or ""), speed, stop)


def _speed(text: str) -> float:
    try:
        speed = float("inf") if text == "max" else float(text)
    except ValueError:
        speed = 0.0
    if not speed > 0:
        raise UsageError("--speed is a number above 0, or max")
    return speed


def _played(
    client: Client, sound: Sound, captions: Captions, wanted: Wanted, stop: threading.Event
) -> tuple[str, Exception | None]:
    """The task, and what cut the sound short if something did. Raises ClientError, KeyboardInterrupt."""
    told = {
        "filename": sound.name,
        "diarize": "true" if wanted.diarize else None,
        "max_speakers": str(wanted.max_speakers) if wanted.max_speakers else None,
    }
    options: Mapping[str, str] = {name: value for name, value in told.items() if value}
    live = client.live(
        sound.rate,
        format=sound.format,
        language=wanted.language,
        model=wanted.model,
        options=options,
        interim=captions.partials,
        wait_when_full=sound.can_wait,
    )
    feeder = Feeder(live, sound, stop)
    try:
        with _first_interrupt_stops(stop), live:
            feeder.start()
            for event in live.events():
                captions.show(event)
    finally:
        stop.set()
        captions.close()
    return live.task_id or "", feeder.error


class Feeder:
    """Sends the sound and ends the session, from threads: who shows captions can be interrupted at any point."""

    def __init__(self, live: Live, sound: Sound, stop: threading.Event) -> None:
        self._live = live
        self._sound = sound
        self._stop = stop
        self.error: Exception | None = None  # what cut the sound short
        self._feeding = threading.Thread(target=self._feed, daemon=True, name="cosygate-sound")
        self._stopping = threading.Thread(target=self._when_stopped, daemon=True, name="cosygate-stop")

    def start(self) -> None:
        self._feeding.start()
        self._stopping.start()

    def _feed(self) -> None:
        try:
            for piece in self._sound.pieces:
                self._live.send(piece)
        except (SoundFailed, OSError) as error:
            self.error = error
        except (ClientError, RuntimeError):
            return  # the session is over, and says itself why
        self._end()

    def _when_stopped(self) -> None:
        """A source that gives nothing, or a server that takes nothing, does not hold up the end."""
        self._stop.wait()
        self._feeding.join(REST_S)
        self._end()

    def _end(self) -> None:
        with suppress(ClientError, RuntimeError):  # whoever reads the events is told
            self._live.end()


@contextmanager
def _first_interrupt_stops(stop: threading.Event) -> Iterator[None]:
    """Within: the first Ctrl-C sets `stop`, the second raises KeyboardInterrupt."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
