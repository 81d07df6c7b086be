"""The supervisor of child processes, over real ones."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from cosygate.kit.backoff import Backoff
from cosygate.kit.children import Child, ChildFailed, ChildSpec, ChildState, remove_stale_socket
from cosygate.kit.clock import SystemClock, SystemRandomness

QUICK = Backoff(first_s=0.02, longest_s=0.1)
SLEEPS = "import time; time.sleep(60)"
SERVES = f"print('ready here', flush=True); {SLEEPS}"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVES


class SlowestWait:
    """Randomness that always takes the longest backoff."""

    def uniform(self, low: float, high: float) -> float:
        return high

    def token(self, nbytes: int) -> bytes:
        return b"\0" * nbytes


class WaitsRecorded(SystemClock):
    """Sleeps no time, but remembers how much it should have."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


def spec(code: str, **more: object) -> ChildSpec:
    defaults: dict[str, object] = {"name": "child", "backoff": QUICK, "grace_s": 5.0}
    return ChildSpec(argv=[sys.executable, "-c", code], **{**defaults, **more})  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def running(child_spec: ChildSpec) -> AsyncIterator[Child]:
    child = Child(child_spec, SystemClock(), SystemRandomness())
    await child.start()
    try:
        yield child
    finally:
        await child.stop()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


async def test_becomes_ready_with_its_line_and_ends_on_sigterm() -> None:
    async with running(spec("print('noise', flush=True); " + SERVES)) as child:
        assert await child.wait_ready() == "ready here"
        pid = child.pid
        assert pid is not None
        assert alive(pid)
        await child.stop()
        assert (child.state, child.last_exit, child.failures) == (ChildState.STOPPED, -signal.SIGTERM, 0)
        assert not alive(pid)


async def test_is_restarted_when_it_dies() -> None:
    async with running(spec(SERVES)) as child:
        await child.wait_ready()
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.state is ChildState.RUNNING and child.pid != first)
        assert (child.failures, child.last_exit) == (1, -signal.SIGKILL)


async def test_a_child_that_cannot_start_is_told_and_backs_off_longer_and_longer() -> None:
    clock = WaitsRecorded()
    child = Child(spec("raise SystemExit(78)", backoff=Backoff(first_s=1, longest_s=5)), clock, SlowestWait())
    await child.start()
    with pytest.raises(ChildFailed, match="status 78"):
        await child.wait_ready()
    await until(lambda: len(clock.slept) >= 5)
    await child.stop()
    assert clock.slept[:5] == [1, 2, 4, 5, 5]


async def test_one_that_renews_itself_at_once_backs_off_and_counts_as_no_failure() -> None:
    clock = WaitsRecorded()
    child = Child(spec("import sys; sys.exit(75)", renews=75, stable_s=60.0), clock, SlowestWait())
    supervising = asyncio.create_task(child.start())
    await until(lambda: len(clock.slept) >= 4, 20.0)
    supervising.cancel()
    await asyncio.gather(supervising, return_exceptions=True)
    await child.stop()
    waits = [seconds for seconds in clock.slept if seconds in (0.02, 0.04, 0.08, 0.1)]
    assert waits[:3] == sorted(waits[:3]) and waits[2] == 0.1
    assert child.failures == 0


async def test_a_missing_program_backs_off_too() -> None:
    clock = WaitsRecorded()
    child = Child(ChildSpec("child", ["/nowhere/at/all"]), clock, SlowestWait())
    await child.start()
    with pytest.raises(ChildFailed):
        await child.wait_ready()
    await until(lambda: len(clock.slept) >= 2)
    await child.stop()
    assert clock.slept[1] > clock.slept[0] > 0


async def test_one_that_never_gets_ready_is_ended() -> None:
    async with running(spec("import time; time.sleep(60)", ready_timeout_s=0.2)) as child:
        with pytest.raises(ChildFailed):
            await child.wait_ready()
        assert child.last_exit == -signal.SIGTERM


