"""`cosygate doctor` on folders that are well and on such that are not: what it finds, and that it changes nothing."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cosygate.adapters.records_sql.migrate import REVISIONS
from deploy.local_cluster.services import free_port
from tests.support.server import Server
from tests.support.services import fresh_database, object_store, redis, shared_postgres


def doctor(
    data_dir: Path, environment: Mapping[str, str] | None = None, **settings: str
) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status, and the findings by name."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")}
    given = {f"COSYGATE_{k.upper()}": v for k, v in {"recogniser": "scripted", **settings}.items()}
    command = [sys.executable, "-m", "cosygate", "doctor", "--json", "--data-dir", str(data_dir)]
    answer = subprocess.run(
        command, env=clean | given | dict(environment or {}), capture_output=True, text=True, timeout=100
    )
    assert "Traceback" not in answer.stderr, answer.stderr
    report = json.loads(answer.stdout)
    assert report["ok"] == (answer.returncode == 0)
    return answer.returncode, {check["name"]: check for check in report["checks"]}


def test_a_new_folder_is_well_and_stays_unmade(tmp_path: Path) -> None:
    status, found = doctor(tmp_path / "not" / "there")
    assert status == 0, found
    assert list(found) == ["data folder", "database", "sandbox", "engine", "secret"]
    assert "scripted" in found["engine"]["detail"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_well_and_left_as_it_was(data_dir: Path) -> None:
    with Server(data_dir, recogniser="scripted") as running:
        status, found = doctor(data_dir)
        assert status == 0, found
        assert f"schema {REVISIONS[-1]}" in found["database"]["detail"]
        with running.http() as http:
            assert http.get("/readyz").status_code == 200
    assert not list(data_dir.glob(".doctor*"))


def test_what_is_wrong_is_told_with_what_to_do(tmp_path: Path) -> None:
    """A damaged database, a secret that others can read, an engine that cannot start: each alone is told."""
    with sqlite3.connect(tmp_path / "cosygate.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("CREATE TABLE jobs (id TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    connection.close()
    secret = tmp_path / "jwt_secret"
    secret.write_text("k3y" * 20)
    secret.chmod(0o644)
    status, found = doctor(tmp_path, script=str(tmp_path / "missing.json"))
    assert status == 1
    wrong = {name: check["detail"] for name, check in found.items() if not check["ok"]}
    assert set(wrong) == {"database", "engine", "secret"}
    assert "newer" in wrong["database"]
    assert "status 78" in wrong["engine"]
    assert "read by others" in wrong["secret"]
    assert all(check["advice"] for check in found.values() if not check["ok"])
    (tmp_path / "cosygate.db").write_bytes(b"SQLite format 3\0" + bytes(100))
    assert not doctor(tmp_path)[1]["database"]["ok"]


@pytest.mark.parametrize("what", ["speakers", "punctuation"])
def test_a_model_folder_that_is_not_there_is_told(tmp_path: Path, what: str) -> None:
    status, found = doctor(tmp_path / "data", recogniser="moonshine", **{f"{what}_dir": str(tmp_path / "none")})
    assert status == 1
    assert [name for name, check in found.items() if not check["ok"]] == ["engine"]


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, found = doctor(tmp_path / "file" / "below")
    assert status == 1
    assert not found["data folder"]["ok"]
    assert not found["database"]["ok"]
    assert found["sandbox"]["ok"]


def test_lines_for_people(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cosygate", "doctor", "--data-dir", str(tmp_path)]
    environment = {**os.environ, "COSYGATE_RECOGNISER": "scripted", "COSYGATE_JWT_SECRET": "secret"}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert answer.returncode == 1
    lines = answer.stdout.splitlines()
    assert [line[0] for line in lines if line[0] in "✓✗"] == ["✓", "✓", "✓", "✓", "✗"]
    assert "→" in lines[-2]
    assert "secret" in lines[-3]


@pytest.mark.needs("postgres", "redis-server")
def test_what_hosts_share_is_asked_and_told_without_passwords(tmp_path: Path) -> None:
    """Those that are configured alone; each that is away is told, with what to do."""
    with fresh_database() as database, redis() as running, object_store() as store:
        shared = {
            "database_url": database.replace("cosygate@", "cosygate:pass-w0rd@"),
            "redis_url": running.url.replace("redis://", "redis://:@"),
            "broker_url": running.url,
            "store_url": "s3://cosygate/doctor",
            "store_endpoint": store.endpoint,
            "engine_addresses": f"127.0.0.1:{free_port()}",
            "jwt_secret": "9f2c1b7e5d8a4c60b3e1f7d2a9c4e6b8",
        }
        environment = dict(store.credentials)
        status, found = doctor(tmp_path, environment, **shared)
        assert status == 1
        wrong = {name for name, check in found.items() if not check["ok"]}
        assert wrong == {"engines"}, found
        assert "0 of 1" in found["engines"]["detail"]
        assert "(empty)" in found["database"]["detail"]
        name = database.rpartition("/")[2]
        assert shared_postgres().sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", name).strip() == "0"
        assert "pass-w0rd" not in str(found)
        running.kill()
        store.kill()
        _, found = doctor(tmp_path, environment, **shared | {"database_url": "postgresql://a:pass-w0rd@127.0.0.1:1/b"})
    wrong = {name: check for name, check in found.items() if not check["ok"]}
    assert set(wrong) == {"database", "redis", "broker", "store", "engines"}
    assert all(check["advice"] for check in wrong.values())
    assert "pass-w0rd" not in str(found)
