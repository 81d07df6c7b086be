"""The schema: migrations reach what the code describes, once, however many processes start; and indexes are used."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite

from cosygate.adapters.records_sql import (
    SchemaTooNew,
    SqlRecords,
    depth,
    endings,
    events,
    jobs,
    leases,
    live,
    migrate,
    turns,
    uploads,
    versions,
)
from cosygate.adapters.records_sql.filelock import FileLock
from cosygate.adapters.records_sql.schema import metadata
from cosygate.model.editing import Changes, Version
from cosygate.model.job import Claim, JobState, Requeue
from cosygate.model.upload import UploadState
from tests.support.live_records import final, live_job, mark, new_session, session_id
from tests.support.records import OWNER, new_job, new_upload, open_records, rows, submit

_OPEN = """
import asyncio, sys
from cosygate.adapters.records_sql import SqlRecords
async def main():
    records = await SqlRecords.open(sys.argv[1], durability="process")
    await records.health.check()
    await records.close()
asyncio.run(main())
print("alembic" in sys.modules)
"""


def _open_in_another_process(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _OPEN, f"sqlite:///{path}"], stdout=subprocess.PIPE, text=True)


async def test_migrations_reach_what_the_code_describes(tmp_path: Path) -> None:
    await (await open_records(tmp_path / "x.db")).close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
    fresh = sqlite3.connect(":memory:")
    described = sa.create_engine("sqlite://", creator=lambda: fresh, poolclass=sa.StaticPool)
    metadata.create_all(described)
    partial = "SELECT name, substr(sql, instr(sql, 'WHERE')) FROM sqlite_master WHERE sql LIKE '%WHERE%' ORDER BY name"
    assert rows(tmp_path / "x.db", partial) == fresh.execute(partial).fetchall() != []
    described.dispose()
    fresh.close()


def test_the_known_revisions_are_those_of_the_files() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).with_name("migrations")))
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(found)) == migrate.REVISIONS


def _migrate_to(path: Path, revision: str) -> None:
    """A database as the code of that revision left it."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).with_name("migrations")))
    engine = sa.create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == revision
    engine.dispose()


