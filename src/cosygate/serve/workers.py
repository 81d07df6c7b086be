"""`cosygate worker`: processes that run jobs, for gateways on this host or others. This process starts them again when
they die, hang, or have grown old, and tells of them over HTTP (`worker_metrics_port`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from cosygate import settings as settings_module
from cosygate.kit import logs, slots
from cosygate.kit.backoff import Backoff
from cosygate.kit.children import Child, ChildFailed, ChildSpec, ChildState, remove_stale_socket
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.kit.networks import MetricsDoor
from cosygate.serve import CANNOT_START, CannotStart, make_metrics_dir, pulse_of
from cosygate.serve.telling import telling
from cosygate.settings import Settings

_log = logs.logger()
_GRACE_S = 10.0  # beyond drain_s: the last hand-backs, and Celery's own end
_READY_S = 90.0  # every service it needs is somewhere else
_RENEWED = 75  # celery_process.py, RENEWED
_ENDING = b"e"  # celery_process.py, ENDING


def main(settings: Settings) -> int:
    """Runs until SIGTERM or SIGINT. Returns the exit status."""
    logs.configure(settings.log_level)
    os.umask(0o077)
    if unknown := settings_module.unknown_variables():
        _log.warning("settings.unknown", variables=unknown)
    try:
        return asyncio.run(_Workers(settings).run())
    except CannotStart as error:
        print(f"cosygate worker: {error}", file=sys.stderr)  # noqa: T201 - for the operator, before there are logs
        return CANNOT_START


class _Workers:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._randomness = SystemRandomness()
        self._stopping = asyncio.Event()
        self._ending: set[int] = set()  # those that have said, when last asked, that they claim nothing more

    async def run(self) -> int:
        settings = self._settings
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            run_dir = Path(tempfile.mkdtemp(prefix="cosygate-worker-"))
            stack.callback(shutil.rmtree, run_dir, ignore_errors=True)
            metrics_dir = make_metrics_dir(run_dir)
            stack.callback(shutil.rmtree, metrics_dir, ignore_errors=True)
            environment = settings_module.to_environment(settings) | {slots.FOLDER: str(metrics_dir)}
            children = [self._child(i, run_dir, environment) for i in range(settings.worker_processes)]
            if settings.worker_metrics_port:
                door = MetricsDoor.parse(settings.metrics_allow)
                where = (settings.host, settings.worker_metrics_port)
                stack.enter_context(telling(where, door, metrics_dir, lambda: self._health(children)))
            return await self._supervise(children)

    async def _supervise(self, children: list[Child]) -> int:
        for child in children:
            await child.start()
        stopped = asyncio.create_task(self._stopping.wait())
        ready = asyncio.create_task(self._ready(children))
        try:
            await asyncio.wait({stopped, ready}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                print("ready worker", flush=True)  # noqa: T201 - the line that scripts wait for
                await stopped
            return 0
        except ChildFailed as error:
            raise CannotStart(str(error)) from None
        finally:
            stopped.cancel()
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)
            _log.info("workers.stopping")
            await asyncio.gather(*(child.stop() for child in children))

    async def _ready(self, children: list[Child]) -> None:
        """Raises ChildFailed."""
        await asyncio.gather(*(child.wait_ready() for child in children))

    def _child(self, index: int, run_dir: Path, environment: dict[str, str]) -> Child:
        settings = self._settings
        pulse = run_dir / f"worker-{index}.sock"
        metrics_dir = Path(environment[slots.FOLDER])

        def before_start() -> None:
            self._ending.discard(index)
            remove_stale_socket(pulse)

        async def probe() -> bool:
            word = await pulse_of(pulse)
            if word == _ENDING:
                self._ending.add(index)
            return bool(word)

        argv = [sys.executable, "-m", "cosygate.worker.celery_process", "--index", str(index), "--pulse", str(pulse)]
        argv += ["--breakers", str(metrics_dir / "breakers"), "--parent-pid", str(os.getpid())]
        spec = ChildSpec(
            name=f"worker {index}",
            argv=argv,
            env=environment | {slots.SLOT: f"w{index}"},
            ready_timeout_s=_READY_S,
            grace_s=settings.drain_s + _GRACE_S,
            renews=_RENEWED,
            backoff=Backoff(longest_s=settings.restart_longest_s),
            before_start=before_start,
            after_end=lambda: slots.forget(metrics_dir, f"w{index}"),
            probe=probe,
            probe_every_s=settings.watch_every_s,
        )
        return Child(spec, self._clock, self._randomness)

    def _health(self, children: list[Child]) -> dict[str, int]:
        """`accepting`: those that run and claim; one that renews itself runs, and does not, until its last jobs end."""
        running = [index for index, child in enumerate(children) if child.state is ChildState.RUNNING]
        accepting = sum(index not in self._ending for index in running)
        return {"processes": len(children), "running": len(running), "accepting": accepting}
