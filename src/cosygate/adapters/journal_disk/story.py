"""Which files hold a session's story, in which order, and how far each of them counts.

A log begins with a HEAD: the log before it, and how many bytes of that one count (what a former holder wrote later is
nobody's). A base, named after a log, stands for everything before that log. So one walks from the newest log backwards
to a base or to the first log.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from cosygate import errors
from cosygate.adapters.journal_disk import frames, places

_INDEX_EVERY = 64 * 1024  # bytes of file between two entries
_TURNS = 8  # walks, each disturbed by a compaction, before the rest is taken for lost
_GROWS = 2**62


class Vanished(Exception):
    """A compaction removed a file that was being walked to."""


@dataclass(frozen=True, slots=True)
class Link:
    name: str
    start: int  # behind its HEAD
    bound: int  # bytes that count; _GROWS for the newest
    head: dict[str, Any]


@dataclass(slots=True, eq=False)
class Source:
    """A file of audio among others, and where in it one finds which."""

    name: str
    bound: int
    end: int = 0  # of its audio in the stream; 0 when it has none
    starts: array[int] = field(default_factory=lambda: array("Q"))
    places: array[int] = field(default_factory=lambda: array("Q"))

    def note(self, at: int, length: int, place: int) -> None:
        if not self.places or place - self.places[-1] >= _INDEX_EVERY:
            self.places.append(place)  # first: a reader in another thread bisects the starts
            self.starts.append(at)
        self.end = at + length

    def place_of(self, at: int) -> int:
        """Where to begin to read for byte `at`."""
        return self.places[max(0, bisect_right(self.starts, at) - 1)]


def walk(folder: str) -> list[Link]:
    """The files, oldest first; none for a session without any. Raises FileNotFoundError when the folder is gone."""
    for _ in range(_TURNS):
        try:
            return _walk(folder, patient=True)
        except Vanished:
            continue
    return _walk(folder, patient=False)


def _walk(folder: str, *, patient: bool) -> list[Link]:
    names = frozenset(os.listdir(folder))
    for newest in sorted((name for name in names if places.parts(name)), reverse=True):
        links: list[Link] = []
        name, bound = newest, _GROWS
        while True:
            log = link(folder, name, bound)
            if log is not None:
                links.append(log)
            base = link(folder, places.base_name(name), _GROWS) if places.base_name(name) in names else None
            if base is not None:
                return [base, *links[::-1]]
            if log is None and links and patient:
                raise Vanished
            if log is None or log.head["prev"] is None:
                break
            name, bound = log.head["prev"]
        if links:
            return links[::-1]
        # The maker of this log died over it: it is as if it were not there.
    return []


def link(folder: str, name: str, bound: int) -> Link | None:
    """None when the file is not there, or has no HEAD."""
    try:
        fd = os.open(f"{folder}/{name}", os.O_RDONLY)
    except FileNotFoundError:
        os.stat(folder)  # raises when it is the folder that is gone
        return None
    try:
        head = next(frames.scan(fd, 0, os.fstat(fd).st_size), None)
    finally:
        os.close(fd)
    if head is None or head.kind != frames.HEAD:
        return None
    return Link(name, head.end, bound, orjson.loads(head.payload))


def sounds(folder: str, sources: Sequence[Source], start: int) -> Iterator[tuple[int, bytes]]:
    """Stored audio from byte `start` on, as (first byte, data). Raises FileNotFoundError when a file was removed."""
    for source in sources:
        bound = source.bound
        if source.end <= start or not source.starts:
            continue
        fd = os.open(f"{folder}/{source.name}", os.O_RDONLY)
        try:
            for frame in frames.scan(fd, source.place_of(start), bound):
                if frame.kind == frames.SOUND and frame.at + len(frame.payload) > start:
                    before = max(0, start - frame.at)
                    yield frame.at + before, frame.payload[before:] if before else frame.payload
        finally:
            os.close(fd)


def read(folder: str, sources: Sequence[Source], start: int, stop: int) -> bytes:
    """Stored audio, zeros where there is none. `stop` is at most the end of the audio."""
    pieces: list[bytes] = []
    at = start
    if start < stop:
        for number, data in sounds(folder, sources, start):
            if number > at:
                pieces.append(bytes(min(number, stop) - at))
            if number >= stop:
                at = stop
                break
            pieces.append(data[: stop - number] if number + len(data) > stop else data)
            at = number + len(pieces[-1])
            if at >= stop:
                break
    if at < stop:
        raise errors.Unavailable("the journal is damaged")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
