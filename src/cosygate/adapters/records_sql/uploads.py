"""Uploads and their completion, as transactions.

Statements are made once, with parameters: building one costs ten times as much as running it.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate import errors
from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.locks import locked
from cosygate.adapters.records_sql.schema import (
    bound,
    closed_upload,
    events,
    job_columns,
    jobs,
    live_sessions,
    open_live,
    open_upload,
    outbox,
    to_job,
    to_upload,
    upload_columns,
    uploads,
)
from cosygate.model.job import Job, JobState, NewJob
from cosygate.model.principal import tenant_of
from cosygate.model.upload import Upload, UploadState

_FIND = sa.select(*upload_columns).where(
    uploads.c.owner == bindparam("mine"), uploads.c.session_id == bindparam("session"), bound
)
_COUNT_OPEN = sa.select(sa.func.count()).where(uploads.c.owner == bindparam("mine"), open_upload)
_ANY_OPEN = sa.select(sa.literal(1)).where(uploads.c.owner == bindparam("mine"), open_upload).limit(1)
_INSERT = sa.insert(uploads)
_COMPLETE = (
    sa.update(uploads)
    .where(uploads.c.id == bindparam("upload"), open_upload, uploads.c.expires_at >= 0)
    .values(state=UploadState.COMPLETE.value, job_id=bindparam("job"))
)
# No column of its own: to a process of the version before it has run out, which is near the truth.
_GIVE_UP = (
    sa.update(uploads)
    .where(uploads.c.id == bindparam("upload"), open_upload)
    .values(expires_at=-sa.func.abs(uploads.c.expires_at))
)
_INSERT_JOB = sa.insert(jobs)
_INSERT_EVENT = sa.insert(events)
_INSERT_HINT = sa.insert(outbox)
_JOB_OF = sa.select(*job_columns).where(jobs.c.upload_id == bindparam("upload"))
_STATE_OF = sa.select(uploads.c.state).where(uploads.c.id == bindparam("upload"))
_CLOSE = (
    sa.update(uploads)
    .where(uploads.c.id == bindparam("upload"), open_upload)
    .values(state=bindparam("closed"), expires_at=sa.func.abs(uploads.c.expires_at))
    .returning(uploads.c.created_at)
)
# A cancelled job keeps its upload's row (a foreign key): it goes when the job does.
_FORGET = sa.delete(uploads).where(
    closed_upload,
    uploads.c.expires_at < bindparam("opened_at"),
    ~sa.exists().where(jobs.c.upload_id == uploads.c.id),
)
_STALE = (
    sa.select(*upload_columns)
    .where(open_upload, uploads.c.expires_at <= bindparam("now"))
    .order_by(uploads.c.expires_at)
    .limit(bindparam("most"))
)


class SqlUploads:
    """ports/records.py, UploadRecords."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, upload: Upload, *, max_open: int) -> Upload:
        values = {name: getattr(upload, name) for name in Upload.__dataclass_fields__} | {"state": upload.state.value}

        def run(connection: sa.Connection) -> Upload:
            locked(connection, "uploads of", upload.owner)  # two would count the same, and both find room
            if there := _find(connection, upload.owner, upload.session_id):
                return there
            if connection.execute(_COUNT_OPEN, {"mine": upload.owner}).scalar_one() >= max_open:
                raise errors.TooManyUploads(f"at most {max_open} uploads may be open at once", limit=max_open)
            connection.execute(_INSERT, values)
            return upload

        return await self._database.write(run)

    async def find(self, owner: str, session_id: str) -> Upload | None:
        return await self._database.read(lambda connection: _find(connection, owner, session_id))

    async def complete(self, job: NewJob) -> Job:
        fresh = {name: getattr(job, name) for name in NewJob.__dataclass_fields__}
        fresh |= {"fence": 0, "attempt": 0, "percent": 0}
        values = fresh | {"state": JobState.QUEUED.value, "beat": 0, "lost": 0, "tenant": tenant_of(job.owner)}

        def run(connection: sa.Connection) -> Job:
            if connection.execute(_COMPLETE, {"upload": job.upload_id, "job": job.id}).rowcount == 0:
                return _completed_before(connection, job.upload_id)
            connection.execute(_INSERT_JOB, values)
            connection.execute(_INSERT_EVENT, {"job_id": job.id, "kind": "progress", "data": {"percent": 0}})
            connection.execute(_INSERT_HINT, {"job_id": job.id})
            return Job(**fresh, state=JobState.QUEUED)

        return await self._database.write(run)

    async def give_up(self, upload_id: str) -> bool:
        one = _GIVE_UP, {"upload": upload_id}
        return await self._database.write(lambda connection: connection.execute(*one).rowcount > 0)

    async def close(self, upload_id: str, state: UploadState) -> bool:
        """Also forgets closed uploads that had run out before this one was opened: nobody can still be completing one
        of those, and the table must not grow for ever."""
        if state not in (UploadState.ABORTED, UploadState.EXPIRED):
            raise ValueError(f"an upload is closed as aborted or expired, not {state}")

        def run(connection: sa.Connection) -> bool:
            closed = connection.execute(_CLOSE, {"upload": upload_id, "closed": state.value})
            opened_at = closed.scalar_one_or_none()
            if opened_at is None:
                return False
            connection.execute(_FORGET, {"opened_at": opened_at})
            return True

        return await self._database.write(run)

    async def stale(self, now: float, limit: int) -> list[Upload]:
        return await self._database.read(
            lambda connection: [to_upload(row) for row in connection.execute(_STALE, {"now": now, "most": limit})]
        )

    async def any_open(self, owner: str) -> bool:
        one = _ANY_OPEN, {"mine": owner}
        return await self._database.read(lambda connection: connection.execute(*one).first() is not None)

    async def known(self, upload_ids: Sequence[str]) -> set[str]:
        """Of an open live session too: it has no upload's row before it is finished, but parts under its id."""
        live = sa.select(live_sessions.c.id).where(live_sessions.c.id.in_(upload_ids), open_live)
        query = sa.select(uploads.c.id).where(uploads.c.id.in_(upload_ids), bound).union_all(live)
        return await self._database.read(lambda connection: set(connection.execute(query).scalars()))


def _find(connection: sa.Connection, owner: str, session_id: str) -> Upload | None:
    row = connection.execute(_FIND, {"mine": owner, "session": session_id}).one_or_none()
    return to_upload(row) if row else None


def _completed_before(connection: sa.Connection, upload_id: str) -> Job:
    """The job of an upload that is not open. Raises UploadClosed, UploadNotFound."""
    row = connection.execute(_JOB_OF, {"upload": upload_id}).one_or_none()
    if row:
        return to_job(row)
    state = connection.execute(_STATE_OF, {"upload": upload_id}).scalar_one_or_none()
    if state is None:
        raise errors.UploadNotFound()
    raise errors.UploadClosed(f"the upload is {'given up' if state == UploadState.OPEN else state}")
