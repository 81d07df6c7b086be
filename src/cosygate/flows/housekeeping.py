"""What nobody asks for and everybody relies on: hints from the outbox, claims that stand still, uploads and tasks that
are too old, receivers of webhooks that went long ago, folders without a row. Each round is bounded and safe to run in
several processes at once."""

from __future__ import annotations

from dataclasses import dataclass

from cosygate import errors
from cosygate.flows.ingest import Ingest
from cosygate.flows.open_uploads import end_upload
from cosygate.kit import metrics
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.job import JobState, Requeue
from cosygate.model.upload import Upload, UploadState
from cosygate.ports.blobs import PartStore, ResultStore, StoreSurvey
from cosygate.ports.queue import Broker, Queue
from cosygate.ports.records import Beat, JobRecords, Leases, Outbox, UploadRecords
from cosygate.ports.webhooks import GoneReceivers

_log = logger()
_BATCH = 200
_TOGETHER = 4  # jobs in one message: whoever gets it takes on what is left until there is nothing
_BATCHES = 50  # of what is due, in one round: with a round a minute, 160 tasks a second
_GONE_S = 30 * 86_400.0  # then a receiver that said 410 is forgotten: whoever has one for each task fills no disk
_ORPHANS_FEW, _ORPHANS_SHARE = 20, 0.1  # beyond both, what has no row is not erased
_ORPHAN_S = 3600.0  # a folder without a row this long after its last change is nobody's


class Reaper:
    """Requeues claims whose beat stood still for `expire_s` on this process's own monotonic clock: no wall clock, and
    no other machine's, decides. A reaper that has just started gives every claim the whole time, and so does one that
    could not look: a database that was away let nobody renew either."""

    def __init__(self, leases: Leases, clock: Clock, expire_s: float) -> None:
        self._leases = leases
        self._clock = clock
        self._expire_s = expire_s
        self._seen: dict[tuple[str, int], tuple[int, float]] = {}

    async def round(self) -> int:
        """Looks at every running claim; returns how many it requeued. Raises DatabaseBusy."""
        now = self._clock.monotonic()
        seen: dict[tuple[str, int], tuple[int, float]] = {}
        still: list[Beat] = []
        earlier, self._seen = self._seen, {}  # after a look that fails nobody is known to have stood still: see below
        for claim in await self._leases.running():
            key = (claim.job_id, claim.fence)
            beat, since = earlier.get(key, (-1, now))
            seen[key] = (claim.beat, since if beat == claim.beat else now)
            if now - seen[key][1] >= self._expire_s:
                still.append(claim)
        self._seen = seen
        for claim in still:
            # The beat is part of the condition: a renewal between the look and the write keeps its claim.
            state = await self._leases.requeue(
                claim.job_id, claim.fence, Requeue.LOST, self._clock.now(), beat=claim.beat
            )
            if state is JobState.FAILED:  # lost too often: nobody else tells how it ended
                metrics.tasks.labels(state).inc()
                metrics.task_failures.labels("lost_too_often").inc()
            if state is not None:
                _log.warning("task.lease_expired", task_id=claim.job_id, fence=claim.fence, state=state)
        return len(still)


async def recover(leases: Leases, claimant: str, clock: Clock) -> int:
    """Requeues what an earlier life of `claimant` was running: it is not running any more."""
    mine = await leases.running(claimant)
    for claim in mine:
        await leases.requeue(claim.job_id, claim.fence, Requeue.HAND_BACK, clock.now(), beat=claim.beat)
    if mine:
        _log.info("task.recovered", count=len(mine))
    return len(mine)


async def relay(outbox: Outbox, queue: Queue) -> int:
    """Sends the hints that were written with their jobs but not sent; returns how many."""
    hints = await outbox.take(_BATCH)
    for hint in hints:
        await queue.hint(hint.job_id)
    return len(hints)


async def tell(outbox: Outbox, broker: Broker) -> int:
    """As `relay`, but to workers in other processes. What cannot be sent is not sent again: they look by themselves."""
    hints = await outbox.take(_BATCH)
    for low in (False, True):
        ids = [hint.job_id for hint in hints if (hint.priority > 0) == low]
        for start in range(0, len(ids), _TOGETHER):
            if not await broker.publish(ids[start : start + _TOGETHER], low=low):
                return len(hints)
    return len(hints)