async def test_a_deaf_one_is_killed_after_the_grace() -> None:
    async with running(spec(DEAF)) as child:
        await child.wait_ready()
        started = time.monotonic()
        await child.stop(grace_s=0.3)
        assert 0.3 <= time.monotonic() - started < 3
        assert child.last_exit == -signal.SIGKILL


async def test_a_hanging_one_is_killed_and_restarted() -> None:
    async def answers() -> bool:
        return not hanging

    hanging = False
    async with running(spec(DEAF, probe=answers, probe_every_s=0.05, probe_misses=2, grace_s=0.2)) as child:
        await child.wait_ready()
        first = child.pid
        await asyncio.sleep(0.3)
        assert child.pid == first
        hanging = True
        await until(lambda: child.failures > 0)
        hanging = False
        await until(lambda: child.state is ChildState.RUNNING and child.pid != first)
        assert child.last_exit == -signal.SIGKILL


async def test_a_grandchild_that_holds_the_pipe_does_not_hide_a_death() -> None:
    leaves_one_behind = "import subprocess; subprocess.Popen(['sleep', '5']); " + SERVES
    async with running(spec(leaves_one_behind)) as child:
        await child.wait_ready()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        await until(lambda: child.failures == 1, seconds=3)


async def test_much_output_does_not_block_it(tmp_path: Path) -> None:
    done = tmp_path / "done"
    code = f"print('ready', flush=True); print('x' * 1_000_000, flush=True); open({str(done)!r}, 'w'); {SLEEPS}"
    async with running(spec(code)):
        await until(done.exists)


async def test_inherits_what_is_listed_and_nothing_else(tmp_path: Path) -> None:
    seen = tmp_path / "fds"
    code = (
        f"import os; open({str(seen)!r}, 'w').write(' '.join(sorted(os.listdir('/proc/self/fd'), key=int))); " + SERVES
    )
    with socket.socket() as listed, socket.socket() as other:
        os.set_inheritable(other.fileno(), True)
        async with running(spec(code, pass_fds=(listed.fileno(),))) as child:
            await child.wait_ready()
        fds = set(map(int, seen.read_text().split()))
        assert listed.fileno() in fds
        assert other.fileno() not in fds


async def test_stays_in_the_process_group() -> None:
    async with running(spec(SERVES)) as child:
        await child.wait_ready()
        assert child.pid is not None
        assert os.getpgid(child.pid) == os.getpgrp()


async def test_the_stale_socket_is_removed_before_each_start(tmp_path: Path) -> None:
    path = tmp_path / "s"
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.bind({str(path)!r}); {SERVES}"
    async with running(spec(code, before_start=lambda: remove_stale_socket(path))) as child:
        await child.wait_ready()
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.state is ChildState.RUNNING and child.pid != first)
        assert child.failures == 1


def test_only_sockets_are_stale(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    remove_stale_socket(file)
    remove_stale_socket(tmp_path / "nothing")
    assert file.exists()


@pytest.mark.parametrize("after_s", [0, 0.0005, 0.002, 0.01, 0.05])
async def test_stopping_at_any_moment_leaves_no_process_behind(after_s: float) -> None:
    before = psutil.Process().children()
    slow_to_get_ready = spec("import time; time.sleep(0.03); " + DEAF, ready_timeout_s=0.01, grace_s=0.05)
    for child_spec in (spec(SERVES), slow_to_get_ready):
        for _ in range(5):
            child = Child(child_spec, SystemClock(), SystemRandomness())
            await child.start()
            await asyncio.sleep(after_s)
            await child.stop(grace_s=0.02)
            assert psutil.Process().children() == before
    gc.collect()  # an unreaped one would warn here


async def test_stopping_what_never_started_is_fine() -> None:
    child = Child(spec(SERVES), SystemClock(), SystemRandomness())
    await child.stop()
    assert child.state is ChildState.STOPPED
