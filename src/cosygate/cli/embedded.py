"""A server of one's own for as long as a command runs: `cosygate serve` as a child on a free loopback port."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

READY_S = 60.0  # for a cold machine; a warm one takes about two seconds
STOP_S = 15.0
MAX_AT_ONCE = 16  # embedded servers of one data folder, a folder each
# What an operator set for a public server has no place in one that only this command talks to.
_PUBLIC = ("COSYGATE_HOST", "COSYGATE_PORT", "COSYGATE_WORKERS", "COSYGATE_TLS_CERT", "COSYGATE_TLS_KEY")


class ServerFailed(Exception):
    """The child did not become ready; the message says why, as far as it told."""


def launch(
    arguments: Sequence[str], *, data_dir: Path, log: Path, env: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], str]:
    """Starts `cosygate serve` in a session of its own (a Ctrl-C here is not its Ctrl-C), stdout and log lines into
    `log`, and returns it with its address once it is ready. Raises ServerFailed."""
    data_dir.mkdir(parents=True, exist_ok=True)
    clean = {k: v for k, v in os.environ.items() if k not in _PUBLIC}
    with log.open("wb") as out:
        child = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "cosygate", "serve", *arguments, "--data-dir", str(data_dir)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**clean, **(env or {})},
            start_new_session=True,
        )
    try:
        return child, _ready(child, log)
    except BaseException:
        stop(child)
        raise


def _ready(child: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        ended = child.poll() is not None
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("ready http"):
                return line.split()[1]
        if ended:
            raise ServerFailed(f"the server ended with status {child.returncode}: {_last_words(log)} ({log})")
        time.sleep(0.05)
    raise ServerFailed(f"the server was not ready within {READY_S:g} s ({log})")


def _engine_failed(log: Path) -> str | None:
    """Why no engine started, of a server that is ready: by then each is up, or has told, or needs longer."""
    for line in log.read_text(errors="replace").splitlines():
        if '"engine.cannot_start"' in line:
            try:
                return str(json.loads(line)["detail"])
            except (ValueError, KeyError, TypeError):
                return line
    return None


def _last_words(log: Path) -> str:
    """The end of its log: of a JSON line, what happened, without the stack."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    if not lines:
        return "it said nothing"
    try:
        line = json.loads(lines[-1])
        return str(line.get("detail") or line.get("error") or line["action"])
    except (ValueError, KeyError, AttributeError, TypeError):
        return lines[-1]


def stop(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and after STOP_S seconds the end of its whole process group."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@contextmanager
def private_folder(data_dir: Path) -> Iterator[Path]:
    """A folder below `data_dir` that no other command uses meanwhile; the first one whenever it is free, so that what
    was interrupted there is found again. Raises ServerFailed when all are taken."""
    for n in range(1, MAX_AT_ONCE + 1):
        folder = data_dir / ("embedded" if n == 1 else f"embedded-{n}")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "command.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        try:
            yield folder
        finally:
            os.close(lock)
        return
    raise ServerFailed(f"{MAX_AT_ONCE} embedded servers of {data_dir} are running already")


@contextmanager
def embedded(folder: Path) -> Iterator[str]:
    """The address of a server on `folder` that ends with the block, or with this process. Raises ServerFailed."""
    arguments = ["--host", "127.0.0.1", "--port", "0", "--workers", "1", "--parent", str(os.getpid())]
    log = folder / "server.log"
    child, url = launch(arguments, data_dir=folder, log=log, env={"COSYGATE_DRAIN_S": "2"})
    try:
        if why := _engine_failed(log):  # a server would try again until it is mended; nobody mends anything here
            raise ServerFailed(f"the engine cannot start: {why} ({log})")
        yield url
    finally:
        stop(child)
