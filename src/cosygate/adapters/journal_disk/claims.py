"""A claim: the fence first, then how far the story reaches, then a log of its own behind it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from cosygate import errors
from cosygate.adapters.journal_disk import frames, story
from cosygate.adapters.journal_disk.fence import NOBODY, Fence, locked
from cosygate.adapters.journal_disk.places import EPOCHS, Places, log_name, log_of, parts
from cosygate.adapters.journal_disk.room import Room
from cosygate.adapters.journal_disk.session import Log, Session, make_log
from cosygate.adapters.journal_disk.story import Link, Source

_NUMBERS = 2**24  # of events in one epoch; more would only pass into the next one's
_TURNS = 8  # times that the folder may be dropped and made anew under us


@dataclass(slots=True)
class Found:
    """The story so far."""

    sources: list[Source] = field(default_factory=list)
    snapshot: Any = None
    events: list[Any] = field(default_factory=list)
    first: int = 0
    end: int = 0
    number: int = 0  # of the next event
    prev: tuple[str, int] | None = None


def claim(places: Places, room: Room, session_id: str, epoch: int) -> tuple[Session, Found]:
    """Blocks for as long as it takes to read what the journal keeps."""
    if not 0 < epoch < EPOCHS:
        raise ValueError("not an epoch")
    folder = places.folder(session_id)
    for _ in range(_TURNS):
        places.make(folder)
        try:
            fence = _take(places, folder, epoch)
        except FileNotFoundError:
            continue
        try:
            return _open(places, room, folder, fence, epoch)
        except FileNotFoundError:
            fence.close()
            raise errors.TakenOver() from None  # dropped
        except BaseException:
            fence.close()
            raise
    raise errors.Unavailable("the session is being dropped")


def _take(places: Places, folder: str, epoch: int) -> Fence:
    with locked(folder, places.lock_wait_s):
        fence = Fence.make(folder)
        try:
            latest = max((found[0] for found in map(parts, os.listdir(folder)) if found), default=0)
            if fence.epoch != NOBODY:  # else its claimer died in the middle of the store
                latest = max(latest, fence.epoch)
            if epoch <= latest:
                raise errors.TakenOver()
            fence.store(epoch)
        except BaseException:
            fence.close()
            raise
    return fence


def _open(places: Places, room: Room, folder: str, fence: Fence, epoch: int) -> tuple[Session, Found]:
    found = _read(folder)
    # Each epoch has numbers of its own: a position may lie behind events that were lost, never having been synced.
    found.number = max(found.number, epoch * _NUMBERS)
    for source in found.sources:  # what its writer wrote and did not live to sync: we are about to count on it
        places.sync_file(f"{folder}/{source.name}")
    name = log_name(epoch, 1)
    fd, end = make_log(folder, name, prev=found.prev, events=found.number, end=found.end)
    try:
        if places.sync is not None:
            places.sync(fd)
            places.sync_folder(folder)
            places.sync_folder(os.path.dirname(folder))
        session = Session(folder, epoch, fence, room, found.first, found.end, found.number)
        session.log = Log(session, fd, name, end, named=True)
        session.sources = [*found.sources, session.log.source]
        _tidy(places, session)
        if not session.held():
            raise errors.TakenOver()
    except BaseException:
        os.close(fd)
        raise
    return session, found


def _read(folder: str) -> Found:
    found = Found()
    files = [(link, _source(folder, link, found)) for link in story.walk(folder)]
    found.sources = [source for _, source in files]
    # Logs in which nothing was written are left out, lest every reconnection of a silent session lengthens the walk.
    # The one on a base is kept: the base goes by its name.
    while files and parts(files[-1][0].name) and files[-1][1].bound == files[-1][0].start:
        if len(files) > 1 and not parts(files[-2][0].name):
            break
        found.sources.remove(files.pop()[1])
    if files:
        link, source = files[-1]
        found.prev = (link.name, source.bound) if parts(link.name) else (log_of(link.name), 0)
    return found


def _source(folder: str, link: Link, found: Found) -> Source:
    """One file's part in the story."""
    source = Source(link.name, link.start)
    found.first = max(found.first, link.head.get("first", 0))
    found.end = max(found.end, found.first)
    found.number = max(found.number, link.head["events"])
    fd = os.open(f"{folder}/{link.name}", os.O_RDONLY)
    try:
        bound = min(link.bound, os.fstat(fd).st_size)
        for together in frames.appends(frames.scan(fd, link.start, bound)):
            for frame in together:
                if frame.kind == frames.SOUND:
                    source.note(frame.at, len(frame.payload), frame.place)
                    found.end = source.end
                elif frame.kind == frames.SNAPSHOT:
                    found.snapshot = orjson.loads(frame.payload)
                else:
                    found.number = frame.at + 1
                    if frame.kind == frames.EVENT:
                        found.events.append(orjson.loads(frame.payload))
            source.bound = together[-1].end
    finally:
        os.close(fd)
    return source


def _tidy(places: Places, session: Session) -> None:
    """Removes what is no part of the story: left by who died over a compaction or a claim. Only while we hold."""
    keep = {source.name for source in session.sources}
    with locked(session.folder, places.lock_wait_s):
        if not session.held():
            return
        for name in os.listdir(session.folder):
            if name != "epoch" and name not in keep:
                with suppress(FileNotFoundError):
                    os.unlink(f"{session.folder}/{name}")
