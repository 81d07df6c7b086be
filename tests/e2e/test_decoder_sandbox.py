"""The sandbox on the real kernel: what confines a child, and what dying does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from cosygate import errors
from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder
from cosygate.kit.clock import SystemClock
from cosygate.model.audio import Container
from cosygate.ports.decoder import DecodeRequest
from tests.support import media
from tests.support.decoding import decode, newest_server, only_child, opened, servers

pytestmark = pytest.mark.asyncio(loop_scope="module")
REPO = Path(__file__).parents[2]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox() -> AsyncIterator[SandboxDecoder]:
    async with SandboxDecoder(children=8) as decoder:
        yield decoder


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


LONG = media.tone_wav(60, 48_000)


# --- what the kernel enforces ------------------------------------------------------------------------------------


async def test_every_layer_is_active_here(sandbox: SandboxDecoder) -> None:
    """This also runs where a layer is missing; then its reason must be told."""
    report = await sandbox.report()
    assert set(report.layers) == {
        "network namespace", "unprivileged user", "no new privileges", "landlock", "seccomp",
        "no files", "no sockets", "no processes", "no signals", "memory limit",
    }  # fmt: skip
    assert report.sufficient
    for name in (
        "no new privileges",
        "seccomp",
        "no files",
        "no sockets",
        "no processes",
        "no signals",
        "memory limit",
    ):
        assert report.layers[name] == "", (name, report.layers[name])


async def test_a_child_holds_nothing_but_its_recording_and_pipe(sandbox: SandboxDecoder) -> None:
    async with opened(sandbox, LONG):
        pid = only_child(newest_server()).pid
        held = {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        network = os.readlink(f"/proc/{pid}/ns/net")
    assert set(held) == {0, 1, 2}
    assert held[1].startswith("pipe:")
    assert held[2] == "/dev/null"
    assert (status["NoNewPrivs"], status["Seccomp"], status["Threads"]) == ("1", "2", "1")
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert "0" not in status["Uid"].split()
    assert network != os.readlink("/proc/self/ns/net")


async def test_the_gateways_environment_and_sockets_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSYGATE_JWT_SECRET", "a secret that nobody may see, really")
    async with SandboxDecoder() as decoder:
        server = newest_server()
        assert await decoder.report()
        assert b"COSYGATE" not in Path(f"/proc/{server.pid}/environ").read_bytes()
        assert len(server.net_connections(kind="inet")) == 0


async def test_as_a_plain_user_the_layers_hold_too() -> None:
    script = """
import json, os, sys
from cosygate.adapters.decoder_sandbox import lockdown
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(json.dumps(lockdown.isolate_server()))
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    layers = json.loads(done.stdout)
    assert layers["landlock"] == layers["no new privileges"] == layers["unprivileged user"] == ""


async def test_without_landlock_and_seccomp_compressed_media_is_refused_unless_allowed() -> None:
    script = """
import asyncio, json
from cosygate import errors
from cosygate.adapters.decoder_pcm import PcmDecoder
from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder
from tests.support import media
from tests.support.decoding import decode

async def main():
    flac, told = media.encode("flac", media.tone(1.0, 44_100)), {}
    async with SandboxDecoder() as decoder:
        told["report"] = (await decoder.report()).layers
        told["usable"] = decoder.usable
        try:
            await decode(decoder, flac)
        except errors.SandboxMissing as error:
            told["refused"] = error.code
        told["plain"] = len((await decode(PcmDecoder(decoder), media.tone_wav(1.0)))[1])
    async with SandboxDecoder(degraded=True) as decoder:
        told["degraded"] = len((await decode(decoder, flac))[1])
    print(json.dumps(told))
asyncio.run(main())
"""
    command = [sys.executable, "-m", "tests.support.old_kernel", "-c", script]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, cwd=REPO, check=True
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["report"]["landlock"]
    assert told["report"]["seccomp"]
    assert (told["usable"], told["refused"]) == (False, "sandbox_missing")
    assert (told["plain"], told["degraded"]) == (32_000, 32_000)


# --- dying -------------------------------------------------------------------------------------------------------


async def test_out_of_memory_kills_one_recording_only() -> None:
    async with SandboxDecoder(memory_bytes=1 << 20) as decoder:
        with pytest.raises((errors.DecoderDied, errors.MediaLimits)):
            await decode(decoder, media.encode("flac", media.tone(5.0, 44_100)))
        assert await decoder.report()


