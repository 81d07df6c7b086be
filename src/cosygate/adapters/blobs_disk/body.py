"""A body on its way in: in memory while it is small, else in a file without a name; and what it must hash to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Protocol

from cosygate import errors
from cosygate.adapters.blobs_disk.disk import PIECE, Disk, Temporary
from cosygate.adapters.blobs_disk.room import Room, blocks

HASH_HERE = 64 * 1024  # bytes that the event loop may hash by itself (some 50 µs)
_MERGE_AT = 1024  # pieces: a body of single bytes must not cost an object each


class Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class Body:
    """A `Received`. `gather` and `close` are for the event loop, the rest blocks; never two at a time."""

    def __init__(self, disk: Disk, room: Room, limit: int, sha256: bytes | None, sha512: bytes | None) -> None:
        self._disk = disk
        self._room = room
        self._limit = limit
        self._temporary: Temporary | None = None
        self._size = 0
        self._pieces: list[bytes] = []
        self._pending = 0
        self._arriving = False
        self._taken = 0
        self._hashes: list[tuple[Hash, bytes]] = []
        if sha256 is not None:
            self._hashes.append((hashlib.sha256(), sha256))
        if sha512 is not None:
            self._hashes.append((hashlib.sha512(), sha512))

    @property
    def size(self) -> int:
        return self._size

    def begin(self) -> None:
        """It comes from outside, piece by piece; `close` must follow."""
        self._arriving = True
        self._disk.arriving += 1

    async def gather(self, piece: bytes) -> None:
        """Takes the next piece. Raises ChunkTooLarge, StorageFull."""
        self._size += len(piece)
        if self._size > self._limit:
            raise errors.ChunkTooLarge(f"a chunk has at most {self._limit} bytes", limit=self._limit)
        self._pieces.append(piece)
        self._pending += len(piece)
        if self._pending > self._disk.share():
            await self._disk.run(self._spill)
        elif len(self._pieces) >= _MERGE_AT:
            self._pieces = [b"".join(self._pieces)]

    async def check(self) -> None:
        """Raises DigestMismatch. Called once, after the last piece."""
        if not self._hashes:
            return
        if self._pending <= HASH_HERE:
            self._hash()
        else:
            await self._disk.run(self._hash)
        if any(hashed.digest() != wanted for hashed, wanted in self._hashes):
            raise errors.DigestMismatch()

    def _hash(self) -> None:
        for hashed, _ in self._hashes:
            for piece in self._pieces:
                hashed.update(piece)

    def _spill(self) -> None:
        self._hash()
        self._to_disk()

    def _to_disk(self, near: str | None = None) -> Temporary:
        if (more := blocks(self._size) - self._taken) > 0:
            self._room.take(more)
            self._taken += more
        if self._temporary is None:
            self._temporary = self._disk.temporary(near=near)
        self._temporary.write(self._pieces)
        self._pieces, self._pending = [], 0
        return self._temporary

    def settle(self, near: str | None = None) -> None:
        """Puts the whole body into a file, durable but for its name; `near` the folder it is meant for. Idempotent."""
        self._disk.sync(self._to_disk(near).fd)

    def equals(self, path: str) -> bool:
        """Whether the file at `path` holds these bytes. Raises FileNotFoundError."""
        fd = os.open(path, os.O_RDONLY)
        try:
            if os.fstat(fd).st_size != self._size:
                return False
            at = 0
            for piece in self._read():
                if os.pread(fd, len(piece), at) != piece:
                    return False
                at += len(piece)
            return True
        finally:
            os.close(fd)

    def _read(self) -> Iterator[bytes]:
        at = 0
        while self._temporary is not None and (piece := os.pread(self._temporary.fd, PIECE, at)):
            yield piece
            at += len(piece)
        yield from self._pieces

    def link(self, path: str) -> bool:
        """Gives a settled body its name; what it takes is the store's from then on. False when the name is taken."""
        if self._temporary is None:
            return False
        try:
            self._temporary.link(path)
        except FileExistsError:
            return False
        self._taken = 0
        return True

    def discard(self) -> None:
        """Idempotent."""
        self._pieces, self._pending = [], 0
        if self._temporary is not None:
            self._temporary.close()
            self._temporary = None
        if self._taken:
            self._room.give_back(self._taken)
            self._taken = 0

    async def close(self) -> None:
        if self._arriving:
            self._arriving = False
            self._disk.arriving -= 1
        if self._temporary is None and not self._taken:
            self._pieces = []  # nothing on disk: spare the hop
        else:
            await self._disk.run(self.discard)

    @classmethod
    def of(cls, data: bytes, disk: Disk, room: Room) -> Body:
        """A body that is here already."""
        body = cls(disk, room, len(data), None, None)
        body._size = body._pending = len(data)
        body._pieces = [data]
        return body
