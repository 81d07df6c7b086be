"""Records to write, and databases to write them to, for the tests of the records port."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cosygate.adapters.records_sql import SqlRecords
from cosygate.model.job import Job, NewJob
from cosygate.model.upload import Upload, UploadState

OWNER = "default/ann"


def new_upload(number: int, *, owner: str = OWNER, session: str | None = None, expires_at: float = 9e9) -> Upload:
    return Upload(
        id=f"upload-{number}",
        owner=owner,
        session_id=session or f"session-{number}",
        state=UploadState.OPEN,
        created_at=1_000.5 + number,
        expires_at=expires_at,
    )


def new_job(
    number: int, *, owner: str = OWNER, session: str | None = None, priority: int = 0, cost_s: float = 0.0
) -> NewJob:
    """The job of upload `number`; ids and ages rise with the number."""
    return NewJob(
        id=f"{number:032x}",
        upload_id=f"upload-{number}",
        owner=owner,
        session_id=session or f"session-{number}",
        options='{"language":"auto"}',
        container="wav",
        size=160_044,
        created_at=2_000.5 + number,
        trace_id="0af7651916cd43dd8448eb211c80319c",
        priority=priority,
        cost_s=cost_s,
    )


async def submit(
    records: SqlRecords, number: int, *, owner: str = OWNER, priority: int = 0, cost_s: float = 0.0
) -> Job:
    await records.uploads.open(new_upload(number, owner=owner), max_open=1_000_000)
    return await records.uploads.complete(new_job(number, owner=owner, priority=priority, cost_s=cost_s))


async def open_records(path: Path, *, busy_s: float = 5.0) -> SqlRecords:
    return await SqlRecords.open(f"sqlite:///{path}", durability="process", busy_s=busy_s)


_LOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10)
connection.execute("BEGIN " + sys.argv[2])
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_by_another_process(path: Path, kind: str) -> Iterator[None]:
    """While the body runs, another process holds `BEGIN kind` (IMMEDIATE, EXCLUSIVE) on the database."""
    with subprocess.Popen(
        [sys.executable, "-c", _LOCKER, str(path), kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            locker.kill()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    """What another program sees in the file."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()
