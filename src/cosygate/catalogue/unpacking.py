"""Files out of an archive that nobody vouched for: only those that were asked for, under their plain names, and nothing
of an archive that looks as if it meant harm (paths that lead out, links that do, devices, bombs)."""

from __future__ import annotations

import bz2
import gzip
import os
import posixpath
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from cosygate.catalogue import Unfit

SUFFIXES = (".tar.bz2", ".tar.gz", ".zip")
MEMBERS = 10_000  # at most
# Weights hardly shrink, and lists of tokens shrink to a third: what grows more than this is a bomb.
GROWTH = 20  # times the archive's own size…
GROWTH_FREE = 64 * 1024**2  # …and these bytes
_PIECE = 1024**2  # bytes, the most that is read at once

_Member = tuple[str, Callable[[], IO[bytes]] | None]  # path, and how to open it; None: not a file


class Unsafe(Unfit):
    """The archive could harm whoever unpacks it."""


def is_archive(name: str) -> bool:
    return name.endswith(SUFFIXES)


def unpack(archive: Path, name: str, wanted: Collection[str], also: Collection[str], into: Path) -> None:
    """Writes the files of `archive` that are called as in `wanted` and lie at its top, or in the one folder there, into
    the folder `into`, synced; and those in `also`, but for what is there. `name` tells its kind. Everything in it is
    looked at. Raises Unsafe, Unfit for one that is damaged, OSError of the disk; what was written until then stays."""
    most = GROWTH_FREE + GROWTH * archive.stat().st_size
    try:
        members = _zipped(archive, name, most) if name.endswith(".zip") else _tarred(archive, name, most)
        for number, (path, opened) in enumerate(members):
            if number >= MEMBERS:
                raise Unsafe(f"{name} has more than {MEMBERS:,} files")
            parts = [part for part in path.split("/") if part not in ("", ".")]
            if opened is None or not 0 < len(parts) <= 2:
                continue
            out = into / parts[-1]
            if out.name in wanted or (out.name in also and not out.exists()):
                with opened() as content:
                    keep(content, out)
    except FileExistsError as error:
        raise Unsafe(f"{name} has {Path(error.filename).name} twice") from None
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise Unfit(f"{name} is damaged: {error}") from None  # RuntimeError: encrypted, or headers without end
    except OSError as error:
        if error.errno is not None:
            raise
        raise Unfit(f"{name} is damaged: {error}") from None  # a decompressor's


def keep(content: IO[bytes], path: Path) -> None:
    """Writes a new file, down to the disk. Raises FileExistsError; OSError."""
    with path.open("xb") as out:
        shutil.copyfileobj(content, out, _PIECE)
        out.flush()
        os.fsync(out.fileno())


def _tarred(archive: Path, name: str, most: int) -> Iterator[_Member]:
    opener = bz2.open if name.endswith(".bz2") else gzip.open
    with opener(archive, "rb") as plain:
        guarded: Any = _Guarded(plain, name, most)  # it has what tarfile uses
        with tarfile.open(fileobj=guarded, mode="r:") as tar:
            yield from _members(tar, name)
        while guarded.read(_PIECE):  # to the end: there is the checksum
            pass


def _members(tar: tarfile.TarFile, name: str) -> Iterator[_Member]:
    for member in tar:
        path = _harmless(member.name, name)
        if member.issym() or member.islnk():
            # A hard link names its target from the archive's top, a symbolic one from where it lies. None is made.
            origin = posixpath.dirname(path) if member.issym() else ""
            _harmless(posixpath.normpath(posixpath.join(origin, member.linkname)), name)
        elif not (member.isreg() or member.isdir()) or member.issparse():
            raise Unsafe(f"{name} has {path[:100]!r}, which is neither a file nor a folder")
        yield path, partial(tar.extractfile, member) if member.isreg() else None  # type: ignore[misc]  # not None


def _zipped(archive: Path, name: str, most: int) -> Iterator[_Member]:
    with archive.open("rb") as raw, zipfile.ZipFile(_Guarded(raw, name, most)) as bundle:
        infos = bundle.infolist()
        if sum(info.file_size for info in infos) > most:
            raise Unsafe(f"{name} unpacks to more than {most:,} bytes")
        for info in infos:
            path = _harmless(info.filename, name)
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise Unsafe(f"{name} has {path[:100]!r}, which is neither a file nor a folder")
            yield path, None if info.is_dir() else partial(bundle.open, info)


def _harmless(path: str, name: str) -> str:
    """The path. Raises Unsafe for one that leads out of the folder in which it would be unpacked."""
    if path.startswith("/") or "\\" in path or "\0" in path or ".." in path.split("/") or path[1:2] == ":":
        raise Unsafe(f"{name} has a path that leads out of it: {path[:100]!r}")
    return path


class _Guarded:
    """A file of which no more is read than `most` bytes, and never much at once: headers that claim gigabytes would
    otherwise be read into memory whole."""

    def __init__(self, file: IO[bytes] | bz2.BZ2File | gzip.GzipFile, name: str, most: int) -> None:
        self._file, self._name, self._most = file, name, most
        self.tell, self.seekable, self.close = file.tell, file.seekable, file.close

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(_PIECE + 1 if size < 0 else min(size, _PIECE + 1))
        if len(data) > _PIECE:
            raise Unsafe(f"{self._name} has a header of more than {_PIECE:,} bytes")
        self._check(self._file.tell())
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        # Before moving: in a compressed file that means unpacking all that lies between.
        self._check(offset if whence == 0 else 0)
        return self._file.seek(offset, whence)

    def _check(self, position: int) -> None:
        if position > self._most:
            raise Unsafe(f"{self._name} unpacks to more than {self._most:,} bytes")
