"""Transactions on Postgres: what is told apart, run again, bounded, and what happens when the server goes away."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa

from cosygate import errors
from cosygate.adapters.records_sql import SqlRecords
from cosygate.adapters.records_sql.database import Overtaken, Transaction
from cosygate.adapters.records_sql.faults import POSTGRES_AGAIN, POSTGRES_FAULTS, translate_postgres
from cosygate.adapters.records_sql.locks import locked
from cosygate.adapters.records_sql.postgres import PostgresDatabase
from cosygate.model.job import JobState
from deploy.local_cluster.services import Postgres
from tests.support.records import OWNER, Place, a_place, new_upload, submit
from tests.support.services import shared_postgres

pytestmark = pytest.mark.needs("postgres")


@pytest.fixture
def place() -> Iterator[Place]:
    with a_place("postgres") as found:
        found.rows("CREATE TABLE t (x text PRIMARY KEY)")
        yield found


@pytest.fixture
async def database(place: Place) -> AsyncIterator[PostgresDatabase]:
    opened = PostgresDatabase(place.url, busy_s=1.0, pool=2, overflow=2)
    yield opened
    await opened.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's, which another run of it closes to the user that the server runs as."""
    with TemporaryDirectory(prefix="cosygate-postgres-", ignore_cleanup_errors=True) as found:
        yield Path(found)


def insert(value: str, then: Exception | None = None) -> Transaction[str]:
    def run(connection: sa.Connection) -> str:
        connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": value})
        if then is not None:
            raise then
        return value

    return run


