"""`cosygate doctor`: is everything here that the server needs, and what to do where it is not.

It tries the real things (a file with fsync, a database, the confined decoder, an engine that recognises a second of
silence) and leaves nothing behind. Being about technologies, it reaches for the adapters themselves.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import typer

from cosygate import errors
from cosygate.doctor.finding import Check, Finding
from cosygate.doctor.shared import shared_checks
from cosygate.kit import logs
from cosygate.settings import Settings
from cosygate.settings.engines import engine_arguments, engine_start_s

CHECK_S = 90.0  # the longest one check may take
_NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs"})
_PASSING = frozenset({"tmpfs", "ramfs"})
_SLOW_FSYNC_S = 0.1


def run(settings: Settings, *, as_json: bool) -> int:
    """Prints a line per check, or one JSON object. Returns 0 when all are well, else 1."""
    logs.configure("error")
    findings = asyncio.run(_all(settings, tell=None if as_json else _tell))
    ok = all(finding.ok for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": ok, "checks": [asdict(finding) for finding in findings]}))
    else:
        typer.echo("all is well" if ok else "something needs your hand, see above")
    return 0 if ok else 1


async def _all(settings: Settings, tell: Callable[[Finding], None] | None) -> list[Finding]:
    findings = []
    for name, check in checks(settings).items():
        try:
            async with asyncio.timeout(CHECK_S):
                finding = await check(settings)
        except TimeoutError:
            finding = Finding(name, False, f"not done after {CHECK_S:g} s", "run it again on a quieter machine")
        findings.append(finding)
        if tell:
            tell(finding)
    return findings


def _tell(finding: Finding) -> None:
    typer.echo(f"{'✓' if finding.ok else '✗'} {finding.name:<12} {finding.detail}")
    if finding.advice:
        typer.echo(f"  {'':<12} → {finding.advice}")


@contextmanager
def _probe(data_dir: Path) -> Iterator[Path]:
    """A folder of our own on the data folder's file system, in it or in the parent that will hold it."""
    place = data_dir
    while not place.exists():
        place = place.parent
    probe = Path(tempfile.mkdtemp(prefix=".doctor-", dir=place))
    try:
        yield probe
    finally:
        shutil.rmtree(probe, ignore_errors=True)


# --- the checks --------------------------------------------------------------------------------------------------


async def _data_folder(settings: Settings) -> Finding:
    name, data_dir = "data folder", settings.data_dir

    def look() -> Finding:
        with _probe(data_dir) as probe:
            kind, free, fsync_s = _file_system(probe), shutil.disk_usage(probe).free, _fsync_seconds(probe)
        state = "" if data_dir.exists() else ", made at the first start"
        detail = f"{data_dir} ({kind}, {free / 1024**3:.1f} GiB free, fsync {fsync_s * 1000:.1f} ms{state})"
        if kind in _NETWORK_FILE_SYSTEMS:
            return Finding(name, False, detail, "SQLite needs a local file system: set COSYGATE_DATA_DIR to one")
        if free < settings.store_min_free_bytes:
            return Finding(name, False, detail, "make room, or lower COSYGATE_STORE_MIN_FREE_BYTES")
        if kind in _PASSING:
            return Finding(name, True, detail, "what lies in memory is gone after a restart of the machine")
        slow = fsync_s > _SLOW_FSYNC_S and settings.durability == "disk"
        return Finding(name, True, detail, "a slow disk: COSYGATE_DURABILITY=process does without fsync" * slow)

    try:
        return await asyncio.to_thread(look)
    except OSError as error:
        advice = "give this user a folder to write to: chown it, or set COSYGATE_DATA_DIR"
        return Finding(name, False, f"{data_dir}: {error.strerror}", advice)


def _file_system(path: Path) -> str:
    """The type of the mount that `path` is on (proc_pid_mountinfo(5))."""
    best, kind, real = -1, "unknown", str(path.resolve())
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), right.split()[0]
    return kind


def _fsync_seconds(folder: Path) -> float:
    """A part's way to the disk: write, fsync, link, fsync of the folder."""
    started = time.perf_counter()
    with (folder / "a").open("wb") as file:
        file.write(os.urandom(64 * 1024))
        file.flush()
        os.fsync(file.fileno())
    os.link(folder / "a", folder / "b")
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return time.perf_counter() - started


async def _database(settings: Settings) -> Finding:
    from cosygate.adapters.records_sql import SqlRecords
    from cosygate.wiring import database_url

    name, path = "database", settings.data_dir / "cosygate.db"
    try:
        with _probe(settings.data_dir) as probe:
            records = await SqlRecords.open(database_url(probe), durability=settings.durability)
            try:
                await records.health.check()
            finally:
                await records.close()
        if not path.exists():
            return Finding(name, True, "works here; made at the first start")
        return await asyncio.to_thread(_existing_database, name, path)
    except (errors.CosyGateError, OSError, sqlite3.Error) as error:
        return Finding(name, False, str(error), "see that this user owns the data folder and nothing else uses it")


