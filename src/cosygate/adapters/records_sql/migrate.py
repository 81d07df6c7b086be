"""Brings a database to the schema of this code before anything else touches it.

Alembic (imported only when there is something to do: it is slow to load) runs the steps in migrations/versions. A lock
file makes workers that start together take turns. A database that newer code has written is refused.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from cosygate import errors
from cosygate.adapters.records_sql.filelock import FileLock

REVISIONS = ("0001", "0002", "0003")  # oldest first; the last is what schema.py describes (a test compares)
_LOCK_S = 60.0  # a migration of a large database takes its time
_MIGRATIONS = Path(__file__).with_name("migrations")


class SchemaTooNew(RuntimeError):
    """The database was written by a newer CosyGate. Nothing has been changed."""


def upgrade(connection: sa.Connection, path: Path) -> None:
    """Migrates the database at `path` to the newest revision; cheap when it is there already.

    Raises SchemaTooNew, and DatabaseBusy when another process migrates for longer than a minute.
    """
    if _revision(connection) == REVISIONS[-1]:
        return
    lock = FileLock(path.with_name(path.name + ".migrate"))
    with closing(lock), lock.held(_LOCK_S, poll_s=0.02) as alone:
        if not alone:
            raise errors.DatabaseBusy("another process is migrating the database")
        if _revision(connection) == REVISIONS[-1]:  # another worker did it while this one waited
            return
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")  # kept in the file
        _run_alembic(connection)


def _revision(connection: sa.Connection) -> str | None:
    """The database's revision, None for a new one. Raises SchemaTooNew."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    if revision is not None and revision not in REVISIONS:
        raise SchemaTooNew(
            f"the database has schema {revision}, this CosyGate knows {REVISIONS[-1]} and older: "
            "run the newer CosyGate, or restore the backup from before the upgrade"
        )
    return str(revision) if revision is not None else None


def _run_alembic(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
