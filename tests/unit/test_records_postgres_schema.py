"""The schema on Postgres: the same tables by the same steps, old and new code side by side, indexes that are used."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import asyncpg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cosygate.adapters.records_sql import SchemaTooNew, SchemaTooOld, SqlRecords, migrate
from cosygate.adapters.records_sql.migrate import upgrade_postgres
from cosygate.adapters.records_sql.postgres import PostgresDatabase
from cosygate.adapters.records_sql.schema import metadata
from cosygate.model.job import JobState
from tests.support.records import OWNER, Place, a_place, submit
from tests.support.services import fresh_database

pytestmark = pytest.mark.needs("postgres")
T = TypeVar("T")


@pytest.fixture
def empty() -> Iterator[Place]:
    with fresh_database() as url:
        yield Place(url)


@pytest.fixture
def place() -> Iterator[Place]:
    with a_place("postgres") as found:
        yield found


async def run(place: Place, work: Callable[[sa.Connection], T]) -> T:
    database = PostgresDatabase(place.url, busy_s=20.0, pool=1, overflow=0)
    try:
        return await database.write(work)
    finally:
        await database.close()


async def migrated_to(place: Place, revision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database as the code of that revision left it."""
    from alembic import command

    real = command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, _head: real(config, revision))
        await run(place, lambda connection: upgrade_postgres(connection, only_empty=True))
    assert place.rows("SELECT version_num FROM alembic_version") == [(revision,)]


