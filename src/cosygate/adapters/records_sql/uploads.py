"""Uploads and their completion, as transactions."""

from __future__ import annotations

import sqlalchemy as sa

from cosygate import errors
from cosygate.adapters.records_sql.schema import (
    bound,
    closed_upload,
    events,
    job_columns,
    jobs,
    open_upload,
    outbox,
    to_job,
    to_upload,
    upload_columns,
    uploads,
)
from cosygate.adapters.records_sql.sqlite import SqliteDatabase
from cosygate.model.job import Job, JobState, NewJob
from cosygate.model.upload import Upload, UploadState


def _find(connection: sa.Connection, owner: str, session_id: str) -> Upload | None:
    mine = (uploads.c.owner == owner) & (uploads.c.session_id == session_id)
    row = connection.execute(sa.select(*upload_columns).where(mine, bound)).one_or_none()
    return to_upload(row) if row else None


def _values(upload: Upload) -> dict[str, object]:
    return {name: getattr(upload, name) for name in Upload.__dataclass_fields__} | {"state": upload.state.value}


class SqlUploads:
    """ports/records.py, UploadRecords."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def open(self, upload: Upload, *, max_open: int) -> Upload:
        def run(connection: sa.Connection) -> Upload:
            if there := _find(connection, upload.owner, upload.session_id):
                return there
            count = sa.select(sa.func.count()).select_from(uploads).where(uploads.c.owner == upload.owner, open_upload)
            if connection.execute(count).scalar_one() >= max_open:
                raise errors.TooManyUploads(f"at most {max_open} uploads may be open at once", limit=max_open)
            connection.execute(sa.insert(uploads).values(_values(upload)))
            return upload

        return await self._database.write(run)

    async def find(self, owner: str, session_id: str) -> Upload | None:
        return await self._database.read(lambda connection: _find(connection, owner, session_id))

    async def complete(self, job: NewJob) -> Job:
        def run(connection: sa.Connection) -> Job:
            complete = (
                sa.update(uploads)
                .where(uploads.c.id == job.upload_id, open_upload)
                .values(state=UploadState.COMPLETE.value, job_id=job.id)
            )
            if connection.execute(complete).rowcount == 0:
                return _completed_before(connection, job.upload_id)
            fresh = {name: getattr(job, name) for name in NewJob.__dataclass_fields__}
            fresh |= {"fence": 0, "attempt": 0, "percent": 0}
            connection.execute(sa.insert(jobs).values(**fresh, state=JobState.QUEUED.value, beat=0, lost=0))
            connection.execute(sa.insert(events).values(job_id=job.id, kind="progress", data={"percent": 0}))
            connection.execute(sa.insert(outbox).values(job_id=job.id))
            return Job(**fresh, state=JobState.QUEUED)

        return await self._database.write(run)

    async def close(self, upload_id: str, state: UploadState) -> bool:
        """Also forgets closed uploads that had run out before this one was opened: nobody can still be completing one
        of those, and the table must not grow for ever."""
        if state not in (UploadState.ABORTED, UploadState.EXPIRED):
            raise ValueError(f"an upload is closed as aborted or expired, not {state}")

        def run(connection: sa.Connection) -> bool:
            close = (
                sa.update(uploads)
                .where(uploads.c.id == upload_id, open_upload)
                .values(state=state.value)
                .returning(uploads.c.created_at)
            )
            opened_at = connection.execute(close).scalar_one_or_none()
            if opened_at is None:
                return False
            connection.execute(sa.delete(uploads).where(closed_upload, uploads.c.expires_at < opened_at))
            return True

        return await self._database.write(run)

    async def stale(self, now: float, limit: int) -> list[Upload]:
        late = sa.select(*upload_columns).where(open_upload, uploads.c.expires_at <= now)
        query = late.order_by(uploads.c.expires_at).limit(limit)
        return await self._database.read(lambda connection: [to_upload(row) for row in connection.execute(query)])


def _completed_before(connection: sa.Connection, upload_id: str) -> Job:
    """The job of an upload that is not open. Raises UploadClosed, UploadNotFound."""
    row = connection.execute(sa.select(*job_columns).where(jobs.c.upload_id == upload_id)).one_or_none()
    if row:
        return to_job(row)
    state = connection.execute(sa.select(uploads.c.state).where(uploads.c.id == upload_id)).scalar_one_or_none()
    if state is None:
        raise errors.UploadNotFound()
    raise errors.UploadClosed(f"the upload is {state}")
