"""Events for watchers, in any process: who only reads, and holds nothing.

A position is `number.epoch.turn.place`: the number that the next event has at least, and in which log, at which byte,
it is looked for. The number alone would do; the rest spares the search. What is read counts only if the fence has not
changed meanwhile: then no other holder's claim lies between, and what was read was written by the holder.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import orjson

from cosygate.adapters.journal_disk import frames, story
from cosygate.adapters.journal_disk.fence import NOBODY, Fence
from cosygate.adapters.journal_disk.places import Places, log_name, parts

AT_MOST = 500  # events at once
_EVENTS = (frames.EVENT, frames.PASSING)
_FRAMES = 20_000  # passed over at once
_OPEN = 256  # sessions that are kept open, two descriptors each
_TURNS = 8  # reads, each disturbed by a claim or a compaction


class Position(NamedTuple):
    number: int  # of the next event
    epoch: int = 0
    turn: int = 0
    place: int = 0

    def __str__(self) -> str:
        return f"{self.number}.{self.epoch}.{self.turn}.{self.place}"

    @property
    def log(self) -> str:
        return log_name(self.epoch, self.turn)


START = str(Position(0))  # before everything: of a session that is not there yet


class Watched:
    """A session that somebody watches. `nothing_new` is for the event loop, the rest blocks."""

    def __init__(self, folder: str) -> None:
        """Raises FileNotFoundError."""
        self._folder = folder
        self._fence = Fence(folder)
        self._seen = (NOBODY, 0)  # the fence, when the newest log was looked for
        self._newest = ""
        self._fd = -1
        self._idle = ("", 0)  # a position, and how long the newest log was when nothing whole was behind it
        self.closed = False
        self.mutex = threading.Lock()

    def nothing_new(self, after: str) -> bool:
        """Whether there is surely nothing behind `after`; asks the disk nothing but a length."""
        if not self.mutex.acquire(blocking=False):
            return False
        try:
            if self._fd < 0 or self._fence.seen != self._seen:
                return False
            return (after, os.fstat(self._fd).st_size) == self._idle
        finally:
            self.mutex.release()

    def events(self, after: str) -> tuple[list[Any], str]:
        """Raises FileNotFoundError when the session was dropped. Under the mutex."""
        position = Position(*map(int, after.split("."))) if after else None
        for _ in range(_TURNS):
            seen = self._fence.seen
            try:
                if seen != self._seen or position is None or position.log != self._newest:
                    links = story.walk(self._folder)
                    if not links or (parts(links[-1].name) or (0,))[0] != seen[0]:
                        break  # its claimer is not so far yet, and what an older one writes now is nobody's
                    self._follow(links[-1].name)
                    found = self._older(links, position) if position else self._now(links[-1])
                else:
                    found = self._on([], position)
            except FileNotFoundError:
                os.stat(self._folder)
                continue  # compacted meanwhile
            if self._fence.seen == seen:
                self._seen = seen
                return found
        os.stat(self._folder)
        return [], after or START

    def _follow(self, newest: str) -> None:
        if newest != self._newest:
            self._shut()
            self._fd = os.open(f"{self._folder}/{newest}", os.O_RDONLY)
            self._newest = newest

    def _now(self, newest: story.Link) -> tuple[list[Any], str]:
        number, place = newest.head["events"], newest.start
        for together in frames.appends(frames.peek(self._fd, place, os.fstat(self._fd).st_size)):
            place = together[-1].end
            number = max([number, *(frame.at + 1 for frame in together if frame.kind in _EVENTS)])
        return [], str(_at(newest, number)._replace(place=place))

    def _older(self, links: list[story.Link], at: Position) -> tuple[list[Any], str]:
        """From `at` on through every log behind it; from the first one, when its own was compacted away."""
        events: list[Any] = []
        names = [link.name for link in links]
        for link in links[names.index(at.log) if at.log in names else 0 : -1]:
            if not parts(link.name):
                continue  # a base: what watchers missed there is in the records by then
            if at.log != link.name:
                at = _at(link, at.number)
            fd = os.open(f"{self._folder}/{link.name}", os.O_RDONLY)
            try:
                at, full = _through(fd, min(link.bound, os.fstat(fd).st_size), at, events)
            finally:
                os.close(fd)
            if full:
                return events, str(at)
        return self._on(events, at if at.log == links[-1].name else _at(links[-1], at.number))

    def _on(self, events: list[Any], at: Position) -> tuple[list[Any], str]:
        size = os.fstat(self._fd).st_size
        at, full = _through(self._fd, size, at, events)
        self._idle = ("" if full else str(at), size)
        return events, str(at)

    def _shut(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        with self.mutex:
            if not self.closed:
                self.closed = True
                self._shut()
                self._fence.close()


def _at(link: story.Link, number: int) -> Position:
    """Where `link`, a log, begins, for somebody who has had `number` events."""
    epoch, turn = parts(link.name) or (0, 0)
    return Position(max(number, link.head["events"]), epoch, turn, link.start)


def _through(fd: int, bound: int, at: Position, events: list[Any]) -> tuple[Position, bool]:
    """Adds the events between `at` and `bound`; the position behind them, and whether there may be more."""
    number, place, passed = at.number, at.place, 0
    for together in frames.appends(frames.peek(fd, place, bound)):
        for frame in together:
            place, passed = frame.end, passed + 1
            if frame.kind in _EVENTS and frame.at >= number:
                number = frame.at + 1
                events.append(orjson.loads(frame.payload))
                if len(events) >= AT_MOST:
                    return at._replace(number=number, place=place), True
        if passed >= _FRAMES:
            return at._replace(number=number, place=place), True
    return at._replace(number=number, place=place), False


class Watching:
    """The sessions that are watched in this process."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._open: OrderedDict[str, Watched] = OrderedDict()
        self._mutex = threading.Lock()

    def nothing_new(self, session_id: str, after: str) -> bool:
        watched = self._open.get(session_id)
        return watched is not None and watched.nothing_new(after)

    def events(self, session_id: str, after: str) -> tuple[list[Any], str]:
        """Blocks."""
        folder = self._places.folder(session_id)
        try:
            with self._get(session_id, folder) as watched:
                return watched.events(after)
        except FileNotFoundError:
            self.forget(session_id)
            return [], after or START

    @contextmanager
    def _get(self, session_id: str, folder: str) -> Iterator[Watched]:
        with self._mutex:
            watched = self._open.get(session_id)
            if watched is None:
                watched = self._open[session_id] = Watched(folder)
            self._open.move_to_end(session_id)
            least = self._open.popitem(last=False)[1] if len(self._open) > _OPEN else None
        if least is not None:
            least.close()
        with watched.mutex:
            if watched.closed:
                raise FileNotFoundError(folder)  # forgotten meanwhile: as if the session were not there this once
            yield watched

    def forget(self, session_id: str) -> None:
        with self._mutex:
            watched = self._open.pop(session_id, None)
        if watched is not None:
            watched.close()

    def close(self) -> None:
        for session_id in list(self._open):
            self.forget(session_id)
