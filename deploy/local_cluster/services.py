"""The services that an installation on several machines uses, as processes of this one: PostgreSQL, Redis, an object
store. Each keeps its port over restarts, lies in a folder of its own, listens on loopback alone, and ends with whoever
started it.

They are for trying and testing: no passwords, no backups, no replicas.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

READY_S = 60.0
HOST = "127.0.0.1"


class NotThere(RuntimeError):
    """A program is not installed, or does not start. Says which, and the end of its log."""


_FIRST_PORT, _PORTS = 15_000, 17_000  # below the range that outgoing connections take theirs from (ip(7)): a service
_given: set[int] = set()  # that is down must find its port again, and nobody may by chance connect to himself there


def free_port() -> int:
    """One that nothing listens on, and that was not given to anybody else by this process. Raises NotThere."""
    for _ in range(1000):
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            if port not in _given:
                _given.add(port)
                return port
    raise NotThere("no port is free")


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


class Service:
    """One process (with its children) on one port. `start`, then any of `stop`, `kill`, `pause`, `resume`, and `start`
    again."""

    name = "service"
    ends_with = signal.SIGTERM
    orphaned = signal.SIGKILL  # what it gets when its starter is gone

    def __init__(self, folder: Path, port: int = 0) -> None:
        """`port` 0 takes a free one."""
        self.folder = folder
        self.port = port or free_port()
        self.log = folder / f"{self.name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def prepare(self) -> None:
        """Before every start."""

    def ready(self) -> bool:
        return answers(self.port)

    def start(self) -> Self:
        """Returns when it can be used. Raises NotThere."""
        self.prepare()
        with self.log.open("ab") as log:
            # A session of its own, so that signals reach its children, too; the guard ends it when its starter is gone.
            self.process = _in_lasting_thread(
                [sys.executable, "-c", _GUARD, str(os.getpid()), str(int(self.orphaned)), *self.command()],
                env=dict(self.environment()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        deadline = time.monotonic() + READY_S
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise NotThere(f"{self.name} does not start: {self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        return self

    def stop(self, timeout_s: float = 20.0) -> None:
        """In order; killed after `timeout_s`. Idempotent."""
        if self.process is None:
            return
        self.resume()
        self._signal(self.ends_with, whole=False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, all of it; also what a process that ended by itself has left. Idempotent."""
        if self.process is not None:
            self._signal(signal.SIGKILL)
            self.process.wait()
            for pid in _left_of(self.process.pid, self.folder):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process = None

    def pause(self) -> None:
        """It hangs: accepts connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _signal(self, number: signal.Signals, *, whole: bool = True) -> None:
        if self.process is None or self.process.poll() is not None:
            return  # its number may be somebody else's by now
        # Not by process group: PostgreSQL's children have groups of their own.
        for pid in _tree(self.process.pid) if whole else [self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.stop()


def _tree(pid: int) -> list[int]:
    """A process and all that came of it, parents first."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
            found.extend(int(child) for child in children.split())
    return found


def _left_of(leader: int, folder: Path) -> list[int]:
    """Processes of the session of one that has ended. The kernel gives a number to nobody else while a session bears
    it, but may afterwards: so they are ours only where they work in our folder, and nobody has the number. (nginx's
    workers outlive a master that was killed; PostgreSQL's processes have sessions of their own, and end alone.)"""
    found = []
    if not Path(f"/proc/{leader}").exists():
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == leader and (entry / "cwd").readlink() == folder.resolve():
                    found.append(int(entry.name))
    return found