async def test_a_killed_child_is_a_dead_decoder(sandbox: SandboxDecoder) -> None:
    async with opened(sandbox, LONG) as decoding:
        only_child(newest_server()).send_signal(signal.SIGKILL)
        with pytest.raises(errors.DecoderDied):
            async for _ in decoding.pcm():
                pass
    _, pcm = await decode(sandbox, media.tone_wav(1.0))
    assert len(pcm) == 32_000


async def test_a_stopped_child_is_a_timeout_and_a_slow_consumer_is_not() -> None:
    async with SandboxDecoder(idle_s=0.5) as decoder:
        async with opened(decoder, LONG) as decoding:
            pcm = decoding.pcm()
            for _ in range(3):
                assert await anext(pcm)
                await asyncio.sleep(0.7)
            only_child(newest_server()).suspend()
            with pytest.raises(errors.DecoderTimeout):
                async for _ in pcm:
                    pass
        await until(lambda: not newest_server().children())


async def test_cpu_time_is_bounded() -> None:
    async with SandboxDecoder(cpu_s=1) as decoder:
        with tempfile.TemporaryFile() as file:
            file.write(media.wav(b"", rate=192_000, channels=8, claimed=0xFFFFFFFF))
            file.truncate(4 << 30)  # a hole: 23 minutes of eight channels that take no room
            with pytest.raises(errors.DecoderTimeout):
                async with decoder.open(file.fileno(), DecodeRequest(Container.WAV)) as decoding:
                    async for _ in decoding.pcm():
                        pass


async def test_leaving_kills_the_child_at_once(sandbox: SandboxDecoder) -> None:
    async with opened(sandbox, LONG):
        child = only_child(newest_server())
        child.suspend()  # a child that writes no more does not notice that its pipe is closed
    assert not child.is_running()

    async def waits() -> None:
        async with opened(sandbox, LONG):
            await asyncio.sleep(60)

    task = asyncio.create_task(waits())
    await until(lambda: bool(newest_server().children()))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not newest_server().children()


async def test_a_dead_server_is_replaced() -> None:
    async with SandboxDecoder() as decoder:
        server = newest_server()
        async with opened(decoder, LONG) as decoding:
            child = only_child(server)
            server.kill()
            with pytest.raises(errors.DecoderDied):
                async for _ in decoding.pcm():
                    pass
        await until(lambda: not child.is_running())
        results = await asyncio.gather(*(decode(decoder, media.tone_wav(1.0)) for _ in range(3)))
        assert [len(pcm) for _, pcm in results] == [32_000] * 3
        assert newest_server().pid != server.pid


async def test_a_server_that_does_not_start_is_unavailable_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho Traceback >&2\necho 'ImportError: no av here' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    class Patience(SystemClock):
        def __init__(self) -> None:
            self.slept: list[float] = []

        async def sleep(self, seconds: float) -> None:
            self.slept.append(seconds)

    clock, before = Patience(), {p.pid for p in servers()}
    decoder = SandboxDecoder(clock=clock)
    with capture_logs() as lines, pytest.raises(errors.Unavailable):
        await decode(decoder, media.tone_wav())
    failures = [line for line in lines if line["event"] == "decoder.server_failed"]
    assert len(failures) == 3
    assert all("ImportError: no av here" in line["error"] for line in failures)
    assert len(clock.slept) == 2
    await decoder.close()
    assert {p.pid for p in servers()} == before


async def test_closing_leaves_no_process() -> None:
    before = {p.pid for p in servers()}
    async with SandboxDecoder() as decoder:
        await decode(decoder, media.tone_wav(1.0))
    assert {p.pid for p in servers()} == before


async def test_nothing_outlives_a_killed_gateway() -> None:
    script = """
import asyncio, os, tempfile
import psutil
from cosygate.adapters.decoder_sandbox.decoder import SandboxDecoder
from cosygate.model.audio import Container
from cosygate.ports.decoder import DecodeRequest
from tests.support import media

async def main():
    async with SandboxDecoder() as decoder:
        with tempfile.TemporaryFile() as file:
            file.write(media.tone_wav(60, 48_000))
            file.flush()
            async with decoder.open(file.fileno(), DecodeRequest(Container.WAV)):
                print(*(p.pid for p in psutil.Process().children(recursive=True)), flush=True)
                await asyncio.sleep(60)
asyncio.run(main())
"""
    gateway = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=REPO
    )
    assert gateway.stdout is not None
    pids: list[int] = []
    while not pids:
        line = (await gateway.stdout.readline()).split()
        pids = [int(word) for word in line if word.isdigit()] if all(word.isdigit() for word in line) else []
    assert len(pids) == 2
    gateway.kill()
    await gateway.wait()
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))
