"""Redis, PostgreSQL and an object store for tests: real ones, started once per test process and module that asks, on
ports of their own. `NEEDS` names what `@pytest.mark.needs` asks for."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.local_cluster.services import ObjectStore, Postgres, Redis


@contextlib.contextmanager
def redis() -> Iterator[Redis]:
    with TemporaryDirectory(prefix="cosygate-redis-") as folder, Redis(Path(folder)) as running:
        yield running


@contextlib.contextmanager
def object_store() -> Iterator[ObjectStore]:
    with TemporaryDirectory(prefix="cosygate-store-") as folder, ObjectStore(Path(folder)) as running:
        yield running


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """For a cluster. Not pytest's: whoever starts pytest closes /tmp/pytest-of-… to others, PostgreSQL's user too."""
    with TemporaryDirectory(prefix="cosygate-cluster-", ignore_cleanup_errors=True) as place:
        yield Path(place)


@cache
def shared_postgres() -> Postgres:
    """One server for the whole test process, which ends with it; `fresh_database` gives each test its own database."""
    folder = TemporaryDirectory(prefix="cosygate-postgres-", ignore_cleanup_errors=True)
    running = Postgres(Path(folder.name), durable=False).start()
    running.kept = folder  # type: ignore[attr-defined]  # removed when the test process ends
    return running


@cache
def shared_redis() -> Redis:
    """As shared_postgres; tests use keys of their own, and never empty it."""
    folder = TemporaryDirectory(prefix="cosygate-redis-", ignore_cleanup_errors=True)
    running = Redis(Path(folder.name)).start()
    running.kept = folder  # type: ignore[attr-defined]
    return running


@contextlib.contextmanager
def fresh_database() -> Iterator[str]:
    """An empty database's url."""
    server = shared_postgres()
    name = f"t{uuid.uuid4().hex}"
    server.sql(f"CREATE DATABASE {name}")
    try:
        yield server.url.rpartition("/")[0] + f"/{name}"
    finally:
        server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