# Becomes the program, which the kernel ends when the starter is gone (PR_SET_PDEATHSIG, prctl(2)).
_GUARD = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[2]))
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[3], sys.argv[3:])
"""

# The signal comes when the *thread* that forked ends (prctl(2)), and services are started by threads, too.
_starter = ThreadPoolExecutor(1, "starter of services")


def _in_lasting_thread(argv: Sequence[str], **how: Any) -> subprocess.Popen[bytes]:
    return _starter.submit(lambda: subprocess.Popen(argv, **how)).result()


class Redis(Service):
    """`persistent`: what was written survives a kill (append-only file, synced each second); else it is empty then."""

    name = "redis"

    def __init__(self, folder: Path, port: int = 0, *, persistent: bool = False) -> None:
        super().__init__(folder, port)
        self.persistent = persistent

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> Sequence[str]:
        keep = ["--appendonly", "yes" if self.persistent else "no", "--save", ""]
        return [
            "redis-server", "--port", str(self.port), "--bind", HOST, "--dir", str(self.folder),
            "--maxmemory-policy", "noeviction", *keep,
        ]  # fmt: skip

    def ready(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1.0) as asked:
                asked.sendall(b"PING\r\n")
                return asked.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class Postgres(Service):
    """One database `cosygate` of the user `cosygate`. The server refuses to run as root: then it runs as `nobody`."""

    name = "postgres"
    ends_with = signal.SIGINT  # fast shutdown: SIGTERM would wait for every client

    def __init__(self, folder: Path, port: int = 0, *, durable: bool = True) -> None:
        """`durable`: false for tests that need many databases fast, and lose none by power."""
        super().__init__(folder, port)
        self.durable = durable
        self.data = folder / "data"

    @property
    def url(self) -> str:
        return f"postgresql://cosygate@{HOST}:{self.port}/cosygate"

    def command(self) -> Sequence[str]:
        return [
            *_unprivileged(), _postgres_program("postgres"), "-D", str(self.data), "-p", str(self.port),
            "-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories=", "-c", "max_connections=400",
            "-c", f"fsync={'on' if self.durable else 'off'}",
        ]  # fmt: skip

    def prepare(self) -> None:
        if os.getuid() == 0:
            _open_path(self.data)  # each time: every pytest closes the folder that all of them share
        if (self.data / "PG_VERSION").exists():
            return
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        if os.getuid() == 0:
            shutil.chown(self.data, "nobody", "nogroup")
        made = subprocess.run(
            [*_unprivileged(), _postgres_program("initdb"), "-D", str(self.data), "-U", "cosygate", "-A", "trust",
             "-E", "UTF8", "--no-sync"],
            capture_output=True, text=True, cwd="/",
        )  # fmt: skip
        if made.returncode != 0:
            raise NotThere(f"initdb failed: {made.stderr[-2000:]}")

    def start(self) -> Self:
        super().start()
        if "1" not in self.sql("SELECT 1 FROM pg_database WHERE datname = 'cosygate'"):
            self.sql("CREATE DATABASE cosygate")
        return self

    def ready(self) -> bool:
        return self._psql("SELECT 1").returncode == 0

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Its answer as bare text. Raises NotThere."""
        done = self._psql(statement, database)
        if done.returncode != 0:
            raise NotThere(f"psql: {done.stderr[-2000:]}")
        return done.stdout

    def _psql(self, statement: str, database: str = "postgres") -> subprocess.CompletedProcess[str]:
        where = ["-h", HOST, "-p", str(self.port), "-U", "cosygate", "-d", database]
        argv = [_postgres_program("psql"), *where, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement]
        try:
            return subprocess.run(argv, capture_output=True, text=True, timeout=20)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(argv, 1, "", "no answer")


class ObjectStore(Service):
    """moto's server of the S3 API, with one bucket `cosygate`. It keeps objects in memory: killed, it is empty, so a
    store that is away is one that is paused, or cut off by a proxy in front of it."""

    name = "store"

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)]

    def environment(self) -> Mapping[str, str]:
        return {**os.environ, **self.credentials}

    # Any will do for it.
    credentials: Mapping[str, str] = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }

    def start(self) -> Self:
        super().start()
        import urllib.request

        made = urllib.request.Request(f"{self.endpoint}/cosygate", method="PUT")
        with urllib.request.urlopen(made, timeout=10):
            pass
        return self


def _unprivileged() -> Sequence[str]:
    return (
        ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "--pdeathsig", "KILL"]
        if os.getuid() == 0
        else []
    )


def _postgres_program(name: str) -> str:
    """Debian keeps the server's programs in a folder per version; the newest. Raises NotThere."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[-3]))
    program = str(found[-1]) if found else shutil.which(name)
    if program is None:
        raise NotThere(f"{name} of PostgreSQL is not installed")
    return program


def _open_path(folder: Path) -> None:
    """Lets `nobody` pass through the folders above, which pytest makes for their owner alone."""
    for parent in folder.parents:
        if parent.stat().st_uid == os.getuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
