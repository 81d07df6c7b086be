"""Server processes of a run: each in a process group of its own, with its output in a file, and surely stopped."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

START_S = 30.0
STOP_S = 15.0
_POLL_S = 0.02


class NotServing(RuntimeError):
    """A server ended, or was not ready in time; the message carries the end of its output."""


def free_port() -> int:
    """A TCP port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    ready: Callable[[str], bool],
    folder: Path,
    env: dict[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Starts `command`, waits until `ready(its stdout so far)`, ends the whole group on leaving. Raises NotServing."""
    out, err = folder / f"{name}.out", folder / f"{name}.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while not ready(out.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                state = "ended" if process.poll() is not None else "is not ready"
                raise NotServing(f"{name} {state}: {tail(err) or tail(out)}")
            time.sleep(_POLL_S)
        yield process
        if process.poll() is not None:
            raise NotServing(f"{name} ended during the run ({process.returncode}): {tail(err)}")
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the leader, then SIGKILL to whatever is left of its group."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_S)


def tail(path: Path, lines: int = 12) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
