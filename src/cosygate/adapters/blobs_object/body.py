"""A body on its way in: in memory while it is small, else in a local file without a name; and what it hashes to.

It is sent to the store only when it is whole and checked: a store must not see what may be refused.
"""

from __future__ import annotations

import hashlib
import mmap
import os

from cosygate import errors
from cosygate.adapters.blobs_object.bucket import Data
from cosygate.adapters.blobs_object.scratch import Scratch, append

HASH_HERE = 64 * 1024  # bytes that the event loop may hash by itself (some 50 µs)
_MERGE_AT = 1024  # pieces: a body of single bytes must not cost an object each


class Body:
    """A `Received`. Used by one task at a time."""

    def __init__(self, scratch: Scratch, limit: int, sha256: bytes | None = None, sha512: bytes | None = None) -> None:
        self._scratch = scratch
        self._limit = limit
        self._wanted = sha256, sha512
        self._sha256 = hashlib.sha256()  # always: a part's digest is stored with it
        self._sha512 = hashlib.sha512() if sha512 is not None else None
        self._fd = -1
        self._size = 0
        self._pieces: list[bytes] = []
        self._pending = 0
        self._open = True
        scratch.arriving += 1

    @property
    def size(self) -> int:
        return self._size

    @property
    def spilled(self) -> bool:
        """Whether it is too large for memory."""
        return self._fd >= 0

    @property
    def digest(self) -> str:
        """SHA-256 of a whole body, hexadecimal."""
        return self._sha256.hexdigest()

    async def gather(self, piece: bytes) -> None:
        """Takes the next piece. Raises ChunkTooLarge, StorageFull."""
        self._size += len(piece)
        if self._size > self._limit:
            raise errors.ChunkTooLarge(f"a chunk has at most {self._limit} bytes", limit=self._limit)
        self._pieces.append(piece)
        self._pending += len(piece)
        if self._pending > self._scratch.share():
            await self._scratch.run(self._spill)
        elif len(self._pieces) >= _MERGE_AT:
            self._pieces = [b"".join(self._pieces)]

    async def check(self) -> None:
        """Raises DigestMismatch. Called once, after the last piece."""
        if self._fd >= 0:
            await self._scratch.run(self._spill)
        elif self._pending <= HASH_HERE:
            self._hash()
        else:
            await self._scratch.run(self._hash)
        sha256, sha512 = self._wanted
        if sha256 is not None and self._sha256.digest() != sha256:
            raise errors.DigestMismatch()
        if self._sha512 is not None and self._sha512.digest() != sha512:
            raise errors.DigestMismatch()

    def _hash(self) -> None:
        for piece in self._pieces:
            self._sha256.update(piece)
            if self._sha512 is not None:
                self._sha512.update(piece)

    def _spill(self) -> None:
        self._hash()
        if self._fd < 0:
            self._fd = self._scratch.file(self._pending)
        append(self._fd, self._pieces)
        self._pieces, self._pending = [], 0

    def data(self) -> Data:
        """All of a checked body. A file is mapped: its pages are the page cache's, not this process's memory."""
        if self._fd >= 0:
            return mmap.mmap(self._fd, self._size, access=mmap.ACCESS_READ)
        if len(self._pieces) != 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._scratch.arriving -= 1
        self._pieces = []
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            await self._scratch.run(os.close, fd)
