"""The doctor's checks of what several hosts share: each service is asked what it is asked in earnest. Addresses are
told without their passwords."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from cosygate import errors
from cosygate.doctor.finding import Check, Finding
from cosygate.settings import Settings

_ASK_S = 5.0


def shared_checks(settings: Settings) -> dict[str, Check]:
    """Of those services alone that are configured."""
    wanted = {
        "database": (settings.database_url, database),
        "redis": (settings.redis_url, redis),
        "broker": (settings.broker_url, broker),
        "store": (settings.store_url, store),
        "engines": (settings.engine_addresses, engines),
    }
    return {name: check for name, (configured, check) in wanted.items() if configured}


def place(url: str) -> str:
    """Host, port and name alone."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def _missing(name: str, error: ImportError) -> Finding:
    return Finding(
        name,
        False,
        f"the package {error.name} is not installed",
        "install the packages of the extra `cluster` (docs/deploy.md)",
    )


async def database(settings: Settings) -> Finding:
    """Looks at its schema, and whether it can be written to; it is left as it was."""
    name, where = "database", place(settings.database_url)
    try:
        from cosygate.adapters.records_sql.locks import writable
        from cosygate.adapters.records_sql.migrate import REVISIONS, SchemaTooNew, revision_of
        from cosygate.adapters.records_sql.postgres import PostgresDatabase

        opened = PostgresDatabase(settings.database_url, busy_s=_ASK_S, pool=1, overflow=0)
    except ImportError as error:
        return _missing(name, error)
    try:
        revision = await opened.read(revision_of)
        await opened.write(writable)
    except SchemaTooNew as error:
        return Finding(name, False, f"{where}: {error}", "run the newer CosyGate")
    except errors.CosyGateError as error:
        return Finding(name, False, f"{where}: {error}", "see that it runs, and that this user may create tables in it")
    finally:
        await opened.close()
    if revision is None:
        return Finding(
            name, True, f"{where} (empty)", "cosygate migrate makes its tables, and so does the first gateway"
        )
    if revision in REVISIONS[:-1]:
        told = f"{where} has schema {revision}, this CosyGate needs {REVISIONS[-1]}"
        return Finding(name, False, told, "bring it to this version: cosygate migrate")
    return Finding(name, True, f"{where} (schema {revision})")


async def redis(settings: Settings) -> Finding:
    """Asks for its memory policy: one that evicts takes live speech away that was promised to be kept."""
    name, where = "redis", place(settings.redis_url)
    try:
        from redis.exceptions import RedisError

        from cosygate.wiring.redis import client
    except ImportError as error:
        return _missing(name, error)
    asked = client(settings.redis_url, 2)
    try:
        told = await asked.info("memory")
        version = (await asked.info("server"))["redis_version"]
    except (RedisError, OSError) as error:
        return Finding(name, False, f"{where}: {type(error).__name__}", "see that it runs, and its password")
    finally:
        await asked.aclose()
    policy = str(told.get("maxmemory_policy", ""))
    if int(told.get("maxmemory", 0)) and policy != "noeviction":
        advice = "live speech is kept there until it is stored: set maxmemory-policy noeviction"
        return Finding(name, False, f"{where} ({version}) evicts keys: {policy}", advice)
    return Finding(name, True, f"{where} ({version})")


async def broker(settings: Settings) -> Finding:
    name, where = "broker", place(settings.broker_url)
    try:
        from cosygate.wiring.celery import celery_app
    except ImportError as error:
        return _missing(name, error)

    def ask() -> str:
        with celery_app(settings).connection_for_write() as connection:
            try:
                connection.ensure_connection(max_retries=1, timeout=_ASK_S)
            except Exception as error:  # of whichever transport it is
                return type(error).__name__
        return ""

    if failed := await asyncio.to_thread(ask):
        return Finding(name, False, f"{where}: {failed}", "see that it runs; jobs run without it, half a second later")
    return Finding(name, True, where)


async def store(settings: Settings) -> Finding:
    """Opens it as a gateway does, which proves that it may write, list and erase there."""
    from cosygate.kit.clock import SystemClock
    from cosygate.wiring import stores

    name = "store"
    with TemporaryDirectory(prefix="cosygate-") as folder:
        there = settings.model_copy(update={"data_dir": Path(folder)})
        try:
            async with stores.store(there, SystemClock()) as opened:
                await opened.survey.check_room()
        except ImportError as error:
            return _missing(name, error)
        except (ValueError, errors.CosyGateError) as error:
            return Finding(name, False, f"{settings.store_url}: {error}", "see docs/storage.md for what it takes")
    return Finding(name, True, settings.store_url)


async def engines(settings: Settings) -> Finding:
    """All that the addresses lead to."""
    from contextlib import AsyncExitStack

    from cosygate.kit.clock import SystemClock, SystemRandomness
    from cosygate.wiring.engines import engine_room

    name = "engines"
    async with AsyncExitStack() as stack:
        room = engine_room(settings, (), None, SystemClock(), SystemRandomness(), stack, index=0)
        try:
            async with asyncio.timeout(_ASK_S):
                await room.refresh(force=True)
        except TimeoutError:
            pass
        seen = room.status()
    up = [one for one in seen if one.up]
    told = f"{len(up)} of {len(seen)} answer at {settings.engine_addresses}"
    if not up or len(up) < len(seen):
        return Finding(name, False, told, "start them: cosygate engine --listen HOST:PORT …; see also engine_tls_…")
    return Finding(name, True, f"{told}, {sum(one.slots for one in up)} slots")