async def test_migrations_reach_what_the_code_describes(place: Place, empty: Place) -> None:
    def compare(connection: sa.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert await run(place, compare) == []
    await run(empty, metadata.create_all)
    indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"
    described = empty.rows(indexes)
    assert [row for row in place.rows(indexes) if row[0] != "alembic_version_pkc"] == described != []


async def test_an_empty_database_gets_its_tables_once_however_many_begin(empty: Place) -> None:
    program = """
import asyncio, sys
from cosygate.adapters.records_sql import SqlRecords
async def main():
    records = await SqlRecords.open(sys.argv[1], durability="disk", busy_s=30.0)
    await records.health.check()
    await records.close()
asyncio.run(main())
"""
    openers = [subprocess.Popen([sys.executable, "-c", program, empty.url]) for _ in range(4)]
    assert [await asyncio.to_thread(opener.wait, 90) for opener in openers] == [0] * 4
    assert empty.rows("SELECT version_num FROM alembic_version") == [(migrate.REVISIONS[-1],)]
    assert empty.rows("SELECT count(*) FROM schema_compat") == [(1,)]


async def test_an_older_schema_is_the_operators_to_migrate(empty: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrated_to(empty, "0003", monkeypatch)
    with pytest.raises(SchemaTooOld, match="cosygate migrate"):
        await SqlRecords.open(empty.url, durability="disk")
    assert empty.rows("SELECT version_num FROM alembic_version") == [("0003",)]
    assert await run(empty, lambda connection: upgrade_postgres(connection, only_empty=False)) == "0003"
    records = await SqlRecords.open(empty.url, durability="disk")
    await submit(records, 1)
    await records.close()


async def test_each_step_goes_on_from_the_one_before(empty: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """As code of 0002 left it, with a job that was waiting then."""
    await migrated_to(empty, "0002", monkeypatch)
    empty.rows("INSERT INTO uploads VALUES ('u', 'acme/ann', 's', 'complete', 1, 9, 'j')")
    empty.rows(
        "INSERT INTO jobs VALUES ('j', 'u', 'acme/ann', 's', '{}', 'wav', 64000, 1, 't', 0, 'queued', 0, 0, NULL, 0, "
        "0, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL)"
    )
    await run(empty, lambda connection: upgrade_postgres(connection, only_empty=False))
    records = await SqlRecords.open(empty.url, durability="disk")
    claim = await records.leases.claim("w", 5.0)
    assert claim is not None
    assert empty.rows("SELECT tenant, cost_s FROM jobs") == [("acme", 2.0)]
    await records.close()


async def test_a_step_that_fails_leaves_the_schema_before(empty: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrated_to(empty, "0001", monkeypatch)
    empty.rows("CREATE TABLE turns (somebodys int)")
    columns = "SELECT table_name, column_name FROM information_schema.columns"
    tables = f"{columns} WHERE table_schema = 'public' ORDER BY 1, 2"
    before = empty.rows(tables)
    with pytest.raises(sa.exc.ProgrammingError, match="already exists"):
        await run(empty, lambda connection: upgrade_postgres(connection, only_empty=False))
    assert empty.rows(tables) == before
    assert empty.rows("SELECT version_num FROM alembic_version") == [("0001",)]


async def test_old_code_goes_on_while_the_new_schema_is_there_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rolling upgrade: migrate, then replace one process after the other. Code that knows one revision less works
    before, during and after, beside new code."""
    *_, last_but_one, newest = migrate.REVISIONS
    with fresh_database() as url:
        place = Place(url)
        await migrated_to(place, last_but_one, monkeypatch)
        with monkeypatch.context() as old:
            old.setattr(migrate, "REVISIONS", migrate.REVISIONS[:-1])
            before = await SqlRecords.open(url, durability="disk")
            await submit(before, 1)
        await run(place, lambda connection: upgrade_postgres(connection, only_empty=False))
        await submit(before, 2)  # it was there all the time
        with monkeypatch.context() as old:
            old.setattr(migrate, "REVISIONS", migrate.REVISIONS[:-1])
            started_late = await SqlRecords.open(url, durability="disk")
            assert await run(place, lambda connection: upgrade_postgres(connection, only_empty=False)) == newest
        new = await SqlRecords.open(url, durability="disk")
        for records, number in ((new, 1), (started_late, 2)):
            claim = await records.leases.claim("w", 5.0)
            assert claim is not None
            assert await before.leases.commit(claim, 6.0, result={"text": str(number)})
        assert (await new.health.counts())["succeeded"] == 2
        for records in (before, started_late, new):
            await records.close()


@pytest.mark.parametrize("said", ["UPDATE schema_compat SET oldest = '9998'", "DROP TABLE schema_compat"])
async def test_a_newer_schema_that_is_not_for_this_code_is_refused(place: Place, said: str) -> None:
    place.rows("UPDATE alembic_version SET version_num = '9999'")
    records = await SqlRecords.open(place.url, durability="disk")  # it says that 0003 and later go on
    await submit(records, 1)
    await records.close()
    place.rows(said)
    with pytest.raises(SchemaTooNew, match="9999"):
        await SqlRecords.open(place.url, durability="disk")
    with pytest.raises(SchemaTooNew, match="9999"):
        await run(place, lambda connection: upgrade_postgres(connection, only_empty=False))


# method → what its plans may use. Anything else is linear in the table, or sorts.
_PLANS = {
    "claim": {"jobs_of_tenant", "jobs_delayed", "jobs_pkey", "turns_pkey", "events_of_job"},
    "waiting": {"jobs_waiting"},
    "ended": {"jobs_finished"},
    "renew": {"jobs_pkey"},
    "commit": {"jobs_pkey", "usage_pkey", "usage_of_day", "turns_pkey", "jobs_of_tenant"},
    "page": {"jobs_of_owner", "jobs_of_owner_by_state", "jobs_pkey"},
    "running": {"jobs_running"},
    "finished_before": {"jobs_finished", "ix_deliveries_job_id"},
    "take": {"outbox_pkey", "jobs_pkey"},
}
_ROWS = """
    INSERT INTO uploads SELECT 'u' || n, 't' || n % 40 || '/ann', 's' || n, 'complete', n, 9e9, 'j' || n
        FROM generate_series(1, 6000) n;
    INSERT INTO jobs SELECT 'j' || n, 'u' || n, 't' || n % 40 || '/ann', 's' || n, '{}', 'wav', 44, n, 't', n % 2 * 10,
        CASE WHEN n % 20 = 0 THEN 'queued' WHEN n % 500 = 1 THEN 'running' ELSE 'succeeded' END, 0, 0, 'w', 0, 0,
        CASE WHEN n % 1000 = 0 THEN 1e9 END, 0, NULL, CASE WHEN n % 20 > 1 THEN n END, NULL, NULL, NULL, NULL,
        't' || n % 40, 1.0, NULL, '' FROM generate_series(1, 6000) n;
    INSERT INTO outbox (job_id) SELECT 'j' || n FROM generate_series(1, 3000) n;
    INSERT INTO turns SELECT n % 2 * 10, 't' || n, 5.0 FROM generate_series(1, 40) n;
"""


async def test_what_is_searched_is_found_by_an_index(place: Place) -> None:
    raw = await asyncpg.connect(place.url)
    await raw.execute(_ROWS)
    await raw.execute("ANALYZE")
    records = await place.open()
    found: dict[str, list[tuple[str, tuple[object, ...]]]] = {}
    current = ""

    def listen(_c: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE", "WITH") and "advisory" not in statement:
            one = parameters[0] if isinstance(parameters, list) else parameters
            found.setdefault(current, []).append((statement, one))  # type: ignore[arg-type]

    sa.event.listen(sa.Engine, "before_cursor_execute", listen)
    try:
        current = "claim"
        claim = await records.leases.claim("w", 2.0)
        assert claim is not None and claim.job.state is JobState.RUNNING
        current = "waiting"
        await records.depth.waiting()
        current = "ended"
        await records.depth.ended(5_000.0, 100)
        current = "renew"
        await records.leases.renew(claim)
        current = "commit"
        await records.leases.commit(claim, 3.0, result={"duration": 99.0})
        current = "page"
        await records.jobs.page(OWNER, state=None, before=None, limit=50)
        await records.jobs.page("t1/ann", state=JobState.QUEUED, before="j9", limit=50)
        current = "running"
        await records.leases.running("w")
        current = "finished_before"
        await records.jobs.finished_before(50.0, 20)
        current = "take"
        await records.outbox.take(5)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", listen)
    await raw.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")  # of tables that are small here
    for method, indexes in _PLANS.items():
        for statement, parameters in found[method]:
            plan = [str(row[0]) for row in await raw.fetch("EXPLAIN (COSTS OFF) " + statement, *parameters)]  # type: ignore[misc]
            told = f"{method}: {statement}\n" + "\n".join(plan)
            for step in plan:
                assert "Seq Scan" not in step or "turns" in step, told
                used = step.partition(" using ")[2].partition(" on ")[0]
                assert used in {*indexes, ""}, told
            if method == "claim":
                assert not any("Sort" in step and "debt" not in step for step in plan), told
    await raw.close()
    await records.close()
