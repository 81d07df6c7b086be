"""A recording to send: a file on disk or an open binary file, read part by part and never held in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cosygate.client.errors import SourceChanged


class Source:
    """`size` bytes that can be read at any offset, from any thread."""

    def __init__(self, file: BinaryIO, name: str | None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self.name = name
        self.size = file.seek(0, os.SEEK_END)

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes. Raises SourceChanged when the file ends before."""
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(length)
        if len(data) != length:
            raise SourceChanged("the file became shorter while it was being sent")
        return data


@contextmanager
def opened(source: str | os.PathLike[str] | BinaryIO) -> Iterator[Source]:
    """A path is opened and closed; an open file must be seekable and stays the caller's, wherever its position."""
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            yield Source(file, Path(source).name)
    else:
        name = getattr(source, "name", None)
        yield Source(source, Path(name).name if isinstance(name, str) else None)


@dataclass(frozen=True, slots=True)
class Parts:
    """How a recording is cut: parts 0 to `count` - 1, all of `chunk_bytes` but the last, each with its SHA-256."""

    size: int
    chunk_bytes: int
    digests: tuple[bytes, ...]

    @classmethod
    def of(cls, source: Source, chunk_bytes: int) -> Parts:
        """Reads the source once, a part at a time (about a second per GiB). An empty one is one empty part."""
        offsets = range(0, max(1, source.size), chunk_bytes)
        pieces = (source.read_at(offset, min(chunk_bytes, source.size - offset)) for offset in offsets)
        return cls(source.size, chunk_bytes, tuple(hashlib.sha256(piece).digest() for piece in pieces))

    @property
    def count(self) -> int:
        return len(self.digests)

    def length(self, seq: int) -> int:
        return min(self.chunk_bytes, self.size - seq * self.chunk_bytes)

    def read(self, source: Source, seq: int) -> bytes:
        """Raises SourceChanged when these are not the bytes that were there before."""
        data = source.read_at(seq * self.chunk_bytes, self.length(seq))
        if hashlib.sha256(data).digest() != self.digests[seq]:
            raise SourceChanged("the file changed while it was being sent")
        return data

    def content_digest(self, seq: int) -> str:
        """The value of a Content-Digest header (RFC 9530 §2)."""
        return f"sha-256=:{base64.b64encode(self.digests[seq]).decode()}:"

    def identity(self, options: Mapping[str, str]) -> str:
        """A session_id that only the same bytes, cut the same way and asked for with the same options share, whatever
        the file is called and wherever it lies: so who repeats an interrupted upload finds it again."""
        asked = json.dumps(sorted(options.items())).encode()
        return "sha256-" + hashlib.sha256(b"".join(self.digests) + asked).hexdigest()[:48]
