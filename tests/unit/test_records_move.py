"""`cosygate migrate`: the schema brought up to date, and an embedded installation moved into Postgres, row by row."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cosygate.adapters.records_sql import SqlRecords
from cosygate.adapters.records_sql.migrate import REVISIONS
from cosygate.adapters.records_sql.move import TABLES
from cosygate.cli.migrate import migrate
from cosygate.model.api_key import ApiKey
from cosygate.model.editing import Changes, Edit, Version
from cosygate.model.job import JobState, Requeue
from cosygate.model.upload import UploadState
from cosygate.model.usage import Quota
from deploy.local_cluster.services import free_port
from tests.support.deliveries import ended
from tests.support.live_records import RESULT, final, live_job, mark, new_session, session_id
from tests.support.records import Place, new_job, new_upload, rows, submit
from tests.support.services import fresh_database


@pytest.fixture
def target() -> Iterator[Place]:
    with fresh_database() as url:
        yield Place(url, "disk")


async def fill(path: Path) -> None:
    """Every table, by what the port offers."""
    records = await SqlRecords.open(f"sqlite:///{path}", durability="process")
    for number in range(1, 6):
        await ended(records, number, now=50.0 + number, url="https://r.example/hook", owner=f"t{number % 2}/ann")
    await ended(records, 6, now=60.0, url=None, state=JobState.FAILED)
    await ended(records, 7, now=60.0, url="https://gone.example/", state=JobState.CANCELLED)
    for number in range(10, 16):
        await submit(records, number, owner=f"t{number % 2}/ann", priority=number % 2 * 10, cost_s=1.5)
    claim = await records.leases.claim("w", 70.0)
    assert claim is not None
    words = {"text": 'ça va – "quoted" \\ \n\t\u2028 🎙', "n": 0.1, "big": 2**53, "none": None, "list": [1, {"a": True}]}
    await records.events.append(claim, [("segment", words)], 40)
    back = await records.leases.claim("w", 70.0)
    assert back is not None
    await records.leases.requeue(back.job_id, back.fence, Requeue.RECORDING, 71.0, delay_s=9.0)
    await records.outbox.take(3)
    await records.uploads.open(new_upload(20), max_open=9)
    await records.uploads.open(new_upload(21, session="süß / name"), max_open=9)
    await records.uploads.close("upload-21", UploadState.ABORTED)
    for number in (30, 31):
        await records.live.open(new_session(number), max_of_owner=9, max_of_all=9)
        await records.live.keep(session_id(number), 1, [final(0), final(1)], mark(2))
    await records.live.finish(session_id(30), 1, live_job(30), RESULT, 80.0)
    await records.one_time.spend("ticket", 9e9, 1.0)
    await records.quotas.set("t1", Quota(day_s=60.0, live=3))
    await records.keys.add(ApiKey("k1", "h" * 64, "phone", "t1", "ann", frozenset({"live"}), 1.25))
    await records.revocations.token("jti:a", 9e9, 5.5)
    await records.switches.set("x", "on", 7.0)
    await records.receivers.add_secret("t1", "whsec_one", 1.0)
    await records.receivers.rotate_secret("t1", "whsec_two", 2.0, 99.0)
    await records.sending.disable("t1", "https://gone.example/", 3.0)
    await records.versions.add(new_job(1).id, Version(2, 90.5, "ann"), Changes({"S1": "Änne"}, (Edit(0, "ça"),)), 50)
    gone = await records.jobs.delete(new_job(6).id)  # its events' numbers are used up all the same
    assert gone is not None
    await records.close()


def as_told(row: dict[str, object]) -> dict[str, object]:
    """JSON is text in both; Postgres keeps what it was given."""
    return {
        name: json.loads(value) if name in ("result", "data", "changes") and isinstance(value, str) else value
        for name, value in row.items()
    }


def everything(place: Place) -> dict[str, list[dict[str, object]]]:
    found = {}
    for table in TABLES:
        names = [column.name for column in table.c]
        quoted = ", ".join(f'"{name}"' for name in names)
        key = ", ".join(f'"{column.name}"' for column in table.primary_key)
        got = place.rows(f"SELECT {quoted} FROM {table.name} ORDER BY {key}")
        found[table.name] = [as_told(dict(zip(names, row, strict=True))) for row in got]
    return found


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def command(*arguments: str, data_dir: Path, database: str = "") -> Done:
    """`cosygate migrate`, in a thread: it has a loop of its own."""
    app = typer.Typer()
    app.command()(migrate)
    environment: dict[str, str | None] = {name: None for name in os.environ if name.startswith("COSYGATE_")}
    environment |= {"COSYGATE_DATA_DIR": str(data_dir)} | ({"COSYGATE_DATABASE_URL": database} if database else {})
    done = CliRunner().invoke(app, arguments, env=environment)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


@pytest.mark.needs("postgres")
async def test_an_embedded_installation_moves_with_every_row(tmp_path: Path, target: Place) -> None:
    path = tmp_path / "cosygate.db"
    await fill(path)
    here = Place(f"sqlite:///{path}")
    before = everything(here)
    assert all(before.values()), [table for table, found in before.items() if not found]
    done = await asyncio.to_thread(
        command, "--from", f"sqlite:///{path}", data_dir=tmp_path / "elsewhere", database=target.url
    )
    assert done.returncode == 0, done.stderr
    assert everything(target) == before
    assert everything(here) == before
    told = dict(line.split() for line in done.stdout.splitlines()[:-1])
    assert told == {table: str(len(found)) for table, found in before.items()}

    records = await target.open()  # and it goes on there
    highest = max(int(str(number)) for (number,) in rows(path, "SELECT seq FROM sqlite_sequence WHERE name = 'events'"))
    job = await submit(records, 40)
    assert all(event.seq > highest for event in await records.events.read(job.id, 0, 9))
    assert len(await records.outbox.take(99)) == len(before["outbox"]) + 1
    (beat,) = await records.leases.running()
    assert await records.leases.requeue(beat.job_id, beat.fence, Requeue.LOST, 90.0, beat=beat.beat) == "queued"
    for _ in range(7):
        claim = await records.leases.claim("w", 100.0)
        assert claim is not None
        assert await records.leases.commit(claim, 101.0, result=RESULT)
    assert await records.leases.claim("w", 100.0) is None
    assert (await records.live_keeping.open_sessions())[0].id == session_id(31)
    assert await records.one_time.spend("ticket", 9e9, 1.0) is False
    await records.close()

    again = await asyncio.to_thread(command, "--from", f"sqlite:///{path}", data_dir=tmp_path, database=target.url)
    assert (again.returncode, again.stdout) == (1, "")
    assert "not empty" in again.stderr and len(again.stderr.splitlines()) == 1


@pytest.mark.needs("postgres")
async def test_what_stands_in_the_way_is_told_and_changes_nothing(tmp_path: Path, target: Place) -> None:
    path = tmp_path / "cosygate.db"
    await fill(path)

    def moved(source: Path | str = path, database: str = target.url) -> tuple[int, str]:
        where = source if isinstance(source, str) else f"sqlite:///{source}"
        done = command("--from", where, data_dir=tmp_path, database=database)
        assert done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr
        return done.returncode, done.stderr

    with (tmp_path / "serve.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, told = await asyncio.to_thread(moved)
        assert status == 1 and "stop it first" in told
    status, told = await asyncio.to_thread(moved, tmp_path / "nothing.db")
    assert status == 1 and "is not there" in told
    status, told = await asyncio.to_thread(moved, "postgresql://x/y")
    assert status == 2 and "sqlite:///PATH" in told
    status, told = await asyncio.to_thread(moved, path, "")
    assert status == 2 and "COSYGATE_DATABASE_URL" in told
    status, told = await asyncio.to_thread(moved, path, f"postgresql://u:secret@127.0.0.1:{free_port()}/x")
    assert status == 1 and "busy" in told and "secret" not in told
    rows(path, "UPDATE alembic_version SET version_num = '0003'")
    status, told = await asyncio.to_thread(moved)
    assert status == 1 and "migrate on it first" in told
    assert target.rows("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    rows(path, f"UPDATE alembic_version SET version_num = '{REVISIONS[-1]}'")
    rows(path, "DELETE FROM uploads WHERE id = 'upload-10'")  # a row that others point at: damaged
    status, told = await asyncio.to_thread(moved)
    assert status == 1 and "damaged" in told
    assert target.rows("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)], "all or nothing"


@pytest.mark.needs("postgres")
async def test_the_schema_is_brought_up_and_it_says_so(tmp_path: Path, target: Place) -> None:
    for told in ("was empty", "nothing to do"):
        done = await asyncio.to_thread(command, data_dir=tmp_path, database=target.url)
        assert (done.returncode, done.stderr) == (0, "")
        assert told in done.stdout and REVISIONS[-1] in done.stdout
    target.rows("DROP TABLE schema_compat")
    target.rows("DROP TABLE transcript_versions")
    target.rows("UPDATE alembic_version SET version_num = '0003'")
    done = await asyncio.to_thread(command, data_dir=tmp_path, database=target.url)
    assert "had schema 0003" in done.stdout
    records = await target.open()
    await submit(records, 1)
    await records.close()
    target.rows("UPDATE alembic_version SET version_num = '9999'")
    target.rows("UPDATE schema_compat SET oldest = '9999'")
    done = await asyncio.to_thread(command, data_dir=tmp_path, database=target.url)
    assert done.returncode == 1 and "9999" in done.stderr
    done = await asyncio.to_thread(command, data_dir=tmp_path, database="postgresql://u:secret@127.0.0.1:1/x")
    assert (done.returncode, len(done.stderr.splitlines()), "secret" in done.stderr) == (1, 1, False)


async def test_without_a_url_it_is_the_database_in_the_data_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for told in ("was empty", "nothing to do"):
        done = await asyncio.to_thread(command, data_dir=folder)
        assert (done.returncode, done.stderr) == (0, "")
        assert told in done.stdout
    rows(folder / "cosygate.db", "UPDATE alembic_version SET version_num = '0003'")
    rows(folder / "cosygate.db", "DROP TABLE schema_compat")
    rows(folder / "cosygate.db", "DROP TABLE transcript_versions")
    done = await asyncio.to_thread(command, data_dir=folder)
    assert "had schema 0003" in done.stdout
    records = await SqlRecords.open(f"sqlite:///{folder / 'cosygate.db'}", durability="disk")
    assert (await submit(records, 1)).state is JobState.QUEUED
    await records.close()