def _existing_database(name: str, path: Path) -> Finding:
    """Looks without changing anything: the server migrates, not we."""
    import sqlalchemy as sa

    from cosygate.adapters.records_sql import SchemaTooNew
    from cosygate.adapters.records_sql.migrate import REVISIONS, revision_of

    with closing(sqlite3.connect(_read_only(path), uri=True, timeout=5)) as connection:
        damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        tasks = connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
    if damage != "ok":
        return Finding(name, False, f"{path} is damaged: {damage}", "stop the server and restore a backup")
    engine = sa.create_engine("sqlite://", creator=lambda: sqlite3.connect(_read_only(path), uri=True, timeout=5))
    try:
        with engine.connect() as asked:
            revision = revision_of(asked)
    except SchemaTooNew as error:
        return Finding(name, False, str(error), "run the newer CosyGate")
    finally:
        engine.dispose()
    waiting = "" if revision not in REVISIONS[:-1] else f", migrated to {REVISIONS[-1]} at the next start"
    return Finding(name, True, f"{path} (schema {revision}{waiting}, {tasks} tasks)")


def _read_only(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=ro"


async def _sandbox(settings: Settings) -> Finding:
    from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder

    name = "sandbox"
    decoder = SandboxDecoder(cpu_s=settings.decoder_cpu_s, memory_bytes=settings.decoder_memory_bytes)
    try:
        report = await decoder.report()
    except errors.CosyGateError as error:
        return Finding(name, False, error.detail, "see stderr; is the package `av` whole? Reinstall with make setup")
    finally:
        await decoder.close()
    active = [layer for layer, why_not in report.layers.items() if not why_not]
    absent = [f"{layer} ({why_not})" for layer, why_not in report.layers.items() if why_not]
    detail = f"active: {', '.join(active) or 'nothing'}" + (f"; not: {', '.join(absent)}" if absent else "")
    if report.sufficient:
        return Finding(name, True, detail)
    if settings.decoder_sandbox == "degraded":
        return Finding(name, True, detail, "compressed media is decoded without a sandbox, as you allowed")
    advice = "only WAV and PCM are taken; use a kernel with seccomp or Landlock, or COSYGATE_DECODER_SANDBOX=degraded"
    return Finding(name, False, detail, advice)


async def _engine(settings: Settings) -> Finding:
    from cosygate.kit.children import Child, ChildFailed, ChildSpec
    from cosygate.kit.clock import SystemClock, SystemRandomness

    name, started = "engine", time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cosygate-") as folder:
        address = f"unix:{folder}/engine"
        arguments = ["--listen", address, "--slots", "1", "--log-level", "error", "--parent-pid", str(os.getpid())]
        argv = [sys.executable, "-m", "cosygate.engine", *arguments, *engine_arguments(settings)]
        spec = ChildSpec(name, argv, ready_timeout_s=engine_start_s(settings))
        child = Child(spec, SystemClock(), SystemRandomness())
        await child.start()
        try:
            await child.wait_ready()
            described = await _recognise_silence(address)
        except (ChildFailed, errors.CosyGateError) as error:
            return Finding(name, False, str(error), "its log lines are on stderr; `cosygate engine` runs it alone")
        finally:
            await child.stop()
    return Finding(name, True, f"{described}, ready and a second recognised in {time.monotonic() - started:.1f} s")


async def _recognise_silence(address: str) -> str:
    """Name, version and models, once it has worked. Raises CosyGateError."""
    from cosygate.adapters.engine_grpc import GrpcEngine
    from cosygate.ports.engine import RecogniseConfig

    async def silence() -> AsyncIterator[bytes]:
        yield bytes(32_000)  # a second: 16,000 samples of 2 bytes

    engine = GrpcEngine(address)
    try:
        info = await engine.describe()
        async for _ in engine.recognise(RecogniseConfig(), silence(), idle_timeout_s=30.0):
            pass
    finally:
        await engine.close()
    return f"{info.name} {info.version} ({', '.join(model.name for model in info.models)})"


async def _secret(settings: Settings) -> Finding:
    from cosygate.wiring import jwt_secret

    name, path = "secret", settings.data_dir / "jwt_secret"
    if not settings.jwt_secret and not path.exists():
        return Finding(name, True, "none yet; generated at the first start")
    try:
        await asyncio.to_thread(jwt_secret, settings)
    except ValueError as error:
        return Finding(name, False, str(error), "leave COSYGATE_JWT_SECRET empty to have a good one generated")
    except OSError as error:
        return Finding(name, False, f"{path}: {error.strerror}", "this user must be able to read it")
    return Finding(name, True, "COSYGATE_JWT_SECRET" if settings.jwt_secret else f"{path} (0600)")


def checks(settings: Settings) -> dict[str, Check]:
    """What this host keeps itself, and what it shares with others."""
    own: dict[str, Check] = {
        "data folder": _data_folder,
        "database": _database,
        "sandbox": _sandbox,
        "engine": _engine,
        "secret": _secret,
    }
    shared = shared_checks(settings)
    if "engines" in shared:
        del own["engine"]
    return own | shared
