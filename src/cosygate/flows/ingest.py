"""Chapter one: parts arrive, in any order and in parallel, and the chunk that completes them makes the job.

The listing of stored parts is the truth. A chunk that is neither the first nor the completing one writes no row: which
upload a session_id means is remembered, and looked at every few seconds, or at once when its place is gone (aborted,
expired, deleted).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cosygate import errors
from cosygate.flows.holds import Line
from cosygate.flows.honouring import check_honoured
from cosygate.flows.open_uploads import OpenUploads, end_upload
from cosygate.flows.webhooks import Callbacks
from cosygate.kit import metrics, tracing
from cosygate.kit.clock import Clock, Randomness, time_ordered_id
from cosygate.model.audio import SNIFF_BYTES, Container, sniff
from cosygate.model.cost import cost_s
from cosygate.model.job import NewJob
from cosygate.model.options import Priority, TranscribeOptions
from cosygate.model.principal import Principal, tenant_of
from cosygate.model.upload import LastMark, Listing, Upload, UploadLimits, UploadState
from cosygate.ports.blobs import PartStore, Received
from cosygate.ports.engine import ModelInfo
from cosygate.ports.queue import Queue
from cosygate.ports.records import UploadRecords

_PRIORITY = {Priority.NORMAL: 0, Priority.LOW: 10}
_UNCOUNTED = Line()
_BEGIN_TRIES = 3  # while what the session_id meant is given up


@dataclass(frozen=True, slots=True)
class Digests:
    """What Content-Digest named (RFC 9530), raw bytes; None when it did not."""

    sha256: bytes | None = None
    sha512: bytes | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer to a chunk: with `job_id` the recording is complete and its job durable."""

    job_id: str | None
    missing: list[int]
    missing_count: int


@dataclass(frozen=True, slots=True)
class UploadStatus:
    upload: Upload
    listing: Listing


class Beginning(Protocol):
    """Whoever has a say in what begins."""

    async def begun(self) -> None:
        """A recording is about to begin. What this raises refuses it."""

    async def undone(self) -> None:
        """It did not: somebody else had begun it, or it could not be written."""


