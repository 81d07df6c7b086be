"""Compaction: the session goes on in a new log at once; a base that stands for all before it is written aside.

So appends never wait for it. The base counts when it has its name, and only after that are the older files removed: a
crash leaves all of the old, or the new. The name is given under the folder's lock and our epoch: once somebody else has
claimed the session, the files that he counts on stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import orjson

from cosygate import errors
from cosygate.adapters.journal_disk import frames, story
from cosygate.adapters.journal_disk.fence import locked
from cosygate.adapters.journal_disk.places import TURNS, Places, base_name, log_name
from cosygate.adapters.journal_disk.session import Log, Session, again, make_log
from cosygate.adapters.journal_disk.story import Source

_PIECE = 64 * 1024  # bytes of audio in one frame of a base


@dataclass(frozen=True, slots=True)
class Before:
    """What a new log was put behind."""

    sources: list[Source]
    first: int
    end: int
    events: int


class Bases:
    def __init__(self, places: Places, retire: Callable[[Log], None]) -> None:
        self._places = places
        self.retire = retire

    def turn(self, session: Session) -> Before:
        """Goes on in a new log. In the writing thread."""
        if not session.held():
            raise errors.TakenOver()
        if session.trouble is not None:
            raise again(session.trouble)
        if session.turn + 1 >= TURNS:
            raise errors.Unavailable("a session was compacted too often under one epoch")
        old = session.log
        name = log_name(session.epoch, session.turn + 1)
        fd, end = make_log(session.folder, name, prev=(old.name, old.end), events=session.events, end=session.end)
        before = Before(session.sources, session.first, session.end, session.events)
        session.turn += 1
        session.log = Log(session, fd, name, end, named=self._places.sync is None)
        session.sources = [*session.sources, session.log.source]
        with suppress(FileNotFoundError):  # dropped: whoever watches notices that
            session.fence.turned(session.epoch * TURNS + session.turn)
        self.retire(old)
        return before

    def write(self, session: Session, before: Before, snapshot: bytes, keep_from: int) -> None:
        """Blocks for as long as it takes to copy the audio that is kept."""
        log = session.log  # turned by us; nobody turns it again while we are at it
        name = base_name(log.name)
        first = min(max(keep_from, before.first), before.end)
        path = f"{session.folder}/{name}.tmp"
        base = Source(name, 0)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                _fill(fd, base, session.folder, before, snapshot, first)
                if self._places.sync is not None:
                    self._places.sync(fd)
                    self._places.sync_file(f"{session.folder}/{log.name}")  # it has the older ones' number of events
            finally:
                os.close(fd)
            with locked(session.folder, self._places.lock_wait_s):
                if not session.held():
                    raise errors.TakenOver()
                os.rename(path, f"{session.folder}/{name}")
        except BaseException as error:
            with suppress(OSError):
                os.unlink(path)
            if isinstance(error, FileNotFoundError) and not session.held():
                raise errors.TakenOver() from None
            raise
        self._places.sync_folder(session.folder)
        session.sources = [base, *session.sources[len(before.sources) :]]
        session.first = first
        for source in before.sources:
            with suppress(FileNotFoundError):
                os.unlink(f"{session.folder}/{source.name}")


def _fill(fd: int, base: Source, folder: str, before: Before, snapshot: bytes, first: int) -> None:
    head = orjson.dumps({"first": first, "end": before.end, "events": before.events})
    place = _put(fd, frames.framed(frames.HEAD, 0, head), 0)
    place = _put(fd, frames.framed(frames.SNAPSHOT, 0, snapshot), place)
    pieces: list[bytes] = []
    begun = at = first
    for number, data in story.sounds(folder, before.sources, first):
        if pieces and (number != at or at - begun + len(data) > _PIECE):
            base.note(begun, at - begun, place)
            place = _put(fd, frames.framed(frames.SOUND, begun, b"".join(pieces)), place)
            pieces = []
        if not pieces:
            begun = number
        pieces.append(data)
        at = number + len(data)
    if pieces:
        base.note(begun, at - begun, place)
        place = _put(fd, frames.framed(frames.SOUND, begun, b"".join(pieces)), place)
    base.bound = place


def _put(fd: int, data: bytes, place: int) -> int:
    """Where the next goes."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, place)
        place, rest = place + written, rest[written:]
    return place
