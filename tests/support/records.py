"""Records to write, and databases to write them to, for the tests of the records port."""

from __future__ import annotations

import asyncio
import copy
import itertools
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

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
        found = connection.execute(query).fetchall()
        connection.commit()
        return found
    finally:
        connection.close()


@dataclass(frozen=True)
class Place:
    """One test's own database, migrated and empty."""

    url: str
    durability: Literal["disk", "process"] = "process"

    @property
    def sqlite(self) -> bool:
        return self.url.startswith("sqlite:")

    @property
    def path(self) -> Path:
        """SQLite's file."""
        assert self.sqlite
        return Path(self.url.removeprefix("sqlite:///"))

    async def open(self, *, busy_s: float = 5.0) -> SqlRecords:
        """As often as wanted: one door per process of the real thing."""
        return await SqlRecords.open(self.url, durability=self.durability, busy_s=busy_s, pool=4, overflow=16)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What another program sees, or does, in it."""
        if self.sqlite:
            return rows(self.path, query)
        with ThreadPoolExecutor(1) as thread:  # whether this one has a loop or not
            return thread.submit(asyncio.run, _fetch(self.url, query)).result()

    @contextmanager
    def locked(self, kind: str) -> Iterator[None]:
        """While the body runs, another process lets nobody write."""
        if self.sqlite:
            with locked_by_another_process(self.path, kind):
                yield
            return
        tables = "uploads, jobs, events, outbox, live_sessions, turns, usage, quotas, api_keys, revocations, deliveries"
        with subprocess.Popen(["psql", "-X", "-q", self.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as locker:
            assert locker.stdin is not None and locker.stdout is not None
            locker.stdin.write(f"BEGIN; LOCK TABLE {tables} IN EXCLUSIVE MODE;\n\\echo locked\n".encode())
            locker.stdin.flush()
            assert locker.stdout.readline() == b"locked\n"
            try:
                yield
            finally:
                locker.kill()


def in_some_order(
    place: Place, outcomes: dict[str, Any], expect: Callable[[str, Any], None], model: Callable[[Any], Any]
) -> None:
    """What calls that were made at once returned, each by its name, is what they return one after another: on SQLite in
    the order in which they were asked, on Postgres in any one order. `expect` asserts one outcome and moves the model
    on; `model` sets the model's state, and returns the one before (None: sets nothing)."""
    before = copy.deepcopy(model(None))
    orders = [tuple(outcomes)] if place.sqlite else list(itertools.permutations(outcomes))
    for order in orders:
        try:
            for name in order:
                expect(name, outcomes[name])
            return
        except AssertionError:
            if order == orders[-1]:
                raise
            model(copy.deepcopy(before))


@contextmanager
def a_place(kind: str) -> Iterator[Place]:
    """`kind`: sqlite-process, sqlite-disk or postgres."""
    if kind == "postgres":
        from tests.support.services import shared_postgres

        server, name = shared_postgres(), f"t{uuid.uuid4().hex}"
        server.sql(f"CREATE DATABASE {name} TEMPLATE {_postgres_template()}")
        try:
            yield Place(server.url.rpartition("/")[0] + f"/{name}", "disk")
        finally:
            server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        return
    folder = Path(tempfile.mkdtemp(prefix="records-"))
    try:
        shutil.copy(_sqlite_template(), folder / "records.db")
        yield Place(f"sqlite:///{folder / 'records.db'}", "disk" if kind == "sqlite-disk" else "process")
    finally:
        shutil.rmtree(folder)


async def _fetch(url: str, query: str) -> list[tuple[Any, ...]]:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def _migrate(url: str) -> None:
    await (await SqlRecords.open(url, durability="process")).close()


@cache
def _postgres_template() -> str:
    from tests.support.services import shared_postgres

    server, name = shared_postgres(), f"template_{uuid.uuid4().hex}"
    server.sql(f"CREATE DATABASE {name}")
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _migrate(server.url.rpartition("/")[0] + f"/{name}")).result()
    return name


@cache
def _sqlite_template() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="records-template-", ignore_cleanup_errors=True)
    _kept.append(folder)
    path = Path(folder.name) / "template.db"
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _migrate(f"sqlite:///{path}")).result()
    return path


_kept: list[tempfile.TemporaryDirectory[str]] = []  # removed when the test process ends
