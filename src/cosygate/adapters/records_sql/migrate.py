"""Brings a database to the schema of this code before anything else touches it.

Alembic (imported only when there is something to do: it is slow to load) runs the steps in migrations/versions, one
process at a time: a lock file beside SQLite's database, an advisory lock in Postgres.

Old and new code run side by side: the table `schema_compat` names the oldest revision whose code still works with the
schema, and code of that revision or a later one accepts it. What is newer than that is refused, unchanged. The table
came with 0004, and code has to look into it: that of 0003, which had SQLite alone, does not, and refuses whatever is
newer than itself. Nothing of it ever ran on Postgres; so what is said there counts from 0004 on, on both.

SQLite's database is migrated by the server that starts on it; there is no other beside it, and what the table is good
for is going back to the version before. A Postgres that others may be using is not: `cosygate migrate` does it, so that
the operator chooses when; only an empty one gets its tables from whoever comes first.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from cosygate import errors
from cosygate.adapters.records_sql.filelock import FileLock
from cosygate.adapters.records_sql.locks import locked

# Oldest first; the last is what schema.py describes (a test compares).
REVISIONS = ("0001", "0002", "0003", "0004", "0005")
_LOCK_S = 60.0  # a migration of a large database takes its time
_DDL_S = 10.0  # waits for tables that others are using: meanwhile nobody else can begin to use them
_MIGRATIONS = Path(__file__).with_name("migrations")


class SchemaTooNew(RuntimeError):
    """The database was written by a newer CosyGate. Nothing has been changed."""


class SchemaTooOld(RuntimeError):
    """The database is an older CosyGate's, and not to be migrated by the way. Nothing has been changed."""


def upgrade(connection: sa.Connection, path: Path) -> str | None:
    """Migrates the SQLite database at `path` to the newest revision; cheap when it is there already. Returns the
    revision before (None: it was new).

    Raises SchemaTooNew, and DatabaseBusy when another process migrates for longer than a minute.
    """
    before = revision_of(connection)
    if not _has_a_step_to_go(before):
        return before
    lock = FileLock(path.with_name(path.name + ".migrate"))
    with closing(lock), lock.held(_LOCK_S, poll_s=0.02) as alone:
        if not alone:
            raise errors.DatabaseBusy("another process is migrating the database")
        before = revision_of(connection)
        if _has_a_step_to_go(before):  # no other worker did it while this one waited
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")  # kept in the file
            _run_alembic(connection)
    return before


def upgrade_postgres(connection: sa.Connection, *, only_empty: bool) -> str | None:
    """The same inside the transaction of `connection`, of a Postgres. `only_empty`: raises SchemaTooOld when there are
    tables of an older revision. Raises SchemaTooNew, and the driver's error when a lock cannot be had in time."""
    before = revision_of(connection)
    if not _has_a_step_to_go(before):
        return before
    _wait_at_most(connection, _LOCK_S)
    locked(connection, "migrate")
    _wait_at_most(connection, _DDL_S)
    before = revision_of(connection)
    if not _has_a_step_to_go(before):
        return before
    if only_empty and before is not None:
        raise SchemaTooOld(f"the database has schema {before}, this CosyGate needs {REVISIONS[-1]}: cosygate migrate")
    _run_alembic(connection)
    return before


def revision_of(connection: sa.Connection) -> str | None:
    """The database's revision, None for a new one. Raises SchemaTooNew."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    if found is None or found in REVISIONS:
        return found
    oldest = None
    if sa.inspect(connection).has_table("schema_compat"):
        oldest = connection.exec_driver_sql("SELECT oldest FROM schema_compat").scalar_one_or_none()
    if oldest is None or oldest > REVISIONS[-1]:
        raise SchemaTooNew(
            f"the database has schema {found}, this CosyGate knows {REVISIONS[-1]} and older: "
            "run the newer CosyGate, or restore the backup from before the upgrade"
        )
    return str(found)


def _has_a_step_to_go(revision: str | None) -> bool:
    return revision is None or revision in REVISIONS[:-1]


def _wait_at_most(connection: sa.Connection, seconds: float) -> None:
    """For a lock, in this transaction."""
    connection.execute(sa.select(sa.func.set_config("lock_timeout", f"{round(seconds * 1000)}ms", True)))


def _run_alembic(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