@dataclass(frozen=True, slots=True)
class Housekeeping:
    uploads: UploadRecords
    jobs: JobRecords
    parts: PartStore
    results: ResultStore
    survey: StoreSurvey
    receivers: GoneReceivers
    ingest: Ingest
    clock: Clock
    retention_s: float

    async def round(self) -> None:
        """One bounded round of everything. Raises DatabaseBusy, StorageFull."""
        await self.expire_uploads()
        await self.erase_old_tasks()
        await self.forget_gone_receivers()

    async def expire_uploads(self) -> None:
        """Uploads that nobody finished in time. One whose parts are all there lacks only its job: it gets it."""
        for _ in range(_BATCHES):
            due = await self.uploads.stale(self.clock.now(), _BATCH)
            for upload in due:
                await self._expire(upload)
            if len(due) < _BATCH:
                return

    async def _expire(self, upload: Upload) -> None:
        if await self._complete_if_whole(upload.id, upload.owner, upload.session_id):
            return
        # Not ended: its last chunk came at this very moment, and it is somebody's task now.
        if await end_upload(self.uploads, self.parts, upload.id, UploadState.EXPIRED):
            _log.info("upload.expired", upload_id=upload.id)

    async def reconcile(self) -> int:
        """At start: uploads whose last part was stored before a crash, but whose job was not. Returns how many."""
        made = 0
        for upload in await self.uploads.stale(float("inf"), 100_000):
            made += await self._complete_if_whole(upload.id, upload.owner, upload.session_id)
        if made:
            _log.info("upload.reconciled", count=made)
        return made

    async def _complete_if_whole(self, upload_id: str, owner: str, session_id: str) -> bool:
        try:
            listing = await self.parts.list(upload_id)
            upload = await self.uploads.find(owner, session_id)
            if not listing.complete or upload is None or upload.id != upload_id or upload.given_up:
                return False
            await self.ingest.complete(upload, listing, trace_id=upload_id)
        except (errors.UnsupportedMedia, errors.RecordingEmpty, errors.Conflict, errors.NotFound):
            return False  # its sender was, or will be, told the same
        return True

    async def erase_old_tasks(self) -> None:
        """Retention: audio, transcript, events and row."""
        for _ in range(_BATCHES):
            due = await self.jobs.finished_before(self.clock.now() - self.retention_s, _BATCH)
            for job in due:
                # The row last: after a crash in between, the next round finds the job again.
                await self.parts.erase(job.upload_id)
                await self.results.erase(job.id)
                await self.jobs.delete(job.id)
                _log.info("task.retired", task_id=job.id)
            if len(due) < _BATCH:
                return

    async def forget_gone_receivers(self) -> None:
        """So many in one round, and the next goes on there."""
        for _ in range(_BATCHES):
            if not await self.receivers.forget_gone(self.clock.now() - _GONE_S, _BATCH):
                return

    async def sweep_orphans(self) -> None:
        """Parts of uploads that are neither open nor complete: a chunk that came late leaves them, when its process
        ended after it had revived an erased place."""
        old = [uid for uid, age in (await self.survey.uploads()).items() if age > _ORPHAN_S]
        orphans: list[str] = []
        for start in range(0, len(old), _BATCH):
            batch = old[start : start + _BATCH]
            known = await self.uploads.known(batch)
            orphans += [upload_id for upload_id in batch if upload_id not in known]
        if len(orphans) > max(_ORPHANS_FEW, _ORPHANS_SHARE * len(old)):
            # No crashes leave so many: it is the wrong database, an older copy of it, or an installation that moves in.
            _log.error("upload.orphans_kept", count=len(orphans), stored=len(old))
            orphans = []
        for upload_id in orphans:
            await self.parts.erase(upload_id)
            _log.info("upload.orphan_erased", upload_id=upload_id)
        await self.survey.sweep(_ORPHAN_S)
