"""Where bytes live: the parts of recordings, and the transcripts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from cosygate.model.upload import LastMark, Listing


class Received(Protocol):
    """A body that has arrived whole and is checked, but has no name yet. Closing an unstored one discards it."""

    @property
    def size(self) -> int:
        """Bytes."""

    async def close(self) -> None:
        """Discards what `put` did not take. Idempotent; always called."""


class PartStore(Protocol):
    """Parts of recordings, each written once.

    Durable means: survives kill -9, and with durability=disk also power loss, once `put` has returned. Seqs of one
    upload may be put concurrently, from several processes. A part never changes and never disappears but by `erase`.
    Raises StorageFull whenever there is no room; what is stored already stays readable.
    Everything here raises StorageUnavailable when the store does not answer in time: then a put may have happened or
    not, as when its process is killed, and repeating it is fine.
    """

    async def receive(
        self, body: AsyncIterator[bytes], *, limit: int, sha256: bytes | None = None, sha512: bytes | None = None
    ) -> Received:
        """Takes a body of at most `limit` bytes, in bounded memory. Raises ChunkTooLarge (without reading on),
        DigestMismatch, StorageFull; whatever `body` raises passes through, and nothing stays behind."""

    async def put(
        self,
        upload_id: str,
        seq: int,
        received: Received,
        mark: LastMark | None = None,
        *,
        max_bytes: int | None = None,
        create: bool = False,
    ) -> Listing:
        """Stores `received` as part `seq` durably, then `mark` if given, and returns the listing as of afterwards.

        The same bytes under the same seq are fine; other bytes raise PartConflict. A mark with another `last_seq`
        than the stored one (whose options stand), a mark below a stored seq, or a seq beyond the stored mark raise
        LastConflict. A part with which the recording would hold more than `max_bytes` raises RecordingTooLarge; parts
        that arrive at other processes at the same moment may pass that bound, the next one is refused. A refused part
        leaves nothing behind. Without `create`, an upload that has no place (never had
        a part, or is erased) raises UploadNotFound: so a late chunk cannot revive an erased upload."""

    async def list(self, upload_id: str) -> Listing:
        """What is stored; an upload without parts has an empty listing."""

    def read(self, upload_id: str, listing: Listing, start: int, length: int) -> AsyncIterator[bytes]:
        """Bytes [start, start+length) of the parts in order, in pieces of at most 1 MiB. Raises AudioGone when the
        parts are erased."""

    async def erase(self, upload_id: str) -> None:
        """Removes everything of an upload. Concurrent puts either end before it or raise UploadNotFound. Idempotent."""


class StoreSurvey(Protocol):
    """What housekeeping asks of the same store."""

    async def used_bytes(self) -> int:
        """Bytes that recordings and results take, at most a few seconds old, over all processes. An object store's is
        older where other processes stored or erased (docs/storage.md)."""

    async def free_bytes(self) -> int:
        """Bytes that can still be stored before StorageFull, whatever would be the reason of it; about as old."""

    async def check_room(self) -> None:
        """Raises StorageFull when a chunk could not be stored now."""

    async def uploads(self) -> dict[str, float]:
        """Every upload that has a place, or of which something is left → seconds since its last change, or, where a
        store cannot tell that cheaply, since it began."""

    async def sweep(self, older_than_s: float) -> int:
        """Removes temporary files that no process will finish, older than that; returns how many."""


class RecordingFiles(Protocol):
    async def open(self, upload_id: str, listing: Listing) -> int:
        """A read-only, seekable descriptor of the whole recording, without a name; the caller closes it. Raises
        AudioGone, StorageFull."""


class ResultStore(Protocol):
    """Transcripts, as opaque bytes, one per job and fence. Written whole or not at all; durable as PartStore is."""

    async def put(self, job_id: str, fence: int, data: bytes) -> None:
        """Raises StorageFull. Writing the same job and fence again replaces."""

    async def get(self, job_id: str, fence: int) -> bytes | None:
        """None when there is none."""

    async def erase(self, job_id: str, fence: int | None = None) -> None:
        """One fence's result, or all of a job's. Idempotent."""


class DirectAudio(Protocol):
    """What some stores can: a client fetches a recording from the store itself."""

    async def url(self, upload_id: str, listing: Listing) -> str | None:
        """An address that holds for some minutes and answers GET, with Range, with the whole recording; None when this
        recording has none. It is a secret. Raises StorageUnavailable."""