class Ingest:
    def __init__(
        self,
        *,
        uploads: UploadRecords,
        parts: PartStore,
        queue: Queue,
        clock: Clock,
        randomness: Randomness,
        limits: UploadLimits,
        models: Callable[[], Sequence[ModelInfo]],
        compressed_media: bool,
        callbacks: Callbacks,
        line: Line = _UNCOUNTED,
    ) -> None:
        """`models`: what the engines can, as last heard (empty when none was heard yet). `compressed_media`: False
        where no sandbox can hold the decoder. `line` hears of what comes and of each new job."""
        self._uploads = uploads
        self._parts = parts
        self._queue = queue
        self._clock = clock
        self._randomness = randomness
        self.limits = limits
        self._models = models
        self._compressed_media = compressed_media
        self._callbacks = callbacks
        self._line = line
        self._open = OpenUploads(uploads, clock)
        self._binding: dict[tuple[str, str], asyncio.Task[Upload]] = {}

    async def receive(self, body: AsyncIterator[bytes], digests: Digests) -> Received:
        """The body of one chunk, checked but not named. The caller closes it."""
        limit = self.limits.chunk_bytes
        return await self._parts.receive(body, limit=limit, sha256=digests.sha256, sha512=digests.sha512)

    async def put(self, caller: Principal, session_id: str, seq: int, received: Received, trace_id: str,
                  last: TranscribeOptions | None = None, beginning: Beginning | None = None) -> Stored:  # fmt: skip
        """Stores a chunk durably; `last` are the options of the chunk that ends the recording. `beginning` is asked
        when the chunk begins one, and may refuse it: then nothing is left of it."""
        if last is not None:
            check_honoured(self._models(), last)
            await self._callbacks.check(caller.tenant, last.callback_url)
        mark = LastMark(seq, last.to_json()) if last is not None else None
        upload, listing = await self._store(caller, session_id, seq, received, mark, beginning)
        metrics.upload_bytes.inc(received.size)
        if listing.total_bytes > self.limits.recording_bytes:
            # Parts that came at the same moment have passed the bound together: it can never complete.
            raise errors.RecordingTooLarge(limit=self.limits.recording_bytes)
        if not listing.complete:
            self._line.arrived(upload.id, caller.tenant, listing.total_bytes)
            return Stored(None, *listing.missing())
        try:
            return Stored(await self.complete(upload, listing, trace_id), [], 0)
        except (errors.UploadClosed, errors.UploadNotFound):
            await self._give_up(upload)
            raise

    async def _store(self, caller: Principal, session_id: str, seq: int, received: Received,
                     mark: LastMark | None, beginning: Beginning | None) -> tuple[Upload, Listing]:  # fmt: skip
        key, most = (caller.owner, session_id), self.limits.recording_bytes
        upload = await self._open.recall(*key)
        if upload is not None:
            try:
                return upload, await self._parts.put(upload.id, seq, received, mark, max_bytes=most)
            except errors.UploadNotFound:
                self._open.forget(upload)  # aborted, expired or deleted since; perhaps begun anew
        upload = await self._bind(caller.owner, session_id, beginning)
        if upload.state is UploadState.COMPLETE:
            # Never revives a place that deletion is just removing: a repeat of a stored chunk finds it.
            return upload, await self._parts.put(upload.id, seq, received, mark, max_bytes=most)
        listing = await self._parts.put(upload.id, seq, received, mark, max_bytes=most, create=True)
        asked = self._clock.monotonic()
        if not listing.complete:  # else completing it looks at the row
            bound = await self._open.find(*key)
            if bound is None or bound.id != upload.id:
                await self._give_up(upload)
                raise errors.UploadClosed("the upload was given up meanwhile")
        self._open.remember(upload, asked)
        return upload, listing

    async def _give_up(self, upload: Upload) -> None:
        """Forgets an upload that was aborted, expired or deleted while a chunk of it was on its way. The chunk may have
        revived its place after that was erased; nothing may be acknowledged in there."""
        self._open.forget(upload)
        self._line.gone(upload.id)
        await self._parts.erase(upload.id)

    async def _bind(self, owner: str, session_id: str, beginning: Beginning | None) -> Upload:
        """The upload that the session_id means, begun if there is none. Chunks that come at the same moment begin it
        together: it is counted once, and refused to all of them or to none."""
        key = (owner, session_id)
        binding = self._binding.get(key)
        if binding is None:
            binding = self._binding[key] = asyncio.create_task(self._begin(owner, session_id, beginning))
            binding.add_done_callback(lambda done: self._bound(key, done))
        return await asyncio.shield(binding)  # whoever began it may leave: it is counted and written, or neither

    def _bound(self, key: tuple[str, str], binding: asyncio.Task[Upload]) -> None:
        del self._binding[key]
        if not binding.cancelled():
            binding.exception()  # looked at, even when everybody has left

    async def _begin(self, owner: str, session_id: str, beginning: Beginning | None) -> Upload:
        """Counted first: once the row is there, other gateways acknowledge chunks of it, and it cannot be refused. Only
        when no row is there: what another gateway began takes no place in the count, not even for a moment."""
        if beginning is not None:
            if (there := await self._open.find(owner, session_id)) is not None:
                return there
            try:
                await beginning.begun()
            except errors.CosyGateError:
                if (there := await self._open.find(owner, session_id)) is not None:
                    return there
                raise
        now = self._clock.now()
        fresh = Upload(
            id=time_ordered_id(self._clock, self._randomness),
            owner=owner,
            session_id=session_id,
            state=UploadState.OPEN,
            created_at=now,
            expires_at=now + self.limits.expires_s,
        )
        began = False
        try:
            for _ in range(_BEGIN_TRIES):
                upload = await self._uploads.open(fresh, max_open=self.limits.open_per_owner)
                if not upload.given_up:
                    began = upload.id == fresh.id
                    return upload
                await end_upload(self._uploads, self._parts, upload.id, UploadState.ABORTED)
            raise errors.Unavailable("the upload is being given up")
        finally:
            if beginning is not None and not began:
                await beginning.undone()

    def remembers(self, caller: Principal, session_id: str) -> bool:
        """Whether this process has stored a chunk of this upload, and not seen its end."""
        return (caller.owner, session_id) in self._open

    async def knows(self, caller: Principal, session_id: str | None) -> bool:
        """Whether the upload is open or complete; None: whether the caller has any open one."""
        if session_id is None:
            return await self._uploads.any_open(caller.owner)
        return await self._open.find(caller.owner, session_id) is not None

    async def complete(self, upload: Upload, listing: Listing, trace_id: str) -> str:
        """The job of a complete upload: made now, or the one that exists. O(parts); merges nothing."""
        if upload.job_id is not None:
            return upload.job_id
        if listing.mark is None:
            raise errors.UploadClosed()
        options = TranscribeOptions.from_json(listing.mark.options)
        container, head = await self._sniff(upload, listing, options)
        now = self._clock.now()
        new = NewJob(
            id=time_ordered_id(self._clock, self._randomness),
            upload_id=upload.id,
            owner=upload.owner,
            session_id=upload.session_id,
            options=listing.mark.options,
            container=container,
            size=listing.total_bytes,
            created_at=now,
            trace_id=trace_id,
            span_id=tracing.current().span_id,
            priority=_PRIORITY[options.priority],
            cost_s=cost_s(container, listing.total_bytes, head=head, raw=options.audio_format),
            callback_url=options.callback_url,
        )
        job = await self._uploads.complete(new)
        if job.id == new.id:
            self._line.queued(upload.id, tenant_of(new.owner), new.size, new.cost_s)
        self._line.gone(upload.id)  # by another chunk's hand
        self._open.forget(upload)
        tracing.current().set({"cosygate.task_id": job.id})
        await self._queue.hint(job.id)
        return job.id

    async def _sniff(self, upload: Upload, listing: Listing, options: TranscribeOptions) -> tuple[Container, bytes]:
        """What the recording is, by its first 64 KB, and those. Refused ones keep their upload open: nothing sent is
        lost, and every repeat of a chunk gets the same answer until the client aborts or the upload expires."""
        if listing.total_bytes == 0:
            raise errors.RecordingEmpty()
        if options.audio_format is not None:
            return Container.RAW, b""
        wanted = min(SNIFF_BYTES, listing.total_bytes)
        head = b"".join([piece async for piece in self._parts.read(upload.id, listing, 0, wanted)])
        container = sniff(head)
        if container is not Container.WAV and not self._compressed_media:
            raise errors.SandboxMissing()
        return container, head

    async def status(self, caller: Principal, session_id: str) -> UploadStatus:
        """Where to resume. Raises UploadNotFound."""
        upload = await self._open.find(caller.owner, session_id)
        if upload is None:
            raise errors.UploadNotFound()
        return UploadStatus(upload, await self._parts.list(upload.id))

    async def abort(self, caller: Principal, session_id: str) -> None:
        """Gives an open upload up and erases its parts; one that was cut off is finished by the next. Raises
        UploadNotFound, UploadClosed (it is a task already)."""
        upload = await self._uploads.find(caller.owner, session_id)
        if upload is None:
            raise errors.UploadNotFound()
        self._open.forget(upload)
        if not await end_upload(self._uploads, self._parts, upload.id, UploadState.ABORTED):
            raise errors.UploadClosed("the recording is complete: delete its task")
        self._line.gone(upload.id)
