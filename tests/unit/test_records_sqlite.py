"""Transactions on SQLite: what shares a commit stays apart, and what the driver says is translated."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from cosygate import errors
from cosygate.adapters.records_sql.database import Transaction
from cosygate.adapters.records_sql.faults import SQLITE_FAULTS, translate
from cosygate.adapters.records_sql.sqlite import WAITING, SqliteDatabase
from tests.support.records import locked_by_another_process, rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    opened = SqliteDatabase(path, durability="process", busy_s=1.0)
    await opened.prepare(lambda c: (c.exec_driver_sql("PRAGMA journal_mode = WAL"), _execute(c, "CREATE TABLE t (x)")))
    yield opened
    await opened.close()


def _execute(connection: sa.Connection, statement: str) -> None:
    connection.exec_driver_sql(statement)


def insert(value: object, then: Exception | None = None) -> Transaction[object]:
    def run(connection: sa.Connection) -> object:
        connection.exec_driver_sql("INSERT INTO t VALUES (?)", (value,))
        if then is not None:
            raise then
        return value

    return run


def driver_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("the driver's words")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize("code", SQLITE_FAULTS)
def test_every_fault_of_the_table_is_translated(code: int) -> None:
    for raw in (driver_error(code), driver_error(code | 7 << 8)):  # extended codes have the primary in the low byte
        for error in (raw, sa.exc.OperationalError("INSERT …", {}, raw)):
            known = translate(error)
            assert type(known) is SQLITE_FAULTS[code]
            assert known.__cause__ is error
            assert "driver" not in str(known)


def test_what_is_not_in_the_table_stays_what_it_is() -> None:
    for error in (driver_error(sqlite3.SQLITE_CONSTRAINT), ValueError("a bug"), errors.UploadClosed()):
        assert translate(error) is error


async def test_writes_of_one_batch_are_told_apart(database: SqliteDatabase, path: Path) -> None:
    outcomes = await asyncio.gather(
        database.write(insert("first")),
        database.write(insert("refused", then=errors.UploadClosed())),
        database.write(insert("buggy", then=ZeroDivisionError())),
        database.write(insert("last")),
        return_exceptions=True,
    )
    assert (outcomes[0], outcomes[3]) == ("first", "last")
    assert isinstance(outcomes[1], errors.UploadClosed)
    assert isinstance(outcomes[2], ZeroDivisionError)
    assert rows(path, "SELECT x FROM t") == [("first",), ("last",)]


async def test_a_full_disk_fails_those_that_need_room(database: SqliteDatabase, path: Path) -> None:
    pages = await database.write(lambda c: int(c.exec_driver_sql("PRAGMA page_count").scalar_one()))
    await database.write(lambda c: _execute(c, f"PRAGMA max_page_count = {pages + 3}"))
    outcomes = await asyncio.gather(
        database.write(insert("small")),
        database.write(insert(b"x" * 200_000)),
        database.write(insert("after")),
        return_exceptions=True,
    )
    assert (outcomes[0], outcomes[2]) == ("small", "after")
    assert isinstance(outcomes[1], errors.StorageFull)
    assert rows(path, "SELECT x FROM t") == [("small",), ("after",)]
    await database.write(lambda c: _execute(c, f"PRAGMA max_page_count = {pages + 300}"))
    await database.write(insert(b"x" * 200_000))  # works again when there is room


async def test_when_the_common_transaction_dies_each_write_gets_its_own(database: SqliteDatabase, path: Path) -> None:
    """SQLite may give up a whole transaction (disk full, I/O error). Here a write does it, by ending it under all."""

    def dies(connection: sa.Connection) -> None:
        connection.exec_driver_sql("ROLLBACK")
        raise driver_error(sqlite3.SQLITE_FULL)

    tries = iter((errors.UploadClosed(), None))
    outcomes = await asyncio.gather(
        database.write(insert("before")),
        database.write(lambda connection: insert("second try", then=next(tries))(connection)),
        database.write(dies),
        database.write(insert("refused", then=errors.UploadClosed())),
        database.write(insert("behind")),
        return_exceptions=True,
    )
    assert (outcomes[0], outcomes[1], outcomes[4]) == ("before", "second try", "behind")
    assert isinstance(outcomes[2], errors.StorageFull)
    assert isinstance(outcomes[3], errors.UploadClosed)
    assert rows(path, "SELECT x FROM t") == [("before",), ("second try",), ("behind",)]


async def test_a_write_whose_caller_is_cancelled_in_time_does_not_happen(database: SqliteDatabase, path: Path) -> None:
    writes = [asyncio.ensure_future(database.write(insert(n))) for n in range(100)]
    await asyncio.sleep(0)
    for write in writes[::2]:
        write.cancel()
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert [outcome for outcome in outcomes if not isinstance(outcome, asyncio.CancelledError)] == list(
        range(1, 100, 2)
    )
    assert [n for (n,) in rows(path, "SELECT x FROM t")] == list(range(1, 100, 2))


async def test_a_lock_is_waited_for_and_then_given_up(database: SqliteDatabase, path: Path) -> None:
    loop = asyncio.get_running_loop()
    with locked_by_another_process(path, "IMMEDIATE"):
        began, slowest, before = loop.time(), 0.0, loop.time()
        write = asyncio.ensure_future(database.write(insert("late")))
        hurried = asyncio.ensure_future(database.write(insert("hurried"), within_s=0.2))
        while not write.done():
            await asyncio.sleep(0.005)
            slowest, before = max(slowest, loop.time() - before), loop.time()
            if hurried.done() and loop.time() - began < 0.9:
                assert not write.done()
        with pytest.raises(errors.DatabaseBusy):
            await write
        with pytest.raises(errors.DatabaseBusy):
            await hurried
        assert 0.9 < loop.time() - began < 4.0
        assert slowest < 0.5  # the event loop went on
        assert await database.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM t").scalar_one()) == 0
    await database.write(insert("now"))
    assert rows(path, "SELECT x FROM t") == [("now",)]


async def test_a_lock_that_goes_away_in_time_costs_only_time(database: SqliteDatabase, path: Path) -> None:
    with locked_by_another_process(path, "EXCLUSIVE"):
        writes = [asyncio.ensure_future(database.write(insert(n))) for n in range(40)]
        await asyncio.sleep(0.2)
        assert not any(write.done() for write in writes)
    assert await asyncio.gather(*writes) == list(range(40))


async def test_the_line_of_waiting_writes_is_bounded(database: SqliteDatabase, path: Path) -> None:
    with locked_by_another_process(path, "IMMEDIATE"):
        writes = [asyncio.ensure_future(database.write(insert(n))) for n in range(WAITING + 100)]
        await asyncio.sleep(0.05)
        refused = [write for write in writes if write.done()]
        assert 50 <= len(refused) <= 100
        assert all(isinstance(write.exception(), errors.DatabaseBusy) for write in refused)
    await asyncio.gather(*writes, return_exceptions=True)


async def test_close_finishes_what_waits_and_refuses_what_comes(database: SqliteDatabase, path: Path) -> None:
    writes = [asyncio.ensure_future(database.write(insert(n))) for n in range(100)]
    await asyncio.sleep(0)
    await asyncio.gather(database.close(), database.close())
    assert await asyncio.gather(*writes) == list(range(100))
    assert len(rows(path, "SELECT x FROM t")) == 100
    with pytest.raises(errors.DatabaseBusy):
        await database.write(insert("too late"))
    with pytest.raises(errors.DatabaseBusy):
        await database.read(lambda connection: None)


@pytest.mark.parametrize(("durability", "synchronous"), [("disk", 2), ("process", 1)])
async def test_durability_decides_when_sqlite_syncs(tmp_path: Path, durability: str, synchronous: int) -> None:
    database = SqliteDatabase(tmp_path / "x.db", durability=durability, busy_s=1.0)  # type: ignore[arg-type]
    try:
        for transact in (database.read, database.write):
            assert await transact(lambda c: c.exec_driver_sql("PRAGMA synchronous").scalar_one()) == synchronous
            assert await transact(lambda c: c.exec_driver_sql("PRAGMA foreign_keys").scalar_one()) == 1
            assert await transact(lambda c: c.exec_driver_sql("PRAGMA secure_delete").scalar_one()) == 1
    finally:
        await database.close()


async def test_errors_tell_nothing_of_what_was_written(database: SqliteDatabase) -> None:
    def run(connection: sa.Connection) -> None:
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (?)", ("what was said",))

    with pytest.raises(sa.exc.OperationalError) as caught:
        await database.write(run)
    assert "said" not in str(caught.value)
