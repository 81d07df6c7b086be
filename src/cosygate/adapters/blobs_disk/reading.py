"""Reading recordings: a range of bytes over many parts, or the whole behind one descriptor."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator

from cosygate import errors
from cosygate.adapters.blobs_disk.disk import PIECE, Disk, Temporary
from cosygate.adapters.blobs_disk.place import part_name
from cosygate.adapters.blobs_disk.room import Room
from cosygate.model.upload import Listing

_COPY_AT_ONCE = 32 * PIECE  # bytes that one job copies before others of the pool get their turn
_NO_COPY_RANGE = {errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP}

Slice = tuple[str, int, int]  # path, offset, bytes


def slices(folder: str, listing: Listing, start: int, length: int) -> Iterator[Slice]:
    """What of which part makes up bytes [start, start+length), in order."""
    at, end = 0, start + length
    for seq in sorted(listing.parts):
        size = listing.parts[seq]
        first, last = max(start, at), min(end, at + size)
        if first < last:
            yield f"{folder}/{part_name(seq)}", first - at, last - first
        at += size
        if at >= end:
            return


def _batches(wanted: Iterator[Slice]) -> Iterator[list[Slice]]:
    """Groups of slices of at most PIECE bytes each: many small parts cost one hop, a large one several."""
    batch: list[Slice] = []
    room = PIECE
    for path, offset, size in wanted:
        while size:
            taken = min(size, room)
            batch.append((path, offset, taken))
            offset, size, room = offset + taken, size - taken, room - taken
            if not room:
                yield batch
                batch, room = [], PIECE
    if batch:
        yield batch


async def read_pieces(disk: Disk, folder: str, listing: Listing, start: int, length: int) -> AsyncIterator[bytes]:
    for batch in _batches(slices(folder, listing, start, length)):
        yield await disk.run(_read, batch)


def _read(batch: list[Slice]) -> bytes:
    return b"".join(_read_slice(*one) for one in batch)


def _read_slice(path: str, offset: int, size: int) -> bytes:
    fd = _open_part(path)
    try:
        data = os.pread(fd, size, offset)
    finally:
        os.close(fd)
    if len(data) != size:
        raise errors.AudioGone("a part is shorter than it was")
    return data


def _open_part(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise errors.AudioGone() from None


class DiskRecordings:
    """A RecordingFiles: one part is its own file, several are copied into one that has no name."""

    def __init__(self, disk: Disk, room: Room) -> None:
        self._disk = disk
        self._room = room

    async def open(self, upload_id: str, listing: Listing) -> int:
        folder = self._disk.upload_folder(upload_id)
        wanted = list(slices(folder, listing, 0, listing.total_bytes))
        if len(wanted) == 1:
            return await self._disk.run(_open_whole, wanted[0], dropped=os.close)
        await self._disk.run(self._room.check_free, listing.total_bytes)
        whole = await self._disk.run(self._disk.temporary, dropped=Temporary.close)
        try:
            for group in _groups(wanted):
                await self._disk.run(_append, whole, group)
            return await self._disk.run(_finished, whole, dropped=os.close)
        except BaseException:
            await self._disk.run(whole.close)
            raise


def _groups(wanted: list[Slice]) -> Iterator[list[Slice]]:
    """Whole parts, in groups that reach _COPY_AT_ONCE bytes."""
    group: list[Slice] = []
    size = 0
    for one in wanted:
        group.append(one)
        size += one[2]
        if size >= _COPY_AT_ONCE:
            yield group
            group, size = [], 0
    yield group


def _open_whole(part: Slice) -> int:
    path, _, size = part
    fd = _open_part(path)
    if os.fstat(fd).st_size != size:
        os.close(fd)
        raise errors.AudioGone("a part is shorter than it was")
    return fd


def _finished(whole: Temporary) -> int:
    fd = whole.read_only()
    whole.close()
    return fd


def _append(whole: Temporary, group: list[Slice]) -> None:
    for one in group:
        fd = _open_whole(one)
        try:
            copy(fd, whole.fd, one[2])
        finally:
            os.close(fd)


def copy(source: int, target: int, size: int) -> None:
    """Copies `size` bytes between the descriptors' offsets, inside the kernel where the file systems can."""
    left = size
    while left:
        try:
            moved = os.copy_file_range(source, target, left)
        except OSError as error:
            if error.errno not in _NO_COPY_RANGE:
                raise
            piece = os.read(source, min(left, PIECE))
            moved = os.write(target, piece)
            if moved < len(piece):
                os.lseek(source, moved - len(piece), os.SEEK_CUR)
        if not moved:
            raise errors.AudioGone("a part is shorter than it was")
        left -= moved
