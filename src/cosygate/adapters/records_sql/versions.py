"""Versions of transcripts that were edited, as transactions."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate import errors
from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.schema import jobs
from cosygate.adapters.records_sql.schema_guard import transcript_versions as versions
from cosygate.model.editing import FIRST, MOST_BYTES, MOST_VERSIONS, Changes, Version, changes_dict, changes_from_dict

_OF = versions.c.job_id == bindparam("job")
_LIST = (
    sa.select(versions.c.version, versions.c.created_at, versions.c.author, versions.c.restores)
    .where(_OF)
    .order_by(versions.c.version)
)
_CHANGES = (
    sa.select(versions.c.changes, versions.c.restores)
    .where(_OF, versions.c.version <= bindparam("upto"))
    .order_by(versions.c.version)
)
_COUNT = sa.select(sa.func.max(versions.c.version), sa.func.coalesce(sa.func.sum(versions.c.size), 0)).where(_OF)
# On Postgres its row then waits with being deleted, and another edit of it waits, too.
_JOB = sa.select(jobs.c.id).where(jobs.c.id == bindparam("job")).with_for_update(key_share=True)
_ADD = sa.insert(versions)


class SqlVersions:
    """ports/versions.py, Versions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, job_id: str) -> list[Version]:
        return await self._database.read(
            lambda connection: [Version(*row) for row in connection.execute(_LIST, {"job": job_id})]
        )

    async def changes(self, job_id: str, upto: int) -> list[Changes]:
        where = {"job": job_id, "upto": upto}
        return await self._database.read(
            lambda connection: [changes_from_dict(*row) for row in connection.execute(_CHANGES, where)]
        )

    async def add(self, job_id: str, version: Version, changes: Changes, size: int) -> None:
        row = {
            "job_id": job_id,
            "version": version.number,
            "created_at": version.created_at,
            "author": version.by,
            "restores": version.restores,
            "size": size,
            "changes": changes_dict(changes),
        }

        def run(connection: sa.Connection) -> None:
            if connection.execute(_JOB, {"job": job_id}).one_or_none() is None:
                raise errors.TaskNotFound()
            newest, used = connection.execute(_COUNT, {"job": job_id}).one()
            if version.number != (newest or FIRST) + 1:
                raise errors.VersionConflict(version=newest or FIRST)
            if version.number > MOST_VERSIONS or used + size > MOST_BYTES:
                raise errors.TooManyVersions()
            connection.execute(_ADD, row)

        await self._database.write(run)
