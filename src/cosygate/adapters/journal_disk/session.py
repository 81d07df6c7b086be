"""An open session as the writing thread sees it: its log, how far the story has come, and how a batch is appended."""

from __future__ import annotations

import os
from asyncio import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from cosygate import errors
from cosygate.adapters.journal_disk import frames
from cosygate.adapters.journal_disk.faults import translated
from cosygate.adapters.journal_disk.fence import Fence
from cosygate.adapters.journal_disk.frames import LAST, SOUND
from cosygate.adapters.journal_disk.room import Room
from cosygate.adapters.journal_disk.story import Source

NO_AUDIO = -1  # where an append's audio starts
ONLY_WAITS = -2  # the same, of what is done when all before is, and cannot fail by itself


class Append:
    """One call of `append` on its way to the disk."""

    __slots__ = ("frames", "future", "passing", "size", "start", "writer")

    def __init__(
        self,
        writer: Any,
        records: list[tuple[int, int, bytes]],
        size: int,
        start: int,
        passing: bool,
        future: Future[None],
    ) -> None:
        self.writer = writer  # whose it is (writer.py)
        self.frames = records  # kind, first byte of audio, payload
        self.size = size  # what it counts among what waits
        self.start = start  # of its first audio
        self.passing = passing
        self.future = future


Outcome = tuple[Append, BaseException | None]


class Log:
    """The file that is appended to. `source` is how readers see it."""

    __slots__ = ("end", "fd", "named", "retired", "session", "source", "synced")

    def __init__(self, session: Session, fd: int, name: str, end: int, *, named: bool) -> None:
        self.session = session
        self.fd = fd
        self.end = end
        self.synced = end  # bytes that survive power loss, with durability=disk
        self.named = named  # whether its name does
        self.source = Source(name, end)
        self.retired = False  # nothing is appended any more: closed once it is synced

    @property
    def name(self) -> str:
        return self.source.name


def make_log(folder: str, name: str, *, prev: tuple[str, int] | None, events: int, end: int) -> tuple[int, int]:
    """A new log with its HEAD: descriptor and length. Until the HEAD is whole it is nothing to anybody."""
    path = f"{folder}/{name}"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        head = frames.framed(frames.HEAD, 0, orjson.dumps({"prev": prev, "events": events, "end": end}))
        if os.pwrite(fd, head, 0) < len(head):
            raise errors.StorageFull()
    except BaseException:
        os.close(fd)
        with suppress(FileNotFoundError):
            os.unlink(path)
        raise
    return fd, len(head)


@dataclass(slots=True, eq=False)
class Session:
    """Once it is open, changed by the writing thread alone."""

    folder: str
    epoch: int
    fence: Fence
    room: Room
    first: int = 0  # audio: bytes [first, end)
    end: int = 0
    events: int = 0  # number of the next one
    turn: int = 1  # number of the log in this epoch
    sources: list[Source] = field(default_factory=list)  # oldest first, the log's own last; replaced, never changed
    log: Log = field(init=False)
    trouble: BaseException | None = None  # an append failed: later ones would leave a hole, so they fail, too
    spoiled: bool = False  # a sync failed: what was written before may fail yet
    closed: bool = False

    def held(self) -> bool:
        try:
            return not self.closed and self.fence.epoch == self.epoch
        except ValueError:  # closed between the two
            return False

    def fence_holds(self) -> bool:
        """As `held`, also of a session that is being closed."""
        try:
            return self.fence.epoch == self.epoch
        except ValueError:
            return False

    def append(self, batch: list[Append]) -> list[Outcome]:
        """Writes a batch in one call, then looks whether it counts."""
        if not self.held():
            return [(one, errors.TakenOver()) for one in batch]
        outcomes: list[Outcome] = []
        pieces: list[bytes] = []
        taken: list[tuple[Append, int, int, int]] = []  # each with what is behind it: file, audio, events
        places: list[tuple[int, int, int]] = []  # of audio: first byte, bytes, place in the file
        at, end, events = self.log.end, self.end, self.events
        for one in batch:
            if 0 <= one.start < end and self.trouble is None:
                self.trouble = ValueError("audio that is in the journal already")
            if self.trouble is not None and one.start != ONLY_WAITS:
                outcomes.append((one, again(self.trouble)))
                continue
            left = len(one.frames)
            for kind, number, payload in one.frames:
                left -= 1
                if kind == SOUND:
                    places.append((number, len(payload), at))
                    end = number + len(payload)
                else:
                    number, events = events, events + 1
                head = frames.header(kind if left else kind | LAST, number, payload)
                pieces.append(head)
                pieces.append(payload)
                at += len(head) + len(payload)
            taken.append((one, at, end, events))
        if not pieces:
            return outcomes + [(one, None) for one, *_ in taken]
        written, error = self._write(b"".join(pieces))
        if not self.held():
            return [(one, errors.TakenOver()) for one in batch]
        if error is not None:
            whole = self.log.end + written
            outcomes += [(one, again(error)) for one, behind, _, _ in taken if behind > whole]
            taken = [one for one in taken if one[1] <= whole]
            self.trouble = error
        if taken:
            _, at, end, events = taken[-1]
            self._grow(places, at, end, events)
            outcomes += [(one, None) for one, *_ in taken]
        if error is not None:
            # Nobody has read what is cut off: it ends no append. So it matters not who holds the session meanwhile.
            with suppress(OSError):
                os.ftruncate(self.log.fd, self.log.end)
        return outcomes

    def _write(self, data: bytes) -> tuple[int, BaseException | None]:
        """How much was written, and why not all."""
        written = 0
        try:
            self.room.take(len(data))
            while written < len(data):
                rest = memoryview(data)[written:] if written else data
                written += os.pwrite(self.log.fd, rest, self.log.end + written)
        except OSError as error:
            return written, translated(error)
        except errors.StorageFull as error:
            return written, error
        return written, None

    def _grow(self, places: list[tuple[int, int, int]], at: int, end: int, events: int) -> None:
        """In this order, as readers look the other way round."""
        source = self.log.source
        for number, length, place in places:
            if place < at:
                source.note(number, length, place)
        self.log.end = source.bound = at
        self.events = events
        self.end = end


def again(error: BaseException) -> BaseException:
    """One for each caller: a raised exception keeps its traceback."""
    return type(error)(*error.args)