def _write_as_0001(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("""
            INSERT INTO uploads VALUES
                ('u1', 'default/ann', 'talk', 'complete', 1.5, 9e9, 'j1'),
                ('u2', 'default/ann', 'next', 'open', 2.5, 9e9, NULL);
            INSERT INTO jobs VALUES
                ('j1', 'u1', 'default/ann', 'talk', '{}', 'wav', 44, 1.5, 'trace', 0, 'succeeded', 3, 0, NULL, 1, 2,
                 NULL, 100, 2.5, 3.5, 3, NULL, NULL, '{"text": "hello"}');
            INSERT INTO events (job_id, kind, data) VALUES
                ('j1', 'segment', '{"id": 0}'),
                ('j1', 'done', '{"percent": 100}');
            INSERT INTO outbox (job_id) VALUES ('j1');
        """)


async def test_the_first_schema_becomes_this_one_with_all_that_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    _migrate_to(path, "0001")
    _write_as_0001(path)
    tables = ("uploads", "jobs", "events", "outbox")
    before = {table: rows(path, f"SELECT * FROM {table}") for table in tables}
    records = await open_records(path)
    came_later = ("default", 0.0, None, "")  # the last columns of a job
    before["jobs"] = [row + came_later for row in before["jobs"]]
    assert {table: rows(path, f"SELECT * FROM {table}") for table in tables} == before
    assert rows(path, "SELECT version_num FROM alembic_version") == [(migrate.REVISIONS[-1],)]
    job = await records.jobs.get(OWNER, "j1")
    assert job is not None
    assert (job.state, job.result, job.fence) == (JobState.SUCCEEDED, {"text": "hello"}, 3)
    assert [event.seq for event in await records.events.read("j1", 0, 9)] == [1, 2]
    await records.live.open(new_session(1), max_of_owner=1, max_of_all=1)
    assert await records.live.finish(session_id(1), 1, live_job(1), {}, 4.5) is True
    assert await records.uploads.known(["u1", "u2", session_id(1)]) == {"u1", "u2", session_id(1)}
    await records.close()


async def test_a_step_that_fails_leaves_the_schema_before(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    _migrate_to(path, "0001")
    _write_as_0001(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE spent_tickets (somebody, elses)")
    schema = "SELECT name, sql FROM sqlite_master ORDER BY name"
    before = rows(path, schema), rows(path, "SELECT * FROM jobs")
    with pytest.raises(sa.exc.OperationalError, match="spent_tickets already exists"):
        await open_records(path)
    assert (rows(path, schema), rows(path, "SELECT * FROM jobs")) == before
    assert rows(path, "SELECT version_num FROM alembic_version") == [("0001",)]


@pytest.mark.parametrize("module", [uploads, jobs, leases, turns, depth, events, live, endings, versions])
def test_every_statement_is_one_that_postgres_speaks_too(module: ModuleType) -> None:
    statements = {name: value for name, value in vars(module).items() if isinstance(value, sa.Executable)}
    statements = {name: value for name, value in statements.items() if not isinstance(value, sa.Table)}
    assert statements
    for name, statement in statements.items():
        for dialect in (postgresql.dialect(), sqlite.dialect()):  # type: ignore[no-untyped-call]  # SQLAlchemy's
            assert isinstance(statement, sa.ClauseElement), name
            assert str(statement.compile(dialect=dialect)), name


async def test_a_database_at_head_opens_without_alembic(tmp_path: Path) -> None:
    answers = []
    for _ in range(2):
        with _open_in_another_process(tmp_path / "x.db") as opener:
            answers.append(opener.communicate(timeout=60)[0].strip())
    assert answers == ["True", "False"]


async def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    openers = [_open_in_another_process(tmp_path / "x.db") for _ in range(4)]
    for opener in openers:
        with opener:
            opener.communicate(timeout=60)
            assert opener.returncode == 0
    assert rows(tmp_path / "x.db", "SELECT version_num FROM alembic_version") == [(migrate.REVISIONS[-1],)]


@pytest.mark.parametrize("said", ["oldest = '9998'", None])
async def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path, said: str | None) -> None:
    path = tmp_path / "x.db"
    await (await open_records(path)).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.execute(f"UPDATE schema_compat SET {said}" if said else "DROP TABLE schema_compat")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SchemaTooNew, match="9999"):
        await open_records(path)
    assert path.read_bytes() == before


async def test_code_of_the_version_before_starts_on_a_newer_database_that_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way back, on SQLite: from 0004 on, whose code looks into the table. (Older code refuses what is newer.)"""
    path = tmp_path / "x.db"
    new = await open_records(path)
    await submit(new, 1)
    await new.close()
    with monkeypatch.context() as old:
        old.setattr(migrate, "REVISIONS", migrate.REVISIONS[:-1])
        before = await open_records(path)
        claim = await before.leases.claim("w", 5.0)
        assert claim is not None and await before.leases.commit(claim, 6.0, result={"text": "old"})
        await submit(before, 2)
        await before.close()
    assert rows(path, "SELECT version_num FROM alembic_version") == [(migrate.REVISIONS[-1],)]
    new = await open_records(path)
    assert await new.leases.claim("w", 7.0) is not None
    await new.close()


def test_every_step_says_which_older_code_still_works() -> None:
    for step in sorted((Path(migrate.__file__).with_name("migrations") / "versions").glob("0*.py")):
        assert step.stem[:4] < "0004" or "schema_compat" in step.read_text(), f"{step.name} does not say so"


async def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE outbox (somebody, elses)")
    connection.close()
    with pytest.raises(sa.exc.OperationalError, match="outbox already exists"):
        await open_records(path)
    assert rows(path, "SELECT name FROM sqlite_master WHERE type = 'table'") == [("outbox",)]


async def test_only_its_owner_may_read_the_file(tmp_path: Path) -> None:
    records = await open_records(tmp_path / "x.db")
    await submit(records, 1)
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name
    await records.close()


async def test_other_urls_are_refused(tmp_path: Path) -> None:
    for url in ("sqlite://", f"sqlite+aiosqlite:///{tmp_path}/x.db", "postgresql+psycopg://localhost/x", "mysql://h/x"):
        with pytest.raises(ValueError, match="sqlite:///PATH"):
            await SqlRecords.open(url, durability="disk")


async def test_a_turn_that_a_stopped_process_holds_does_not_stop_others(tmp_path: Path) -> None:
    records = await open_records(tmp_path / "x.db")
    turn = FileLock(tmp_path / "x.db.turn")
    with turn.held(1.0, poll_s=0.01) as held:
        assert held
        await asyncio.wait_for(submit(records, 1), 4.0)
    turn.close()
    await records.close()


async def test_an_erased_transcript_is_gone_from_the_file(tmp_path: Path) -> None:
    path, words = tmp_path / "x.db", "the quick brown fox"
    records = await open_records(path)
    await submit(records, 1)
    claim = await records.leases.claim("w", 1.0)
    assert claim is not None
    await records.events.append(claim, [("segment", {"text": words})], 50)
    await records.leases.commit(claim, 2.0, result={"text": words})
    assert words.encode() in path.with_name("x.db-wal").read_bytes()
    await records.jobs.delete(claim.job_id)
    await records.close()  # the last connection empties the WAL into the file
    assert words.encode() not in path.read_bytes()
    assert not path.with_name("x.db-wal").exists()


async def test_what_was_spoken_live_is_gone_from_the_file_too(tmp_path: Path) -> None:
    path, words = tmp_path / "x.db", "the quick brown fox"
    records = await open_records(path)
    await records.live.open(new_session(1), max_of_owner=1, max_of_all=1)
    await records.live.keep(session_id(1), 1, [final(0) | {"text": words}], mark(1))
    await records.live.finish(session_id(1), 1, live_job(1), {"text": words}, 2.0)
    assert words.encode() in path.with_name("x.db-wal").read_bytes()
    await records.jobs.delete(session_id(1))
    await records.close()
    assert words.encode() not in path.read_bytes()
    assert rows(path, "SELECT count(*) FROM live_finals") == [(0,)]


async def test_spent_tickets_are_forgotten_once_no_clock_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    records = await open_records(path)
    for number in range(300):
        await records.one_time.spend(f"t{number}", 100.0 + number / 1_000, 90.0)
    for number in range(4):
        await records.one_time.spend(f"u{number}", 999.0, 101.0 + live.SKEW_S)
        left = 300 - 100 * (number + 1)  # so many at once, that none keeps others waiting
        assert rows(path, "SELECT count(*) FROM spent_tickets WHERE id LIKE 't%'") == [(max(left, 0),)]
    await records.close()
    assert rows(path, "SELECT id FROM spent_tickets ORDER BY id") == [("u0",), ("u1",), ("u2",), ("u3",)]


# method → the indexes that its statements may use. A scan, or a sort, would be linear in the table.
_PLANS = {
    "claim": {
        *("jobs_of_tenant", "jobs_delayed", "sqlite_autoindex_jobs_1", "events_of_job", "sqlite_autoindex_turns_1"),
        *("SCAN tenants", "SCAN turns", "SCAN CONSTANT ROW"),
    },
    "waiting": {"jobs_waiting"},
    "ended": {"jobs_finished"},
    "renew": {"sqlite_autoindex_jobs_1"},
    "append": {"sqlite_autoindex_jobs_1", "events_of_job"},
    "commit": {
        *("sqlite_autoindex_jobs_1", "sqlite_autoindex_usage_1"),
        *("sqlite_autoindex_turns_1", "jobs_of_tenant", "SCAN CONSTANT ROW"),
    },
    "requeue": {"sqlite_autoindex_jobs_1", "sqlite_autoindex_turns_1"},
    "running": {"jobs_running"},
    "page": {"jobs_of_owner", "jobs_of_owner_by_state"},
    "get": {"sqlite_autoindex_jobs_1"},
    "cancel": {"sqlite_autoindex_jobs_1"},
    "delete": {"sqlite_autoindex_jobs_1", "sqlite_autoindex_uploads_1", "sqlite_autoindex_live_sessions_1"},
    "finished_before": {"jobs_finished", "ix_deliveries_job_id"},
    "read": {"events_of_job"},
    "take": {"INTEGER PRIMARY KEY", "SCAN outbox", "sqlite_autoindex_jobs_1"},
    "open": {"uploads_bound", "uploads_open"},
    "find": {"uploads_bound"},
    "complete": {"sqlite_autoindex_uploads_1", "sqlite_autoindex_jobs_2"},
    "close": {"sqlite_autoindex_uploads_1", "uploads_closed", "sqlite_autoindex_jobs_2"},
    "stale": {"uploads_stale"},
    "counts": {"jobs_of_owner_by_state"},
    "known": {"sqlite_autoindex_uploads_1", "sqlite_autoindex_live_sessions_1"},
    "live_open": {"live_open_of_owner", "live_open_held"},
    "live_find": {"sqlite_autoindex_live_sessions_1"},
    "live_claim": {"sqlite_autoindex_live_sessions_1"},
    "live_keep": {"sqlite_autoindex_live_sessions_1"},
    "live_finish": {
        *("sqlite_autoindex_live_sessions_1", "sqlite_autoindex_live_finals_1", "uploads_bound"),
        *("sqlite_autoindex_jobs_1", "sqlite_autoindex_usage_1"),
    },
    "live_beat": {"live_open_held"},
    "live_open_sessions": {"live_open_held"},
    "live_discard": {"sqlite_autoindex_live_sessions_1"},
    "live_finals": {"sqlite_autoindex_live_finals_1"},
    "spend": {"sqlite_autoindex_spent_tickets_1", "spent_tickets_expired"},
    "edit": {"sqlite_autoindex_jobs_1", "sqlite_autoindex_transcript_versions_1"},
    "versions": {"sqlite_autoindex_transcript_versions_1"},
}


async def _statements(path: Path) -> dict[str, list[tuple[str, tuple[object, ...]]]]:
    """Calls every method of the port, and returns the SQL that each has run."""
    found: dict[str, list[tuple[str, tuple[object, ...]]]] = {}
    current = [""]

    def listen(_c: object, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:
        if statement.split()[0] in ("SELECT", "UPDATE", "DELETE", "WITH"):
            one = parameters[0] if isinstance(parameters, list) else parameters  # of several runs
            found.setdefault(current[0], []).append((statement, one))

    records = await open_records(path)
    sa.event.listen(sa.Engine, "before_cursor_execute", listen)
    try:

        async def call(name: str, coroutine: Awaitable[object]) -> object:
            current[0] = name
            answer = await coroutine
            current[0] = ""
            return answer

        await submit(records, 7)
        first = await records.leases.claim("w", 1.0)
        assert first is not None
        await records.leases.requeue(first.job_id, 1, Requeue.LOST, 1.0)
        claim = await call("claim", records.leases.claim("w", 2.0))
        assert isinstance(claim, Claim)
        for number in (4, 5, 6):
            await submit(records, number, owner=f"tenant-{number % 2}/ann")
        for _ in range(4):
            await call("claim", records.leases.claim("w", 2.0))
        await call("waiting", records.depth.waiting())
        await call("ended", records.depth.ended(1.0, 5))
        await call("renew", records.leases.renew(claim))
        await call("append", records.events.append(claim, [("segment", {})], 5))
        await call("running", records.leases.running())
        await call("running", records.leases.running("w"))
        await call("requeue", records.leases.requeue(claim.job_id, 2, Requeue.LOST, 3.0, delay_s=1.0))
        again = await records.leases.claim("w", 9.0)
        assert again is not None
        await call("commit", records.leases.commit(again, 10.0, result={"duration": 99.0}))
        await call("page", records.jobs.page(OWNER, state=None, before="f", limit=5))
        await call("page", records.jobs.page(OWNER, state=JobState.QUEUED, before=None, limit=5))
        await call("get", records.jobs.get(OWNER, claim.job_id))
        await call("cancel", records.jobs.cancel(OWNER, claim.job_id, 1.0))
        await call("finished_before", records.jobs.finished_before(99.0, 5))
        await call("read", records.events.read(claim.job_id, 0, 5))
        await call("counts", records.health.counts())
        await call("take", records.outbox.take(5))
        await call("open", records.uploads.open(new_upload(8), max_open=5))
        await call("find", records.uploads.find(OWNER, "session-8"))
        await call("stale", records.uploads.stale(1.0, 5))
        await call("close", records.uploads.close("upload-8", UploadState.EXPIRED))
        await records.uploads.open(new_upload(9), max_open=5)
        await call("complete", records.uploads.complete(new_job(9)))
        await call("complete", records.uploads.complete(new_job(9)))
        await call("known", records.uploads.known(["upload-9", "upload-8"]))
        await call("edit", records.versions.add(claim.job_id, Version(2, 1.0, "ann"), Changes(), 2))
        await call("versions", records.versions.all(claim.job_id))
        await call("versions", records.versions.changes(claim.job_id, 2))
        await call("delete", records.jobs.delete(claim.job_id))
        await call("live_open", records.live.open(new_session(20), max_of_owner=9, max_of_all=9))
        sid = session_id(20)
        await call("live_discard", records.live_keeping.discard(sid, 5))
        await call("live_find", records.live.find(sid))
        await call("live_claim", records.live.claim(sid, 1, "g2"))
        await call("live_keep", records.live.keep(sid, 2, [final(0)], mark(1)))
        await call("live_beat", records.live_keeping.beat("g2"))
        await call("live_open_sessions", records.live_keeping.open_sessions())
        await call("live_finals", records.live_keeping.finals(sid, -1, 5))
        await call("live_finish", records.live.finish(sid, 2, live_job(20), {}, 20.0))
        await call("live_finish", records.live.finish(sid, 2, live_job(20), {}, 20.0))
        await call("spend", records.one_time.spend("t", 20.0, 10.0))
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", listen)
        await records.close()
    return found


async def test_every_statement_finds_its_rows_by_an_index(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    statements = await _statements(path)
    connection = sqlite3.connect(path)
    seen: set[str] = set()
    for method, indexes in _PLANS.items():
        for statement, parameters in statements[method]:
            plan = [str(row[3]) for row in connection.execute("EXPLAIN QUERY PLAN " + statement, parameters)]
            told = f"{method}: {statement}\n{json.dumps(plan, indent=1)}"
            for step in plan:
                assert "TEMP B-TREE" not in step, told
                if step.startswith("SCAN"):  # an index in its order until LIMIT, or all of the few rows it holds
                    few = any(some in step for some in ("jobs_running", "live_open", "turns", "tenants", "CONSTANT"))
                    few |= method == "waiting"
                    assert "LIMIT" in statement or few or method == "counts", told
                if step.startswith(("SCAN", "SEARCH")):
                    used = {index for index in indexes if f"{index} " in step + " "}
                    assert used, told
                    seen |= used
    connection.close()
    assert seen == set().union(*_PLANS.values())