class Driver(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


def stored(place: Place) -> list[object]:
    return [x for (x,) in place.rows("SELECT x FROM t ORDER BY x")]


# --- what errors mean ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", POSTGRES_FAULTS)
def test_every_fault_of_the_table_is_translated(state: str) -> None:
    raw = Driver(state.ljust(5, "9"))
    for error in (raw, sa.exc.OperationalError("INSERT …", {}, raw)):
        known = translate_postgres(error)
        assert type(known) is POSTGRES_FAULTS[state]
        assert known.__cause__ is error


def test_lines_that_break_and_time_that_runs_out_are_faults_without_a_code() -> None:
    for error in (ConnectionRefusedError(), ConnectionResetError(), TimeoutError(), sa.exc.TimeoutError()):
        assert isinstance(translate_postgres(error), errors.DatabaseBusy)
    broken = sa.exc.InterfaceError("SELECT", {}, Exception("connection is closed"), connection_invalidated=True)
    assert isinstance(translate_postgres(broken), errors.DatabaseBusy)


def test_what_is_not_in_the_table_stays_what_it_is() -> None:
    for error in (Driver("23505"), Driver("42601"), ValueError("a bug"), errors.UploadClosed()):
        assert translate_postgres(error) is error


async def test_errors_tell_nothing_of_what_was_written(database: PostgresDatabase) -> None:
    with pytest.raises(sa.exc.ProgrammingError) as caught:
        await database.write(lambda c: c.execute(sa.text("INSERT INTO nowhere VALUES (:x)"), {"x": "what was said"}))
    assert "said" not in str(caught.value)


# --- all or nothing, and again ---------------------------------------------------------------------------------------


async def test_a_transaction_happens_as_a_whole_or_not_at_all(database: PostgresDatabase, place: Place) -> None:
    assert await database.write(insert("first")) == "first"
    for error in (errors.UploadClosed(), ZeroDivisionError()):
        with pytest.raises(type(error)):
            await database.write(insert("refused", then=error))
    assert stored(place) == ["first"]


@pytest.mark.parametrize("state", [*sorted(POSTGRES_AGAIN), "overtaken"])
async def test_what_was_undone_for_anothers_sake_is_run_again(
    database: PostgresDatabase, place: Place, state: str
) -> None:
    fault = Overtaken() if state == "overtaken" else sa.exc.DBAPIError("…", {}, Driver(state))
    tries = iter([fault, fault, None])
    assert await database.write(lambda c: insert("third", then=next(tries))(c)) == "third"
    assert stored(place) == ["third"]


async def test_but_not_for_ever(database: PostgresDatabase, place: Place) -> None:
    count = itertools.count(1)

    def unlucky(connection: sa.Connection) -> None:
        next(count)
        raise sa.exc.DBAPIError("…", {}, Driver("40001"))

    with pytest.raises(errors.DatabaseBusy):
        await database.write(unlucky)
    assert next(count) == 8
    await database.write(insert("a"))
    with pytest.raises(sa.exc.IntegrityError):  # nobody's race: a bug, and told as one
        await database.write(insert("a"))

    def overtaken(connection: sa.Connection) -> None:
        raise Overtaken

    with pytest.raises(errors.DatabaseBusy):
        await database.write(overtaken)
    assert stored(place) == ["a"]


async def test_two_that_wait_for_each_other_both_happen(place: Place) -> None:
    database = PostgresDatabase(place.url, busy_s=10.0)  # the server looks for circles after a second
    await database.write(insert("a"))
    await database.write(insert("b"))
    met = [asyncio.Event(), asyncio.Event()]

    def change(first: str, second: str, me: int) -> Transaction[None]:
        def run(connection: sa.Connection) -> None:
            for at, which in enumerate((first, second)):
                connection.execute(sa.text("UPDATE t SET x = x WHERE x = :x"), {"x": which})
                if at == 0:
                    met[me].set()
                    connection.execute(sa.text("SELECT pg_sleep(0.1)"))  # until the other has its first, too

        return run

    await asyncio.gather(database.write(change("a", "b", 0)), database.write(change("b", "a", 1)))
    assert all(event.is_set() for event in met)
    await database.close()


async def test_locks_keep_others_out_until_the_end(database: PostgresDatabase) -> None:
    told: list[str] = []

    def hold(name: str, key: str, seconds: float) -> Transaction[None]:
        def run(connection: sa.Connection) -> None:
            locked(connection, "a test", key)
            told.append(f"{name} in")
            connection.execute(sa.text("SELECT pg_sleep(:s)"), {"s": seconds})
            told.append(f"{name} out")

        return run

    first = asyncio.ensure_future(database.write(hold("first", "k", 0.4)))
    while not told:
        await asyncio.sleep(0.01)
    await asyncio.gather(database.write(hold("same", "k", 0.0)), database.write(hold("other", "l", 0.0)), first)
    assert told == ["first in", "other in", "other out", "first out", "same in", "same out"]


async def test_no_nul_reaches_the_database(place: Place) -> None:
    records = await place.open()
    assert await records.uploads.find("a\0b", "c\0d") is None
    assert await records.jobs.page("a\0b", state=None, before="\0", limit=5) == []
    assert await records.jobs.get(None, "\0") is None
    await submit(records, 1)
    claim = await records.leases.claim("w\0", 1.0)
    assert claim is not None
    assert await records.events.append(claim, [("segment", {"text": "a\0b"})], 50)
    assert await records.leases.commit(claim, 2.0, result=None, error=("engine_failed", "it said \0 and died"))
    job = await records.jobs.get(OWNER, claim.job_id)
    assert job is not None
    assert (job.state, job.error_detail) == (JobState.FAILED, "it said \ufffd and died")
    story = await records.events.read(claim.job_id, 0, 9)
    assert story[1].data == {"text": "a\0b"} or story[0].data == {"text": "a\0b"}
    await records.close()


# --- bounds ----------------------------------------------------------------------------------------------------------


async def test_no_more_connections_than_were_allowed(database: PostgresDatabase, place: Place) -> None:
    slow = [asyncio.ensure_future(database.write(lambda c: c.execute(sa.text("SELECT pg_sleep(1.6)")).scalar()))
            for _ in range(4)]  # fmt: skip
    await asyncio.sleep(0.3)
    began = time.monotonic()
    with pytest.raises(errors.DatabaseBusy):
        await database.write(insert("late"))
    assert 0.8 < time.monotonic() - began < 3.0
    began = time.monotonic()
    with pytest.raises(errors.DatabaseBusy):
        await database.write(insert("hurried"), within_s=0.1)
    assert time.monotonic() - began < 0.8
    await asyncio.gather(*slow)
    await database.write(insert("now"))
    assert stored(place) == ["now"]


async def test_the_line_is_bounded(database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosygate.adapters.records_sql.postgres.WAITING", 5)
    outcomes = await asyncio.gather(*(database.write(insert(str(n))) for n in range(8)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [str] * 5 + [errors.DatabaseBusy] * 3


async def test_a_lock_is_waited_for_and_then_given_up(database: PostgresDatabase, place: Place) -> None:
    with subprocess.Popen(["psql", "-Xq", place.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as locker:
        assert locker.stdin is not None and locker.stdout is not None
        locker.stdin.write(b"BEGIN; LOCK TABLE t;\n\\echo locked\n")
        locker.stdin.flush()
        assert locker.stdout.readline() == b"locked\n"
        began = time.monotonic()
        with pytest.raises(errors.DatabaseBusy):
            await database.write(insert("late"))
        assert 0.8 < time.monotonic() - began < 3.0
        patient = asyncio.ensure_future(database.write(insert("patient")))
        await asyncio.sleep(0.2)
        locker.stdin.write(b"ROLLBACK;\n")
        locker.stdin.flush()
        await patient
        locker.kill()
    assert stored(place) == ["patient"]


async def test_a_process_that_stands_still_keeps_others_out_for_a_bounded_time(place: Place) -> None:
    program = """
import asyncio, sys, time
from cosygate.adapters.records_sql.locks import locked
from cosygate.adapters.records_sql.postgres import PostgresDatabase
def stand_still(connection):
    locked(connection, "claim")
    print("locked", flush=True)
    time.sleep(60)
asyncio.run(PostgresDatabase(sys.argv[1], busy_s=1.0).write(stand_still))
"""
    records = await place.open(busy_s=1.0)
    await submit(records, 1)
    with subprocess.Popen([sys.executable, "-c", program, place.url], stdout=subprocess.PIPE) as still:
        assert still.stdout is not None
        assert still.stdout.readline() == b"locked\n"
        with pytest.raises(errors.DatabaseBusy):
            await records.leases.claim("w", 1.0)
        deadline, claim = time.monotonic() + 10, None
        while claim is None and time.monotonic() < deadline:
            with suppress(errors.DatabaseBusy):
                claim = await records.leases.claim("w", 1.0)
        assert claim is not None
        still.kill()
    await records.close()


async def test_a_statement_that_takes_too_long_is_given_up(database: PostgresDatabase) -> None:
    began = time.monotonic()
    with pytest.raises(errors.DatabaseBusy):
        await database.write(lambda c: c.execute(sa.text("SELECT pg_sleep(30)")).scalar())
    assert time.monotonic() - began < 5.0


async def test_where_nothing_can_be_written_health_says_so(place: Place) -> None:
    records = await place.open()
    await records.health.check()
    place.rows(f"ALTER DATABASE {place.url.rpartition('/')[2]} SET default_transaction_read_only = on")
    other = SqlRecords(PostgresDatabase(place.url, busy_s=1.0))
    with pytest.raises(errors.DatabaseBusy):
        await other.health.check()
    with pytest.raises(errors.DatabaseBusy):
        await submit(other, 1)
    assert await other.jobs.page(OWNER, state=None, before=None, limit=1) == []
    await records.close()
    await other.close()


async def test_nothing_is_written_when_there_is_nothing_to_do(place: Place) -> None:
    records = await place.open()
    await submit(records, 1)
    assert await records.outbox.take(5) and await records.leases.claim("w", 1.0)
    number = "SELECT txid_snapshot_xmax(txid_current_snapshot())"  # rises with every transaction that writes
    before = place.rows(number)
    for _ in range(5):
        assert await records.leases.claim("w", 1.0) is None
        assert await records.outbox.take(5) == []
        await records.health.check()
    assert place.rows(number) == before
    await records.close()


# --- callers that go away, servers that do ---------------------------------------------------------------------------


async def test_a_caller_who_is_cancelled_leaves_all_or_nothing_and_no_connection(
    database: PostgresDatabase, place: Place
) -> None:
    def both(n: int) -> Transaction[None]:
        def run(connection: sa.Connection) -> None:
            insert(f"{n}-a")(connection)
            insert(f"{n}-b")(connection)

        return run

    writes = [asyncio.ensure_future(database.write(both(n))) for n in range(60)]
    for write in writes:
        await asyncio.sleep(0.002)
        write.cancel()
    await asyncio.gather(*writes, return_exceptions=True)
    await database.close()
    rows = stored(place)
    assert [f"{n}-{half}" for n in sorted({str(x).partition("-")[0] for x in rows}) for half in "ab"] == rows
    again = PostgresDatabase(place.url, busy_s=5.0, pool=1, overflow=0)
    await asyncio.gather(*(again.read(lambda c: c.execute(sa.text("SELECT 1")).scalar()) for _ in range(20)))
    waiting = asyncio.ensure_future(again.write(lambda c: c.execute(sa.text("SELECT pg_sleep(0.5)")).scalar()))
    await asyncio.sleep(0.1)
    late = asyncio.ensure_future(again.write(insert("cancelled before it began")))
    await asyncio.sleep(0.1)
    late.cancel()
    await waiting
    await again.close()
    assert stored(place) == rows


async def test_close_finishes_what_runs_and_refuses_what_comes(database: PostgresDatabase, place: Place) -> None:
    writes = [asyncio.ensure_future(database.write(insert(f"{n:02}"))) for n in range(20)]
    await asyncio.sleep(0)
    await asyncio.gather(database.close(), database.close())
    await asyncio.gather(*writes)
    assert len(stored(place)) == 20
    with pytest.raises(errors.DatabaseBusy):
        await database.write(insert("too late"))
    with pytest.raises(errors.DatabaseBusy):
        await database.read(lambda connection: None)


async def test_a_server_that_is_killed_and_started_again(folder: Path) -> None:
    with Postgres(folder) as server:
        records = await SqlRecords.open(server.url, durability="disk", busy_s=2.0, pool=4, overflow=4)
        kept: list[str] = []
        stop, longest = asyncio.Event(), 0.0

        async def client(name: int) -> None:
            nonlocal longest
            for n in itertools.count(name * 10_000):
                if stop.is_set():
                    return
                began = time.monotonic()
                try:
                    kept.append((await submit(records, n, owner=f"t{name}/ann")).id)
                except errors.DatabaseBusy:
                    await asyncio.sleep(0.02)
                longest = max(longest, time.monotonic() - began)

        clients = [asyncio.ensure_future(client(name)) for name in range(6)]
        await asyncio.sleep(1.0)
        assert kept
        await asyncio.to_thread(server.kill)
        before = len(kept)
        with pytest.raises(errors.DatabaseBusy):
            await records.health.check()
        await asyncio.sleep(0.5)
        assert len(kept) <= before + len(clients)
        await asyncio.to_thread(server.start)
        began = time.monotonic()
        after = len(kept)
        while len(kept) < after + 10 and time.monotonic() - began < 10:
            await asyncio.sleep(0.02)
        assert len(kept) >= after + 10, "works again as soon as it is back"
        stop.set()
        await asyncio.gather(*clients)
        assert longest < 9.0
        counts = await records.health.counts()
        assert counts["queued"] >= len(kept)
        for job_id in kept:  # what was acknowledged is there
            assert await records.jobs.get(None, job_id) is not None

        await asyncio.to_thread(server.stop)  # in order, with idle connections in the pool: no call notices
        await asyncio.to_thread(server.start)
        assert (await submit(records, 900_001)).state is JobState.QUEUED
        await records.close()


def end_connections(place: Place) -> None:
    """All that we have to this database, as a server does that is restarted."""
    place.rows(
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
        " WHERE application_name = 'cosygate' AND datname = current_database()"
    )


@pytest.mark.parametrize("idle_s", [0.0, 1.5])
async def test_connections_that_are_gone_cost_no_call_an_error(
    database: PostgresDatabase, place: Place, idle_s: float
) -> None:
    await asyncio.gather(*(database.write(insert(str(number))) for number in range(4)))
    await asyncio.sleep(idle_s)  # after a while they are looked at; before, what meets one is run again
    end_connections(place)
    assert await database.write(insert("next")) == "next"
    end_connections(place)
    assert await database.read(lambda connection: connection.execute(sa.text("SELECT count(*) FROM t")).scalar()) == 5


async def test_a_transaction_that_is_cut_off_happens_once(database: PostgresDatabase, place: Place) -> None:
    runs = []

    def run(connection: sa.Connection) -> None:
        connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": "once"})
        runs.append(len(runs))
        if len(runs) == 1:
            end_connections(place)
        connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": f"run {len(runs)}"})

    await database.write(run)
    assert stored(place) == ["once", "run 2"]


async def test_a_commit_that_is_cut_off_is_not_run_again(database: PostgresDatabase, place: Place) -> None:
    runs = []

    def run(connection: sa.Connection) -> None:
        runs.append(len(runs))
        connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": f"run {len(runs)}"})
        # Raised when everything is checked at COMMIT; the connection goes with it.
        connection.execute(
            sa.text(
                "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1); RETURN NULL; END $$"
            )
        )
        connection.execute(
            sa.text("CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
                    " FOR EACH ROW EXECUTE FUNCTION cut()")
        )  # fmt: skip
        connection.execute(sa.text("INSERT INTO t VALUES (:x)"), {"x": f"late {len(runs)}"})

    with pytest.raises(errors.DatabaseBusy):
        await database.write(run)
    assert runs == [0]
    assert stored(place) == []


async def test_a_server_that_hangs_is_not_waited_for_longer_than_that(folder: Path) -> None:
    with Postgres(folder, durable=False) as server:
        records = await SqlRecords.open(server.url, durability="disk", busy_s=0.5, pool=2, overflow=2)
        running = await submit(records, 1)
        await asyncio.gather(*(records.jobs.get(None, "x") for _ in range(4)))
        server.pause()
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(submit(records, n) for n in range(10, 16)),
            records.jobs.get(None, running.id),
            records.health.check(),
            return_exceptions=True,
        )
        assert {type(outcome) for outcome in outcomes} == {errors.DatabaseBusy}
        assert time.monotonic() - began < 8.0
        server.resume()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(errors.DatabaseBusy):
                await records.health.check()
                break
        assert await records.jobs.get(None, running.id) == running
        await records.close()


async def test_a_server_that_is_away_at_the_start(folder: Path) -> None:
    server = Postgres(folder)
    with pytest.raises(errors.DatabaseBusy):
        await SqlRecords.open(server.url, durability="disk", busy_s=1.0)
    shared = shared_postgres().url.rpartition("/")[0]
    with pytest.raises(errors.DatabaseBusy):
        await SqlRecords.open(f"{shared}/no_such_database", durability="disk", busy_s=1.0)


# --- what SQLite had for nothing -------------------------------------------------------------------------------------


async def test_a_job_that_is_cancelled_while_it_is_chosen_is_passed_over(place: Place) -> None:
    records = await place.open()
    first, second = await submit(records, 1), await submit(records, 2)
    with subprocess.Popen(["psql", "-Xq", place.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as rival:
        assert rival.stdin is not None and rival.stdout is not None
        rival.stdin.write(f"BEGIN; UPDATE jobs SET state = 'cancelled' WHERE id = '{first.id}';\n\\echo ok\n".encode())
        rival.stdin.flush()
        assert rival.stdout.readline() == b"ok\n"
        claiming = asyncio.ensure_future(records.leases.claim("w", 1.0))
        await asyncio.sleep(0.2)
        assert not claiming.done()
        rival.stdin.write(b"COMMIT;\n")
        rival.stdin.flush()
        claim = await claiming
        rival.kill()
    assert claim is not None and claim.job_id == second.id
    assert place.rows("SELECT * FROM turns") == [], "its tenant was alone: nothing is owed"
    await records.close()


async def test_names_are_compared_by_their_bytes(place: Place) -> None:
    """Whatever the server's language is: `a-` and `Z` stand elsewhere in English."""
    for table, column, kind in place.rows(
        "SELECT table_name, column_name, collation_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND data_type = 'text' AND table_name <> 't'"
    ):
        assert kind == "C", f"{table}.{column}"


async def test_one_of_several_that_open_the_same_upload_wins_and_all_get_it(place: Place) -> None:
    doors = [await place.open() for _ in range(3)]
    uploads = [new_upload(n, session="talk") for n in range(12)]
    found = await asyncio.gather(*(doors[n % 3].uploads.open(one, max_open=5) for n, one in enumerate(uploads)))
    assert len({one.id for one in found}) == 1
    for door in doors:
        await door.close()


def test_what_needs_no_postgres_imports_nothing_of_it(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from cosygate.adapters.records_sql import SqlRecords
async def main():
    await (await SqlRecords.open(sys.argv[1], durability="disk")).close()
asyncio.run(main())
print(sorted({"asyncpg", "greenlet", "sqlalchemy.ext.asyncio"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, f"sqlite:///{tmp_path / 'x.db'}"],
        capture_output=True, text=True, env={**os.environ}, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"
