"""Child processes that are kept running: started, waited for until they are ready, restarted with backoff, ended.

Knows nothing of what they do. A child inherits standard error, the listed descriptors and no other, and stays in the
process group; it says that it is ready by a line on standard output, whose further lines are read and dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
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
    renews: int | None = None  # the exit status by which it asks to be started anew: no failure
    stable_s: float = 10.0  # a child that ran this long failed anew: backoff starts from the beginning
    backoff: Backoff = field(default_factory=Backoff)
    before_start: Callable[[], None] | None = None  # before every start, for example to remove a stale socket
    after_end: Callable[[], None] | None = None  # after every end, whoever caused it; must not raise
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
            renewed = self.last_exit is not None and self.last_exit == self.spec.renews
            if self._clock.monotonic() - started >= self.spec.stable_s:
                attempt = 0
            if renewed:
                _log.info("child.renewed", child=self.spec.name)
                if attempt == 0:
                    attempt = 1  # one that renews itself as soon as it has begun waits longer and longer, too
                    continue
            else:
                self.failures += 1
            delay = self.spec.backoff.delay(attempt, self._randomness)
            attempt += 1
            if not renewed:
                _log.error("child.ended", child=self.spec.name, status=self.last_exit, restart_in_s=round(delay, 2))
            self._to(ChildState.BACKOFF)
            await self._clock.sleep(delay)

    async def _run_once(self) -> None:
        """From start to end, whoever causes the end."""
        try:
            if self.spec.before_start is not None:
                self.spec.before_start()
            process = await _Process.start(self.spec)
        except Exception:
            _log.exception("child.not_started", child=self.spec.name)
            self.last_exit = None
            return
        self.pid = process.pid
        self.ready_line = ""
        watching: list[asyncio.Task[None]] = []
        try:
            if not await self._ready(process):
                return
            _log.info("child.ready", child=self.spec.name, pid=process.pid)
            self._to(ChildState.RUNNING)
            watching.append(asyncio.create_task(self._probe(process)))
            await asyncio.wait({process.ended})
        finally:
            for task in watching:
                task.cancel()
            self.last_exit = await process.end(self._grace_s)
            self.pid = None
            if self.spec.after_end is not None:
                self.spec.after_end()

    async def _ready(self, process: _Process) -> bool:
        """False when it ended, or did not get ready in time."""
        if self.spec.ready_word is None:
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.spec.ready_timeout_s):
                self.ready_line = await process.line(self.spec.ready_word)
        return bool(self.ready_line)

    async def _probe(self, process: _Process) -> None:
        probe = self.spec.probe
        if probe is None:
            return
        misses = 0
        while misses < self.spec.probe_misses:
            await self._clock.sleep(self.spec.probe_every_s)
            misses = 0 if await self._answers(probe) else misses + 1
        _log.error("child.hangs", child=self.spec.name, pid=process.pid)
        process.signal(signal.SIGKILL)  # a stopped process does not hear SIGTERM

    async def _answers(self, probe: Callable[[], Awaitable[bool]]) -> bool:
        try:
            async with asyncio.timeout(self.spec.probe_every_s):
                return await probe()
        except TimeoutError:
            return False
        except Exception:
            _log.exception("child.probe_failed", child=self.spec.name)
            return False


class _Process:
    """One run of a child. Not asyncio's own: its `wait` also waits for everybody that inherited the pipe, so that a
    grandchild could hide a death. Started from the event loop's thread, because PR_SET_PDEATHSIG, which children may
    use, means the death of the thread that started them."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.pid = popen.pid
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = loop.create_future()
        self._popen = popen
        self._lines = asyncio.StreamReader()
        self._drain: asyncio.Task[None] | None = None
        self._pipe: asyncio.ReadTransport | None = None
        self._pidfd = os.pidfd_open(popen.pid)
        loop.add_reader(self._pidfd, self._reap)

    @classmethod
    async def start(cls, spec: ChildSpec) -> _Process:
        """Raises OSError."""
        popen = subprocess.Popen(  # noqa: S603, ASYNC220 - a few milliseconds, from trusted arguments
            list(spec.argv),
            env=None if spec.env is None else dict(spec.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            close_fds=True,
            pass_fds=spec.pass_fds,
        )
        process = cls(popen)
        protocol = asyncio.StreamReaderProtocol(process._lines)
        try:
            process._pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, popen.stdout)
        except BaseException:
            await process.kill()
            raise
        return process

    async def line(self, word: str) -> str:
        """The first line that begins with this word; empty when it ended without. What follows is dropped."""
        with contextlib.suppress(ValueError):  # a line longer than the reader's limit
            while line := await self._lines.readline():
                text = line.decode(errors="replace").strip()
                if text.split(" ", 1)[0] == word:
                    self._drain = asyncio.create_task(self._drop())
                    return text
        return ""

    def signal(self, number: int) -> None:
        if not self.ended.done():
            self._popen.send_signal(number)

    async def end(self, grace_s: float) -> int:
        """Its exit status: at once if it has ended, else after SIGTERM, and SIGKILL after the grace. Cancelled
        meanwhile, it kills: no child is left behind."""
        self.signal(signal.SIGTERM)
        if self._drain is None:
            self._drain = asyncio.create_task(self._drop())  # a full pipe would keep it from ending
        try:
            await asyncio.wait({self.ended}, timeout=grace_s)
        finally:
            if not self.ended.done():
                _log.error("child.killed", pid=self.pid, grace_s=grace_s)
                await self.kill()
        return self.ended.result()

    async def kill(self) -> None:
        """Returns when it is gone: a kill takes no time that could be bounded."""
        self.signal(signal.SIGKILL)
        await asyncio.wait({self.ended})

    async def _drop(self) -> None:
        while await self._lines.read(4096):
            pass

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._popen.wait()
        if self._pipe is not None:
            self._pipe.close()  # also ends `line` and the drain when a grandchild holds the other end
        if not self.ended.done():
            self.ended.set_result(status)


def remove_stale_socket(path: Path) -> None:
    """For `before_start`: the socket that a killed process left behind. Other files are left alone."""
    if path.is_socket():
        path.unlink(missing_ok=True)
