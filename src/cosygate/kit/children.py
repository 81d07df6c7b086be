"""Child processes that are kept running: started, waited for until they are ready, restarted with backoff, ended.

Knows nothing of what they do. A child inherits standard error, the listed descriptors and no other, and stays in the
process group; it says that it is ready by a line on standard output, whose further lines are read and dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from cosygate.kit import logs
from cosygate.kit.backoff import Backoff
from cosygate.kit.clock import Clock, Randomness

_log = logs.logger()


class ChildState(StrEnum):
    STOPPED = "stopped"  # not started yet, or stopped by us
    STARTING = "starting"  # runs, but has not said that it is ready
    RUNNING = "running"
    BACKOFF = "backoff"  # ended; will be started again


class ChildFailed(Exception):
    """It ended, or was ended because it took too long, before it was ever ready. `status` is its exit status."""

    def __init__(self, name: str, status: int | None) -> None:
        super().__init__(f"{name} ended with status {status} before it was ready")
        self.status = status


@dataclass(frozen=True, slots=True)
class ChildSpec:
    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None  # None: the parent's
    pass_fds: tuple[int, ...] = ()
    ready_word: str | None = "ready"  # the first word of the line it prints; None: ready once it is started
    ready_timeout_s: float = 30.0
    grace_s: float = 15.0  # between SIGTERM and SIGKILL
    stable_s: float = 10.0  # a child that ran this long failed anew: backoff starts from the beginning
    backoff: Backoff = field(default_factory=Backoff)
    before_start: Callable[[], None] | None = None  # before every start, for example to remove a stale socket
    # Asked every probe_every_s while it runs; after probe_misses times False in a row (or no answer in time) the child
    # hangs, and is killed and started again. None: not asked.
    probe: Callable[[], Awaitable[bool]] | None = None
    probe_every_s: float = 5.0
    probe_misses: int = 3


class Child:
    """One supervised process. `start`, then `stop`; for one event loop."""

    def __init__(self, spec: ChildSpec, clock: Clock, randomness: Randomness) -> None:
        self.spec = spec
        self.state = ChildState.STOPPED
        self.failures = 0  # ends that we did not ask for, in all
        self.last_exit: int | None = None  # status; -N when signal N ended it
        self.ready_line = ""  # as printed by the present process
        self.pid: int | None = None
        self._clock = clock
        self._randomness = randomness
        self._supervisor: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._grace_s = spec.grace_s

    async def start(self) -> None:
        """Begins to supervise; does not wait for the child (see wait_ready). Idempotent."""
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name=f"child {self.spec.name}")

    async def wait_ready(self) -> str:
        """The ready line, once the child runs. Raises ChildFailed when it has ended before it was ready, even though
        it will be started again: at start-up that is the time to tell why."""
        while self.state is not ChildState.RUNNING:
            if self.state is ChildState.BACKOFF:
                raise ChildFailed(self.spec.name, self.last_exit)
            self._changed.clear()
            await self._changed.wait()
        return self.ready_line

    async def stop(self, grace_s: float | None = None) -> None:
        """SIGTERM, and SIGKILL after the grace (None: the spec's). Returns when it has ended. Idempotent."""
        self._grace_s = self.spec.grace_s if grace_s is None else grace_s
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.wait({supervisor})
        self._to(ChildState.STOPPED)

    def _to(self, state: ChildState) -> None:
        self.state = state
        self._changed.set()

    async def _supervise(self) -> None:
        attempt = 0
        while True:
            started = self._clock.monotonic()
            self._to(ChildState.STARTING)
            await self._run_once()
            self.failures += 1
            if self._clock.monotonic() - started >= self.spec.stable_s:
                attempt = 0
            delay = self.spec.backoff.delay(attempt, self._randomness)
            attempt += 1
            _log.error("child.ended", child=self.spec.name, status=self.last_exit, restart_in_s=round(delay, 2))
            self._to(ChildState.BACKOFF)
            await self._clock.sleep(delay)

    async def _run_once(self) -> None:
        """From start to end, whoever causes the end."""
        try:
            process = await self._spawn()
        except OSError as error:
            _log.error("child.not_started", child=self.spec.name, detail=error.strerror)
            self.last_exit = None
            return
        self.pid = process.pid
        drain: asyncio.Task[None] | None = None
        probing: asyncio.Task[None] | None = None
        try:
            if not await self._ready(process):
                return
            _log.info("child.ready", child=self.spec.name, pid=process.pid)
            self._to(ChildState.RUNNING)
            drain = asyncio.create_task(_drain(process))
            probing = asyncio.create_task(self._probe(process))
            await process.wait()
        finally:
            for task in (drain, probing):
                if task is not None:
                    task.cancel()
            await self._end(process)
            self.pid = None
            self.last_exit = process.returncode

    async def _spawn(self) -> asyncio.subprocess.Process:
        if self.spec.before_start is not None:
            self.spec.before_start()
        return await asyncio.create_subprocess_exec(
            *self.spec.argv,
            env=None if self.spec.env is None else dict(self.spec.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            close_fds=True,
            pass_fds=self.spec.pass_fds,
        )

    async def _ready(self, process: asyncio.subprocess.Process) -> bool:
        """False when it ended, or did not get ready in time."""
        self.ready_line = ""
        if self.spec.ready_word is None:
            return True
        with contextlib.suppress(TimeoutError, ValueError):  # ValueError: a line without an end
            async with asyncio.timeout(self.spec.ready_timeout_s):
                while line := await _stdout(process).readline():
                    text = line.decode(errors="replace").strip()
                    if text.split(" ", 1)[0] == self.spec.ready_word:
                        self.ready_line = text
                        return True
                await process.wait()
        return False

    async def _probe(self, process: asyncio.subprocess.Process) -> None:
        probe = self.spec.probe
        if probe is None:
            return
        misses = 0
        while misses < self.spec.probe_misses:
            await self._clock.sleep(self.spec.probe_every_s)
            misses = 0 if await self._answers(probe) else misses + 1
        _log.error("child.hangs", child=self.spec.name, pid=process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # a stopped process does not hear SIGTERM

    async def _answers(self, probe: Callable[[], Awaitable[bool]]) -> bool:
        try:
            async with asyncio.timeout(self.spec.probe_every_s):
                return await probe()
        except TimeoutError:
            return False
        except Exception:
            _log.exception("child.probe_failed", child=self.spec.name)
            return False

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """SIGTERM, then SIGKILL after the grace. Cancelled meanwhile, it kills at once: no child is left behind."""
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        reader = asyncio.create_task(_drain(process))  # a full pipe would keep it from ending
        try:
            async with asyncio.timeout(self._grace_s):
                await process.wait()
        except TimeoutError:
            _log.error("child.killed", child=self.spec.name, pid=process.pid, grace_s=self._grace_s)
        finally:
            reader.cancel()
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await asyncio.shield(process.wait())


def _stdout(process: asyncio.subprocess.Process) -> asyncio.StreamReader:
    if process.stdout is None:
        raise ValueError("the child was started without a pipe")
    return process.stdout


async def _drain(process: asyncio.subprocess.Process) -> None:
    while await _stdout(process).read(4096):
        pass


def remove_stale_socket(path: Path) -> None:
    """For `before_start`: the socket that a killed process left behind. Other files are left alone."""
    if path.is_socket():
        path.unlink(missing_ok=True)


def child_environment(**more: str) -> dict[str, str]:
    """The parent's environment with `more` on top."""
    return {**os.environ, **more}
