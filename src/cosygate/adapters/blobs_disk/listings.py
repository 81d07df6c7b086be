"""What is stored of each upload, read from its folder. Parts never change, so a size is asked of the disk once."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import suppress

from cosygate.adapters.blobs_disk.names import names as names_in
from cosygate.adapters.blobs_disk.place import MARK, part_name, read_mark
from cosygate.model.upload import LastMark, Listing

REMEMBERED = 100_000  # parts (an upload counts as one more), some 15 MB


class Known:
    """What this process has seen of one upload. Its parts stay true until the upload is erased."""

    __slots__ = ("mark", "names", "parts", "rooted")

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.parts: dict[int, int] = {}
        self.mark: LastMark | None = None
        self.rooted = False  # the folder's own name is durable


class Listings:
    """A bounded memory of uploads, least recently used forgotten first. Used from threads."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._bound = remembered
        self.held = 0
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Known] = OrderedDict()

    def known(self, upload_id: str) -> Known:
        with self._lock:
            if (known := self._known.get(upload_id)) is None:
                known = self._known[upload_id] = Known()
                self.held += 1
                self._forget_oldest()
            self._known.move_to_end(upload_id)
            return known

    def forget(self, upload_id: str) -> None:
        with self._lock:
            if known := self._known.pop(upload_id, None):
                self.held -= 1 + len(known.parts)

    def read(self, upload_id: str, place: int) -> Listing:
        """The listing of the folder that the descriptor `place` stands for."""
        known = self.known(upload_id)
        before = len(known.names)
        names = names_in(place)
        fresh = [name for name in names if name not in known.names]
        if len(names) - len(fresh) < before:  # something vanished: somebody else's erase; believe the disk alone
            self.forget(upload_id)
            known, fresh = self.known(upload_id), names
        sizes = {}
        for name in fresh:
            if name == MARK:
                known.mark = known.mark or read_mark(place)
            else:
                with suppress(FileNotFoundError):  # erased meanwhile
                    sizes[name] = os.stat(name, dir_fd=place).st_size
        with self._lock:
            self._merge(upload_id, known, sizes)
            return Listing(dict(known.parts), known.mark)

    def add(self, upload_id: str, seq: int, size: int) -> None:
        """A part that this process has just linked: spares the look at its size."""
        known = self.known(upload_id)
        with self._lock:
            self._merge(upload_id, known, {part_name(seq): size})

    def _merge(self, upload_id: str, known: Known, sizes: dict[str, int]) -> None:
        before = len(known.parts)
        known.names.update(sizes)
        known.parts.update((int(name), size) for name, size in sizes.items())
        if self._known.get(upload_id) is known:
            self.held += len(known.parts) - before
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        while self.held > self._bound and len(self._known) > 1:
            _, oldest = self._known.popitem(last=False)
            self.held -= 1 + len(oldest.parts)
