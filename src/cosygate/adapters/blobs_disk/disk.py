"""What every file of this adapter shares: the folders, the threads, files without a name yet, foreign errors."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from cosygate import errors
from cosygate.kit.threads import finished

PIECE = 1024 * 1024  # bytes: what one read or write moves at most
SHARDS = 256
_HELD = 64 * PIECE  # bytes of bodies that may wait in memory for what they lack, roughly
_HELD_LEAST = 64 * 1024  # bytes that each may hold, however many there are
_IOV = 512  # buffers per writev, below IOV_MAX (1024 on Linux)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

T = TypeVar("T")

# The one table of foreign errors. What is not in it means that the storage cannot be used now.
ERRORS: dict[int, type[errors.CosyGateError]] = {
    errno.ENOSPC: errors.StorageFull,
    errno.EDQUOT: errors.StorageFull,
    errno.EFBIG: errors.StorageFull,
    errno.EIO: errors.Unavailable,
    errno.EROFS: errors.Unavailable,
    errno.EACCES: errors.Unavailable,
    errno.EPERM: errors.Unavailable,
    errno.EMFILE: errors.Unavailable,
    errno.ENFILE: errors.Unavailable,
    errno.ENOMEM: errors.Unavailable,
}


def translated(error: OSError) -> errors.CosyGateError:
    """Ours for a foreign error; the detail tells no path."""
    kind = ERRORS.get(error.errno or 0, errors.Unavailable)
    if kind is errors.StorageFull:
        return errors.StorageFull()
    return kind(f"the storage failed ({errno.errorcode.get(error.errno or 0, 'unknown')})")


class Disk:
    """The root folder and the threads that touch it. All methods but `run` and `close` block.

    root/uploads/<shard>/<upload id>/<seq>, with the mark as `last`; root/results/<shard>/<job id>/<fence>.json;
    root/tmp and root/trash, in which nothing is acknowledged; and what room.py keeps. The shard is a checksum of the
    id, so that no folder grows without bound.
    """

    def __init__(
        self, root: Path, *, durable: bool, threads: int, nameless: bool, fsync: Callable[[int], None]
    ) -> None:
        self.root = str(root)
        self.tmp = os.path.join(self.root, "tmp")
        self.sync: Callable[[int], None] = fsync if durable else _no_sync
        # The pool's own queue holds at most one job for each call in flight: what bounds requests bounds it.
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="blobs")
        # Without fsyncs a put hardly waits for anything but the interpreter's lock: one thread contends for it less
        # than several (measured: a tenth of a chunk's CPU), and is fast enough for all.
        self._putters = self._pool if durable else ThreadPoolExecutor(1, thread_name_prefix="put")
        self._nameless = nameless
        self._rooted: set[str] = set()  # shards, at most SHARDS of each kind
        self.arriving = 0  # bodies that are not closed; for the event loop

    def share(self) -> int:
        """Bytes that one body may hold in memory: a thousand slow ones must not hold a thousand times what one may."""
        return max(_HELD_LEAST, min(PIECE, _HELD // max(1, self.arriving)))

    def prepare(self) -> None:
        """Makes the folders, durably, and finds out whether files without a name can be linked here (O_TMPFILE)."""
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        for kind in ("uploads", "results", "tmp", "trash", "tallies"):
            with suppress(FileExistsError):
                os.mkdir(f"{self.root}/{kind}", 0o700)
        self.sync_folder(self.root)
        self.sync_folder(os.path.dirname(os.path.abspath(self.root)))
        self._nameless = self._nameless and self._can_link_nameless()

    def _can_link_nameless(self) -> bool:
        probe = f"{self.tmp}/probe-{secrets.token_hex(8)}"
        try:
            fd = os.open(self.tmp, os.O_TMPFILE | os.O_WRONLY, 0o600)
        except OSError:
            return False
        try:
            _link_nameless(fd, probe)
            os.unlink(probe)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def upload_folder(self, upload_id: str) -> str:
        return self._folder("uploads", upload_id)

    def result_folder(self, job_id: str) -> str:
        return self._folder("results", job_id)

    def _folder(self, kind: str, name: str) -> str:
        if not _ID.fullmatch(name):  # ids are ours, never the client's: a wrong one is a bug, not an answer
            raise ValueError("not an id")
        return f"{self.root}/{kind}/{zlib.crc32(name.encode()) % SHARDS:02x}/{name}"

    def make_folder(self, path: str) -> None:
        """An upload's or a job's, with its shard. Raises FileNotFoundError only when the root is gone."""
        with suppress(FileExistsError):
            os.mkdir(os.path.dirname(path), 0o700)
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)

    def sync_parents(self, path: str) -> None:
        """Makes the folder's own name survive power loss, and its shard's, whoever made them."""
        shard = os.path.dirname(path)
        self.sync_folder(shard)
        if shard not in self._rooted:
            self.sync_folder(os.path.dirname(shard))
            self._rooted.add(shard)

    def temporary(self, *, named: bool = False, near: str | None = None) -> Temporary:
        """An empty file, open for reading and writing: in the folder `near` when it needs no name meanwhile (ext4 looks
        for a free inode where the folder is; one folder for all would be searched ever longer), else under root/tmp.
        Raises FileNotFoundError when `near` is gone."""
        if self._nameless and not named:
            return Temporary(os.open(near or self.tmp, os.O_TMPFILE | os.O_RDWR, 0o600), None)
        path = f"{self.tmp}/{secrets.token_hex(16)}"
        return Temporary(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600), path)

    def sync_folder(self, path: str) -> None:
        """Makes the names in a folder survive power loss."""
        if self.sync is _no_sync:
            return
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sync(fd)
        finally:
            os.close(fd)

    async def put(self, job: Callable[..., T], *args: object) -> T:
        """`run`, in the line of those who only write a chunk."""
        return await self._await(self._putters.submit(job, *args), None)

    async def run(self, job: Callable[..., T], *args: object, dropped: Callable[[T], None] | None = None) -> T:
        """Runs a blocking job in a thread of ours. It always runs, and to its end before a cancelled caller goes on: so
        no clean-up is left out, and no descriptor closed under a job that uses it. Jobs move at most a few tens of MiB.
        `dropped` gets the result that a cancelled caller will not take."""
        return await self._await(self._pool.submit(job, *args), dropped)

    async def _await(self, job: Future[T], dropped: Callable[[T], None] | None) -> T:
        try:
            return await finished(job, dropped)
        except OSError as error:
            raise translated(error) from error

    async def close(self) -> None:
        await asyncio.to_thread(self._putters.shutdown)
        await asyncio.to_thread(self._pool.shutdown)


class Temporary:
    """A file that is being written and that no reader can see. Used by one thread at a time."""

    def __init__(self, fd: int, path: str | None) -> None:
        self.fd = fd
        self._path = path

    def write(self, pieces: Sequence[bytes]) -> None:
        """Appends all of the pieces; a disk that fills up half-way raises OSError (ENOSPC)."""
        for at in range(0, len(pieces), _IOV):
            group: Sequence[bytes | memoryview] = pieces[at : at + _IOV]
            while group:
                group = _after(group, os.writev(self.fd, group))

    def link(self, name: str) -> None:
        """Gives the file its name, exclusively: FileExistsError when it is taken."""
        if self._path is None:
            _link_nameless(self.fd, name)
        else:
            os.link(self._path, name)

    def rename(self, name: str) -> None:
        """Gives a *named* temporary file another name, replacing what has it."""
        if self._path is None:
            raise ValueError("only a named file can be renamed")
        os.replace(self._path, name)
        self._path = None

    def read_only(self) -> int:
        """A second descriptor, which can only read."""
        return os.open(self._path or f"/proc/self/fd/{self.fd}", os.O_RDONLY)

    def close(self) -> None:
        """Idempotent. Without a link the bytes are gone."""
        if self._path is not None:
            os.unlink(self._path)
            self._path = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _after(group: Sequence[bytes | memoryview], written: int) -> Sequence[bytes | memoryview]:
    """What of `group` is not written yet."""
    for index, piece in enumerate(group):
        if written < len(piece):
            return [memoryview(piece)[written:], *group[index + 1 :]]
        written -= len(piece)
    return ()


def _link_nameless(fd: int, name: str) -> None:
    # open(2), O_TMPFILE: the way without CAP_DAC_READ_SEARCH. `src_dir_fd` (ignored for an absolute path) is what makes
    # Python call linkat() with AT_SYMLINK_FOLLOW instead of link().
    os.link(f"/proc/self/fd/{fd}", name, src_dir_fd=fd, follow_symlinks=True)


def _no_sync(fd: int) -> None:
    """durability=process: the page cache survives kill -9."""
